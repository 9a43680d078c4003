// SPDX-License-Identifier: Apache-2.0
//! The arguments that every benchmark takes, and what becomes of its rows.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use super::{
    compare::{Earlier, compare},
    row::{Row, table},
};

/// How many rounds there are unless somebody says otherwise.
const ROUNDS: usize = 5;

/// The arguments that every benchmark takes; one that needs more flattens them into its own.
#[derive(Debug, Clone, clap::Args)]
// The group would be named for the type, as that of a benchmark's own arguments is.
#[group(skip)]
pub struct Args {
    /// One round of as little as there can be, to see that it runs.
    #[arg(long)]
    pub smoke: bool,
    /// Rows as JSON.
    #[arg(long)]
    pub json: bool,
    /// How many rounds; the medians are printed.
    #[arg(long)]
    rounds: Option<usize>,
    /// The JSON of an earlier run: case by case, what has changed since.
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,
    /// The file has cases of other benchmarks, too, which are not missed here.
    #[arg(long, hide = true, requires = "compare")]
    compare_some: bool,
    /// The folder for pictures of the measurements, as SVG.
    #[arg(long, value_name = "DIR")]
    plot: Option<PathBuf>,
    /// What cargo passes to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

impl Args {
    /// How many rounds there are: five, or what was said, and one in a smoke test.
    pub fn rounds(&self) -> usize {
        self.rounds_or(ROUNDS)
    }

    /// How many rounds there are where five are not the right number.
    pub fn rounds_or(&self, default: usize) -> usize {
        match self.smoke {
            true => 1,
            false => self.rounds.unwrap_or(default).max(1),
        }
    }

    /// The folder for pictures, if somebody wants them. It is there.
    ///
    /// # Errors
    ///
    /// When it cannot be made.
    pub fn plot(&self) -> Result<Option<&Path>> {
        let Some(dir) = self.plot.as_deref() else {
            return Ok(None);
        };
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        Ok(Some(dir))
    }
}

/// Prints the rows: as a table for people or as JSON, and what has changed since an earlier run.
///
/// # Errors
///
/// When the earlier run cannot be read.
pub fn finish(rows: &[Row], args: &Args) -> Result<()> {
    finish_with(rows, &[], args)
}

/// As [`finish`], with lines below the table that are for people only.
///
/// # Errors
///
/// When the earlier run cannot be read.
#[expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the rows are what a benchmark is for; beside JSON there is nothing on standard output"
)]
pub fn finish_with(rows: &[Row], notes: &[String], args: &Args) -> Result<()> {
    match args.json {
        true => println!("{}", serde_json::to_string_pretty(rows)?),
        false => {
            print!("{}", table(rows));
            notes.iter().for_each(|note| println!("  {note}"));
        }
    }
    if let Some(file) = &args.compare {
        let earlier = Earlier::load(file)?;
        let text = compare(&earlier, rows, !args.compare_some);
        match args.json {
            true => eprint!("{text}"),
            false => print!("\n{text}"),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    #[derive(Debug, clap::Parser)]
    struct Args {
        #[command(flatten)]
        shared: super::Args,
    }

    fn parse(arguments: &[&str]) -> super::Args {
        let program = ["bench"].iter().chain(arguments);
        Args::try_parse_from(program).unwrap().shared
    }

    #[test]
    fn a_smoke_test_has_one_round_whatever_is_said() {
        for (arguments, rounds, of_fifteen) in [
            (&["--bench"][..], 5, 15),
            (&["--rounds", "3"], 3, 3),
            (&["--rounds", "0"], 1, 1),
            (&["--rounds", "3", "--smoke"], 1, 1),
        ] {
            let args = parse(arguments);
            let counted = (args.rounds(), args.rounds_or(15));
            assert_eq!(counted, (rounds, of_fifteen), "{arguments:?}");
        }
    }

    #[test]
    fn the_folder_for_pictures_is_made() {
        let dir = tempfile::tempdir().unwrap();
        let wanted = dir.path().join("a/b");
        let args = parse(&["--plot", wanted.to_str().unwrap()]);
        assert_eq!(args.plot().unwrap(), Some(wanted.as_path()));
        assert!(wanted.is_dir());
        assert_eq!(parse(&[]).plot().unwrap(), None);
    }
}
