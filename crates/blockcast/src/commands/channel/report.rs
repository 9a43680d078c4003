// SPDX-License-Identifier: Apache-2.0
//! What is told of configurations: the JSON form, which the text is made from.

use std::fmt::Write as _;

use block_api::BlockNumber;
use channel_config::{ConfigChange, ConfigDiff, ItemVersion};
use serde::Serialize;

use super::chain::{Chain, FoundConfig, Held};
use crate::commands::{
    config_report::ConfigReport,
    printable::{self, printable},
    table::Table,
};

/// The configuration in force after a block.
#[derive(Debug, Serialize)]
pub(super) struct ConfigAt {
    channel: String,
    block: u64,
    config_block: u64,
    holds_to: u64,
    replaced_by: Option<u64>,
    tip: u64,
    source: &'static str,
    config: ConfigReport,
    #[serde(skip)]
    told: String,
}

/// What differs between the configurations in force after two blocks.
#[derive(Debug, Serialize)]
pub(super) struct DiffBetween {
    channel: String,
    source: &'static str,
    from: Side,
    to: Side,
    same: bool,
    changes: Vec<ChangeReport>,
    #[serde(skip)]
    told: String,
    /// Fit to be shown.
    #[serde(skip)]
    diff: ConfigDiff,
}

#[derive(Debug, Serialize)]
struct Side {
    block: u64,
    config_block: u64,
    sequence: u64,
}

#[derive(Debug, Serialize)]
struct ChangeReport {
    item: &'static str,
    path: String,
    change: &'static str,
    from: Option<VersionReport>,
    to: Option<VersionReport>,
    removed: Vec<String>,
    added: Vec<String>,
    unshown: bool,
}

#[derive(Debug, Serialize)]
struct VersionReport {
    version: u64,
    mod_policy: String,
}

impl ConfigAt {
    pub(super) fn new(chain: &Chain, at: BlockNumber, found: &FoundConfig, held: Held) -> Self {
        Self {
            channel: found.config.channel().to_string(),
            block: at.get(),
            config_block: found.number.get(),
            holds_to: held.to.get(),
            replaced_by: held.replaced_by.map(BlockNumber::get),
            tip: chain.tip().get(),
            source: chain.source(),
            config: ConfigReport::new(&found.config.tree()),
            told: chain.told(),
        }
    }

    /// The same for people.
    pub(super) fn text(&self) -> String {
        let mut out = String::new();
        let _ = writeln!(out, "channel {} after block {}", self.channel, self.block);
        let (from, to) = (self.config_block, self.holds_to);
        let holds = match self.replaced_by {
            Some(next) => format!("after blocks {from}..{to}; block {next} changes it"),
            None if to < self.tip => format!(
                "after blocks {from}..{to}; block {} is missing, the newest is {}",
                to.saturating_add(1),
                self.tip
            ),
            None => format!("after blocks {from}..{to}; block {to} is the newest one"),
        };
        let mut table = Table::default();
        table.row(["config block".to_owned(), from.to_string()]);
        table.row(["in force".to_owned(), holds]);
        table.row(["blocks from".to_owned(), self.told.clone()]);
        table.write(&mut out, 2);
        out.push('\n');
        self.config.write(&mut out);
        out.truncate(out.trim_end().len());
        out
    }
}

impl DiffBetween {
    pub(super) fn new(
        chain: &Chain,
        from: (BlockNumber, &FoundConfig),
        to: (BlockNumber, &FoundConfig),
    ) -> Self {
        let diff = from.1.config.tree().diff(&to.1.config.tree());
        let diff = diff.with_text(|text| printable(text, printable::REASON));
        let side = |(block, found): (BlockNumber, &FoundConfig)| Side {
            block: block.get(),
            config_block: found.number.get(),
            sequence: found.config.sequence(),
        };
        Self {
            channel: to.1.config.channel().to_string(),
            source: chain.source(),
            from: side(from),
            to: side(to),
            same: from.1.number == to.1.number,
            changes: diff.changes.iter().map(ChangeReport::new).collect(),
            told: chain.told(),
            diff,
        }
    }

    /// The same for people.
    pub(super) fn text(&self) -> String {
        let (from, to) = (&self.from, &self.to);
        let mut out = format!(
            "channel {}, from block {} to block {}\n",
            self.channel, from.block, to.block
        );
        let config_blocks = match self.same {
            true => format!("{} is in force after both", from.config_block),
            false => format!("{} -> {}", from.config_block, to.config_block),
        };
        let mut table = Table::default();
        table.row(["config block".to_owned(), config_blocks]);
        table.row(["blocks from".to_owned(), self.told.clone()]);
        table.write(&mut out, 2);
        let _ = write!(out, "\n{}", self.diff);
        out.truncate(out.trim_end().len());
        out
    }
}

impl ChangeReport {
    fn new(change: &ConfigChange) -> Self {
        Self {
            item: change.item.as_str(),
            path: change.path_text(),
            change: match (&change.from, &change.to) {
                (None, _) => "added",
                (_, None) => "removed",
                (Some(_), Some(_)) => "changed",
            },
            from: change.from.as_ref().map(VersionReport::new),
            to: change.to.as_ref().map(VersionReport::new),
            removed: change.removed.clone(),
            added: change.added.clone(),
            unshown: change.unshown,
        }
    }
}

impl VersionReport {
    fn new(item: &ItemVersion) -> Self {
        Self {
            version: item.version,
            mod_policy: item.mod_policy.clone(),
        }
    }
}
