// SPDX-License-Identifier: Apache-2.0
//! The configuration in a config block.

use block_api::Block;
use channel_config::{ChannelConfig, ConfigLeaf, ConfigNode};
use serde::Serialize;

use crate::commands::printable::{self, printable};

/// A configuration, fit to be shown.
#[derive(Debug, Serialize)]
pub(super) struct ConfigReport {
    pub(super) sequence: u64,
    pub(super) root: GroupReport,
}

/// A group of a configuration.
#[derive(Debug, Serialize)]
pub(super) struct GroupReport {
    pub(super) name: String,
    pub(super) version: u64,
    pub(super) mod_policy: String,
    pub(super) values: Vec<LeafReport>,
    pub(super) policies: Vec<LeafReport>,
    pub(super) groups: Vec<Self>,
}

/// A value or a policy of a configuration.
#[derive(Debug, Serialize)]
pub(super) struct LeafReport {
    pub(super) name: String,
    pub(super) version: u64,
    pub(super) mod_policy: String,
    pub(super) lines: Vec<String>,
}

/// The configuration in a config block, or why it cannot be shown.
pub(super) fn of(block: &Block) -> Result<ConfigReport, String> {
    let config = ChannelConfig::from_block(block)
        .map_err(|error| printable(&error.to_string(), printable::REASON))?;
    let tree = config.tree();
    Ok(ConfigReport {
        sequence: tree.sequence,
        root: GroupReport::new(&tree.root),
    })
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
