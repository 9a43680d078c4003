// SPDX-License-Identifier: Apache-2.0
//! `tidy`: the rules of the house that no compiler checks.
//!
//! Each rule is a plain function from texts to findings, so that its tests need no files.

mod claims;
mod code;
mod covers;
mod crates;
mod exceptions;
mod manifests;
mod parity;
mod size;
mod sources;
mod texts;
mod unused;

use crate::findings::{Findings, say};
use crate::layers;
use crate::tidy::exceptions::Exceptions;
use crate::workspace::{TextFile, Workspace};

const FIX: &str = "`cargo xtask tidy --write` for what is out of date, by hand for the rest, then `cargo xtask tidy`";

pub(crate) fn run(workspace: &Workspace, write: bool) -> anyhow::Result<()> {
    let files = workspace.text_files()?;
    if write {
        write_derived(workspace, &covers::collect(&files).0)?;
    }
    let mut findings = Findings::default();
    let exceptions = Exceptions::parse(&workspace.read(exceptions::FILE)?, &mut findings);
    for file in &files {
        texts::check(file, &mut findings);
        sources::check(file, &mut findings);
    }
    size::check(&files, &exceptions, &mut findings);
    manifests::check(workspace, &mut findings)?;
    unused::check(workspace, &files, &exceptions, &mut findings)?;
    crates::check(workspace, &mut findings);
    check_layers(workspace, &mut findings);
    check_parity(workspace, &files, &mut findings)?;
    findings.extend(claims::check(&workspace.read(claims::DOCUMENT)?, &files));
    findings.finish("tidy", FIX)
}

fn write_derived(workspace: &Workspace, covers: &covers::Covers) -> anyhow::Result<()> {
    if workspace.exists(layers::DOCUMENT) {
        layers::write_document(workspace)?;
    }
    let present = workspace.read(parity::DOCUMENT)?;
    let expected = parity::expected(&present, covers);
    if present != expected {
        workspace.write(parity::DOCUMENT, &expected)?;
        say(format!("wrote {}", parity::DOCUMENT));
    }
    Ok(())
}

fn check_layers(workspace: &Workspace, findings: &mut Findings) {
    let compared = workspace
        .read(layers::DOCUMENT)
        .and_then(|present| Ok((layers::expected_document(&present)?, present)));
    match compared {
        Ok((expected, present)) if expected == present => {}
        Ok(_) => findings.add(
            layers::DOCUMENT,
            "its table of layers is not that of `cargo xtask layers`",
        ),
        Err(error) => findings.add(layers::DOCUMENT, format!("{error:#}")),
    }
}

fn check_parity(
    workspace: &Workspace,
    files: &[TextFile],
    findings: &mut Findings,
) -> anyhow::Result<()> {
    let (covers, problems) = covers::collect(files);
    findings.extend(problems);
    let ids = workspace.read(parity::IDS)?;
    let document = workspace.read(parity::DOCUMENT)?;
    findings.extend(parity::check(&ids, &document, &covers));
    Ok(())
}
