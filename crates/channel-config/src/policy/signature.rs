// SPDX-License-Identifier: Apache-2.0
//! Signature policies: so many out of these principals have signed.

use std::fmt;

use prost::Message;
use protos::common::{
    SignaturePolicy as RuleProto, SignaturePolicyEnvelope, signature_policy::Type,
};

use crate::{
    msp::{MspVersion, Msps},
    policy::{PolicyError, evaluate::Evaluation, principal::Principal},
};

/// How many rules one policy may have. Evaluation asks each rule once per identity.
const MAX_RULES: usize = 10_000;

/// A signature policy, compiled.
#[derive(Debug, Clone)]
pub(crate) struct SignaturePolicy {
    rule: Rule,
    principals: Vec<Principal>,
}

#[derive(Debug, Clone)]
enum Rule {
    SignedBy(usize),
    OutOf { needed: i32, rules: Vec<Self> },
}

impl SignaturePolicy {
    /// Compiles a marshalled `SignaturePolicyEnvelope`. The decoder limits how deep it nests.
    pub(super) fn compile(
        bytes: &[u8],
        msps: &Msps,
        version: MspVersion,
    ) -> Result<Self, PolicyError> {
        let envelope =
            SignaturePolicyEnvelope::decode(bytes).map_err(|error| PolicyError::Malformed {
                reason: error.to_string(),
            })?;
        if envelope.version != 0 {
            return Err(PolicyError::Version {
                version: envelope.version,
            });
        }
        if envelope.identities.len() > MAX_RULES {
            return Err(PolicyError::TooLarge { limit: MAX_RULES });
        }
        let mut count = 0;
        let rule = Rule::compile(
            envelope.rule.as_ref(),
            envelope.identities.len(),
            &mut count,
        )?;
        let principals = envelope
            .identities
            .iter()
            .map(|principal| Principal::decode(principal, msps, version))
            .collect();
        Ok(Self { rule, principals })
    }

    pub(super) fn is_satisfied(&self, evaluation: &Evaluation<'_>) -> bool {
        let mut used = vec![false; evaluation.len()];
        match &self.rule {
            // Nothing comes after the outermost rule, so it may end as soon as it is decided.
            Rule::OutOf { needed, rules } => {
                let mut held = 0;
                *needed <= 0
                    || rules.iter().any(|rule| {
                        held +=
                            i32::from(rule.evaluate_apart(&self.principals, evaluation, &mut used));
                        held >= *needed
                    })
            }
            rule @ Rule::SignedBy(_) => rule.evaluate(&self.principals, evaluation, &mut used),
        }
    }
}

impl Rule {
    fn compile(
        rule: Option<&RuleProto>,
        principals: usize,
        count: &mut usize,
    ) -> Result<Self, PolicyError> {
        *count += 1;
        if *count > MAX_RULES {
            return Err(PolicyError::TooLarge { limit: MAX_RULES });
        }
        match rule.and_then(|rule| rule.r#type.as_ref()) {
            None => Err(PolicyError::EmptyRule),
            Some(Type::SignedBy(index)) => match usize::try_from(*index) {
                Ok(found) if found < principals => Ok(Self::SignedBy(found)),
                _ => Err(PolicyError::NoSuchPrincipal {
                    index: *index,
                    count: principals,
                }),
            },
            Some(Type::NOutOf(out_of)) => {
                let rules = out_of
                    .rules
                    .iter()
                    .map(|rule| Self::compile(Some(rule), principals, count));
                Ok(Self::OutOf {
                    needed: out_of.n,
                    rules: rules.collect::<Result<_, _>>()?,
                })
            }
        }
    }

    /// Greedy and without going back, as Fabric does it (semantics §2.5): every sub-rule is asked
    /// in order, and takes the identities that it uses away from those after it if it holds.
    fn evaluate(
        &self,
        principals: &[Principal],
        evaluation: &Evaluation<'_>,
        used: &mut Vec<bool>,
    ) -> bool {
        match self {
            Self::SignedBy(index) => principals
                .get(*index)
                .is_some_and(|principal| evaluation.use_signature(principal, used)),
            Self::OutOf { needed, rules } => {
                let held = rules
                    .iter()
                    .filter(|rule| rule.evaluate_apart(principals, evaluation, used))
                    .count();
                i64::try_from(held).is_ok_and(|held| held >= i64::from(*needed))
            }
        }
    }

    /// Evaluates, and leaves `used` as it was if the rule does not hold.
    fn evaluate_apart(
        &self,
        principals: &[Principal],
        evaluation: &Evaluation<'_>,
        used: &mut Vec<bool>,
    ) -> bool {
        if let Self::SignedBy(_) = self {
            // It changes nothing unless it holds.
            return self.evaluate(principals, evaluation, used);
        }
        let mut scratch = used.clone();
        let holds = self.evaluate(principals, evaluation, &mut scratch);
        if holds {
            *used = scratch;
        }
        holds
    }

    fn write(&self, principals: &[Principal], f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SignedBy(index) => match principals.get(*index) {
                Some(principal) => write!(f, "{principal}"),
                None => f.write_str("nobody"),
            },
            Self::OutOf { needed, rules } => {
                match usize::try_from(*needed) {
                    _ if rules.is_empty() => write!(f, "OutOf({needed}")?,
                    Ok(needed) if needed == rules.len() => f.write_str("AND(")?,
                    Ok(1) => f.write_str("OR(")?,
                    _ => write!(f, "OutOf({needed}, ")?,
                }
                for (index, rule) in rules.iter().enumerate() {
                    if index > 0 {
                        f.write_str(", ")?;
                    }
                    rule.write(principals, f)?;
                }
                f.write_str(")")
            }
        }
    }
}

impl fmt::Display for SignaturePolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.rule {
            // Fabric's tools write a single principal as one out of one.
            Rule::OutOf { needed: 1, rules } if rules.len() == 1 => rules
                .iter()
                .try_for_each(|rule| rule.write(&self.principals, f)),
            rule @ (Rule::OutOf { .. } | Rule::SignedBy(_)) => rule.write(&self.principals, f),
        }
    }
}
