//! Reads a KTAP version 1 report: plan, results, and the comments behind a failure.

use crate::report::{Outcome, Verdict};

/// The cases of a report, and what is wrong with the report itself.
pub fn parse(text: &str) -> (Vec<Outcome>, Vec<String>) {
    let (mut outcomes, mut wrong): (Vec<Outcome>, _) = (Vec::new(), Vec::new());
    let mut plan = None;
    if !text.lines().any(|line| line == "KTAP version 1") {
        wrong.push("no line says: KTAP version 1".into());
    }
    for line in text.lines() {
        if let Some(count) = line.strip_prefix("1..") {
            plan = count.parse().ok();
        } else if let Some(comment) = line.strip_prefix("# ") {
            if let Some(Outcome { verdict: Verdict::Failed(why), .. }) = outcomes.last_mut() {
                why.push_str(comment);
                why.push('\n');
            }
        } else if let Some((number, outcome)) = result(line) {
            outcomes.push(outcome);
            if number != outcomes.len() {
                wrong.push(format!("result {} has number {number}", outcomes.len()));
            }
        }
    }
    match plan {
        None => wrong.push("the report has no plan (1..N)".into()),
        Some(0) => wrong.push("the report plans no case".into()),
        Some(count) if count != outcomes.len() => {
            wrong.push(format!("the report plans {count} cases and has {}", outcomes.len()));
        }
        Some(_) => {}
    }
    (outcomes, wrong)
}

/// `ok 3 - name` or `not ok 3 name # SKIP why`.
fn result(line: &str) -> Option<(usize, Outcome)> {
    let (is_ok, rest) = match line.strip_prefix("not ") {
        Some(rest) => (false, rest),
        None => (true, line),
    };
    let (number, name) = rest.strip_prefix("ok ")?.split_once(' ')?;
    let name = name.strip_prefix("- ").unwrap_or(name);
    let (name, skip) = match name.split_once(" # SKIP") {
        Some((name, why)) => (name, Some(why.trim().to_owned())),
        None => (name, None),
    };
    let verdict = match (is_ok, skip) {
        (false, _) => Verdict::Failed(String::new()),
        (true, Some(why)) => Verdict::Skipped(why),
        (true, None) => Verdict::Passed,
    };
    Some((number.parse().ok()?, Outcome { name: name.into(), verdict }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_read_with_its_failures_and_skips() {
        let text = "KTAP version 1\n1..3\nok 1 a b\nnot ok 2 - c\n# why\n# more\nok 3 - d # SKIP no 1G\n";
        let (outcomes, wrong) = parse(text);
        assert_eq!(wrong, [""; 0]);
        let verdicts: Vec<_> = outcomes.into_iter().map(|one| (one.name, one.verdict)).collect();
        assert_eq!(verdicts[0], ("a b".into(), Verdict::Passed));
        assert_eq!(verdicts[1], ("c".into(), Verdict::Failed("why\nmore\n".into())));
        assert_eq!(verdicts[2], ("d".into(), Verdict::Skipped("no 1G".into())));
    }

    #[test]
    fn a_report_that_does_not_meet_its_plan_is_wrong() {
        for (text, words) in [
            ("", "no line says"),
            ("KTAP version 1\n", "no plan"),
            ("KTAP version 1\n1..0\n", "plans no case"),
            ("KTAP version 1\n1..2\nok 1 - a\n", "plans 2 cases and has 1"),
            ("KTAP version 1\n1..1\nok 2 - a\n", "result 1 has number 2"),
        ] {
            let (_, wrong) = parse(text);
            assert!(wrong.iter().any(|line| line.contains(words)), "{text:?}: {wrong:?}");
        }
    }
}
