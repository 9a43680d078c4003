// SPDX-License-Identifier: Apache-2.0
//! `layers`: the arrows between the crates, held against one table.
//!
//! What a manifest declares is read without resolving anything, for every kind of dependency; what must
//! be absent behind it is asked of `cargo tree -p <crate>`, because a resolution of the whole workspace
//! would unify features over its members and blame the innocent.

mod declared;
mod document;
mod table;
mod transitive;

use crate::findings::{Findings, say};
use crate::workspace::Workspace;

pub(crate) use document::{DOCUMENT, expected as expected_document};

pub(crate) fn run(workspace: &Workspace, write: bool) -> anyhow::Result<()> {
    if write {
        write_document(workspace)?;
    }
    let mut findings = Findings::default();
    findings.extend(declared::check(workspace));
    findings.extend(transitive::check(workspace)?);
    findings.finish(
        "layers",
        "remove the dependency, or change the table in xtask/src/layers/table.rs and run `cargo xtask layers --write`",
    )
}

/// Writes the table into the document, if it is not there as it should be.
pub(crate) fn write_document(workspace: &Workspace) -> anyhow::Result<()> {
    let present = workspace.read(DOCUMENT)?;
    let expected = expected_document(&present)?;
    if present != expected {
        workspace.write(DOCUMENT, &expected)?;
        say(format!("wrote {DOCUMENT}"));
    }
    Ok(())
}
