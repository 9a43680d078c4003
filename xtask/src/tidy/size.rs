// SPDX-License-Identifier: Apache-2.0
//! How long a file may be: a file that is too long has two purposes.

use super::exceptions::{Exceptions, FILE};
use super::sources::is_generated;
use crate::findings::Findings;
use crate::workspace::TextFile;

/// Lines above the tests.
const CODE: usize = 500;
/// Lines of tests, at the bottom of a file or in a file of their own.
const TESTS: usize = 800;

pub(super) fn check(files: &[TextFile], exceptions: &Exceptions, findings: &mut Findings) {
    for file in files {
        if !file.path.ends_with(".rs") || is_generated(&file.path) {
            continue;
        }
        let (code, tests) = measure(&file.path, &file.text);
        let granted = exceptions
            .size
            .iter()
            .find(|exception| exception.path == file.path)
            .map_or(0, |exception| exception.lines);
        for (what, lines, limit) in [("code", code, CODE), ("tests", tests, TESTS)] {
            let limit = limit.max(granted);
            if lines > limit {
                findings.add(
                    &file.path,
                    format!("{lines} lines of {what}, {limit} is the limit: split it, or give the reason in {FILE}"),
                );
            }
        }
    }
    for exception in &exceptions.size {
        let needed = files
            .iter()
            .filter(|file| file.path == exception.path)
            .map(|file| measure(&file.path, &file.text))
            .any(|(code, tests)| code > CODE || tests > TESTS);
        if !needed {
            findings.add(FILE, format!("{} needs no exception", exception.path));
        }
    }
}

/// The lines of code and of tests.
fn measure(path: &str, text: &str) -> (usize, usize) {
    let all = text.lines().count();
    let directory_of_tests = path
        .split('/')
        .rev()
        .skip(1)
        .take_while(|part| *part != "src")
        .any(|part| part == "tests" || part == "benches");
    if directory_of_tests || path.ends_with("/tests.rs") {
        return (0, all);
    }
    let above = first_test_module(text).unwrap_or(all);
    (above, all - above)
}

/// The line, from zero, of the attribute above a test module that is written out in the file.
fn first_test_module(text: &str) -> Option<usize> {
    let lines: Vec<_> = text.lines().collect();
    lines.iter().enumerate().position(|(at, line)| {
        let attribute = line.starts_with("#[cfg(test)]") || line.starts_with("#[cfg(all(test");
        let below = lines
            .iter()
            .skip(at + 1)
            .find(|line| !line.starts_with('#'));
        attribute && below.is_some_and(|line| line.contains("mod ") && line.ends_with('{'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, code: usize, tests: usize) -> TextFile {
        let mut text = "x\n".repeat(code);
        if tests > 0 {
            text += "#[cfg(test)]\nmod tests {\n";
            text += &"x\n".repeat(tests - 2);
        }
        TextFile::new(path, text)
    }

    fn findings(files: &[TextFile], exceptions: &Exceptions) -> usize {
        let mut findings = Findings::default();
        check(files, exceptions, &mut findings);
        findings.lines().len()
    }

    #[test]
    fn the_limits_hold_for_code_and_tests() {
        let none = Exceptions::default();
        let cases = [
            (file("crates/a/src/b.rs", CODE, TESTS), 0),
            (file("crates/a/src/b.rs", CODE + 1, TESTS), 1),
            (file("crates/a/src/b.rs", CODE, TESTS + 1), 1),
            (file("crates/a/tests/b.rs", TESTS, 0), 0),
            (file("crates/a/tests/b.rs", TESTS + 1, 0), 1),
            (file("crates/a/src/b/tests.rs", TESTS, 0), 0),
            (file("tests/src/b.rs", CODE + 1, 0), 1),
            (file("crates/protos/src/generated/b.rs", CODE * 9, 0), 0),
            (file("README.md", CODE * 9, 0), 0),
        ];
        for (file, expected) in cases {
            let (path, lines) = (file.path.clone(), file.text.lines().count());
            assert_eq!(findings(&[file], &none), expected, "{path}, {lines} lines");
        }
    }

    #[test]
    fn an_exception_is_granted_and_must_be_needed() {
        let exception = |lines| Exceptions {
            size: vec![super::super::exceptions::Size {
                path: "crates/a/src/b.rs".to_owned(),
                lines,
            }],
            ..Exceptions::default()
        };
        let long = || vec![file("crates/a/src/b.rs", CODE + 1, 0)];
        assert_eq!(findings(&long(), &exception(CODE + 1)), 0);
        assert_eq!(findings(&long(), &exception(CODE)), 1);
        let short = [file("crates/a/src/b.rs", CODE, 0)];
        assert_eq!(findings(&short, &exception(CODE + 1)), 1);
        assert_eq!(findings(&[], &exception(CODE + 1)), 1);
    }

    #[test]
    fn a_test_only_import_does_not_begin_the_tests() {
        let text = "#[cfg(test)]\nuse a;\nx\n#[cfg(test)]\nmod tests;\nx\n";
        assert_eq!(measure("crates/a/src/b.rs", text), (6, 0));
    }
}
