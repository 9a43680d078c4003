// SPDX-License-Identifier: Apache-2.0
//! The policies of a configuration tree, in the shapes that Fabric's own tools write.

use std::collections::BTreeMap;

use prost::{Message as _, bytes::Bytes};
use protos::common::{
    ConfigGroup, ConfigPolicy, ImplicitMetaPolicy, MspPrincipal, MspRole, Policy, SignaturePolicy,
    SignaturePolicyEnvelope, implicit_meta_policy::Rule, msp_principal::Classification,
    msp_role::MspRoleType, policy::PolicyType, signature_policy,
};

use super::ADMINS;
use crate::pki::Role;

/// The policies of a group that only asks its sub-groups.
pub(super) fn of_sub_groups() -> BTreeMap<String, ConfigPolicy> {
    [
        ("Readers", Rule::Any),
        ("Writers", Rule::Any),
        ("Admins", Rule::Majority),
    ]
    .into_iter()
    .map(|(name, rule)| (name.to_owned(), implicit_meta(rule, name)))
    .collect()
}

/// A policy over the policies of this name in the sub-groups.
pub(super) fn implicit_meta(rule: Rule, sub_policy: &str) -> ConfigPolicy {
    let policy = ImplicitMetaPolicy {
        sub_policy: sub_policy.to_owned(),
        rule: rule.into(),
    };
    config_policy(PolicyType::ImplicitMeta, policy.encode_to_vec())
}

/// Gives an organisation's group its policy `Admins`, and others that one member with any of the
/// named roles satisfies.
pub(super) fn insert_role_policies(
    group: &mut ConfigGroup,
    msp_id: &str,
    policies: &[(&str, &[Role])],
) {
    for (name, roles) in policies.iter().chain(&[(ADMINS, [Role::Admin].as_slice())]) {
        let principals = roles.iter().map(|role| MspPrincipal {
            principal_classification: Classification::Role.into(),
            principal: MspRole {
                msp_identifier: msp_id.to_owned(),
                role: role_type(*role).into(),
            }
            .encode_to_vec()
            .into(),
        });
        group.policies.insert(
            (*name).to_owned(),
            signature_policy(1, principals.collect()),
        );
    }
}

/// The policy by which a quorum of exactly these identities has to sign (semantics §2.7).
pub(super) fn quorum_of(identities: impl Iterator<Item = Bytes>) -> ConfigPolicy {
    let principals: Vec<_> = identities
        .map(|identity| MspPrincipal {
            principal_classification: Classification::Identity.into(),
            principal: identity,
        })
        .collect();
    signature_policy(quorum(principals.len()), principals)
}

/// How many of `nodes` have to sign so that any two such sets share an honest one.
pub(crate) fn quorum(nodes: usize) -> usize {
    let faulty = nodes.saturating_sub(1) / 3;
    (nodes + faulty + 1).div_ceil(2)
}

fn signature_policy(n: usize, identities: Vec<MspPrincipal>) -> ConfigPolicy {
    let rules = (0..identities.len())
        .map(|index| SignaturePolicy {
            r#type: Some(signature_policy::Type::SignedBy(small(index))),
        })
        .collect();
    let rule = SignaturePolicy {
        r#type: Some(signature_policy::Type::NOutOf(signature_policy::NOutOf {
            n: small(n),
            rules,
        })),
    };
    let envelope = SignaturePolicyEnvelope {
        version: 0,
        rule: Some(rule),
        identities,
    };
    config_policy(PolicyType::Signature, envelope.encode_to_vec())
}

fn config_policy(kind: PolicyType, value: Vec<u8>) -> ConfigPolicy {
    ConfigPolicy {
        version: 0,
        policy: Some(Policy {
            r#type: kind.into(),
            value: value.into(),
        }),
        mod_policy: ADMINS.to_owned(),
    }
}

fn role_type(role: Role) -> MspRoleType {
    match role {
        Role::Client => MspRoleType::Client,
        Role::Peer => MspRoleType::Peer,
        Role::Admin => MspRoleType::Admin,
        Role::Orderer => MspRoleType::Orderer,
    }
}

fn small(number: usize) -> i32 {
    i32::try_from(number).expect("invariant: nodes and roles are few")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quorum_is_that_of_smart_bft() {
        let quorums: Vec<_> = (1..=11).map(quorum).collect();
        assert_eq!(quorums, [1, 2, 2, 3, 4, 4, 5, 6, 6, 7, 8]);
    }
}
