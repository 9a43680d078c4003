// SPDX-License-Identifier: Apache-2.0
//! What must be absent behind a crate, however many steps away, by `cargo tree`.

use super::table::{Row, TABLE};
use crate::command::Cargo;
use crate::findings::Findings;
use crate::workspace::Workspace;

pub(super) fn check(workspace: &Workspace) -> anyhow::Result<Findings> {
    let mut findings = Findings::default();
    let present = |row: &&Row| {
        let mut members = workspace.members().iter();
        members.any(|member| member.name.as_str() == row.package)
    };
    for row in TABLE.iter().filter(present) {
        if row.without.packages.is_empty() {
            continue;
        }
        let listing = tree(workspace, row)
            .args(["--prefix", "none", "--format", "{p}"])
            .output()?;
        for forbidden in row.without.packages {
            let Some(culprit) = first_of_family(&listing, forbidden) else {
                continue;
            };
            let path = tree(workspace, row).args(["-i", &culprit]).output()?;
            findings.add(
                row.package,
                format!("{forbidden} is in its tree:\n{}", path.trim_end()),
            );
        }
    }
    Ok(findings)
}

fn tree(workspace: &Workspace, row: &Row) -> Cargo {
    let edges = if row.without.in_tests {
        "normal,build,dev"
    } else {
        "normal,build"
    };
    let features: &[&str] = if row.without.all_features {
        &["--all-features"]
    } else {
        &[]
    };
    Cargo::new(workspace.root(), ["tree", "-p", row.package, "-e", edges]).args(features)
}

/// The first package of a listing that is `name` or starts with `name-`, as `name@version`.
fn first_of_family(listing: &str, name: &str) -> Option<String> {
    listing.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        let package = words.next()?;
        let version = words.next()?.strip_prefix('v')?;
        let rest = package.strip_prefix(name)?;
        (rest.is_empty() || rest.starts_with('-')).then(|| format!("{package}@{version}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LISTING: &str =
        "blockcast-gossip v0.1.0 (path)\nbytes v1.12.1\nlibp2p-noise v0.47.0\ntonic v0.14.9 (*)\n";

    #[test]
    fn a_package_and_its_family_are_found() {
        assert_eq!(
            first_of_family(LISTING, "libp2p").as_deref(),
            Some("libp2p-noise@0.47.0")
        );
        assert_eq!(
            first_of_family(LISTING, "tonic").as_deref(),
            Some("tonic@0.14.9")
        );
    }

    #[test]
    fn a_name_that_only_begins_alike_is_another_package() {
        assert_eq!(first_of_family("tonical v1.0.0\n", "tonic"), None);
        assert_eq!(first_of_family(LISTING, "gossip"), None);
    }

    #[test]
    fn the_path_to_a_forbidden_package_is_told() {
        let workspace = Workspace::load().unwrap();
        let backend = TABLE
            .iter()
            .find(|row| row.name == "gossip-libp2p")
            .unwrap();
        let listing = tree(&workspace, backend)
            .args(["--prefix", "none", "--format", "{p}"])
            .output()
            .unwrap();
        let culprit = first_of_family(&listing, "libp2p").unwrap();
        let path = tree(&workspace, backend)
            .args(["-i", &culprit])
            .output()
            .unwrap();
        assert!(path.contains(backend.package), "{path}");
    }
}
