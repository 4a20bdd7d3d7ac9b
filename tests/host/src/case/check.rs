//! What a boot must come to, and what is wrong with what it came to.

use serde_json::Value;

use super::Ran;

/// The status, lines and values that must be there, bytes that must be all there is.
#[derive(Clone, Default)]
pub struct Expected {
    /// Exit status of `daxite`.
    pub status: i32,
    /// Patterns for lines of stdout.
    pub stdout: Vec<String>,
    /// Patterns for lines of stderr.
    pub stderr: Vec<String>,
    /// JSON pointers into stdout, and what stands there.
    pub json: Vec<(String, Value)>,
    /// All of stdout and all of stderr.
    pub bytes: Option<(Vec<u8>, Vec<u8>)>,
    /// Stdout is a KTAP report.
    pub is_ktap: bool,
}

impl Expected {
    /// What is wrong, a line each; nothing when all is as expected.
    pub fn complaints(&self, ran: &Ran) -> Vec<String> {
        let mut complaints = Vec::new();
        match ran.status.and_then(|status| status.code()) {
            Some(status) if status == self.status => {}
            Some(status) => complaints.push(format!("status {status}, expected {}", self.status)),
            None => complaints.push(format!("daxite did not end by itself, expected status {}", self.status)),
        }
        for (what, bytes, patterns) in
            [("stdout", &ran.stdout, &self.stdout), ("stderr and log", &ran.stderr, &self.stderr)]
        {
            let text = String::from_utf8_lossy(bytes);
            // The QEMU line repeats what it was asked for: no evidence.
            let lines = || text.lines().filter(|line| !line.contains(" -machine "));
            let missing = patterns.iter().filter(|pattern| !lines().any(|line| matches(line, pattern)));
            complaints.extend(missing.map(|pattern| format!("no line of {what} has: {pattern}")));
        }
        if !self.json.is_empty() {
            complaints.extend(json_complaints(&ran.stdout, &self.json));
        }
        if let Some((stdout, stderr)) = &self.bytes {
            complaints.extend(difference("stdout", &ran.stdout, stdout));
            complaints.extend(difference("stderr", &ran.stderr, stderr));
        }
        complaints
    }
}

/// Programs put warnings on stdout, too: the JSON begins with a line that is one bracket, and goes on to the end.
fn json_complaints(stdout: &[u8], expected: &[(String, Value)]) -> Vec<String> {
    let text = String::from_utf8_lossy(stdout);
    let starts = text.split_inclusive('\n').scan(0, |at, line| {
        *at += line.len();
        Some((*at - line.len(), line))
    });
    let start = starts.into_iter().find(|(_, line)| matches!(line.trim_end(), "{" | "["));
    let Some((start, _)) = start else {
        return vec!["stdout has no JSON".into()];
    };
    let found: Value = match serde_json::from_str(&text[start..]) {
        Ok(found) => found,
        Err(error) => return vec![format!("the JSON of stdout: {error}")],
    };
    let wrong = expected.iter().filter(|(pointer, value)| found.pointer(pointer) != Some(value));
    let wrong = wrong.map(|(pointer, value)| match found.pointer(pointer) {
        Some(found) => format!("JSON {pointer:?} is {found}, expected {value}"),
        None => format!("the JSON has no {pointer:?}, expected {value}"),
    });
    wrong.collect()
}

fn difference(what: &str, found: &[u8], expected: &[u8]) -> Option<String> {
    let at = found.iter().zip(expected).position(|(found, expected)| found != expected);
    let at = at.or((found.len() != expected.len()).then_some(found.len().min(expected.len())))?;
    let (found, expected) = (found.len(), expected.len());
    Some(format!("{what}: {found} bytes, expected {expected}; the first difference is at {at}"))
}

/// Whether the line has the pattern's parts, which `*` parts, in order.
fn matches(line: &str, pattern: &str) -> bool {
    let mut rest = Some(line);
    for part in pattern.split('*') {
        rest = rest.and_then(|rest| rest.split_once(part)).map(|(_, after)| after);
    }
    rest.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_its_parts_in_order() {
        assert!(matches(" #0 0xffffffff80012345 kernel::main (kernel/src/main.rs:7)", "#*0xffffffff8*.rs:"));
        assert!(!matches("main.rs:7 #0 0xffffffff8", "#*0xffffffff8*.rs:"));
        assert!(matches("any", "") && matches("a", "a") && !matches("a", "aa"));
    }

    #[test]
    fn json_may_have_lines_before_it_and_none_behind() {
        let wrong = |text: &str| {
            json_complaints(text.as_bytes(), &[("/jobs/0/error".into(), 0.into())]).into_iter().next()
        };
        let json = "a warning {\n{\n\"jobs\": [{\"error\": 0}]\n}\n";
        assert_eq!(wrong(json), None);
        for (text, words) in [
            (json.replace('0', "84"), "\"/jobs/0/error\" is 84, expected 0"),
            (json.replace("error", "errors"), "has no \"/jobs/0/error\""),
            (format!("{json}fio: more"), "the JSON of stdout"),
            (json[..20].into(), "the JSON of stdout"),
            ("no".into(), "no JSON"),
        ] {
            assert!(wrong(&text).is_some_and(|wrong| wrong.contains(words)), "{text:?}");
        }
    }

    #[test]
    fn the_first_different_byte_is_named_and_so_is_a_length() {
        assert_eq!(difference("stdout", b"abc", b"abc"), None);
        assert!(difference("stdout", b"abc", b"axc").is_some_and(|text| text.ends_with("at 1")));
        assert!(difference("stdout", b"ab", b"abc").is_some_and(|text| text.ends_with("at 2")));
    }
}
