// SPDX-License-Identifier: Apache-2.0
//! Policies: which signatures together are enough.

mod evaluate;
mod implicit;
mod principal;
mod signature;
mod tree;

use std::fmt::{self, Write as _};

pub use self::evaluate::SignedData;
pub(crate) use self::{evaluate::Evaluation, tree::PolicyTree};
use self::{implicit::ImplicitMetaPolicy, signature::SignaturePolicy};

/// How much of a policy its text shows, in bytes: all of one with dozens of identities, and not so
/// much that whoever sends bad blocks makes errors of any length.
const MAX_TEXT: usize = 8 * 1024;

/// A policy of a channel configuration, ready to be evaluated.
///
/// Its text form is the one that Fabric's tools take: `OR(Org1MSP.admin, Org1MSP.peer)`,
/// `ANY Writers`. A very long one is cut.
#[derive(Debug, Clone)]
pub(crate) enum Policy {
    Signature(SignaturePolicy),
    ImplicitMeta(ImplicitMetaPolicy),
    /// One that Fabric takes and that is not evaluated here. Nobody satisfies it, so that the
    /// configuration serves for everything else.
    Never(Unsupported),
}

/// Why a policy that Fabric takes is not evaluated here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unsupported {
    /// An implicit meta policy with another rule than any, all or majority. For Fabric it needs
    /// nothing, which cannot be what its author wanted.
    #[error("implicit meta policies with the rule {rule} are unknown")]
    Rule { rule: i32 },
    /// Rules that stand in each other too deep for the decoder.
    #[error("its rules nest too deep")]
    TooDeep,
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
}

/// Writes no more than so many bytes.
struct Shortened<'a, 'b> {
    out: &'a mut fmt::Formatter<'b>,
    left: usize,
    is_cut: bool,
}

impl Policy {
    /// Whether the signatures are enough. The depth is that of the groups and rules, which the
    /// decoder limits; the evaluation limits the steps, and one that needs more lets nobody in.
    pub(crate) fn is_satisfied(&self, evaluation: &Evaluation<'_>) -> bool {
        let holds = evaluation.steps().take(1)
            && match self {
                Self::Signature(policy) => policy.is_satisfied(evaluation),
                Self::ImplicitMeta(policy) => policy.is_satisfied(evaluation),
                Self::Never(_) => false,
            };
        // A rule that was given up may have left an identity to another one.
        holds && evaluation.steps().sufficed()
    }
}

impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shortened = Shortened {
            out: f,
            left: MAX_TEXT,
            is_cut: false,
        };
        let written = match self {
            Self::Signature(policy) => write!(shortened, "{policy}"),
            Self::ImplicitMeta(policy) => write!(shortened, "{policy}"),
            Self::Never(reason) => write!(shortened, "nobody ({reason})"),
        };
        match shortened.is_cut {
            true => f.write_str("…"),
            false => written,
        }
    }
}

impl fmt::Write for Shortened<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let fits = text.floor_char_boundary(self.left);
        self.left -= fits;
        self.is_cut = fits < text.len();
        self.out.write_str(text.get(..fits).unwrap_or_default())?;
        // An error ends the writing.
        if self.is_cut { Err(fmt::Error) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests;
