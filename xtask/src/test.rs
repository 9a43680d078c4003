// SPDX-License-Identifier: Apache-2.0
//! `test`: documentation tests, the tooling's own tests, and last the product's, whose summary closes the output.

use crate::command::Cargo;
use crate::findings::{Findings, say};
use crate::workspace::{PRODUCT, TOOLING, Workspace};

/// Which profile of `.config/nextest.toml` runs the tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    /// At a desk: stops at the first failure.
    Default,
    /// In CI: goes on after a failure.
    Ci,
}

impl Profile {
    fn name(self) -> &'static str {
        match self {
            Self::Default => "default",
            Self::Ci => "ci",
        }
    }
}

pub(crate) fn run(workspace: &Workspace, profile: Profile) -> anyhow::Result<()> {
    let root = workspace.root();
    let nextest = Cargo::new(root, ["nextest", "--version"]).succeeds();
    if !nextest {
        say(
            "note: cargo-nextest is not installed, so `cargo test` runs the tests, without a limit on the time of each; \
             `cargo install --locked cargo-nextest` brings it",
        );
    }
    let runner = || {
        if nextest {
            Cargo::new(root, ["nextest", "run", "--profile", profile.name()])
        } else {
            Cargo::new(root, ["test", "--tests"])
        }
    };

    let mut commands = vec![Cargo::new(root, ["test", "--quiet", "--doc"]).args(PRODUCT)];
    for name in TOOLING {
        // xtask-codegen may have nothing to test: what it makes is tested by `codegen --check`.
        let tolerant: &[&str] = if nextest {
            &["--no-tests", "pass"]
        } else {
            &[]
        };
        commands.push(runner().args(["-p", name]).args(tolerant));
    }
    commands.push(runner().args(PRODUCT));

    let mut findings = Findings::default();
    for command in commands {
        if let Err(error) = command.run() {
            findings.add("failed", error);
        }
    }
    findings.finish("test", "the tests named above, then `cargo xtask test`")
}
