// SPDX-License-Identifier: Apache-2.0
//! Text that came from somewhere else, made fit to be shown: on a terminal it can do no harm, and
//! it is not endless.

use std::fmt::Write as _;

/// So many characters of a name, an id or a subject are shown.
pub(crate) const NAME: usize = 256;

/// So many characters of a reason are shown.
pub(crate) const REASON: usize = 2_000;

/// Lines are broken before they get longer than this, where they can be.
pub(crate) const WIDTH: usize = 100;

/// So many bytes are shown in hexadecimal: more than any hash has.
const HEX_BYTES: usize = 64;

/// The text with every character escaped that is not plainly visible (control characters, marks
/// that change the direction of writing, blanks other than a space), and cut after so many.
pub(crate) fn printable(text: &str, limit: usize) -> String {
    let mut shown = String::new();
    for (count, (at, character)) in text.char_indices().enumerate() {
        if count >= limit {
            let _ = write!(
                shown,
                "… (and {} bytes more)",
                grouped_usize(text.len() - at)
            );
            break;
        }
        match character {
            // They are harmless, and subjects have them.
            '\'' | '"' => shown.push(character),
            _ => shown.extend(character.escape_debug()),
        }
    }
    shown
}

/// A name, an id or a subject, made fit to be shown.
pub(crate) fn name(text: &str) -> String {
    printable(text, NAME)
}

/// Bytes in hexadecimal; the first ones where there are more than a hash has.
pub(crate) fn hex(bytes: &[u8]) -> String {
    match bytes.get(..HEX_BYTES) {
        Some(head) if bytes.len() > HEX_BYTES => {
            format!(
                "{}… (and {} bytes more)",
                hex::encode(head),
                grouped_usize(bytes.len() - HEX_BYTES)
            )
        }
        _ => hex::encode(bytes),
    }
}

/// A number with its digits in groups of three.
pub(crate) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// As [`grouped`], of a size in memory.
pub(crate) fn grouped_usize(number: usize) -> String {
    grouped(u64::try_from(number).unwrap_or(u64::MAX))
}

/// A number of things.
pub(crate) fn counted(number: usize, one: &str, many: &str) -> String {
    format!(
        "{} {}",
        grouped_usize(number),
        if number == 1 { one } else { many }
    )
}

/// Writes text behind so many spaces, broken between words where it is too long; what comes after
/// stands two spaces further in.
pub(crate) fn wrapped(out: &mut String, indent: usize, text: &str) {
    let mut room = WIDTH.saturating_sub(indent);
    let mut line = " ".repeat(indent);
    let mut used = 0;
    for (index, word) in text.split(' ').enumerate() {
        let length = word.chars().count();
        if index > 0 && used + 1 + length > room {
            let _ = writeln!(out, "{line}");
            line = " ".repeat(indent + 2);
            room = WIDTH.saturating_sub(indent + 2);
            used = 0;
        } else if index > 0 {
            line.push(' ');
            used += 1;
        }
        line.push_str(word);
        used += length;
    }
    let _ = writeln!(out, "{line}");
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_a_terminal_would_obey_is_escaped() {
        let rows = [
            ("plain CN=a, O=\"b\", 'c'", "plain CN=a, O=\"b\", 'c'"),
            ("Zürich 東京", "Zürich 東京"),
            ("\x1b[2Jgone", "\\u{1b}[2Jgone"),
            ("a\r\nb\tc\0", "a\\r\\nb\\tc\\0"),
            ("\u{9b}31m", "\\u{9b}31m"),
            ("\u{202e}txt.exe", "\\u{202e}txt.exe"),
            ("\u{200b}\u{2028}\u{feff}", "\\u{200b}\\u{2028}\\u{feff}"),
            ("back\\slash", "back\\\\slash"),
        ];
        for (text, shown) in rows {
            assert_eq!(name(text), shown, "{text:?}");
        }
    }

    #[test]
    fn what_is_long_is_cut_and_says_so() {
        assert_eq!(printable("abcdef", 6), "abcdef");
        assert_eq!(printable("abcdefg", 4), "abcd… (and 3 bytes more)");
        assert_eq!(hex(&[0xab; 64]), "ab".repeat(64));
        assert_eq!(
            hex(&[0xab; 1064]),
            "ab".repeat(64) + "… (and 1,000 bytes more)"
        );
        assert_eq!(
            [0, 999, 1000, 1_234_567].map(grouped),
            ["0", "999", "1,000", "1,234,567"]
        );
        assert_eq!(counted(1, "block", "blocks"), "1 block");
        assert_eq!(counted(2000, "block", "blocks"), "2,000 blocks");
    }

    proptest! {
        #[test]
        fn nothing_that_is_shown_is_a_control_character_or_endless(text in any::<String>(), limit in 0usize..50) {
            let shown = printable(&text, limit);
            prop_assert!(!shown.chars().any(char::is_control));
            prop_assert!(shown.chars().count() <= limit * 10 + 40);
            prop_assert_eq!(printable(&text, text.len()).is_empty(), text.is_empty());
        }
    }
}
