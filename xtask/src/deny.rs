// SPDX-License-Identifier: Apache-2.0
//! `deny`: what may enter the dependency graph, as `deny.toml` says.
//!
//! Advisories are asked for only on request: their database is a git repository, and the machines
//! that run CI reach package registries only.

use anyhow::bail;

use crate::command::Cargo;
use crate::workspace::Workspace;

pub(crate) fn run(workspace: &Workspace, advisories: bool) -> anyhow::Result<()> {
    let root = workspace.root();
    if !Cargo::new(root, ["deny", "--version"]).succeeds() {
        bail!("cargo-deny is not installed\n  fix: cargo install --locked --debug cargo-deny");
    }
    // A wrapper in deny.toml is a permission that need not be in use; any other warning is an error.
    let cargo = Cargo::new(root, ["deny", "--workspace", "--all-features", "check"])
        .args(["-D", "warnings", "-A", "unused-wrapper"])
        .args(["bans", "licenses", "sources"])
        .fix("cargo update -p <crate>, or an entry with its reason in deny.toml; then `cargo xtask deny`");
    if advisories {
        cargo.args(["advisories"]).run()
    } else {
        cargo.run()
    }
}
