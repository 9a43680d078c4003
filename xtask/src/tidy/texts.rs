// SPDX-License-Identifier: Apache-2.0
//! What no text of the repository contains: trailing whitespace, and paths of one machine.

use crate::findings::Findings;
use crate::workspace::TextFile;

/// Kinds of files that are held to the rules about whitespace.
const CLEAN: &[&str] = &[".rs", ".md", ".toml", ".proto", ".ci/run"];

/// Directories that exist on the machine of whoever wrote the path, without their slashes.
const OF_ONE_MACHINE: &[&str] = &["home", "root", "work", "tmp"];

pub(super) fn check(file: &TextFile, findings: &mut Findings) {
    let clean = CLEAN.iter().any(|end| file.path.ends_with(end));
    for (number, line) in (1..).zip(file.text.split('\n')) {
        let place = format!("{}:{number}", file.path);
        if clean && line.ends_with([' ', '\t', '\r']) {
            findings.add(&place, "whitespace at the end of the line");
        }
        if let Some(dir) = machine_path(line) {
            findings.add(&place, format!("`/{dir}/` is a path of one machine"));
        }
    }
    if clean && !file.text.is_empty() && !file.text.ends_with('\n') {
        findings.add(&file.path, "no newline at the end");
    }
    if clean && file.text.ends_with("\n\n") {
        findings.add(&file.path, "empty lines at the end");
    }
}

/// The directory of one machine that an absolute path in this line begins with.
fn machine_path(line: &str) -> Option<&'static str> {
    OF_ONE_MACHINE.iter().copied().find(|dir| {
        line.match_indices(&format!("/{dir}/")).any(|(at, _)| {
            let before = line.get(..at).and_then(|text| text.chars().next_back());
            !before.is_some_and(|char| char.is_alphanumeric() || "._-}*~)".contains(char))
        })
    })
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

    #[test]
    fn whitespace_at_the_end_is_found_with_its_line() {
        assert_eq!(
            lines("a.md", "good\nbad \n"),
            ["a.md:2: whitespace at the end of the line"]
        );
        assert_eq!(lines("a.proto", "bad\t\n").len(), 1);
        assert_eq!(lines("a.toml", "bad\r\n").len(), 1);
        assert_eq!(lines("a.rs", "no newline").len(), 1);
        assert_eq!(lines("a.rs", "two\n\n").len(), 1);
        assert!(lines("Cargo.lock", "bad ").is_empty());
    }

    #[test]
    fn a_path_of_one_machine_is_found_in_any_text() {
        for dir in OF_ONE_MACHINE {
            assert_eq!(lines("LICENSE", &format!("see /{dir}/x\n")).len(), 1);
            assert_eq!(lines("a.rs", &format!("(\"/{dir}/x\")\n")).len(), 1);
            assert!(lines("a.md", &format!("https://host/{dir}/x\n")).is_empty());
            assert!(lines("a.md", &format!("./{dir}/x\n")).is_empty());
        }
        assert!(lines("a.md", "in /var/lib/blockcast\n").is_empty());
    }
}
