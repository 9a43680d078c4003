// SPDX-License-Identifier: Apache-2.0
//! `each-crate`: every member is linted alone, so that none leans on a feature that a neighbour switches on.
//!
//! A member runs once for each set of features that differs: without any, with its default ones, with all.
//! Most have no features and run once. clippy stands in for `check` because it can deny warnings
//! without RUSTFLAGS, and it shares the checked dependencies with `lint` wherever the features agree.

use std::collections::{BTreeMap, BTreeSet};

use crate::command::Cargo;
use crate::findings::Findings;
use crate::workspace::{TOOLING, Workspace};

pub(crate) fn run(workspace: &Workspace) -> anyhow::Result<()> {
    let mut findings = Findings::default();
    for member in workspace.members() {
        let name = member.name.as_str();
        if TOOLING.contains(&name) {
            continue; // They are never built any other way than alone.
        }
        for flag in selections(&member.features) {
            let cargo = Cargo::new(
                workspace.root(),
                ["clippy", "--quiet", "--no-deps", "-p", name],
            )
            .args(flag)
            .args(["--", "-D", "warnings"]);
            if let Err(error) = cargo.run() {
                findings.add(name, error);
            }
        }
    }
    findings.finish(
        "each-crate",
        "name the missing feature in the Cargo.toml of the crate that uses it, then `cargo xtask each-crate`",
    )
}

/// The flags that select each distinct set of features once.
fn selections(features: &BTreeMap<String, Vec<String>>) -> Vec<Option<&'static str>> {
    let none = BTreeSet::new();
    let default = closure(features, "default");
    let mut all: BTreeSet<_> = features.keys().map(String::as_str).collect();
    all.remove("default");

    let mut flags = vec![None];
    if none != default {
        flags.push(Some("--no-default-features"));
    }
    if all != default {
        flags.push(Some("--all-features"));
    }
    flags
}

/// The features that `start` switches on, itself left out.
fn closure<'a>(features: &'a BTreeMap<String, Vec<String>>, start: &'a str) -> BTreeSet<&'a str> {
    let mut found = BTreeSet::new();
    let mut open = vec![start];
    while let Some(name) = open.pop() {
        for implied in features.get(name).into_iter().flatten() {
            if found.insert(implied.as_str()) {
                open.push(implied);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn features(list: &[(&str, &[&str])]) -> BTreeMap<String, Vec<String>> {
        list.iter()
            .map(|(name, implied)| {
                let implied = implied.iter().map(|&name| name.to_owned()).collect();
                ((*name).to_owned(), implied)
            })
            .collect()
    }

    #[test]
    fn a_crate_without_features_runs_once() {
        assert_eq!(selections(&features(&[])), [None]);
    }

    #[test]
    fn an_empty_default_is_the_same_as_none() {
        let features = features(&[("default", &[]), ("grpc", &["dep:tonic"])]);
        assert_eq!(selections(&features), [None, Some("--all-features")]);
    }

    #[test]
    fn a_default_that_is_everything_is_not_run_twice() {
        let features = features(&[("default", &["tls"]), ("tls", &[])]);
        assert_eq!(selections(&features), [None, Some("--no-default-features")]);
    }

    #[test]
    fn three_sets_run_three_times() {
        let features = features(&[("default", &["tls"]), ("tls", &[]), ("quic", &[])]);
        assert_eq!(
            selections(&features),
            [None, Some("--no-default-features"), Some("--all-features")]
        );
    }
}
