// SPDX-License-Identifier: Apache-2.0
//! The table as ARCHITECTURE.md shows it, between two markers.

use anyhow::Context;

use super::table::{Allowed, Row, TABLE, TESTS_MAY_USE};

pub(crate) const DOCUMENT: &str = "ARCHITECTURE.md";

const BEGIN: &str = "<!-- layers:begin -->\n";
const END: &str = "<!-- layers:end -->";

/// The document with the table in its place.
pub(crate) fn expected(present: &str) -> anyhow::Result<String> {
    let missing = || {
        format!(
            "{DOCUMENT} lacks the markers {} and {END}",
            BEGIN.trim_end()
        )
    };
    let (before, rest) = present.split_once(BEGIN).with_context(missing)?;
    let (_, after) = rest.split_once(END).with_context(missing)?;
    Ok(format!("{before}{BEGIN}{}{END}{after}", rendered()))
}

fn rendered() -> String {
    let mut text = "| layer | crate | may depend on | its tests also on |\n\
                    | --- | --- | --- | --- |\n"
        .to_owned();
    for row in TABLE {
        let layer = row
            .layer
            .map_or_else(|| "–".to_owned(), |layer| layer.to_string());
        text += &format!(
            "| {layer} | `{}` | {} | {} |\n",
            row.name,
            shown(&row.may_use),
            in_tests(row)
        );
    }
    text
}

fn shown(allowed: &Allowed) -> String {
    match allowed {
        Allowed::Any => "any".to_owned(),
        Allowed::Only([]) => "nothing of ours".to_owned(),
        Allowed::Only(entries) => list(entries.iter()),
    }
}

fn in_tests(row: &Row) -> String {
    if row.layer.is_none() {
        return list(row.tests_may_use.iter());
    }
    list(TESTS_MAY_USE.iter().chain(row.tests_may_use))
}

fn list<'a>(entries: impl Iterator<Item = &'a &'static str>) -> String {
    let quoted: Vec<_> = entries.map(|entry| format!("`{entry}`")).collect();
    quoted.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_replaces_what_stands_between_the_markers() {
        let text = expected(&format!("# A\n\n{BEGIN}old\n{END}\n\nafter\n")).unwrap();
        assert!(!text.contains("old"));
        assert!(text.starts_with("# A\n\n"));
        assert!(text.ends_with("\n\nafter\n"));
        assert!(text.contains(
            "| 3 | `deliver-service` | `block-api`, `blocks-provider` | `block-api[testing]`, `gossip-memory` |\n"
        ));
        assert_eq!(
            expected(&text).unwrap(),
            text,
            "writing twice changes nothing"
        );
    }

    #[test]
    fn a_document_without_markers_is_an_error() {
        let error = expected("# A\n").unwrap_err().to_string();
        assert!(error.contains("layers:begin"), "{error}");
    }
}
