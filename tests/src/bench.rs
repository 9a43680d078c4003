// SPDX-License-Identifier: Apache-2.0
//! What every benchmark prints: rows of a value, its baseline from the same run, and the target.

use std::fmt::Write as _;

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
        let of = |part: fn(&Round) -> f64| median(rounds.iter().map(part).collect());
        let ratio = of(|round| round.value / round.baseline);
        let (target, met) = match target {
            Target::AtLeast(target) => (target, ratio >= target),
            Target::AtMost(target) => (target, ratio <= target),
        };
        Self {
            case: case.into(),
            value: of(|round| round.value),
            unit,
            baseline: of(|round| round.baseline),
            ratio,
            target,
            met,
        }
    }
}

/// The rows as a table for people.
pub fn table(rows: &[Row]) -> String {
    let width = rows
        .iter()
        .map(|row| row.case.len())
        .max()
        .unwrap_or(0)
        .max(4);
    let mut table = format!(
        "{:width$}  {:>10}  {:>10}  {:>6}  {:>6}  met  unit\n",
        "case", "value", "baseline", "ratio", "target"
    );
    for row in rows {
        let met = if row.met { "yes" } else { "no " };
        // Writing to a string does not fail.
        let _ = writeln!(
            table,
            "{:width$}  {:>10.1}  {:>10.1}  {:>6.2}  {:>6.2}  {met}  {}",
            row.case, row.value, row.baseline, row.ratio, row.target, row.unit
        );
    }
    table
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
        assert!(table(&[row]).contains("yes  blocks/s"));
    }
}
