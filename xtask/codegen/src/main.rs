// SPDX-License-Identifier: Apache-2.0
//! Generates `crates/protos/src/generated` from `proto/`, or checks that it is up to date.

mod compare;
mod describe;
mod generate;

use std::{env, path::Path, process::ExitCode};

use anyhow::{Context, Result, bail};

/// The command that a developer runs to bring the committed files up to date.
const FIX: &str = "cargo xtask codegen";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(err) => {
            report(&format!("codegen: {err:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let mut check = false;
    for argument in env::args().skip(1) {
        match argument.as_str() {
            "--check" => check = true,
            other => bail!("unknown argument {other}; usage: {FIX} [--check]"),
        }
    }

    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .context("the workspace root is two levels above this package")?;
    let committed = root.join("crates/protos/src/generated");

    let fresh = tempfile::tempdir().context("making a temporary folder")?;
    generate::generate(&root.join("proto"), fresh.path())?;

    let differences = compare::differences(fresh.path(), &committed)?;
    if differences.is_empty() {
        return Ok(());
    }
    if check {
        for difference in &differences {
            report(&difference.to_string());
        }
        bail!(
            "{} is not what proto/ gives; run: {FIX}",
            committed.display()
        );
    }
    compare::bring_up_to_date(&differences, fresh.path(), &committed)
}

#[expect(clippy::print_stderr, reason = "a command line tool reports on stderr")]
fn report(line: &str) {
    eprintln!("{line}");
}
