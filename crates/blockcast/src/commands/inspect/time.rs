// SPDX-License-Identifier: Apache-2.0
//! Points in time as text.

const DAY: i64 = 86_400;

/// The years 1 to 9999, which RFC 3339 can write.
const SECONDS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;

/// A point in time, given as `google.protobuf.Timestamp` gives it, in UTC with milliseconds; none
/// when it is none that a calendar has.
pub(super) fn rfc3339(seconds: i64, nanos: i32) -> Option<String> {
    if !SECONDS.contains(&seconds) || !(0..1_000_000_000).contains(&nanos) {
        return None;
    }
    let (days, of_day) = (seconds.div_euclid(DAY), seconds.rem_euclid(DAY));
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (of_day / 3600, of_day / 60 % 60, of_day % 60);
    let millis = nanos / 1_000_000;
    Some(format!(
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z"
    ))
}

/// Year, month and day of a day counted from 1970-01-01, in the Gregorian calendar.
///
/// Years are counted from March, so that the leap day is the last day of a year.
fn civil(days: i64) -> (i64, i64, i64) {
    const ERA: i64 = 146_097;
    let from_march_0000 = days + 719_468;
    let (era, day_of_era) = (
        from_march_0000.div_euclid(ERA),
        from_march_0000.rem_euclid(ERA),
    );
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / (ERA - 1)) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn known_moments_are_written_as_the_calendar_has_them() {
        let rows = [
            (0, 0, "1970-01-01T00:00:00.000Z"),
            (-1, 999_999_999, "1969-12-31T23:59:59.999Z"),
            (951_782_400, 0, "2000-02-29T00:00:00.000Z"),
            (1_795_327_572, 123_456_789, "2026-11-22T06:06:12.123Z"),
            (4_107_542_400, 0, "2100-03-01T00:00:00.000Z"),
            (*SECONDS.start(), 0, "0001-01-01T00:00:00.000Z"),
            (*SECONDS.end(), 0, "9999-12-31T23:59:59.000Z"),
        ];
        for (seconds, nanos, text) in rows {
            assert_eq!(rfc3339(seconds, nanos).as_deref(), Some(text));
        }
        for (seconds, nanos) in [(i64::MAX, 0), (i64::MIN, 0), (0, -1), (0, 1_000_000_000)] {
            assert_eq!(rfc3339(seconds, nanos), None);
        }
    }

    proptest! {
        #[test]
        fn later_is_greater_as_text(seconds in SECONDS, more in 1i64..1_000_000_000) {
            let (now, later) = (rfc3339(seconds, 0), rfc3339(seconds + more, 0));
            prop_assert!(later.is_none() || now < later);
        }
    }
}
