// SPDX-License-Identifier: Apache-2.0
//! docs/parity.md: for every behaviour that upstream tests, the test that covers it here or the reason why none does.

use std::collections::{BTreeMap, BTreeSet};

use super::covers::{Coverage, Covers, is_id};
use crate::findings::Findings;

pub(super) const DOCUMENT: &str = "docs/parity.md";
pub(super) const IDS: &str = "docs/matrix-ids.txt";

/// Stands between the tests and what they leave out, in a row that is covered partly.
const MISSING: &str = "; missing: ";

const BEGIN: &str = "<!-- counts:begin -->";
const END: &str = "<!-- counts:end -->";

const STATUSES: [&str; 4] = ["covered", "partly", "later", "not ours"];

#[derive(Debug)]
struct Row<'a> {
    id: &'a str,
    status: &'a str,
    place: &'a str,
}

impl<'a> Row<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let cells: Vec<_> = line
            .strip_prefix('|')?
            .strip_suffix('|')?
            .split('|')
            .map(str::trim)
            .collect();
        match cells.as_slice() {
            [id, status, place] if is_id(id) => Some(Self { id, status, place }),
            _ => None,
        }
    }

    /// The row as the comments above the tests have it.
    fn derived(&self, covers: &Covers) -> String {
        let place = match covers.get(self.id) {
            None => self.place.to_owned(),
            Some(coverage) if self.status == "partly" => match self.place.split_once(MISSING) {
                Some((_, missing)) => format!("{}{MISSING}{missing}", shown(coverage)),
                None => self.place.to_owned(),
            },
            Some(coverage) => shown(coverage),
        };
        let status = match self.status {
            "later" | "not ours" if covers.contains_key(self.id) => "covered",
            status => status,
        };
        format!("| {} | {status} | {place} |", self.id)
    }

    fn problem(&self, covers: &Covers) -> Option<&'static str> {
        let named = covers.contains_key(self.id);
        match self.status {
            "covered" if !named => Some("is covered, but no `Covers:` comment names it"),
            "partly" if !named => Some("is covered partly, but no `Covers:` comment names it"),
            "partly" if !self.place.contains(MISSING) => {
                Some("is covered partly and does not say `; missing: ` what")
            }
            "later" | "not ours" if self.place.is_empty() => Some("has no reason"),
            status if !STATUSES.contains(&status) => {
                Some("has a status that is none of covered, partly, later, not ours")
            }
            _ => None,
        }
    }
}

/// The document with the places of its tests and its counts as they are.
pub(super) fn expected(document: &str, covers: &Covers) -> String {
    let mut text = String::with_capacity(document.len());
    for line in document.lines() {
        match Row::parse(line) {
            Some(row) => text += &row.derived(covers),
            None => text += line,
        }
        text.push('\n');
    }
    with_counts(&text)
}

pub(super) fn check(ids: &str, document: &str, covers: &Covers) -> Findings {
    let mut findings = Findings::default();
    let known: BTreeSet<_> = ids.lines().filter(|line| !line.is_empty()).collect();
    for id in known.iter().filter(|id| !is_id(id)) {
        findings.add(IDS, format!("`{id}` is not an id"));
    }
    let mut seen: BTreeMap<&str, usize> = BTreeMap::new();
    for row in document.lines().filter_map(Row::parse) {
        *seen.entry(row.id).or_default() += 1;
        if !known.contains(row.id) {
            findings.add(DOCUMENT, format!("{} is not in {IDS}", row.id));
        }
        if let Some(problem) = row.problem(covers) {
            findings.add(DOCUMENT, format!("{} {problem}", row.id));
        }
    }
    for id in known {
        match seen.get(id) {
            Some(1) => {}
            Some(count) => findings.add(DOCUMENT, format!("{id} has {count} rows")),
            None => findings.add(DOCUMENT, format!("{id} has no row")),
        }
    }
    for (id, coverage) in covers {
        if !seen.contains_key(id.as_str()) {
            findings.add(&coverage.place, format!("{id} has no row in {DOCUMENT}"));
        }
    }
    if expected(document, covers) != document {
        findings.add(DOCUMENT, "is out of date: `cargo xtask tidy --write`");
    }
    findings
}

fn shown(coverage: &Coverage) -> String {
    let quoted: Vec<_> = coverage
        .tests
        .iter()
        .map(|test| format!("`{test}`"))
        .collect();
    quoted.join(", ")
}

fn with_counts(text: &str) -> String {
    let Some((before, rest)) = text.split_once(BEGIN) else {
        return text.to_owned();
    };
    let Some((_, after)) = rest.split_once(END) else {
        return text.to_owned();
    };
    let count = |status: &str| {
        text.lines()
            .filter_map(Row::parse)
            .filter(|row| row.status == status)
            .count()
    };
    let counts = STATUSES.map(|status| format!("| {status} | {} |\n", count(status)));
    format!(
        "{before}{BEGIN}\n| status | behaviours |\n| --- | --- |\n{}{END}{after}",
        counts.concat()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows, tests that cover an id, and a part of the finding that is expected.
    type Case<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], &'a str);

    const IDS_TEXT: &str = "VER-01\nVER-02\nEVT-01\n";

    fn covering(list: &[(&str, &str)]) -> Covers {
        let mut covers = Covers::new();
        for (id, test) in list {
            let coverage = covers.entry((*id).to_owned()).or_default();
            coverage.tests.insert((*test).to_owned());
            coverage.place = "crates/a/src/b.rs:1".to_owned();
        }
        covers
    }

    fn document(rows: &[&str]) -> String {
        let mut text =
            format!("# Parity\n\n{BEGIN}\n{END}\n\n| id | status | where |\n| --- | --- | --- |\n");
        for row in rows {
            text += row;
            text.push('\n');
        }
        with_counts(&text)
    }

    #[test]
    fn a_complete_document_passes() {
        let covers = covering(&[("VER-01", "a::one"), ("VER-02", "a::two")]);
        let text = document(&[
            "| VER-01 | covered | `a::one` |",
            "| VER-02 | partly | `a::two`; missing: the other half |",
            "| EVT-01 | not ours | needs a committing peer |",
        ]);
        assert_eq!(check(IDS_TEXT, &text, &covers).lines(), [""; 0]);
        assert!(text.contains("| not ours | 1 |"), "{text}");
    }

    #[test]
    fn writing_follows_the_comments_and_keeps_reasons() {
        let covers = covering(&[
            ("VER-01", "a::one"),
            ("VER-01", "b::one"),
            ("VER-02", "a::new"),
        ]);
        let before = document(&[
            "| VER-01 | later | not built |",
            "| VER-02 | partly | `a::old`; missing: the other half |",
            "| EVT-01 | not ours | needs a committing peer |",
        ]);
        let after = expected(&before, &covers);
        assert!(after.contains("| VER-01 | covered | `a::one`, `b::one` |\n"));
        assert!(after.contains("| VER-02 | partly | `a::new`; missing: the other half |\n"));
        assert!(after.contains("| EVT-01 | not ours | needs a committing peer |\n"));
        assert!(after.contains("| covered | 1 |\n"));
        assert_eq!(expected(&after, &covers), after);
        assert_eq!(check(IDS_TEXT, &after, &covers).lines(), [""; 0]);
        assert_eq!(
            check(IDS_TEXT, &before, &covers).lines().len(),
            1,
            "out of date"
        );
    }

    #[test]
    fn every_kind_of_gap_is_found() {
        let rest = "| EVT-01 | not ours | needs a committing peer |";
        let later = "| VER-02 | later | not built |";
        let cases: &[Case<'_>] = &[
            (&[later, rest], &[], "VER-01 has no row"),
            (
                &[
                    "| VER-01 | later | x |",
                    "| VER-01 | later | x |",
                    later,
                    rest,
                ],
                &[],
                "VER-01 has 2 rows",
            ),
            (
                &["| VER-01 | covered | `a::one` |", later, rest],
                &[],
                "VER-01 is covered, but no",
            ),
            (
                &["| VER-01 | partly | `a::one` |", later, rest],
                &[],
                "VER-01 is covered partly, but no",
            ),
            (
                &["| VER-01 | partly | `a::one` |", later, rest],
                &[("VER-01", "a::one")],
                "does not say",
            ),
            (
                &["| VER-01 | later |  |", later, rest],
                &[],
                "VER-01 has no reason",
            ),
            (
                &["| VER-01 | soon | x |", later, rest],
                &[],
                "has a status that is none",
            ),
            (
                &[
                    "| VER-01 | later | x |",
                    later,
                    rest,
                    "| ZZZ-01 | later | x |",
                ],
                &[],
                "ZZZ-01 is not in",
            ),
            (
                &["| VER-01 | later | x |", later, rest],
                &[("ZZZ-01", "a::one")],
                "b.rs:1: ZZZ-01 has no row",
            ),
            (
                &["| VER-01 | later | x |", later, rest],
                &[("VER-01", "a::one")],
                "is out of date",
            ),
        ];
        for (rows, covers, expected) in cases {
            let findings = check(IDS_TEXT, &document(rows), &covering(covers));
            assert!(
                findings.lines().iter().any(|line| line.contains(expected)),
                "{expected}: {:?}",
                findings.lines()
            );
        }
    }
}
