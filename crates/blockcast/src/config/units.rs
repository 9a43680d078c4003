// SPDX-License-Identifier: Apache-2.0
//! Durations and sizes as people write them.

use std::{fmt, str::FromStr, time::Duration};

use serde::{
    Deserialize, Deserializer,
    de::{self, Visitor},
};

/// The units of a duration, the longest first.
const DURATIONS: [(&str, u64); 5] = [
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("min", 60_000),
    ("s", 1000),
    ("ms", 1),
];

/// The units of a size, the largest first.
const SIZES: [(&str, u64); 7] = [
    ("GiB", 1 << 30),
    ("GB", 1_000_000_000),
    ("MiB", 1 << 20),
    ("MB", 1_000_000),
    ("KiB", 1 << 10),
    ("KB", 1000),
    ("B", 1),
];

/// A duration as text: a whole number and one of the units `ms`, `s`, `min`, `h` and `d`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct HumanDuration(Duration);

/// A size in bytes as text: a whole number and one of the units `B`, `KiB`, `MiB`, `GiB`, or `KB`,
/// `MB`, `GB` for the powers of 1000. A number alone counts bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(u64);

/// A text that is no duration or size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UnitError {
    /// It is no duration.
    #[error("{text:?} is no duration: write a whole number with ms, s, min, h or d, as in \"3s\"")]
    Duration {
        /// The text.
        text: String,
    },
    /// It is no size.
    #[error("{text:?} is no size: write a whole number with B, KiB, MiB or GiB, as in \"64MiB\"")]
    Size {
        /// The text.
        text: String,
    },
    /// The number is too large to be meant.
    #[error("{text:?} is more than there is room for")]
    TooLarge {
        /// The text.
        text: String,
    },
}

/// What [`HumanDuration`] and [`ByteSize`] are read from in a file.
struct UnitVisitor<T> {
    expecting: &'static str,
    of_number: fn(u64) -> Option<T>,
}

impl HumanDuration {
    /// So many milliseconds.
    pub const fn from_millis(milliseconds: u64) -> Self {
        Self(Duration::from_millis(milliseconds))
    }

    /// So many seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }

    /// The duration.
    pub const fn get(self) -> Duration {
        self.0
    }
}

impl ByteSize {
    /// So many bytes.
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// So many times 1024 bytes.
    pub const fn kib(kib: u64) -> Self {
        Self(kib << 10)
    }

    /// So many times 1024 times 1024 bytes.
    pub const fn mib(mib: u64) -> Self {
        Self(mib << 20)
    }

    /// The number of bytes.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The number of bytes as an index; what does not fit is the greatest there is.
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl FromStr for HumanDuration {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let invalid = || UnitError::Duration {
            text: text.to_owned(),
        };
        let (number, unit) = split(text).ok_or_else(invalid)?;
        let scale = scale(&DURATIONS, unit).ok_or_else(invalid)?;
        let milliseconds = number.checked_mul(scale).ok_or_else(|| too_large(text))?;
        Ok(Self::from_millis(milliseconds))
    }
}

impl FromStr for ByteSize {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let invalid = || UnitError::Size {
            text: text.to_owned(),
        };
        let (number, unit) = split(text).ok_or_else(invalid)?;
        let unit = if unit.is_empty() { "B" } else { unit };
        let scale = scale(&SIZES, unit).ok_or_else(invalid)?;
        number
            .checked_mul(scale)
            .map(Self)
            .ok_or_else(|| too_large(text))
    }
}

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let milliseconds = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        write_scaled(f, milliseconds, &DURATIONS, "s")
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_scaled(f, self.0, &SIZES, "B")
    }
}

impl fmt::Debug for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<'de> Deserialize<'de> for HumanDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UnitVisitor {
            expecting: "a duration with its unit, as in \"3s\"",
            of_number: |_| None,
        })
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(UnitVisitor {
            expecting: "a size, as in \"64MiB\"",
            of_number: |bytes| Some(Self(bytes)),
        })
    }
}

impl<T: FromStr<Err = UnitError>> Visitor<'_> for UnitVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expecting)
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<T, E> {
        let value = u64::try_from(number).ok().and_then(self.of_number);
        value.ok_or_else(|| E::invalid_value(de::Unexpected::Signed(number), &self))
    }
}

fn too_large(text: &str) -> UnitError {
    UnitError::TooLarge {
        text: text.to_owned(),
    }
}

/// The number at the beginning and the unit behind it; a space between them does no harm.
fn split(text: &str) -> Option<(u64, &str)> {
    let text = text.trim();
    let end = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    Some((number.parse().ok()?, unit.trim_start()))
}

fn scale(units: &[(&str, u64)], unit: &str) -> Option<u64> {
    units
        .iter()
        .find(|(name, _)| *name == unit)
        .map(|(_, scale)| *scale)
}

/// Writes an amount in the largest unit that divides it.
fn write_scaled(
    f: &mut fmt::Formatter<'_>,
    amount: u64,
    units: &[(&str, u64)],
    of_zero: &str,
) -> fmt::Result {
    if amount == 0 {
        return write!(f, "0{of_zero}");
    }
    match units
        .iter()
        .find(|(_, scale)| amount.is_multiple_of(*scale))
    {
        Some((name, scale)) => write!(f, "{}{name}", amount / scale),
        None => write!(f, "{amount}"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_and_sizes_are_read_and_written_as_people_do() {
        for (text, milliseconds) in [
            ("250ms", 250),
            ("3s", 3000),
            ("5 min", 300_000),
            ("2h", 7_200_000),
            ("1d", 86_400_000),
            ("0s", 0),
        ] {
            let duration: HumanDuration = text.parse().unwrap();
            assert_eq!(duration, HumanDuration::from_millis(milliseconds), "{text}");
            assert_eq!(duration.to_string(), text.replace(' ', ""));
        }
        for (text, bytes, shown) in [
            ("7", 7, "7B"),
            ("100KiB", 102_400, "100KiB"),
            ("64 MiB", 64 << 20, "64MiB"),
            ("1GiB", 1 << 30, "1GiB"),
            ("5MB", 5_000_000, "5MB"),
        ] {
            let size: ByteSize = text.parse().unwrap();
            assert_eq!((size.get(), size.to_string().as_str()), (bytes, shown));
        }
    }

    #[test]
    fn what_is_none_is_refused_with_an_example() {
        for text in ["", "3", "s", "3 seconds", "-3s", "1.5s", "3S"] {
            let error = text.parse::<HumanDuration>().unwrap_err().to_string();
            assert!(error.contains(text) && error.contains("\"3s\""), "{error}");
        }
        for text in ["", "KiB", "64 megabytes", "-1", "0x10"] {
            let error = text.parse::<ByteSize>().unwrap_err().to_string();
            assert!(
                error.contains(text) && error.contains("\"64MiB\""),
                "{error}"
            );
        }
        for text in ["18446744073709551615GiB", "18446744073709551615h"] {
            let refused = [
                text.parse::<ByteSize>().err(),
                text.parse::<HumanDuration>().err(),
            ];
            assert!(refused.iter().all(Option::is_some), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_shown_is_read_again(amount in any::<u64>(), text in ".*") {
            prop_assert_eq!(ByteSize::new(amount).to_string().parse(), Ok(ByteSize::new(amount)));
            let duration = HumanDuration::from_millis(amount);
            prop_assert_eq!(duration.to_string().parse(), Ok(duration));
            let _ = (text.parse::<ByteSize>(), text.parse::<HumanDuration>());
        }
    }
}
