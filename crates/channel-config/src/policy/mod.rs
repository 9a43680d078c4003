// SPDX-License-Identifier: Apache-2.0
//! Policies: which signatures together are enough.

mod evaluate;
mod implicit;
mod principal;
mod signature;
mod tree;

use std::fmt;

pub use self::evaluate::SignedData;
pub(crate) use self::{evaluate::Evaluation, tree::PolicyTree};
use self::{implicit::ImplicitMetaPolicy, signature::SignaturePolicy};

/// A policy of a channel configuration, ready to be evaluated.
///
/// Its text form is the one that Fabric's tools take: `OR(Org1MSP.admin, Org1MSP.peer)`,
/// `ANY Writers`.
#[derive(Debug, Clone)]
pub(crate) enum Policy {
    Signature(SignaturePolicy),
    ImplicitMeta(ImplicitMetaPolicy),
}

/// Why bytes are no policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// A policy of a configuration does not compile.
    #[error("policy {path}: {source}")]
    At {
        /// Where it stands.
        path: String,
        /// What is wrong with it.
        source: Box<Self>,
    },
    /// There is a name, but no policy.
    #[error("there is no policy under this name")]
    Missing,
    /// The bytes do not parse.
    #[error("the policy does not parse: {reason}")]
    Malformed {
        /// What is wrong with it.
        reason: String,
    },
    /// A type other than signature and implicit meta.
    #[error("policies of type {kind} are unknown")]
    UnknownType {
        /// The type.
        kind: i32,
    },
    /// A signature policy of another version.
    #[error("signature policies of version {version} are unknown, only version 0 is known")]
    Version {
        /// The version.
        version: i32,
    },
    /// A rule that is neither a signature nor so many out of others.
    #[error("a rule of the policy is empty")]
    EmptyRule,
    /// A rule asks for a principal that is not there.
    #[error("a rule asks for principal {index}, but there are {count}")]
    NoSuchPrincipal {
        /// The principal.
        index: i32,
        /// How many there are.
        count: usize,
    },
    /// An implicit meta policy with another rule than any, all or majority.
    #[error("implicit meta policies with the rule {rule} are unknown")]
    UnknownRule {
        /// The rule.
        rule: i32,
    },
    /// The policy has too many parts.
    #[error("the policy has more than {limit} rules or principals")]
    TooLarge {
        /// How many it may have.
        limit: usize,
    },
}

impl Policy {
    /// Whether the signatures are enough. The depth is that of the groups and rules, which the
    /// decoder limits.
    pub(crate) fn is_satisfied(&self, evaluation: &Evaluation<'_>) -> bool {
        match self {
            Self::Signature(policy) => policy.is_satisfied(evaluation),
            Self::ImplicitMeta(policy) => policy.is_satisfied(evaluation),
        }
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signature(policy) => policy.fmt(f),
            Self::ImplicitMeta(policy) => policy.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests;
