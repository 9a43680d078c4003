// SPDX-License-Identifier: Apache-2.0
//! `codegen`: hands over to `xtask-codegen`, a crate of its own because it takes a minute to build.

use crate::command::Cargo;
use crate::workspace::Workspace;

pub(crate) fn run(workspace: &Workspace, check: bool) -> anyhow::Result<()> {
    let cargo = Cargo::new(
        workspace.root(),
        ["run", "--quiet", "-p", "xtask-codegen", "--"],
    );
    if check {
        cargo.args(["--check"]).fix("cargo xtask codegen").run()
    } else {
        cargo.run()
    }
}
