// SPDX-License-Identifier: Apache-2.0
//! Every crate of the product has a README, which is its documentation and is compiled.

use crate::findings::Findings;
use crate::workspace::Workspace;

const INCLUDED: &str = "#![doc = include_str!(\"../README.md\")]";

pub(super) fn check(workspace: &Workspace, findings: &mut Findings) {
    for member in workspace.members() {
        let dir = workspace.dir_of(member);
        if !dir.starts_with("crates/") {
            continue;
        }
        let readme = workspace.read(&format!("{dir}/README.md")).ok();
        let lib = workspace.read(&format!("{dir}/src/lib.rs")).ok();
        check_crate(&dir, readme.as_deref(), lib.as_deref(), findings);
    }
}

fn check_crate(dir: &str, readme: Option<&str>, lib: Option<&str>, findings: &mut Findings) {
    if readme.is_none_or(|text| text.trim().is_empty()) {
        findings.add(dir, "README.md is missing or empty");
    }
    if !lib.is_some_and(|text| text.lines().any(|line| line == INCLUDED)) {
        findings.add(dir, format!("src/lib.rs lacks the line `{INCLUDED}`"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crate_without_documentation_is_found() {
        let good = format!("//! Sentence.\n{INCLUDED}\n");
        let cases = [
            (Some("# a\n"), Some(good.as_str()), 0),
            (None, Some(good.as_str()), 1),
            (Some("\n"), Some(good.as_str()), 1),
            (Some("# a\n"), Some("//! Sentence.\n"), 1),
            (Some("# a\n"), None, 1),
        ];
        for (readme, lib, expected) in cases {
            let mut findings = Findings::default();
            check_crate("crates/a", readme, lib, &mut findings);
            assert_eq!(findings.lines().len(), expected, "{readme:?} {lib:?}");
        }
    }
}
