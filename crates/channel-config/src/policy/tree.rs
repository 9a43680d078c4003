// SPDX-License-Identifier: Apache-2.0
//! The policies of a channel configuration, found by their paths.

use std::{collections::BTreeMap, sync::Arc};

use protos::common::{ConfigGroup, policy::PolicyType};

use crate::{
    msp::MspVersion,
    policy::{Policy, PolicyError, implicit::ImplicitMetaPolicy, signature::SignaturePolicy},
};

/// The policies of a group and of the groups in it.
#[derive(Debug, Clone)]
pub(crate) struct PolicyTree {
    /// The names from the outermost group to this one, each with a slash before it.
    path: String,
    policies: BTreeMap<String, Arc<Policy>>,
    groups: BTreeMap<String, Self>,
}

impl PolicyTree {
    /// Compiles the policies of a group called `name`, those of the groups in it first.
    pub(crate) fn compile(
        name: &str,
        group: &ConfigGroup,
        version: MspVersion,
    ) -> Result<Self, PolicyError> {
        Self::compile_at(format!("/{name}"), group, version)
    }

    fn compile_at(
        path: String,
        group: &ConfigGroup,
        version: MspVersion,
    ) -> Result<Self, PolicyError> {
        let mut groups = BTreeMap::new();
        for (name, sub_group) in &group.groups {
            groups.insert(
                name.clone(),
                Self::compile_at(format!("{path}/{name}"), sub_group, version)?,
            );
        }
        let mut policies = BTreeMap::new();
        for (name, config) in &group.policies {
            let at = |source| PolicyError::At {
                path: format!("{path}/{name}"),
                source: Box::new(source),
            };
            let Some(policy) = &config.policy else {
                return Err(at(PolicyError::Missing));
            };
            let compiled = if policy.r#type == PolicyType::Signature as i32 {
                SignaturePolicy::compile(&policy.value, version).map_err(at)?
            } else if policy.r#type == PolicyType::ImplicitMeta as i32 {
                ImplicitMetaPolicy::compile(&policy.value, &groups).map_err(at)?
            } else {
                return Err(at(PolicyError::UnknownType {
                    kind: policy.r#type,
                }));
            };
            if let Policy::Never(reason) = &compiled {
                tracing::warn!(path = %format_args!("{path}/{name}"), %reason, "policy that nobody can satisfy");
            }
            policies.insert(name.clone(), Arc::new(compiled));
        }
        Ok(Self {
            path,
            policies,
            groups,
        })
    }

    /// The policy with this name: absolute (`/Channel/Orderer/Readers`) or relative to this group
    /// (`Orderer/Readers`) (POL-02, POL-03).
    pub(crate) fn get(&self, name: &str) -> Option<&Arc<Policy>> {
        let relative = if name.starts_with('/') {
            name.strip_prefix(self.path.as_str())?.strip_prefix('/')?
        } else {
            name
        };
        // A policy of a group in this one hides a policy of this one with a slash in its name.
        let inner = relative
            .split_once('/')
            .and_then(|(group, rest)| self.groups.get(group)?.get(rest));
        inner.or_else(|| self.policies.get(relative))
    }
}
