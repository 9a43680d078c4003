// SPDX-License-Identifier: Apache-2.0
//! Implicit meta policies: any, all or the majority of the groups' policies of one name.

use std::{collections::BTreeMap, fmt, sync::Arc};

use protos::{
    common::{ImplicitMetaPolicy as PolicyProto, implicit_meta_policy::Rule},
    decode_as_go,
};

use crate::policy::{Policy, PolicyError, Unsupported, evaluate::Evaluation, tree::PolicyTree};

/// An implicit meta policy, compiled.
#[derive(Debug, Clone)]
pub(crate) struct ImplicitMetaPolicy {
    rule: Rule,
    name: String,
    needed: usize,
    /// The policies of that name that the groups have; a group without one counts in `needed`
    /// all the same (semantics §0 point 7).
    policies: Vec<Arc<Policy>>,
}

impl ImplicitMetaPolicy {
    pub(super) fn compile(
        bytes: &[u8],
        groups: &BTreeMap<String, PolicyTree>,
    ) -> Result<Policy, PolicyError> {
        let policy: PolicyProto = decode_as_go(bytes).map_err(|error| PolicyError::Malformed {
            reason: error.to_string(),
        })?;
        let Ok(rule) = Rule::try_from(policy.rule) else {
            return Ok(Policy::Never(Unsupported::Rule { rule: policy.rule }));
        };
        let needed = match rule {
            _ if groups.is_empty() => 0,
            Rule::Any => 1,
            Rule::All => groups.len(),
            Rule::Majority => groups.len() / 2 + 1,
        };
        let named = |group: &PolicyTree| {
            (!policy.sub_policy.is_empty()).then(|| group.get(&policy.sub_policy).cloned())
        };
        let policies = groups
            .values()
            .filter_map(|group| named(group).flatten())
            .collect();
        Ok(Policy::ImplicitMeta(Self {
            rule,
            name: policy.sub_policy,
            needed,
            policies,
        }))
    }

    pub(super) fn is_satisfied(&self, evaluation: &Evaluation<'_>) -> bool {
        let mut held = 0;
        self.needed == 0
            || self.policies.iter().any(|policy| {
                held += usize::from(policy.is_satisfied(evaluation));
                held >= self.needed
            })
    }
}

impl fmt::Display for ImplicitMetaPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.rule.as_str_name(), self.name)
    }
}
