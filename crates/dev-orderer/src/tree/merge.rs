// SPDX-License-Identifier: Apache-2.0
//! How one configuration tree follows another: what is carried over, and which versions grow.

use std::collections::BTreeMap;

use protos::common::{ConfigGroup, ConfigPolicy, ConfigValue};

/// A value or a policy of a group.
pub(crate) trait Element: Clone + PartialEq {
    fn version(&mut self) -> &mut u64;
}

/// Does to a tree what makes `after` out of `before`, and leaves everything else in it as it is.
pub(crate) fn carry_over(before: &ConfigGroup, after: &ConfigGroup, tree: &mut ConfigGroup) {
    carry_over_elements(&before.values, &after.values, &mut tree.values);
    carry_over_elements(&before.policies, &after.policies, &mut tree.policies);
    for (name, after) in &after.groups {
        match (before.groups.get(name), tree.groups.get_mut(name)) {
            (Some(before), Some(group)) => carry_over(before, after, group),
            // Who took it out of the tree otherwise does not get it back by a change within it.
            (Some(_), None) => {}
            (None, _) => {
                tree.groups.insert(name.clone(), after.clone());
            }
        }
    }
    tree.groups
        .retain(|name, _| after.groups.contains_key(name) || !before.groups.contains_key(name));
}

/// Gives the elements of a tree the versions that Fabric asks for after `before`: one more for a
/// value or a policy that changed, one more for a group whose members came or went, 0 for what is
/// new. A group in which only a member changed keeps its own.
pub(crate) fn grow_versions(before: &ConfigGroup, tree: &mut ConfigGroup) {
    grow_elements(&before.values, &mut tree.values);
    grow_elements(&before.policies, &mut tree.policies);
    let same_members = before.values.keys().eq(tree.values.keys())
        && before.policies.keys().eq(tree.policies.keys())
        && before.groups.keys().eq(tree.groups.keys())
        && before.mod_policy == tree.mod_policy;
    tree.version = before.version.saturating_add(u64::from(!same_members));
    for (name, group) in &mut tree.groups {
        if let Some(before) = before.groups.get(name) {
            grow_versions(before, group);
        }
    }
}

impl Element for ConfigValue {
    fn version(&mut self) -> &mut u64 {
        &mut self.version
    }
}

impl Element for ConfigPolicy {
    fn version(&mut self) -> &mut u64 {
        &mut self.version
    }
}

fn carry_over_elements<E: Element>(
    before: &BTreeMap<String, E>,
    after: &BTreeMap<String, E>,
    elements: &mut BTreeMap<String, E>,
) {
    for (name, element) in after {
        if before.get(name) != Some(element) {
            elements.insert(name.clone(), element.clone());
        }
    }
    elements.retain(|name, _| after.contains_key(name) || !before.contains_key(name));
}

fn grow_elements<E: Element>(before: &BTreeMap<String, E>, elements: &mut BTreeMap<String, E>) {
    for (name, element) in elements {
        let Some(mut old) = before.get(name).cloned() else {
            *element.version() = 0;
            continue;
        };
        let version = *old.version();
        *element.version() = version;
        if old != *element {
            *element.version() = version.saturating_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn value(content: &'static str, version: u64) -> ConfigValue {
        ConfigValue {
            version,
            value: Bytes::from_static(content.as_bytes()),
            mod_policy: "Admins".to_owned(),
        }
    }

    fn group<'a>(
        version: u64,
        values: impl IntoIterator<Item = (&'a str, ConfigValue)>,
        groups: impl IntoIterator<Item = (&'a str, ConfigGroup)>,
    ) -> ConfigGroup {
        ConfigGroup {
            version,
            values: values
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect(),
            groups: groups
                .into_iter()
                .map(|(name, group)| (name.to_owned(), group))
                .collect(),
            ..ConfigGroup::default()
        }
    }

    #[test]
    fn only_what_changed_is_carried_over_and_grows() {
        let before = group(
            0,
            [
                ("kept", value("a", 0)),
                ("changed", value("a", 0)),
                ("left", value("a", 0)),
            ],
            [
                ("inner", group(0, [("deep", value("a", 0))], [])),
                ("gone", group(0, [], [])),
            ],
        );
        let after = group(
            0,
            [
                ("kept", value("a", 0)),
                ("changed", value("b", 0)),
                ("came", value("a", 0)),
            ],
            [
                ("inner", group(0, [("deep", value("b", 0))], [])),
                ("new", group(0, [], [])),
            ],
        );
        // Others have changed the tree meanwhile.
        let current = group(
            5,
            [
                ("kept", value("theirs", 7)),
                ("changed", value("a", 3)),
                ("left", value("a", 0)),
                ("theirs", value("a", 1)),
            ],
            [
                ("inner", group(2, [("deep", value("a", 4))], [])),
                ("gone", group(1, [], [])),
            ],
        );
        let mut tree = current.clone();
        carry_over(&before, &after, &mut tree);
        grow_versions(&current, &mut tree);
        let expected = group(
            6,
            [
                ("kept", value("theirs", 7)),
                ("changed", value("b", 4)),
                ("came", value("a", 0)),
                ("theirs", value("a", 1)),
            ],
            // Its members are the same, so its own version is.
            [
                ("inner", group(2, [("deep", value("b", 5))], [])),
                ("new", group(0, [], [])),
            ],
        );
        assert_eq!(tree, expected);
    }

    #[test]
    fn what_others_took_out_does_not_come_back_by_a_change_within_it() {
        let before = group(0, [], [("inner", group(0, [("deep", value("a", 0))], []))]);
        let after = group(0, [], [("inner", group(0, [("deep", value("b", 0))], []))]);
        let mut tree = group(1, [], []);
        carry_over(&before, &after, &mut tree);
        assert_eq!(tree, group(1, [], []));
    }
}
