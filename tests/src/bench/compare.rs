// SPDX-License-Identifier: Apache-2.0
//! The rows of a run beside those of an earlier one.

use std::{fmt::Write as _, fs, path::Path};

use anyhow::{Context as _, Result};
use serde::Deserialize;

use super::row::{Row, digits};

/// A row of an earlier run, as its JSON has it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Earlier {
    case: String,
    value: f64,
    unit: String,
    ratio: f64,
}

impl Earlier {
    /// Reads what a benchmark printed with `--json`.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, or holds something else.
    pub fn load(file: &Path) -> Result<Vec<Self>> {
        let json = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        let not_rows = || format!("{} is not what --json prints", file.display());
        serde_json::from_slice(&json).with_context(not_rows)
    }

    /// Whether the two are of the same measurement.
    fn is_of(&self, row: &Row) -> bool {
        self.case == row.case && self.unit == row.unit
    }
}

/// A table of each case's value and ratio then and in this run, and by how much each changed. Cases
/// that this run alone has are named as such; those that the earlier one alone has, if it `misses`
/// them.
pub fn compare(earlier: &[Earlier], rows: &[Row], misses: bool) -> String {
    let names = rows.iter().map(|row| row.case.len());
    let names = names.chain(earlier.iter().map(|row| row.case.len()));
    let width = names.max().unwrap_or(0).max(4);
    let mut text = format!(
        "{:width$}  {:>10}  {:>10}  {:>8}  {:>6}  {:>6}  {:>8}  unit\n",
        "case", "earlier", "value", "change", "ratio", "ratio", "change"
    );
    // Writing to a string does not fail.
    for row in rows {
        let _ = match earlier.iter().find(|earlier| earlier.is_of(row)) {
            Some(then) => writeln!(
                text,
                "{:width$}  {:>10}  {:>10}  {:>8}  {:>6}  {:>6}  {:>8}  {}",
                row.case,
                digits(then.value),
                digits(row.value),
                percent(then.value, row.value),
                digits(then.ratio),
                digits(row.ratio),
                percent(then.ratio, row.ratio),
                row.unit
            ),
            None => writeln!(
                text,
                "{:width$}  {:>10}  {:>10}  only in this run, {}",
                row.case,
                "-",
                digits(row.value),
                row.unit
            ),
        };
    }
    let gone = earlier
        .iter()
        .filter(|then| misses && !rows.iter().any(|row| then.is_of(row)));
    for then in gone {
        let _ = writeln!(
            text,
            "{:width$}  {:>10}  {:>10}  only in the earlier run, {}",
            then.case,
            digits(then.value),
            "-",
            then.unit
        );
    }
    text
}

/// By how much it changed.
fn percent(then: f64, now: f64) -> String {
    match (now / then - 1.0) * 100.0 {
        change if change.is_finite() => format!("{change:+.1} %"),
        _ => "-".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::{Round, Target};

    fn row(case: &str, unit: &'static str, value: f64) -> Row {
        let round = Round {
            value,
            baseline: 100.0,
        };
        Row::new(case, unit, Target::AtLeast(0.5), &[round])
    }

    #[test]
    fn each_case_is_compared_with_itself_and_who_is_alone_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("earlier.json");
        let before = [
            row("both", "µs", 7.0),
            row("both", "blocks/s", 50.0),
            row("gone", "blocks/s", 1.0),
        ];
        fs::write(&file, serde_json::to_vec(&before).unwrap()).unwrap();
        let earlier = Earlier::load(&file).unwrap();
        let rows = [row("both", "blocks/s", 60.0), row("new", "blocks/s", 2.0)];
        let text = compare(&earlier, &rows, true);
        let line = |case: &str, unit: &str| {
            let mut lines = text.lines();
            let line = lines.find(|line| line.starts_with(case) && line.ends_with(unit));
            line.unwrap_or_else(|| panic!("{case} in {unit} is missing in\n{text}"))
        };
        let both = line("both", "blocks/s");
        for part in [" 50.0 ", " 60.0 ", "+20.0 %", " 0.500 ", " 0.600 "] {
            assert!(both.contains(part), "{part:?} in {both:?}");
        }
        assert!(line("new", "blocks/s").contains("only in this run"));
        assert!(line("gone", "blocks/s").contains("only in the earlier run"));
        // The same case in another unit is another measurement.
        assert!(line("both", "µs").contains("only in the earlier run"));
        assert!(!compare(&earlier, &rows, false).contains("earlier run"));
    }

    #[test]
    fn what_is_not_rows_is_refused_by_the_name_of_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("rows.json");
        assert!(Earlier::load(&file).is_err());
        fs::write(&file, "case value").unwrap();
        let error = Earlier::load(&file).unwrap_err().to_string();
        assert!(error.contains("rows.json"), "{error}");
    }
}
