// SPDX-License-Identifier: Apache-2.0
//! `bench`: the benchmarks of the package e2e-tests, one or all.
//!
//! Their rows are `{"case", "value", "unit", "baseline", "ratio", "target", "met"}`.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};

use crate::command::Cargo;
use crate::findings::say;
use crate::workspace::{PRODUCT, Workspace};

/// The package that holds the benchmarks.
const PACKAGE: &str = "e2e-tests";

/// What is asked of the benchmarks.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Bench {
    /// The name of the bench target; all of them by default
    name: Option<String>,
    /// Print one array of rows and nothing else on standard output
    #[arg(long)]
    json: bool,
    /// One round of as little as there can be, to see that it runs
    #[arg(long)]
    smoke: bool,
    /// How many rounds
    #[arg(long)]
    rounds: Option<usize>,
    /// The JSON of an earlier run, beside which this one is set
    #[arg(long, value_name = "FILE")]
    compare: Option<PathBuf>,
    /// The folder for pictures of the measurements
    #[arg(long, value_name = "DIR")]
    plot: Option<PathBuf>,
    /// Passed on to the benchmark
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

pub(crate) fn run(workspace: &Workspace, wanted: &Bench) -> anyhow::Result<()> {
    let names = names(workspace);
    let here = env::current_dir()?;
    let arguments = wanted.arguments(&here)?;
    // A benchmark reads it at its end, which is late to learn that it is not there.
    if let Some(file) = wanted.compare.as_ref().map(|file| here.join(file)) {
        let shown = file.display();
        ensure!(
            file.is_file(),
            "there is no file {shown} to compare with\n  fix: `cargo xtask bench --json > {shown}`, before the change"
        );
    }
    match &wanted.name {
        Some(name) if names.contains(name) => one(workspace, name).args(arguments).run(),
        Some(name) => bail!(
            "there is no benchmark {name:?}\n  fix: `cargo xtask bench <name>` with one of {}",
            names.join(", ")
        ),
        None if wanted.json => {
            let mut arrays = Vec::new();
            let ended = each(&names, |name| {
                let printed = one(workspace, name).args(&arguments).standard_output()?;
                one_array(std::slice::from_ref(&printed))?;
                arrays.push(printed);
                Ok(())
            });
            print(&one_array(&arrays)?);
            ended
        }
        None => each(&names, |name| one(workspace, name).args(&arguments).run()),
    }
}

/// Runs all of them, also when some fail: what the others measured in the meantime is not lost.
fn each(names: &[String], mut run: impl FnMut(&str) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let mut failed = Vec::new();
    for name in names {
        say(format!("\n== {name} =="));
        if let Err(error) = run(name) {
            say(format!("{name} failed: {error:#}"));
            failed.push(name.as_str());
        }
    }
    ensure!(
        failed.is_empty(),
        "of the benchmarks failed: {}\n  fix: `cargo xtask bench <name>` shows each by itself",
        failed.join(", ")
    );
    Ok(())
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

impl Bench {
    /// What the benchmark itself is told. It runs in the folder of its package, so that it is told
    /// whole paths.
    fn arguments(&self, dir: &Path) -> anyhow::Result<Vec<String>> {
        let mut arguments = Vec::new();
        for (name, given) in [("--json", self.json), ("--smoke", self.smoke)] {
            if given {
                arguments.push(name.to_owned());
            }
        }
        if let Some(rounds) = self.rounds {
            arguments.extend(["--rounds".to_owned(), rounds.to_string()]);
        }
        for (name, path) in [("--compare", &self.compare), ("--plot", &self.plot)] {
            if let Some(path) = path {
                let path = dir.join(path);
                let shown = path.to_str().context("a path that is not UTF-8")?;
                arguments.extend([name.to_owned(), shown.to_owned()]);
            }
        }
        // The file is that of all of them, then.
        if self.name.is_none() && self.compare.is_some() {
            arguments.push("--compare-some".to_owned());
        }
        arguments.extend(self.args.iter().cloned());
        Ok(arguments)
    }
}

fn one(workspace: &Workspace, name: &str) -> Cargo {
    let bench = ["bench", "-p", PACKAGE, "--bench", name, "--"];
    Cargo::new(workspace.root(), bench)
}

/// The elements of several arrays in one.
fn one_array(arrays: &[String]) -> anyhow::Result<String> {
    let mut elements = Vec::new();
    for array in arrays {
        let inner = array.trim().strip_prefix('[');
        let inner = inner.and_then(|inner| inner.strip_suffix(']'));
        let inner = inner.with_context(|| format!("a benchmark printed no array: {array}"))?;
        elements.push(inner.trim());
    }
    elements.retain(|inner| !inner.is_empty());
    Ok(format!("[\n  {}\n]", elements.join(",\n  ")))
}

#[expect(
    clippy::print_stdout,
    reason = "the array is what `bench --json` is for"
)]
fn print(text: &str) {
    println!("{text}");
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Whole {
        #[command(flatten)]
        bench: Bench,
    }

    fn arguments(given: &[&str]) -> Vec<String> {
        let given = ["bench"].iter().chain(given);
        let bench = Whole::try_parse_from(given).unwrap().bench;
        bench.arguments(Path::new("/here")).unwrap()
    }

    #[test]
    fn a_benchmark_is_told_whole_paths_and_what_is_its_own() {
        for (given, told) in [
            (&["store"][..], &[][..]),
            (&["store", "--json"], &["--json"]),
            (
                &["store", "--compare", "old.json", "--blocks", "3"],
                &["--compare", "/here/old.json", "--blocks", "3"],
            ),
            (
                &["store", "--rounds", "3", "--smoke", "--", "--blocks", "3"],
                &["--smoke", "--rounds", "3", "--blocks", "3"],
            ),
            (
                &["--compare", "/there/old.json", "--plot", "pictures"],
                &[
                    "--compare",
                    "/there/old.json",
                    "--plot",
                    "/here/pictures",
                    "--compare-some",
                ],
            ),
        ] {
            assert_eq!(arguments(given), told, "{given:?}");
        }
    }

    #[test]
    fn a_benchmark_that_fails_does_not_stop_the_others() {
        let names = ["first", "second", "third"].map(str::to_owned);
        let mut ran = Vec::new();
        let ended = each(&names, |name| {
            ran.push(name.to_owned());
            ensure!(name == "third", "no");
            Ok(())
        });
        assert_eq!(ran, names);
        let error = ended.unwrap_err().to_string();
        assert!(
            error.starts_with("of the benchmarks failed: first, second\n"),
            "{error}"
        );
        each(&names, |_| Ok(())).unwrap();
    }

    #[test]
    fn arrays_become_one_array() {
        let arrays = ["[\n  {\"a\": 1},\n  {}\n]\n", "[]\n", "[{}]"].map(str::to_owned);
        let one = one_array(&arrays).unwrap();
        assert_eq!(one, "[\n  {\"a\": 1},\n  {},\n  {}\n]");
        assert_eq!(one_array(&[]).unwrap(), "[\n  \n]");
        assert!(one_array(&["error".to_owned()]).is_err());
    }
}
