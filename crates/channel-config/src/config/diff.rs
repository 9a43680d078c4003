// SPDX-License-Identifier: Apache-2.0
//! What differs between two configurations of a channel.

use std::{collections::BTreeMap, fmt, slice};

use crate::config::{ConfigLeaf, ConfigNode, ConfigTree};

/// What differs between two configurations of a channel, in the order of the tree.
///
/// Its `Display` form has a line for each group, value and policy that differs, which begins with
/// `+` where it was added, `-` where it was removed and `~` where it is another one, and below it
/// the lines of its content that came and went. Names and lines are as the configuration has them:
/// [`with_text`](Self::with_text) makes them fit for a terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConfigDiff {
    /// How many times the older configuration was changed.
    pub from_sequence: u64,
    /// How many times the newer one was.
    pub to_sequence: u64,
    /// What differs.
    pub changes: Vec<ConfigChange>,
}

/// A group, value or policy that differs. One that was added or removed has all its lines, and all
/// that is in a group is listed by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConfigChange {
    /// What it is.
    pub item: ConfigItem,
    /// Its name behind those of the groups around it, the outermost one first.
    pub path: Vec<String>,
    /// Its version in the older configuration; `None` where it was added.
    pub from: Option<ItemVersion>,
    /// Its version in the newer one; `None` where it was removed.
    pub to: Option<ItemVersion>,
    /// The lines that only the older one has.
    pub removed: Vec<String>,
    /// The lines that only the newer one has.
    pub added: Vec<String>,
    /// Whether the content differs although its lines do not: in their order, or in something that
    /// has no line, such as the TLS certificates of a consenter.
    pub unshown: bool,
}

/// What a part of a configuration is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigItem {
    /// A group.
    Group,
    /// A value.
    Value,
    /// A policy.
    Policy,
}

/// What every part of a configuration says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ItemVersion {
    /// How many times it changed.
    pub version: u64,
    /// The policy that changes need.
    pub mod_policy: String,
}

impl ConfigTree {
    /// What is different in a newer configuration.
    pub fn diff(&self, newer: &Self) -> ConfigDiff {
        let mut changes = Vec::new();
        let (old, new) = (slice::from_ref(&self.root), slice::from_ref(&newer.root));
        groups(&mut changes, &mut Vec::new(), old, new);
        ConfigDiff {
            from_sequence: self.sequence,
            to_sequence: newer.sequence,
            changes,
        }
    }
}

impl ConfigDiff {
    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty() && self.from_sequence == self.to_sequence
    }

    /// The same, the other way round.
    #[must_use]
    pub fn inverted(&self) -> Self {
        let changes = self.changes.iter().map(|change| ConfigChange {
            item: change.item,
            path: change.path.clone(),
            from: change.to.clone(),
            to: change.from.clone(),
            removed: change.added.clone(),
            added: change.removed.clone(),
            unshown: change.unshown,
        });
        Self {
            from_sequence: self.to_sequence,
            to_sequence: self.from_sequence,
            changes: changes.collect(),
        }
    }

    /// The same with every name and line replaced by what is to be shown for it.
    #[must_use]
    pub fn with_text(&self, shown: impl Fn(&str) -> String) -> Self {
        let all = |texts: &[String]| texts.iter().map(|text| shown(text)).collect();
        let version = |item: &ItemVersion| ItemVersion {
            version: item.version,
            mod_policy: shown(&item.mod_policy),
        };
        let changes = self.changes.iter().map(|change| ConfigChange {
            item: change.item,
            path: all(&change.path),
            from: change.from.as_ref().map(version),
            to: change.to.as_ref().map(version),
            removed: all(&change.removed),
            added: all(&change.added),
            unshown: change.unshown,
        });
        Self {
            from_sequence: self.from_sequence,
            to_sequence: self.to_sequence,
            changes: changes.collect(),
        }
    }
}

impl ConfigChange {
    /// The path as one text: `/Channel/Orderer/BatchSize`.
    pub fn path_text(&self) -> String {
        self.path.iter().flat_map(|name| ["/", name]).collect()
    }

    /// The change of a leaf, if there is one.
    fn of_leaf(
        item: ConfigItem,
        path: &[String],
        old: Option<&ConfigLeaf>,
        new: Option<&ConfigLeaf>,
    ) -> Option<Self> {
        let lines = |leaf: Option<&ConfigLeaf>| leaf.map_or(Vec::new(), |leaf| leaf.lines.clone());
        let (old_lines, new_lines) = (lines(old), lines(new));
        let removed = without(&old_lines, &new_lines);
        let added = without(&new_lines, &old_lines);
        let same_lines = removed.is_empty() && added.is_empty();
        let unshown = match (old, new) {
            (Some(old), Some(new)) => same_lines && old.digest != new.digest,
            _ => false,
        };
        let version = |leaf: &ConfigLeaf| ItemVersion {
            version: leaf.version,
            mod_policy: leaf.mod_policy.clone(),
        };
        let (from, to) = (old.map(version), new.map(version));
        (from != to || !same_lines || unshown).then(|| Self {
            item,
            path: path.to_vec(),
            from,
            to,
            removed,
            added,
            unshown,
        })
    }

    /// The change of a group by itself, if there is one.
    fn of_group(
        path: &[String],
        old: Option<&ConfigNode>,
        new: Option<&ConfigNode>,
    ) -> Option<Self> {
        let version = |group: &ConfigNode| ItemVersion {
            version: group.version,
            mod_policy: group.mod_policy.clone(),
        };
        let (from, to) = (old.map(version), new.map(version));
        (from != to).then(|| Self {
            item: ConfigItem::Group,
            path: path.to_vec(),
            from,
            to,
            removed: Vec::new(),
            added: Vec::new(),
            unshown: false,
        })
    }
}

impl ConfigItem {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Group => "group",
            Self::Value => "value",
            Self::Policy => "policy",
        }
    }
}

impl fmt::Display for ConfigDiff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.from_sequence == self.to_sequence {
            true => writeln!(f, "sequence {}", self.from_sequence)?,
            false => writeln!(f, "sequence {} -> {}", self.from_sequence, self.to_sequence)?,
        }
        if self.changes.is_empty() {
            writeln!(f, "nothing differs")?;
        }
        self.changes.iter().try_for_each(|change| change.fmt(f))
    }
}

impl fmt::Display for ConfigChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mark, version) = match (&self.from, &self.to) {
            (None, Some(to)) => ('+', to.to_string()),
            (Some(from), None) => ('-', from.to_string()),
            (Some(from), Some(to)) => ('~', from.to(to)),
            (None, None) => ('~', String::new()),
        };
        writeln!(
            f,
            "{mark} {} {} ({version})",
            self.item.as_str(),
            self.path_text()
        )?;
        for (mark, lines) in [('-', &self.removed), ('+', &self.added)] {
            lines
                .iter()
                .try_for_each(|line| writeln!(f, "    {mark} {line}"))?;
        }
        match self.unshown {
            true => writeln!(
                f,
                "    ~ its content differs in the order of its lines, or in what has no line"
            ),
            false => Ok(()),
        }
    }
}

impl fmt::Display for ItemVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "version {}", self.version)?;
        match self.mod_policy.as_str() {
            "" => Ok(()),
            policy => write!(f, ", changed by {policy}"),
        }
    }
}

impl ItemVersion {
    /// The way from this version to another one.
    fn to(&self, newer: &Self) -> String {
        let nobody = |policy: &str| match policy {
            "" => "nobody".to_owned(),
            policy => policy.to_owned(),
        };
        let version = match self.version == newer.version {
            true => format!("version {}", self.version),
            false => format!("version {} -> {}", self.version, newer.version),
        };
        match self.mod_policy == newer.mod_policy {
            true => version,
            false => format!(
                "{version}, changed by {} -> {}",
                nobody(&self.mod_policy),
                nobody(&newer.mod_policy)
            ),
        }
    }
}

fn groups(
    changes: &mut Vec<ConfigChange>,
    path: &mut Vec<String>,
    old: &[ConfigNode],
    new: &[ConfigNode],
) {
    for (name, (old, new)) in paired(old, new, |group| &group.name) {
        path.push(name.to_owned());
        changes.extend(ConfigChange::of_group(path, old, new));
        leaves(changes, path, ConfigItem::Value, values(old), values(new));
        leaves(
            changes,
            path,
            ConfigItem::Policy,
            policies(old),
            policies(new),
        );
        groups(changes, path, inner(old), inner(new));
        path.pop();
    }
}

fn leaves(
    changes: &mut Vec<ConfigChange>,
    path: &mut Vec<String>,
    item: ConfigItem,
    old: &[ConfigLeaf],
    new: &[ConfigLeaf],
) {
    for (name, (old, new)) in paired(old, new, |leaf| &leaf.name) {
        path.push(name.to_owned());
        changes.extend(ConfigChange::of_leaf(item, path, old, new));
        path.pop();
    }
}

fn values(group: Option<&ConfigNode>) -> &[ConfigLeaf] {
    group.map_or(&[], |group| &group.values)
}

fn policies(group: Option<&ConfigNode>) -> &[ConfigLeaf] {
    group.map_or(&[], |group| &group.policies)
}

fn inner(group: Option<&ConfigNode>) -> &[ConfigNode] {
    group.map_or(&[], |group| &group.groups)
}

/// What stands under one name in two lists.
type Pair<'a, T> = (Option<&'a T>, Option<&'a T>);

fn paired<'a, T>(
    old: &'a [T],
    new: &'a [T],
    name: impl Fn(&'a T) -> &'a str,
) -> BTreeMap<&'a str, Pair<'a, T>> {
    let mut pairs: BTreeMap<&str, Pair<'a, T>> = BTreeMap::new();
    for item in old {
        pairs.entry(name(item)).or_default().0 = Some(item);
    }
    for item in new {
        pairs.entry(name(item)).or_default().1 = Some(item);
    }
    pairs
}

/// The lines that are not among the others, in their order; one that is there twice must be there
/// twice. Their order is no difference here: most lists of a configuration have none, and comparing
/// them line by line keeps the work small however long they are.
fn without(lines: &[String], others: &[String]) -> Vec<String> {
    let mut there: BTreeMap<&str, usize> = BTreeMap::new();
    for line in others {
        *there.entry(line).or_default() += 1;
    }
    let is_missing = |line: &&String| match there.get_mut(line.as_str()) {
        Some(count) if *count > 0 => {
            *count -= 1;
            false
        }
        _ => true,
    };
    lines.iter().filter(is_missing).cloned().collect()
}

#[cfg(test)]
mod tests;
