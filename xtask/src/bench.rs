// SPDX-License-Identifier: Apache-2.0
//! `bench`: one benchmark of the package e2e-tests.
//!
//! Its rows are `{"case", "value", "unit", "baseline", "ratio", "target", "met"}`.

use crate::command::Cargo;
use crate::workspace::{PRODUCT, Workspace};

/// The package that holds the benchmarks.
const PACKAGE: &str = "e2e-tests";

pub(crate) fn run(
    workspace: &Workspace,
    name: &str,
    json: bool,
    args: &[String],
) -> anyhow::Result<()> {
    let json: &[&str] = if json { &["--json"] } else { &[] };
    Cargo::new(workspace.root(), ["bench", "-p", PACKAGE, "--bench", name])
        .args(["--"])
        .args(json)
        .args(args)
        .run()
}

/// One short round in the profile and with the features of the tests, to see that it runs: the numbers mean nothing.
pub(crate) fn smoke(workspace: &Workspace, name: &str) -> anyhow::Result<()> {
    Cargo::new(workspace.root(), ["test", "--quiet"])
        .args(PRODUCT)
        .args(["--bench", name, "--", "--smoke"])
        .run()
}

/// The benchmarks that there are, in the order of their names.
pub(crate) fn names(workspace: &Workspace) -> Vec<String> {
    workspace
        .members()
        .iter()
        .filter(|member| member.name.as_str() == PACKAGE)
        .flat_map(|member| &member.targets)
        .filter(|target| target.is_bench())
        .map(|target| target.name.clone())
        .collect()
}
