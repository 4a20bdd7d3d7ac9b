//! The host tests: `cargo test` in every workspace, counted by its own `test result:` lines.

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::report::{Outcome, Report, Verdict};
use crate::root;

/// The workspaces and what they are. The main one cannot hold those with flags or a target of their own.
const WORKSPACES: [(&str, &str); 4] = [
    (".", "workspace"),
    ("tests/guest", "guest programs"),
    ("tests/fuzz", "fuzz targets as plain tests"),
    ("tests/loom", "lifetime models under loom"),
];

/// Runs all host tests with `filter` in their names. What they print appears as comments.
pub fn run(filter: Option<&str>, report: &mut Report) -> io::Result<()> {
    for (folder, what) in WORKSPACES {
        // Failed tests are counted already; this is for what no test reports.
        if let Some(why) = run_workspace(&root().join(folder), what, filter, report)? {
            report.add(&Outcome { name: format!("host {what}"), verdict: Verdict::Failed(why) });
        }
    }
    Ok(())
}

/// Counts the tests of a workspace; returns what is wrong beside them.
fn run_workspace(
    folder: &Path,
    what: &str,
    filter: Option<&str>,
    report: &mut Report,
) -> io::Result<Option<String>> {
    if !folder.join("Cargo.toml").is_file() {
        return Ok(Some(format!("{}: no Cargo.toml", folder.display())));
    }
    let mut cargo = cargo(folder);
    cargo.args(["test", "--quiet", "--workspace", "--no-fail-fast"]).args(filter).stdout(Stdio::piped());
    let mut child = cargo.spawn()?;
    let mut counts = [0; 3];
    for line in BufReader::new(child.stdout.take().expect("it is piped")).lines() {
        let line = line?;
        match result_line(&line) {
            Some(more) => counts.iter_mut().zip(more).for_each(|(count, more)| *count += more),
            // Progress dots and empty lines tell nothing.
            None if line.bytes().all(|byte| b". ".contains(&byte)) || line.starts_with("running ") => {}
            None => println!("# {line}"),
        }
    }
    let status = child.wait()?;
    let [passed, failed, ignored] = counts;
    println!("# host {what}: {passed} passed, {failed} failed, {ignored} skipped");
    report.add_counts(passed, failed, ignored);
    Ok(match () {
        () if !status.success() && failed == 0 => Some(format!("cargo test: {status}")),
        () if passed + failed == 0 && filter.is_none() => Some("it has no test".into()),
        () => None,
    })
}

/// Passed, failed and ignored of `test result: ok. 3 passed; 0 failed; 1 ignored; ...`.
fn result_line(line: &str) -> Option<[u64; 3]> {
    let (_, counts) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let mut counts = counts.split("; ").map(|count| count.split(' ').next()?.parse().ok());
    Some([counts.next()??, counts.next()??, counts.next()??])
}

/// The names of all tests, as `path::to::test`.
pub fn names() -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for (folder, _) in WORKSPACES {
        let mut cargo = cargo(&root().join(folder));
        let output = cargo.args(["test", "--quiet", "--workspace", "--", "--list"]).output()?;
        if !output.status.success() {
            return Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()));
        }
        let text = String::from_utf8_lossy(&output.stdout);
        names.extend(text.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned));
    }
    Ok(names)
}

/// The cargo that runs us, or the one of this PATH. The variable lets a stable toolchain take the acpi crate.
fn cargo(folder: &Path) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")));
    command.current_dir(folder).env("RUSTC_BOOTSTRAP", "1").stdin(Stdio::null());
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn result_lines_are_counted_and_others_are_not() {
        let line =
            "test result: FAILED. 12 passed; 3 failed; 1 ignored; 0 measured; 0 filtered out; finished";
        assert_eq!(result_line(line), Some([12, 3, 1]));
        assert_eq!(result_line("test result: ok"), None);
        assert_eq!(result_line("test tests::a_test ... ok"), None);
    }
}
