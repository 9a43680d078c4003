// SPDX-License-Identifier: Apache-2.0
//! What changed, between two configurations, in that by which blocks are judged.

use std::collections::BTreeSet;

use protos::common::{ConfigGroup, Policy};

use crate::config::{ChannelConfig, Organisation};

/// The policy by which block signatures are judged.
pub(crate) const BLOCK_VALIDATION: &str = "/Channel/Orderer/BlockValidation";

impl ChannelConfig {
    /// The changes that a newer configuration makes to how blocks are judged, in words: to the
    /// organisations of the orderers and their MSPs, the policies of their group, the consenters,
    /// the capabilities and the consensus type. Other changes make no difference to a verifier.
    pub(crate) fn judging_changes(&self, newer: &Self) -> Vec<String> {
        let mut changes = Vec::new();
        let mut note = |changed: bool, what: String| {
            if changed {
                changes.push(what);
            }
        };
        note(
            self.capabilities.channel() != newer.capabilities.channel(),
            format!(
                "the channel capabilities, to {}",
                newer.capabilities.channel().join(", ")
            ),
        );
        note(
            self.capabilities.orderer() != newer.capabilities.orderer(),
            format!(
                "the orderer capabilities, to {}",
                newer.capabilities.orderer().join(", ")
            ),
        );
        let (old, new) = (&self.orderer, &newer.orderer);
        note(
            old.consensus() != new.consensus(),
            format!(
                "the consensus type, from {} to {}",
                old.consensus(),
                new.consensus()
            ),
        );
        note(
            old.consenters() != new.consenters(),
            "the consenters".to_owned(),
        );
        for organisation in old.organisations() {
            let name = organisation.name();
            match new.organisation(name) {
                None => note(true, format!("the orderer organisation {name}, which left")),
                Some(same) => note(
                    organisation.msp_config != same.msp_config,
                    format!("the MSP of the orderer organisation {name}"),
                ),
            }
        }
        for organisation in new
            .organisations()
            .filter(|found| old.organisation(found.name()).is_none())
        {
            note(
                true,
                format!(
                    "the orderer organisation {}, which is new",
                    organisation.name()
                ),
            );
        }
        for msp_id in self.foreign_judges().union(&newer.foreign_judges()) {
            note(
                self.msp_config(msp_id) != newer.msp_config(msp_id),
                format!("the MSP {msp_id}, which {BLOCK_VALIDATION} names"),
            );
        }
        let path = "/Channel/Orderer";
        changed_policies(
            path,
            self.orderer_group(),
            newer.orderer_group(),
            &mut changes,
        );
        changes
    }

    /// The MSPs that the policy over block signatures names.
    fn foreign_judges(&self) -> BTreeSet<String> {
        let mut named = BTreeSet::new();
        if let Some(policy) = self.policy(BLOCK_VALIDATION) {
            policy.name_msps(&mut |msp_id| {
                named.insert(msp_id.to_owned());
            });
        }
        for organisation in self.orderer.organisations() {
            named.remove(organisation.msp().id());
        }
        named
    }

    fn msp_config(&self, msp_id: &str) -> Option<&protos::msp::MspConfig> {
        let mut organisations = self
            .orderer
            .organisations()
            .chain(self.applications.values());
        let with_id = |organisation: &&Organisation| organisation.msp().id() == msp_id;
        organisations
            .find(with_id)
            .map(|organisation| &organisation.msp_config)
    }

    fn orderer_group(&self) -> Option<&ConfigGroup> {
        self.group.groups.get("Orderer")
    }
}

/// Compares the policies of two groups and of the groups in them, by their bytes: a configuration
/// carries over what it does not change.
fn changed_policies(
    path: &str,
    old: Option<&ConfigGroup>,
    new: Option<&ConfigGroup>,
    changes: &mut Vec<String>,
) {
    let policies = |group: Option<&ConfigGroup>| -> BTreeSet<String> {
        group
            .into_iter()
            .flat_map(|group| group.policies.keys().cloned())
            .collect()
    };
    let policy = |group: Option<&ConfigGroup>, name: &str| -> Option<Policy> {
        group
            .and_then(|group| group.policies.get(name))
            .and_then(|policy| policy.policy.clone())
    };
    for name in policies(old).union(&policies(new)) {
        if policy(old, name) != policy(new, name) {
            changes.push(format!("the policy {path}/{name}"));
        }
    }
    let groups = |group: Option<&ConfigGroup>| -> BTreeSet<String> {
        group
            .into_iter()
            .flat_map(|group| group.groups.keys().cloned())
            .collect()
    };
    // An organisation that came or left is told of already.
    for name in groups(old).intersection(&groups(new)) {
        let inner = |group: Option<&'_ ConfigGroup>| {
            group.and_then(|group| group.groups.get(name)).cloned()
        };
        changed_policies(
            &format!("{path}/{name}"),
            inner(old).as_ref(),
            inner(new).as_ref(),
            changes,
        );
    }
}
