// SPDX-License-Identifier: Apache-2.0
//! A configuration, fit to be shown.

use std::fmt::Write as _;

use block_api::Block;
use channel_config::{ChannelConfig, ConfigLeaf, ConfigNode, ConfigTree};
use serde::Serialize;

use crate::commands::printable::{self, WIDTH, printable, wrapped};

/// A configuration, fit to be shown.
#[derive(Debug, Serialize)]
pub(crate) struct ConfigReport {
    pub(crate) sequence: u64,
    pub(crate) root: GroupReport,
}

/// A group of a configuration.
#[derive(Debug, Serialize)]
pub(crate) struct GroupReport {
    pub(crate) name: String,
    pub(crate) version: u64,
    pub(crate) mod_policy: String,
    pub(crate) values: Vec<LeafReport>,
    pub(crate) policies: Vec<LeafReport>,
    pub(crate) groups: Vec<Self>,
}

/// A value or a policy of a configuration.
#[derive(Debug, Serialize)]
pub(crate) struct LeafReport {
    pub(crate) name: String,
    pub(crate) version: u64,
    pub(crate) mod_policy: String,
    pub(crate) lines: Vec<String>,
}

/// The configuration in a config block, or why it cannot be shown.
pub(crate) fn of(block: &Block) -> Result<ConfigReport, String> {
    let config = ChannelConfig::from_block(block)
        .map_err(|error| printable(&error.to_string(), printable::REASON))?;
    Ok(ConfigReport::new(&config.tree()))
}

impl ConfigReport {
    pub(crate) fn new(tree: &ConfigTree) -> Self {
        Self {
            sequence: tree.sequence,
            root: GroupReport::new(&tree.root),
        }
    }

    /// Writes it for people.
    pub(crate) fn write(&self, out: &mut String) {
        let _ = writeln!(out, "configuration (sequence {})", self.sequence);
        group(out, &self.root, 2);
    }
}

impl GroupReport {
    fn new(node: &ConfigNode) -> Self {
        Self {
            name: printable::name(&node.name),
            version: node.version,
            mod_policy: printable::name(&node.mod_policy),
            values: node.values.iter().map(LeafReport::new).collect(),
            policies: node.policies.iter().map(LeafReport::new).collect(),
            groups: node.groups.iter().map(Self::new).collect(),
        }
    }
}

impl LeafReport {
    fn new(leaf: &ConfigLeaf) -> Self {
        let lines = leaf.lines.iter();
        Self {
            name: printable::name(&leaf.name),
            version: leaf.version,
            mod_policy: printable::name(&leaf.mod_policy),
            lines: lines
                .map(|line| printable(line, printable::REASON))
                .collect(),
        }
    }
}

/// A group, then what is in it, two spaces further in.
fn group(out: &mut String, node: &GroupReport, indent: usize) {
    let _ = writeln!(
        out,
        "{:indent$}{} (version {}{})",
        "",
        node.name,
        node.version,
        changed_by(&node.mod_policy)
    );
    for value in &node.values {
        leaf(out, "", value, indent + 2);
    }
    for policy in &node.policies {
        leaf(out, "policy ", policy, indent + 2);
    }
    for inner in &node.groups {
        group(out, inner, indent + 2);
    }
}

/// A value or policy: its content beside its name where it is one short line, else below.
fn leaf(out: &mut String, kind: &str, leaf: &LeafReport, indent: usize) {
    let version = match leaf.version {
        0 => String::new(),
        version => format!(" (version {version})"),
    };
    let name = format!("{:indent$}{kind}{}{version}:", "", leaf.name);
    match leaf.lines.as_slice() {
        [line] if name.chars().count() + line.chars().count() < WIDTH => {
            let _ = writeln!(out, "{name} {line}");
        }
        [] => {
            let _ = writeln!(out, "{name} none");
        }
        lines => {
            let _ = writeln!(out, "{name}");
            for line in lines {
                wrapped(out, indent + 2, line);
            }
        }
    }
}

fn changed_by(policy: &str) -> String {
    match policy {
        "" => String::new(),
        policy => format!(", changed by {policy}"),
    }
}
