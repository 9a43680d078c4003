// SPDX-License-Identifier: Apache-2.0
//! What every benchmark prints: rows of a value, its baseline from the same run, and the target.

use std::fmt::{self, Write as _};

use serde::Serialize;

/// One case: what was measured, and what bounds it in the same run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// The case.
    pub case: String,
    /// The median of what was measured.
    pub value: f64,
    /// The unit of value and baseline.
    pub unit: &'static str,
    /// The median of the baseline.
    pub baseline: f64,
    /// The median of the rounds' ratios: value over baseline.
    pub ratio: f64,
    /// The ratio to reach.
    pub target: f64,
    /// Whether it was reached.
    pub met: bool,
    /// How far the rounds' values lie apart.
    #[serde(skip)]
    pub values: Spread,
    /// How far the rounds' ratios lie apart.
    #[serde(skip)]
    pub ratios: Spread,
    /// What the table says beside it.
    #[serde(skip)]
    note: Option<String>,
}

/// The least and the most of several rounds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spread {
    /// The least.
    pub min: f64,
    /// The most.
    pub max: f64,
}

/// On which side of the target a ratio has to be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Target {
    /// The more the better, as of a rate.
    AtLeast(f64),
    /// The less the better, as of a time.
    AtMost(f64),
}

/// One round of a case.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Round {
    /// What was measured.
    pub value: f64,
    /// What bounds it, measured beside it.
    pub baseline: f64,
}

impl Row {
    /// The medians of the rounds of a case.
    ///
    /// # Panics
    ///
    /// Without a round.
    pub fn new(
        case: impl Into<String>,
        unit: &'static str,
        target: Target,
        rounds: &[Round],
    ) -> Self {
        let of = |part: fn(&Round) -> f64| rounds.iter().map(part).collect::<Vec<_>>();
        let (values, ratios) = (of(|round| round.value), of(Round::ratio));
        let (of_values, of_ratios) = (Spread::of(&values), Spread::of(&ratios));
        let ratio = median(ratios);
        let (target, met) = match target {
            Target::AtLeast(target) => (target, ratio >= target),
            Target::AtMost(target) => (target, ratio <= target),
        };
        Self {
            case: case.into(),
            value: median(values),
            unit,
            baseline: median(of(|round| round.baseline)),
            ratio,
            target,
            met,
            values: of_values,
            ratios: of_ratios,
            note: None,
        }
    }

    /// The same row, with something for people beside it in the table.
    pub fn with_note(self, note: impl Into<String>) -> Self {
        Self {
            note: Some(note.into()),
            ..self
        }
    }
}

impl Round {
    /// The value over its baseline.
    pub fn ratio(&self) -> f64 {
        self.value / self.baseline
    }
}

impl Spread {
    fn of(values: &[f64]) -> Self {
        Self {
            min: values.iter().copied().fold(f64::INFINITY, f64::min),
            max: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = format!("{}..{}", digits(self.min), digits(self.max));
        f.pad(&shown)
    }
}

/// The rows as a table for people, each with how far its rounds lie apart.
pub fn table(rows: &[Row]) -> String {
    let names = rows.iter().map(|row| row.case.len());
    let width = names.max().unwrap_or(0).max(4);
    let mut table = format!(
        "{:width$}  {:>10}  {:>17}  {:>10}  {:>6}  {:>12}  {:>6}  met  unit\n",
        "case", "value", "min..max", "baseline", "ratio", "min..max", "target"
    );
    for row in rows {
        let met = if row.met { "yes" } else { "no " };
        let note = row.note.as_ref().map(|note| format!("; {note}"));
        // Writing to a string does not fail.
        let _ = writeln!(
            table,
            "{:width$}  {:>10}  {:>17}  {:>10}  {:>6.2}  {:>12}  {:>6.2}  {met}  {}{}",
            row.case,
            digits(row.value),
            row.values,
            digits(row.baseline),
            row.ratio,
            row.ratios,
            row.target,
            row.unit,
            note.unwrap_or_default()
        );
    }
    table
}

/// A number with as many digits after the point as say something.
pub(super) fn digits(number: f64) -> String {
    match number.abs() {
        size if size >= 10.0 => format!("{number:.1}"),
        size if size >= 1.0 => format!("{number:.2}"),
        _ => format!("{number:.3}"),
    }
}

/// The value in the middle, or the mean of the two.
///
/// # Panics
///
/// Without a value.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let half = values.len() / 2;
    let upper = *values.get(half).expect("a median needs a value");
    let lower = if values.len().is_multiple_of(2) {
        values.get(half - 1).copied()
    } else {
        None
    };
    lower.map_or(upper, |lower| f64::midpoint(lower, upper))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_the_medians_and_says_whether_the_target_was_met() {
        let rounds = [(50.0, 100.0), (90.0, 100.0), (60.0, 120.0)]
            .map(|(value, baseline)| Round { value, baseline });
        let row = Row::new("case", "blocks/s", Target::AtLeast(0.5), &rounds);
        assert_eq!(
            (row.value, row.baseline, row.ratio, row.met),
            (60.0, 100.0, 0.5, true)
        );
        for (target, met) in [
            (Target::AtLeast(0.51), false),
            (Target::AtMost(0.5), true),
            (Target::AtMost(0.49), false),
        ] {
            assert_eq!(
                Row::new("case", "µs", target, &rounds).met,
                met,
                "{target:?}"
            );
        }
        let json = serde_json::to_value(&row).unwrap();
        let mut keys: Vec<_> = json
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        keys.sort_unstable();
        assert_eq!(
            keys,
            [
                "baseline", "case", "met", "ratio", "target", "unit", "value"
            ]
        );
        assert_eq!(median(vec![3.0, 1.0]), 2.0);
        let spread = Spread { min: 0.5, max: 0.9 };
        assert_eq!(row.ratios, spread);
        let table = table(&[row.with_note("two were lost")]);
        for part in [
            "50.0..90.0",
            "0.500..0.900",
            "yes  blocks/s; two were lost\n",
        ] {
            assert!(table.contains(part), "{part:?} in\n{table}");
        }
    }
}
