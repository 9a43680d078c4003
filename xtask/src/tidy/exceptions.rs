// SPDX-License-Identifier: Apache-2.0
//! The exceptions to the rules, each with its reason.

use toml::{Table, Value};

use crate::findings::Findings;

pub(super) const FILE: &str = "xtask/tidy-exceptions.toml";

#[derive(Debug, Default)]
pub(super) struct Exceptions {
    /// Files that may be longer than the limits.
    pub(super) size: Vec<Size>,
    /// Dependencies that no code names.
    pub(super) unnamed: Vec<Unnamed>,
}

#[derive(Debug)]
pub(super) struct Size {
    pub(super) path: String,
    pub(super) lines: usize,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unnamed {
    pub(super) package: String,
    pub(super) dependency: String,
}

impl Exceptions {
    pub(super) fn parse(text: &str, findings: &mut Findings) -> Self {
        let mut exceptions = Self::default();
        let table: Table = match text.parse() {
            Ok(table) => table,
            Err(error) => {
                findings.add(FILE, error);
                return exceptions;
            }
        };
        for (kind, entries) in &table {
            for entry in entries.as_array().into_iter().flatten() {
                if exceptions.accept(kind, entry).is_none() {
                    findings.add(
                        FILE,
                        format!("[[{kind}]] is unknown, or an entry lacks a field or its reason: {entry}"),
                    );
                }
            }
        }
        exceptions
    }

    fn accept(&mut self, kind: &str, entry: &Value) -> Option<()> {
        let text = |key: &str| entry.get(key).and_then(Value::as_str).map(str::to_owned);
        text("reason").filter(|reason| !reason.trim().is_empty())?;
        match kind {
            "size" => self.size.push(Size {
                path: text("path")?,
                lines: entry.get("lines")?.as_integer()?.try_into().ok()?,
            }),
            "unnamed-dependency" => self.unnamed.push(Unnamed {
                package: text("package")?,
                dependency: text("dependency")?,
            }),
            _ => return None,
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exception_has_a_reason() {
        let text = "[[size]]\npath = \"a.rs\"\nlines = 600\nreason = \"one table\"\n\
                    [[size]]\npath = \"b.rs\"\nlines = 600\n\
                    [[other]]\nreason = \"x\"\n";
        let mut findings = Findings::default();
        let exceptions = Exceptions::parse(text, &mut findings);
        assert_eq!(exceptions.size.len(), 1);
        assert_eq!(findings.lines().len(), 2);
    }

    #[test]
    fn a_file_that_is_not_toml_is_found() {
        let mut findings = Findings::default();
        Exceptions::parse("[[size", &mut findings);
        assert_eq!(findings.lines().len(), 1);
    }
}
