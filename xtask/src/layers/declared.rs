// SPDX-License-Identifier: Apache-2.0
//! Declared dependencies between the members, of every kind, against the table.

use std::collections::BTreeSet;

use cargo_metadata::{Dependency, DependencyKind, Package};

use super::table::{Allowed, Row, TABLE, TEST_FEATURE, TEST_HARNESS, TESTS_MAY_USE, parse};
use crate::findings::Findings;
use crate::workspace::Workspace;

pub(super) fn check(workspace: &Workspace) -> Findings {
    check_members(workspace.members())
}

fn check_members(members: &[Package]) -> Findings {
    let mut findings = Findings::default();
    let packages: BTreeSet<_> = members.iter().map(|member| member.name.as_str()).collect();
    for row in TABLE.iter().filter(|row| !packages.contains(row.package)) {
        findings.add(row.package, "is in the table but not in the workspace");
    }
    for member in members {
        let name = member.name.as_str();
        let Some(row) = TABLE.iter().find(|row| row.package == name) else {
            findings.add(name, "is in the workspace but not in the table");
            continue;
        };
        for dependency in &member.dependencies {
            if let Some(problem) = judge(row, dependency, &packages) {
                findings.add(name, problem);
            }
        }
        for (feature, implied) in &member.features {
            for (target, asked) in implied.iter().filter_map(|text| text.split_once('/')) {
                if let Some(problem) = judge_feature(row, member, target, asked) {
                    findings.add(format!("{name}, feature {feature}"), problem);
                }
            }
        }
    }
    findings
}

/// What is wrong with one declared dependency, if it is one of ours.
fn judge(row: &Row, dependency: &Dependency, packages: &BTreeSet<&str>) -> Option<String> {
    if !packages.contains(dependency.name.as_str()) {
        return None;
    }
    let in_tests = dependency.kind == DependencyKind::Development;
    let kind = match dependency.kind {
        DependencyKind::Normal => "",
        DependencyKind::Development => " in its tests",
        DependencyKind::Build => " in its build script",
        _ => " in an unknown way",
    };
    let Some(target) = TABLE.iter().find(|row| row.package == dependency.name) else {
        return Some(format!(
            "depends{kind} on {}, which is not in the table",
            dependency.name
        ));
    };
    let Some(features) = allowed(row, target.name, in_tests) else {
        return Some(format!("may not depend{kind} on {}", target.name));
    };
    dependency
        .features
        .iter()
        .find(|feature| !permits(&features, feature))
        .map(|feature| format!("may not ask{kind} for {}[{feature}]", target.name))
}

/// What is wrong with `target/asked` in a list of features.
fn judge_feature(row: &Row, member: &Package, target: &str, asked: &str) -> Option<String> {
    let alias = target.trim_end_matches('?');
    let dependency = member.dependencies.iter().find(|dependency| {
        dependency.rename.as_deref() == Some(alias) || dependency.name == alias
    })?;
    let target = TABLE.iter().find(|row| row.package == dependency.name)?;
    let features = allowed(row, target.name, false).unwrap_or_default();
    (!permits(&features, asked)).then(|| format!("may not ask for {}[{asked}]", target.name))
}

/// The features of `target` that `row` may ask for; `None` if it may not use it at all.
/// A star stands for every feature but the one for tests.
fn allowed(row: &Row, target: &str, in_tests: bool) -> Option<Vec<&'static str>> {
    let harness = TEST_HARNESS.contains(&row.name);
    let mut features = match &row.may_use {
        Allowed::Any => Some(vec!["*"]),
        Allowed::Only(entries) => find(entries, target),
    };
    if in_tests || harness {
        let mut more = find(row.tests_may_use, target);
        // Tooling is tested without the product, too.
        if row.layer.is_some() || harness {
            more = join(more, find(TESTS_MAY_USE, target));
        }
        features = join(features, more);
    }
    features
}

fn find(entries: &[&'static str], target: &str) -> Option<Vec<&'static str>> {
    entries
        .iter()
        .map(|entry| parse(entry))
        .find(|(name, _)| *name == target)
        .map(|(_, features)| features)
}

fn join<T>(one: Option<Vec<T>>, other: Option<Vec<T>>) -> Option<Vec<T>> {
    match (one, other) {
        (Some(mut one), Some(other)) => {
            one.extend(other);
            Some(one)
        }
        (one, other) => one.or(other),
    }
}

fn permits(features: &[&str], asked: &str) -> bool {
    features.contains(&asked) || (features.contains(&"*") && asked != TEST_FEATURE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(name: &str) -> &'static Row {
        TABLE.iter().find(|row| row.name == name).unwrap()
    }

    fn may(from: &str, to: &str, in_tests: bool) -> bool {
        let (name, asked) = parse(to);
        allowed(row(from), name, in_tests)
            .is_some_and(|features| asked.iter().all(|asked| permits(&features, asked)))
    }

    #[test]
    fn the_arrows_of_the_design() {
        let cases = [
            // (crate, dependency, allowed, allowed in tests)
            ("protos", "block-api", false, true),
            ("block-store", "block-api", true, true),
            ("block-store", "block-api[testing]", false, true),
            ("signer", "protos", true, true),
            ("signer", "protos[grpc]", false, false),
            ("orderer-client", "protos[grpc]", true, true),
            ("orderer-client", "orderer-server", false, true),
            ("channel-config", "signer", false, true),
            ("blocks-provider", "gossip-memory", false, true),
            ("blocks-provider", "gossip-libp2p", false, false),
            ("deliver-service", "blocks-provider", true, true),
            ("deliver-service", "protos", false, false),
            ("blockcast", "gossip-libp2p[quic]", true, true),
            ("blockcast", "block-api[testing]", false, true),
            ("e2e-tests", "block-api[testing]", true, true),
            ("standalone-consumer", "deliver-service", false, false),
            ("xtask", "block-api", false, false),
        ];
        for (from, to, normal, in_tests) in cases {
            assert_eq!(may(from, to, false), normal, "{from} -> {to}");
            assert_eq!(may(from, to, true), in_tests, "{from} -> {to} in tests");
        }
    }

    #[test]
    fn a_stranger_in_the_workspace_is_found() {
        let workspace = Workspace::load().unwrap();
        let mut members = workspace.members().to_vec();
        let mut stranger = members[0].clone();
        stranger.name = "blockcast-stranger".parse().unwrap();
        members.push(stranger);
        let findings = check_members(&members);
        assert!(
            findings
                .lines()
                .iter()
                .any(|line| line.starts_with("blockcast-stranger: is in the workspace"))
        );
    }

    #[test]
    fn a_forbidden_dependency_is_found_in_every_kind() {
        let workspace = Workspace::load().unwrap();
        let mut members = workspace.members().to_vec();
        let borrowed = members
            .iter()
            .find(|member| member.name.as_str() == "blockcast-orderer-client")
            .and_then(|member| {
                let mut list = member.dependencies.iter();
                list.find(|dependency| dependency.name == "blockcast-protos")
            })
            .cloned()
            .unwrap();
        let service = members
            .iter_mut()
            .find(|member| member.name.as_str() == "blockcast-deliver-service")
            .unwrap();
        for kind in [
            DependencyKind::Normal,
            DependencyKind::Development,
            DependencyKind::Build,
        ] {
            let mut dependency = borrowed.clone();
            dependency.kind = kind;
            service.dependencies.push(dependency);
        }
        let findings = check_members(&members);
        for expected in [
            "blockcast-deliver-service: may not depend on protos",
            "blockcast-deliver-service: may not depend in its tests on protos",
            "blockcast-deliver-service: may not depend in its build script on protos",
        ] {
            assert!(
                findings.lines().iter().any(|line| line == expected),
                "{expected}"
            );
        }
    }
}
