// SPDX-License-Identifier: Apache-2.0
//! `lint`: format, clippy and rustdoc, with every warning an error.
//!
//! The warnings are denied to clippy and rustdoc alone: RUSTFLAGS would build every dependency again.

use crate::command::Cargo;
use crate::findings::Findings;
use crate::workspace::{PRODUCT, TOOLING, Workspace};

pub(crate) fn run(workspace: &Workspace) -> anyhow::Result<()> {
    let root = workspace.root();
    let mut commands = vec![
        Cargo::new(root, ["fmt", "--all", "--check"]).fix("cargo fmt --all"),
        Cargo::new(root, ["clippy"])
            .args(PRODUCT)
            .args(["--all-targets", "--", "-D", "warnings"]),
        // Naming examples brings the features of dev-dependencies in, as clippy has them: without
        // that, every dependency would be checked a second time.
        Cargo::new(root, ["doc", "--no-deps", "--lib", "--examples"])
            .args(PRODUCT)
            .env("RUSTDOCFLAGS", "-D warnings"),
    ];
    for name in TOOLING {
        commands.push(Cargo::new(
            root,
            [
                "clippy",
                "-p",
                name,
                "--all-targets",
                "--",
                "-D",
                "warnings",
            ],
        ));
    }
    let mut findings = Findings::default();
    for command in commands {
        if let Err(error) = command.run() {
            findings.add("failed", error);
        }
    }
    findings.finish("lint", "the commands named above, then `cargo xtask lint`")
}
