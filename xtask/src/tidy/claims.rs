// SPDX-License-Identifier: Apache-2.0
//! docs/threat-model.md: every test that it names as `crate::test` is there.

use std::collections::BTreeSet;

use super::covers::{crate_of, function};
use crate::findings::Findings;
use crate::workspace::TextFile;

pub(super) const DOCUMENT: &str = "docs/threat-model.md";

pub(super) fn check(document: &str, files: &[TextFile]) -> Findings {
    let mut findings = Findings::default();
    let there = tests(files);
    for (at, line) in document.lines().enumerate() {
        let quoted = line.split('`').skip(1).step_by(2);
        for name in quoted.filter(|name| is_name(name)) {
            if !there.contains(name) {
                let place = format!("{DOCUMENT}:{}", at + 1);
                findings.add(place, format!("there is no test `{name}`"));
            }
        }
    }
    findings
}

/// The names of all functions behind an attribute that ends with `test`, as `crate::test`.
fn tests(files: &[TextFile]) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for file in files.iter().filter(|file| file.path.ends_with(".rs")) {
        let Some(name) = crate_of(&file.path) else {
            continue;
        };
        let mut is_test = false;
        for line in file.text.lines() {
            let line = line.trim_start();
            if let Some(attribute) = line.strip_prefix("#[") {
                let path = attribute.split(['(', ']']).next().unwrap_or_default();
                is_test |= path.ends_with("test");
            } else if let Some(test) = function(line) {
                if is_test {
                    names.insert(format!("{name}::{test}"));
                }
                is_test = false;
            }
        }
    }
    names
}

/// Whether a quoted text has the form `crate::test`; a path with more parts names something else.
fn is_name(text: &str) -> bool {
    let is_word = |part: &str| {
        let mut bytes = part.bytes();
        !part.is_empty()
            && bytes.all(|byte| {
                byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-".contains(&byte)
            })
    };
    let parts: Vec<_> = text.split("::").collect();
    matches!(parts.as_slice(), [name, test] if is_word(name) && is_word(test))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_that_is_named_is_there() {
        let files = [
            TextFile::new(
                "crates/a/tests/b.rs",
                "#[test]\nfn one() {}\n/// Of two.\n#[tokio::test(start_paused = true)]\n#[x]\nasync fn two() {}\n\
                 fn helper() {}\n",
            ),
            TextFile::new("tests/it/c.rs", "    #[test]\n    fn three() {}\n"),
        ];
        let document =
            "| x | `a::one`, `a::two` |\n`e2e-tests::three` `Type::one` `a::b::c` `gossip.mdns`\n";
        assert_eq!(check(document, &files).lines(), [""; 0]);
        for missing in ["`a::helper`", "`b::one`", "`a::four`"] {
            let found = check(missing, &files);
            let [line] = found.lines() else {
                panic!("{missing}: {:?}", found.lines());
            };
            assert!(line.contains(missing), "{line}");
        }
    }
}
