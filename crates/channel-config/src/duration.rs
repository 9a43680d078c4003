// SPDX-License-Identifier: Apache-2.0
//! Durations as Go writes them: `2s`, `200ms`, `1h2m3.5s`.

use std::time::Duration;

const NANOSECONDS: [(&str, u64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Reads a duration above zero; `None` for any other text, and past 292 years, where Go's integer
/// ends (CHC-06).
pub(crate) fn parse_positive(text: &str) -> Option<Duration> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    let mut total = 0u64;
    while !rest.is_empty() {
        let (whole, after_whole) = split_digits(rest);
        let (fraction, after_number) = match after_whole.strip_prefix('.') {
            Some(after_point) => split_digits(after_point),
            None => ("", after_whole),
        };
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let unit_end = after_number
            .find(|c: char| c == '.' || c.is_ascii_digit())
            .unwrap_or(after_number.len());
        let (unit, after_unit) = after_number.split_at(unit_end);
        let (_, scale) = NANOSECONDS.iter().find(|(name, _)| *name == unit)?;
        if !whole.is_empty() {
            total = total.checked_add(whole.parse::<u64>().ok()?.checked_mul(*scale)?)?;
        }
        total = total.checked_add(fraction_of(fraction, *scale))?;
        rest = after_unit;
    }
    (total > 0 && i64::try_from(total).is_ok()).then(|| Duration::from_nanos(total))
}

fn split_digits(text: &str) -> (&str, &str) {
    text.split_at(
        text.find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len()),
    )
}

/// The digits behind a point, in nanoseconds, rounded down.
fn fraction_of(digits: &str, scale: u64) -> u64 {
    // Eighteen digits are finer than any unit; below that nothing overflows in 128 bits.
    let digits = digits.get(..digits.len().min(18)).unwrap_or_default();
    let value: u128 = digits.parse().unwrap_or(0);
    let divisor = 10u128.pow(digits.len() as u32);
    u64::try_from(value * u128::from(scale) / divisor).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Covers: CHC-06
    #[test]
    fn reads_what_go_reads() {
        let rows = [
            ("200ms", 200_000_000),
            ("2s", 2_000_000_000),
            ("+5s", 5_000_000_000),
            ("1h2m3.5s", 3_723_500_000_000),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("1us2\u{b5}s3\u{3bc}s4ns", 6_004),
            ("1.0000000000000000000000001s", 1_000_000_000),
        ];
        for (text, nanoseconds) in rows {
            assert_eq!(
                parse_positive(text),
                Some(Duration::from_nanos(nanoseconds)),
                "{text}"
            );
        }
        for bad in [
            "",
            "0",
            "0s",
            "-1s",
            "1",
            "s",
            ".s",
            "1x",
            "1 s",
            "10000000h",
            "99999999999999999999s",
            "++1s",
        ] {
            assert_eq!(parse_positive(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in "[0-9.hmsnu+-]{0,40}") {
            parse_positive(&text);
        }

        #[test]
        fn milliseconds_round_trip(count in 1u32..) {
            prop_assert_eq!(parse_positive(&format!("{count}ms")), Some(Duration::from_millis(u64::from(count))));
        }
    }
}
