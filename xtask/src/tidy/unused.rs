// SPDX-License-Identifier: Apache-2.0
//! Dependencies that a manifest declares and no code of the crate names.

use std::collections::BTreeSet;

use toml::Table;

use super::code::code_only;
use super::exceptions::{Exceptions, FILE, Unnamed};
use super::manifests::dependencies;
use crate::findings::Findings;
use crate::workspace::{TextFile, Workspace};

pub(super) fn check(
    workspace: &Workspace,
    files: &[TextFile],
    exceptions: &Exceptions,
    findings: &mut Findings,
) -> anyhow::Result<()> {
    let dirs: Vec<_> = workspace
        .members()
        .iter()
        .map(|member| workspace.dir_of(member))
        .collect();
    let mut excused = Vec::new();
    for (member, dir) in workspace.members().iter().zip(&dirs) {
        let path = format!("{dir}/Cargo.toml");
        let Ok(manifest) = workspace.read(&path)?.parse::<Table>() else {
            continue; // `manifests` has said so.
        };
        let words = words_of(dir, &dirs, files);
        let (fine, wrong): (Vec<_>, Vec<_>) = unnamed(&manifest, &words)
            .into_iter()
            .map(|dependency| Unnamed {
                package: member.name.to_string(),
                dependency,
            })
            .partition(|unnamed| exceptions.unnamed.contains(unnamed));
        excused.extend(fine);
        let wrong: Vec<_> = wrong
            .into_iter()
            .map(|unnamed| unnamed.dependency)
            .collect();
        if !wrong.is_empty() {
            findings.add(&path, format!("no code names {}", wrong.join(", ")));
        }
    }
    for exception in &exceptions.unnamed {
        if !excused.contains(exception) {
            findings.add(
                FILE,
                format!(
                    "{} needs no exception for {}",
                    exception.package, exception.dependency
                ),
            );
        }
    }
    Ok(())
}

/// Every name in the Rust code of a member, and in the examples of its README.
fn words_of(dir: &str, dirs: &[String], files: &[TextFile]) -> BTreeSet<String> {
    let inside = |path: &str, dir: &str| {
        path.strip_prefix(dir)
            .is_some_and(|rest| rest.starts_with('/'))
    };
    let nested: Vec<_> = dirs.iter().filter(|other| inside(other, dir)).collect();
    let mut words = BTreeSet::new();
    for file in files {
        let foreign = nested.iter().any(|other| inside(&file.path, other));
        if !inside(&file.path, dir) || foreign {
            continue;
        }
        let text = if file.path.ends_with(".rs") {
            code_only(&file.text)
        } else if file.path.ends_with("README.md") {
            file.text.clone()
        } else {
            continue;
        };
        let split = text.split(|char: char| !(char.is_alphanumeric() || char == '_'));
        words.extend(split.map(str::to_owned));
    }
    words
}

fn unnamed(manifest: &Table, words: &BTreeSet<String>) -> BTreeSet<String> {
    dependencies(manifest)
        .into_iter()
        // A crate depends on itself to switch on a feature for its tests.
        .filter(|(_, _, value)| value.get("path").is_none())
        .filter(|(_, name, _)| !words.contains(&name.replace('-', "_")))
        .map(|(_, name, _)| name.to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dependency_that_no_code_names_is_found() {
        let manifest: Table = "[dependencies]\nused-one.workspace = true\nspoken-of.workspace = true\n\
                               [dev-dependencies]\nin-readme.workspace = true\nitself.path = \".\"\n"
            .parse()
            .unwrap();
        let files = [
            TextFile::new("crates/a/src/lib.rs", "use used_one::X; // spoken_of"),
            TextFile::new("crates/a/README.md", "in_readme::go()"),
            TextFile::new("crates/ab/src/lib.rs", "spoken_of::x()"),
        ];
        let words = words_of("crates/a", &["crates/a".to_owned()], &files);
        let found: Vec<_> = unnamed(&manifest, &words).into_iter().collect();
        assert_eq!(found, ["spoken-of"]);
    }

    #[test]
    fn a_member_inside_a_member_counts_for_itself() {
        let dirs = ["tests".to_owned(), "tests/consumer".to_owned()];
        let files = [TextFile::new("tests/consumer/src/main.rs", "inner::x()")];
        assert!(!words_of("tests", &dirs, &files).contains("inner"));
        assert!(words_of("tests/consumer", &dirs, &files).contains("inner"));
    }
}
