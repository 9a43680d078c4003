// SPDX-License-Identifier: Apache-2.0
//! Which test covers which behaviour: the `Covers:` comments above the tests.

use std::collections::{BTreeMap, BTreeSet};

use crate::findings::Findings;
use crate::workspace::TextFile;

/// For each id the places that cover it, as `crate::test`, and where the first of them stands.
pub(super) type Covers = BTreeMap<String, Coverage>;

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Coverage {
    pub(super) tests: BTreeSet<String>,
    /// The file and line of a comment that names the id.
    pub(super) place: String,
}

const MARK: &str = "Covers:";

/// How far below the comment the test may begin: attributes and the rest of its documentation come between.
const REACH: usize = 30;

pub(super) fn collect(files: &[TextFile]) -> (Covers, Findings) {
    let mut covers = Covers::new();
    let mut findings = Findings::default();
    for file in files {
        let Some(name) = crate_of(&file.path).filter(|_| file.path.ends_with(".rs")) else {
            continue;
        };
        let lines: Vec<_> = file.text.lines().collect();
        for (at, line) in lines.iter().enumerate() {
            let Some(listed) = comment(line).and_then(|text| text.strip_prefix(MARK)) else {
                continue;
            };
            let place = format!("{}:{}", file.path, at + 1);
            let below = lines.iter().skip(at + 1);
            let ids = ids(listed, below.clone());
            let test = below.take(REACH).find_map(|line| function(line));
            let (Some(test), false) = (test, ids.is_empty()) else {
                findings.add(
                    place,
                    format!("`{MARK}` names no id, or no function follows it"),
                );
                continue;
            };
            for id in ids {
                let coverage = covers.entry(id).or_default();
                coverage.tests.insert(format!("{name}::{test}"));
                if coverage.place.is_empty() {
                    coverage.place.clone_from(&place);
                }
            }
        }
    }
    (covers, findings)
}

/// Whether a word has the form of an id, as `VER-07`.
pub(super) fn is_id(word: &str) -> bool {
    word.split_once('-').is_some_and(|(group, number)| {
        group.len() == 3
            && group.bytes().all(|byte| byte.is_ascii_uppercase())
            && number.len() == 2
            && number.bytes().all(|byte| byte.is_ascii_digit())
    })
}

/// The ids of a list; one that ends with a comma goes on in the next line.
fn ids<'a>(listed: &'a str, below: impl Iterator<Item = &'a &'a str>) -> Vec<String> {
    let mut text = listed.trim().to_owned();
    for line in below {
        let Some(more) = comment(line).filter(|_| text.ends_with(',')) else {
            break;
        };
        text.push(' ');
        text.push_str(more);
    }
    text.split(|char: char| !(char.is_ascii_alphanumeric() || char == '-'))
        .filter(|word| is_id(word))
        .map(str::to_owned)
        .collect()
}

/// The text of a comment line.
fn comment(line: &str) -> Option<&str> {
    let text = line.trim_start().strip_prefix("//")?;
    Some(text.trim_start_matches(['/', '!']).trim())
}

/// The name of the function that begins in this line.
pub(super) fn function(line: &str) -> Option<&str> {
    let mut rest = line.trim_start();
    for word in ["pub(crate) ", "pub(super) ", "pub ", "async "] {
        rest = rest.strip_prefix(word).unwrap_or(rest);
    }
    let name = rest.strip_prefix("fn ")?;
    name.split(|char: char| !(char.is_alphanumeric() || char == '_'))
        .next()
        .filter(|name| !name.is_empty())
}

/// The crate of a file by the name of its directory; tooling covers no behaviour of the product.
pub(super) fn crate_of(path: &str) -> Option<&str> {
    if let Some(rest) = path.strip_prefix("crates/") {
        return rest.split('/').next();
    }
    if path.starts_with("tests/consumer/") {
        return Some("standalone-consumer");
    }
    if path.starts_with("tests/tcp-gossip/") {
        return Some("tcp-gossip");
    }
    path.starts_with("tests/").then_some("e2e-tests")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collected(path: &str, text: &str) -> (Covers, Vec<String>) {
        let file = TextFile::new(path, text);
        let (covers, findings) = collect(&[file]);
        (covers, findings.lines().to_vec())
    }

    #[test]
    fn ids_are_tied_to_the_function_below() {
        let text = "/// Wrong number.\n/// Covers: VER-16, VER-18\n#[tokio::test]\nasync fn rejects() {}\n\
                    // Covers: VER-18,\n//   SVC-01.\n    pub fn conforms() {}\n";
        let (covers, problems) = collected("crates/channel-config/src/a.rs", text);
        assert_eq!(problems, [""; 0]);
        let tests = |id: &str| -> Vec<_> { covers[id].tests.iter().cloned().collect() };
        assert_eq!(tests("VER-16"), ["channel-config::rejects"]);
        assert_eq!(
            tests("VER-18"),
            ["channel-config::conforms", "channel-config::rejects"]
        );
        assert_eq!(tests("SVC-01"), ["channel-config::conforms"]);
        assert_eq!(covers["VER-16"].place, "crates/channel-config/src/a.rs:2");
    }

    #[test]
    fn a_comment_without_id_or_function_is_found() {
        for text in ["/// Covers: nothing\nfn a() {}\n", "// Covers: VER-01\n"] {
            let (covers, problems) = collected("tests/src/a.rs", text);
            assert!(covers.is_empty());
            assert_eq!(problems.len(), 1, "{text}");
        }
    }

    #[test]
    fn files_belong_to_crates() {
        assert_eq!(crate_of("crates/signer/tests/a.rs"), Some("signer"));
        assert_eq!(crate_of("tests/it/a.rs"), Some("e2e-tests"));
        assert_eq!(
            crate_of("tests/consumer/src/main.rs"),
            Some("standalone-consumer")
        );
        assert_eq!(
            crate_of("tests/tcp-gossip/tests/conformance.rs"),
            Some("tcp-gossip")
        );
        assert_eq!(crate_of("xtask/src/main.rs"), None);
    }

    #[test]
    fn an_id_is_three_capitals_and_two_digits() {
        assert!(is_id("VER-07"));
        for word in ["VER-7", "ver-07", "SHA-256", "VER07", "VERS-07", ""] {
            assert!(!is_id(word), "{word}");
        }
    }
}
