//! A table of named cases, reported as KTAP version 1.

use std::fmt::Write as _;

use crate::fault;
use crate::sys;

/// What a case says: nothing, or why it failed.
pub type Outcome = Result<(), String>;

/// Fails the case with a message unless the condition holds.
#[macro_export]
macro_rules! ensure {
    ($condition:expr, $($message:tt)+) => {
        if !$condition {
            return Err(format!($($message)+));
        }
    };
}

/// One case: its name, and what it does with the context `C`.
pub struct Case<C> {
    /// The family, which selects it too (`matrix`, `signals`, ...).
    pub family: &'static str,
    /// The name in the report.
    pub name: String,
    /// The case.
    pub run: Box<dyn Fn(&C) -> Outcome>,
}

impl<C: 'static> Case<C> {
    /// A case that is a function.
    pub fn new(family: &'static str, name: &str, run: fn(&C) -> Outcome) -> Case<C> {
        Case { family, name: name.into(), run: Box::new(run) }
    }

    /// Whether one of `wanted` is this case's family, its name, or the beginning of its name.
    fn is_wanted(&self, wanted: &[String]) -> bool {
        wanted.is_empty() || wanted.iter().any(|w| w == self.family || self.name.starts_with(w.as_str()))
    }
}

/// Runs the cases that `wanted` names (all when empty) and returns how many failed.
///
/// A case that ends in a fault fails, and the next one runs.
pub fn run<C: 'static>(cases: &[Case<C>], wanted: &[String], context: &C) -> usize {
    let chosen: Vec<&Case<C>> = cases.iter().filter(|case| case.is_wanted(wanted)).collect();
    say(&format!("KTAP version 1\n1..{}\n", chosen.len()));
    let mut failed = 0;
    for (number, case) in chosen.iter().enumerate().map(|(index, case)| (index + 1, case)) {
        let mut outcome = Err("it did not finish".to_string());
        if let Err(signal) = fault::guarded(|| outcome = (case.run)(context)) {
            outcome = Err(format!("ended by {signal} at {:#x}", signal.addr));
        }
        fault::restore();
        let mut line = String::new();
        let verdict = if outcome.is_ok() { "ok" } else { "not ok" };
        let _ = writeln!(line, "{verdict} {number} - {}", case.name);
        if let Err(message) = outcome {
            failed += 1;
            for part in message.lines() {
                let _ = writeln!(line, "# {part}");
            }
        }
        say(&line);
    }
    say(&format!("# {} passed, {failed} failed\n", chosen.len() - failed));
    if chosen.is_empty() {
        say("# nothing to run: no case has that name or family\n");
        return 1;
    }
    failed
}

/// Writes straight to stdout: a report must not sit in a buffer when the next case ends the program.
fn say(text: &str) {
    let mut rest = text.as_bytes();
    while !rest.is_empty() {
        match sys::write(1, rest) {
            Ok(len) if len > 0 => rest = &rest[len..],
            _ => return,
        }
    }
}
