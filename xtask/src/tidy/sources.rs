// SPDX-License-Identifier: Apache-2.0
//! What every Rust file has at its head, and what none has in it.

use super::code::code_only;
use crate::findings::Findings;
use crate::workspace::TextFile;

const SPDX: &str = "// SPDX-License-Identifier: Apache-2.0";

/// Generated files are the generator's business.
const GENERATED: &str = "crates/protos/src/generated/";

/// What no code contains, and why.
const FORBIDDEN: &[(&str, &str)] = &[
    ("#[ignore", "a test that is not run proves nothing"),
    ("todo!", "finish it, or return an error"),
    ("unimplemented!", "finish it, or return an error"),
    ("unbounded_channel", "every queue has a bound"),
    ("UnboundedSender", "every queue has a bound"),
    ("UnboundedReceiver", "every queue has a bound"),
    ("mpsc::unbounded", "every queue has a bound"),
    ("unbounded()", "every queue has a bound"),
    (
        "std::sync::mpsc::channel",
        "every queue has a bound: sync_channel has one",
    ),
];

pub(super) fn is_generated(path: &str) -> bool {
    path.starts_with(GENERATED)
}

pub(super) fn check(file: &TextFile, findings: &mut Findings) {
    if !file.path.ends_with(".rs") || is_generated(&file.path) {
        return;
    }
    check_head(file, findings);
    let code = code_only(&file.text);
    for (number, line) in (1..).zip(code.lines()) {
        let place = format!("{}:{number}", file.path);
        for (word, reason) in FORBIDDEN {
            if contains_word(line, word) {
                findings.add(&place, format!("`{word}`: {reason}"));
            }
        }
        let allows = line.contains("#[allow(") || line.contains("#![allow(");
        if allows && !guards_generated(file, number) {
            findings.add(
                &place,
                "`allow`: write #[expect(lint, reason = \"…\")], which ends with its cause",
            );
        }
    }
}

fn check_head(file: &TextFile, findings: &mut Findings) {
    let mut lines = file.text.lines();
    if lines.next() != Some(SPDX) {
        findings.add(&file.path, format!("its first line is not `{SPDX}`"));
        return;
    }
    let sentence: Vec<_> = lines
        .map_while(|line| line.strip_prefix("//! "))
        .map(str::trim)
        .collect();
    let last = sentence.last().copied().unwrap_or_default();
    if !(last.ends_with('.') || last.ends_with(':')) {
        findings.add(
            &file.path,
            "below its first line there is no `//!` sentence that says what it is for",
        );
    }
}

/// Whether `word` is in `line` and does not continue a longer name.
fn contains_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line.get(..at).and_then(|text| text.chars().next_back());
        !before.is_some_and(|char| char.is_alphanumeric() || char == '_')
    })
}

/// Whether the `allow` in this line is the one above the generated modules, which says so in its reason.
fn guards_generated(file: &TextFile, number: usize) -> bool {
    let attribute: String = file
        .text
        .lines()
        .skip(number - 1)
        .take_while(|line| !line.trim().is_empty())
        .collect();
    let attribute = attribute.split(")]").next().unwrap_or_default();
    file.path.starts_with("crates/protos/src/") && attribute.contains("reason = \"generated")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &str, text: &str) -> Vec<String> {
        let mut findings = Findings::default();
        let file = TextFile::new(path, text);
        check(&file, &mut findings);
        findings.lines().to_vec()
    }

    fn body(code: &str) -> Vec<String> {
        lines(
            "crates/a/src/b.rs",
            &format!("{SPDX}\n//! A sentence.\n\n{code}\n"),
        )
    }

    #[test]
    fn the_head_is_a_licence_and_a_sentence() {
        let path = "crates/a/src/b.rs";
        assert!(lines(path, &format!("{SPDX}\n//! Says what it is for.\n")).is_empty());
        assert!(lines(path, &format!("{SPDX}\n//! Says it\n//! in two lines.\n")).is_empty());
        for text in [
            String::new(),
            "//! A sentence.\n".to_owned(),
            format!("{SPDX}\n"),
            format!("{SPDX}\nuse a;\n"),
            format!("{SPDX}\n//!\n"),
            format!("{SPDX}\n//! no sentence\n"),
        ] {
            assert_eq!(lines(path, &text).len(), 1, "{text:?}");
        }
    }

    #[test]
    fn forbidden_words_are_found_in_code_only() {
        for (word, _) in FORBIDDEN {
            assert_eq!(body(&format!("{word}(x);")).len(), 1, "{word}");
            assert!(body(&format!("// {word}(x);")).is_empty(), "{word}");
            assert!(body(&format!("f(\"{word}\");")).is_empty(), "{word}");
        }
        assert!(body("my_todo!();").is_empty());
        assert!(body("std::sync::mpsc::sync_channel(1);").is_empty());
    }

    #[test]
    fn a_bare_allow_is_found_except_above_generated_code() {
        assert_eq!(body("#[allow(dead_code)]").len(), 1);
        assert_eq!(body("#![allow(dead_code, reason = \"x\")]").len(), 1);
        assert!(body("#[expect(dead_code, reason = \"x\")]").is_empty());
        let guard = "mod generated {\n    #![allow(\n        missing_docs,\n        reason = \"generated\"\n    )]\n}";
        let head = format!("{SPDX}\n//! A sentence.\n\n{guard}\n");
        assert!(lines("crates/protos/src/lib.rs", &head).is_empty());
        assert_eq!(lines("crates/signer/src/lib.rs", &head).len(), 1);
    }

    #[test]
    fn generated_and_foreign_files_are_left_alone() {
        assert!(lines("crates/protos/src/generated/common.rs", "#[allow(x)]").is_empty());
        assert!(lines("README.md", "todo!").is_empty());
    }
}
