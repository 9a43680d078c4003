// SPDX-License-Identifier: Apache-2.0
//! The manifests: what the workspace says once, no member says again.

use toml::{Table, Value};

use crate::findings::Findings;
use crate::workspace::Workspace;

/// What a member takes from `[workspace.package]`.
const INHERITED: &[&str] = &["version", "edition", "rust-version", "license"];

const ROOT: &str = "Cargo.toml";
const TOOLCHAIN: &str = "rust-toolchain.toml";

pub(super) fn check(workspace: &Workspace, findings: &mut Findings) -> anyhow::Result<()> {
    let mut members = Vec::new();
    for member in workspace.members() {
        let path = format!("{}/Cargo.toml", workspace.dir_of(member));
        match workspace.read(&path)?.parse::<Table>() {
            Ok(manifest) => {
                check_member(&path, &manifest, findings);
                members.push(manifest);
            }
            Err(error) => findings.add(&path, error),
        }
    }
    let root: Table = workspace.read(ROOT)?.parse()?;
    let toolchain: Table = workspace.read(TOOLCHAIN)?.parse()?;
    check_toolchain(&root, &toolchain, findings);
    check_shared(&root, &members, findings);
    Ok(())
}

fn check_member(path: &str, manifest: &Table, findings: &mut Findings) {
    if !is_inherited(manifest.get("lints")) {
        findings.add(path, "lacks `[lints] workspace = true`");
    }
    for key in INHERITED {
        let value = manifest.get("package").and_then(|package| package.get(key));
        if !is_inherited(value) {
            findings.add(path, format!("lacks `{key}.workspace = true`"));
        }
    }
    for (section, name, value) in dependencies(manifest) {
        // A crate names itself by its place: a version would have to be published before itself.
        let itself = value.get("path").and_then(Value::as_str) == Some(".");
        if !is_inherited(Some(value)) && !itself {
            findings.add(
                path,
                format!("{name} in [{section}] is not `workspace = true`: versions live in the root manifest"),
            );
        }
    }
}

/// Every dependency of a manifest with its section, those for some targets only included.
pub(super) fn dependencies(manifest: &Table) -> Vec<(&str, &str, &Value)> {
    let targets = manifest
        .get("target")
        .and_then(Value::as_table)
        .into_iter()
        .flat_map(|targets| targets.values().filter_map(Value::as_table));
    std::iter::once(manifest)
        .chain(targets)
        .flat_map(|table| table.iter())
        .filter(|(section, _)| section.ends_with("dependencies"))
        .filter_map(|(section, entries)| Some((section, entries.as_table()?)))
        .flat_map(|(section, entries)| {
            entries
                .iter()
                .map(move |(name, value)| (section.as_str(), name.as_str(), value))
        })
        .collect()
}

fn is_inherited(value: Option<&Value>) -> bool {
    value.and_then(|value| value.get("workspace")) == Some(&Value::Boolean(true))
}

/// The toolchain that is pinned is the only one that is proved, so it is the one that is promised.
fn check_toolchain(root: &Table, toolchain: &Table, findings: &mut Findings) {
    let promised = root
        .get("workspace")
        .and_then(|table| table.get("package"))
        .and_then(|table| table.get("rust-version"))
        .and_then(Value::as_str)
        .unwrap_or("nothing");
    let pinned = toolchain
        .get("toolchain")
        .and_then(|table| table.get("channel"))
        .and_then(Value::as_str)
        .unwrap_or("nothing");
    if pinned != promised && !pinned.starts_with(&format!("{promised}.")) {
        findings.add(
            ROOT,
            format!("rust-version is {promised}, but {TOOLCHAIN} pins {pinned}"),
        );
    }
}

/// A shared dependency that no member takes is a leftover. Our own crates may wait for their first user.
fn check_shared(root: &Table, members: &[Table], findings: &mut Findings) {
    let shared = root
        .get("workspace")
        .and_then(|table| table.get("dependencies"))
        .and_then(Value::as_table);
    for (name, value) in shared.into_iter().flatten() {
        let taken = members
            .iter()
            .flat_map(|manifest| dependencies(manifest))
            .any(|(_, taken, _)| taken == name);
        if !taken && value.get("path").is_none() {
            findings.add(ROOT, format!("no member uses {name}"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "[package]\nname = \"a\"\nversion.workspace = true\nedition.workspace = true\n\
        rust-version.workspace = true\nlicense.workspace = true\n[lints]\nworkspace = true\n";

    fn member(text: &str) -> Vec<String> {
        let mut findings = Findings::default();
        check_member("a/Cargo.toml", &text.parse().unwrap(), &mut findings);
        findings.lines().to_vec()
    }

    #[test]
    fn a_good_manifest_passes() {
        let dependencies =
            "[dependencies]\nb = { workspace = true, features = [\"c\"] }\nd.workspace = true\n";
        assert_eq!(member(&format!("{GOOD}{dependencies}")), [""; 0]);
        let itself = "[dev-dependencies]\na = { path = \".\", features = [\"testing\"] }\n";
        assert_eq!(member(&format!("{GOOD}{itself}")), [""; 0]);
    }

    #[test]
    fn what_is_not_inherited_is_found() {
        let [first, rest] = [&GOOD[..GOOD.len() - 25], ""];
        assert_eq!(member(&format!("{first}{rest}")).len(), 1, "no lints");
        let own = GOOD.replace("license.workspace = true", "license = \"MIT\"");
        assert_eq!(member(&own).len(), 1, "own licence");
        for dependency in [
            "[dependencies]\nb = \"1\"\n",
            "[dev-dependencies]\nb = { version = \"1\" }\n",
            "[build-dependencies]\nb = { path = \"../b\" }\n",
            "[target.'cfg(unix)'.dependencies]\nb = \"1\"\n",
        ] {
            assert_eq!(
                member(&format!("{GOOD}{dependency}")).len(),
                1,
                "{dependency}"
            );
        }
    }

    #[test]
    fn the_pinned_toolchain_is_the_promised_one() {
        for (promised, pinned, expected) in [
            ("1.95", "1.95.0", 0),
            ("1.95", "1.95", 0),
            ("1.9", "1.95.0", 1),
            ("1.95", "stable", 1),
        ] {
            let root = format!("[workspace.package]\nrust-version = \"{promised}\"\n");
            let toolchain = format!("[toolchain]\nchannel = \"{pinned}\"\n");
            let mut findings = Findings::default();
            check_toolchain(
                &root.parse().unwrap(),
                &toolchain.parse().unwrap(),
                &mut findings,
            );
            assert_eq!(findings.lines().len(), expected, "{promised} {pinned}");
        }
    }

    #[test]
    fn a_shared_dependency_that_nobody_takes_is_found() {
        let root = "[workspace.dependencies]\nb = \"1\"\nc = \"1\"\nours = { path = \"x\" }\n";
        let members = ["[dependencies]\nb.workspace = true\n".parse().unwrap()];
        let mut findings = Findings::default();
        check_shared(&root.parse().unwrap(), &members, &mut findings);
        assert_eq!(findings.lines(), ["Cargo.toml: no member uses c"]);
    }
}
