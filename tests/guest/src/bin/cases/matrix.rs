//! The error matrix: what each call on a device answers, row by row.
//!
//! `error-matrix.csv` holds what Linux 6.1 answered at each alignment and, where Daxite differs on purpose,
//! our answer and the reason. A row here makes the calls and says what happened in the file's words; the
//! comparison is the test.

use guest::device::{Align, Device};
use guest::fault::Touch;
use guest::ktap::{Case, Outcome};
use guest::mapping::Mapping;
use guest::sys::Errno;

use crate::{Context, poison, rows_change, rows_file, rows_map, rows_move, rows_pipe};

/// One row: its name in the file and the calls that produce its text.
pub type Row = (&'static str, fn(&Device) -> String);

/// A touch of a fresh mapping, and its name in the row's text.
pub type Probe = (&'static str, fn(&Device, &Mapping) -> Touch);

/// Rows that no call here answers yet, and why. A row is either here or in a `rows_*.rs`.
#[rustfmt::skip]
const LATER: &[&str] = &[
    // A process descriptor, which no program needs, is what this call takes.
    "process_madvise COLD self",
];

fn rows() -> impl Iterator<Item = &'static Row> {
    let moved = rows_move::ROWS.iter().chain(rows_pipe::ROWS).chain(poison::ROWS);
    rows_file::ROWS.iter().chain(rows_map::ROWS).chain(rows_change::ROWS).chain(moved)
}

/// One case a row, and one that no row of the file was dropped.
pub fn cases() -> Vec<Case<Context>> {
    let mut cases = vec![Case::new("matrix", "matrix has every row or says why not", |_| complete())];
    // Bad memory stays bad: those come last of all cases.
    let is_harmless = |row: &&Row| poison::ROWS.iter().all(|bad| bad.0 != row.0);
    for &(name, answer) in rows().filter(is_harmless) {
        let run =
            Box::new(move |context: &Context| compare(name, answer, context.device()?, context.is_linux));
        cases.push(Case { family: "matrix", name: name.into(), run });
    }
    cases
}

/// Makes the calls of a row, and compares the answer with the file's.
pub fn compare(name: &str, answer: fn(&Device) -> String, device: &Device, is_linux: bool) -> Outcome {
    let expected = expected(name, device.alignment, is_linux)?;
    let result = answer(device);
    if result == expected { Ok(()) } else { Err(format!("expected: {expected}\nanswered: {result}")) }
}

/// Prints `case | result` for every row, in the order of the file.
pub fn print_results(device: &Device) {
    for record in records() {
        if let Some((name, answer)) = rows().find(|row| Some(row.0) == record.first().map(String::as_str)) {
            println!("{name} | {}", answer(device));
        }
    }
}

fn complete() -> Result<(), String> {
    let names: Vec<String> = records().into_iter().skip(1).filter_map(|r| r.into_iter().next()).collect();
    let known = |name: &str| {
        rows().filter(|row| row.0 == name).count() + LATER.iter().filter(|later| **later == name).count()
    };
    let bad: Vec<&String> = names.iter().filter(|name| known(name) != 1).collect();
    let strays: Vec<&str> =
        rows().map(|row| row.0).filter(|name| !names.iter().any(|known| known == name)).collect();
    if bad.is_empty() && strays.is_empty() {
        return Ok(());
    }
    Err(format!("rows without exactly one case: {bad:?}\ncases without a row: {strays:?}"))
}

fn expected(name: &str, align: Align, is_linux: bool) -> Result<String, String> {
    let column = match align {
        Align::Page4K => 1,
        Align::Page2M => 2,
        Align::Page1G => 3,
    };
    let record = records()
        .into_iter()
        .find(|record| record.first().is_some_and(|first| first == name))
        .ok_or_else(|| format!("error-matrix.csv has no row {name:?}"))?;
    let cell = |column: usize| record.get(column).filter(|cell| !cell.is_empty()).cloned();
    let linux = cell(column).ok_or_else(|| format!("row {name:?} has no column {column}"))?;
    Ok(if is_linux { linux } else { cell(column + 3).unwrap_or(linux) })
}

/// The records of the file: comma-separated, quoted where a cell holds a comma.
fn records() -> Vec<Vec<String>> {
    include_str!("../../../error-matrix.csv").lines().map(split).collect()
}

fn split(line: &str) -> Vec<String> {
    let mut cells = vec![String::new()];
    let mut is_quoted = false;
    for letter in line.chars() {
        match letter {
            '"' => is_quoted = !is_quoted,
            ',' if !is_quoted => cells.push(String::new()),
            _ => cells.last_mut().expect("starts with one cell").push(letter),
        }
    }
    cells
}

/// `ok`, or the errno's name.
pub fn verdict<T>(answer: Result<T, Errno>) -> String {
    match answer {
        Ok(_) => "ok".into(),
        Err(errno) => errno.to_string(),
    }
}

/// `ok addr-aligned` and then `name=touch` for each touch, or the errno of the mapping.
pub fn mapped(device: &Device, mapping: Result<Mapping, Errno>, touches: &[Probe]) -> String {
    let mapping = match mapping {
        Ok(mapping) => mapping,
        Err(errno) => return errno.to_string(),
    };
    let mut text = String::from("ok ");
    text += if mapping.addr.is_multiple_of(device.align) { "addr-aligned" } else { "addr%align!=0" };
    for (name, touch) in touches {
        text += &format!(" {name}={}", touch(device, &mapping));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_the_file_has_a_case_or_a_reason() {
        assert_eq!(complete(), Ok(()));
        assert_eq!(records().len(), 146);
        assert!(records().iter().all(|record| record.len() == 8));
    }

    #[test]
    fn our_answer_stands_where_linux_differs() {
        assert_eq!(expected("fsync", Align::Page2M, true).as_deref(), Ok("EINVAL"));
        assert_eq!(expected("fsync", Align::Page2M, false).as_deref(), Ok("ok"));
        assert_eq!(expected("len 0", Align::Page1G, false).as_deref(), Ok("EINVAL"));
    }
}
