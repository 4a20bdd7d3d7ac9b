//! Results as KTAP version 1 on stdout, one line a case, and the line that counts them.

/// How a case ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// As expected.
    Passed,
    /// It says itself why it did not run.
    Skipped(String),
    /// What was wrong, and all output that helps; any number of lines.
    Failed(String),
}

/// A named result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// As it is listed.
    pub name: String,
    /// How it ended.
    pub verdict: Verdict,
}

/// Counts results and prints them as they come.
pub struct Report {
    lines: u64,
    passed: u64,
    failed: u64,
    skipped: u64,
}

impl Report {
    /// Nothing yet.
    pub fn new() -> Self {
        println!("KTAP version 1");
        Self { lines: 0, passed: 0, failed: 0, skipped: 0 }
    }

    /// Whether nothing was counted.
    pub fn is_empty(&self) -> bool {
        self.passed + self.failed + self.skipped == 0
    }

    /// Counts and prints a result; what a failure says follows as comments.
    pub fn add(&mut self, outcome: &Outcome) {
        self.lines += 1;
        let (number, name) = (self.lines, &outcome.name);
        match &outcome.verdict {
            Verdict::Passed => {
                self.passed += 1;
                println!("ok {number} - {name}");
            }
            Verdict::Skipped(why) => {
                self.skipped += 1;
                println!("ok {number} - {name} # SKIP {why}");
            }
            Verdict::Failed(why) => {
                self.failed += 1;
                println!("not ok {number} - {name}");
                why.lines().for_each(|line| println!("# {line}"));
            }
        }
    }

    /// Counts tests that another runner has reported.
    pub fn add_counts(&mut self, passed: u64, failed: u64, skipped: u64) {
        self.passed += passed;
        self.failed += failed;
        self.skipped += skipped;
    }

    /// Prints the plan and the last line; `true` when something passed and nothing failed.
    pub fn finish(self) -> bool {
        println!("1..{}", self.lines);
        println!("{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped);
        self.failed == 0 && self.passed > 0
    }
}
