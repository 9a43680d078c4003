// SPDX-License-Identifier: Apache-2.0
//! Findings of a check: all of them are printed before it fails.

use std::fmt::Display;

use anyhow::bail;

/// What one check found wrong, in the order it was found.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    list: Vec<String>,
}

impl Findings {
    pub(crate) fn add(&mut self, place: impl Display, what: impl Display) {
        self.list.push(format!("{place}: {what}"));
    }

    pub(crate) fn extend(&mut self, other: Self) {
        self.list.extend(other.list);
    }

    #[cfg(test)]
    pub(crate) fn lines(&self) -> &[String] {
        &self.list
    }

    /// Prints every finding, and fails if there was one, ending with `fix`.
    pub(crate) fn finish(self, check: &str, fix: &str) -> anyhow::Result<()> {
        for finding in &self.list {
            say(format!("{check}: {finding}"));
        }
        match self.list.len() {
            0 => Ok(()),
            1 => bail!("{check}: 1 finding\n  fix: {fix}"),
            count => bail!("{check}: {count} findings\n  fix: {fix}"),
        }
    }
}

/// A line on standard error.
#[expect(
    clippy::print_stderr,
    reason = "the only place where this tool speaks; standard output belongs to its results"
)]
pub(crate) fn say(line: impl Display) {
    eprintln!("{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_fails_and_names_the_fix() {
        let mut findings = Findings::default();
        findings.add("a.rs:1", "wrong");
        let error = findings.finish("tidy", "cargo xtask tidy").unwrap_err();
        assert_eq!(
            error.to_string(),
            "tidy: 1 finding\n  fix: cargo xtask tidy"
        );
    }

    #[test]
    fn no_finding_passes() {
        Findings::default().finish("tidy", "nothing").unwrap();
    }
}
