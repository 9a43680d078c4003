// SPDX-License-Identifier: Apache-2.0
//! Signature policies: so many out of these principals have signed.

use std::fmt;

use block_api::wire::{Fields, Value, WireError};
use protos::{
    common::{SignaturePolicy as RuleProto, SignaturePolicyEnvelope, signature_policy::Type},
    decode_as_go,
};

use crate::{
    msp::MspVersion,
    policy::{
        Policy, PolicyError, Unsupported,
        evaluate::{Evaluation, Used},
        principal::Principal,
    },
};

/// How many messages may stand in each other, for our decoder and for Go's. What is between the
/// two is a policy for Fabric.
const OUR_DEPTH: usize = 100;
const MAX_DEPTH: usize = 10_000;

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
    /// Compiles a marshalled `SignaturePolicyEnvelope`.
    pub(super) fn compile(bytes: &[u8], version: MspVersion) -> Result<Policy, PolicyError> {
        let envelope = match decode_as_go::<SignaturePolicyEnvelope>(bytes) {
            Ok(envelope) => envelope,
            Err(_) if depth(bytes).is_ok_and(|depth| depth > OUR_DEPTH && depth <= MAX_DEPTH) => {
                return Ok(Policy::Never(Unsupported::TooDeep));
            }
            Err(error) => {
                return Err(PolicyError::Malformed {
                    reason: error.to_string(),
                });
            }
        };
        if envelope.version != 0 {
            return Err(PolicyError::Version {
                version: envelope.version,
            });
        }
        let rule = Rule::compile(envelope.rule.as_ref(), envelope.identities.len())?;
        let principals = envelope
            .identities
            .iter()
            .map(|principal| Principal::decode(principal, version))
            .collect();
        Ok(Policy::Signature(Self { rule, principals }))
    }

    pub(super) fn is_satisfied(&self, evaluation: &Evaluation<'_>) -> bool {
        let mut used = evaluation.nobody_used();
        match &self.rule {
            // Nothing comes after the outermost rule, so it may end as soon as it is decided.
            Rule::OutOf { needed, rules } => {
                let mut held = 0;
                *needed <= 0
                    || rules.iter().any(|rule| {
                        held += i64::from(rule.evaluate(&self.principals, evaluation, &mut used));
                        held >= i64::from(*needed)
                    })
            }
            rule @ Rule::SignedBy(_) => rule.evaluate(&self.principals, evaluation, &mut used),
        }
    }
}

impl Rule {
    /// The decoder limits the depth.
    fn compile(rule: Option<&RuleProto>, principals: usize) -> Result<Self, PolicyError> {
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
                let rules = out_of.rules.iter();
                let rules = rules.map(|rule| Self::compile(Some(rule), principals));
                Ok(Self::OutOf {
                    needed: out_of.n,
                    rules: rules.collect::<Result<_, _>>()?,
                })
            }
        }
    }

    /// Greedy and without going back, as Fabric does it (semantics §2.5): every sub-rule is asked
    /// in order, and takes the identities that it uses away from those after it if it holds. A rule
    /// that does not hold leaves `used` as it was.
    fn evaluate(
        &self,
        principals: &[Principal],
        evaluation: &Evaluation<'_>,
        used: &mut Used,
    ) -> bool {
        if !evaluation.steps().take(1) {
            return false;
        }
        match self {
            Self::SignedBy(index) => principals
                .get(*index)
                .is_some_and(|principal| evaluation.use_signature(principal, used)),
            Self::OutOf { needed, rules } => {
                let before = used.count();
                let held = rules
                    .iter()
                    .filter(|rule| rule.evaluate(principals, evaluation, used))
                    .count();
                let holds = i64::try_from(held).is_ok_and(|held| held >= i64::from(*needed));
                if !holds {
                    used.give_back_to(before);
                }
                holds
            }
        }
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

/// How many messages stand in each other at the deepest place of a marshalled envelope. The rule of
/// an envelope, what it is out of, and the rules in that all are field 2.
fn depth(envelope: &[u8]) -> Result<usize, WireError> {
    let mut deepest = 1;
    let mut open = vec![Fields::new(envelope)];
    while let Some(fields) = open.last_mut() {
        let Some(field) = fields.next() else {
            open.pop();
            continue;
        };
        if let (2, Value::Bytes(message, at)) = {
            let field = field?;
            (field.number, field.value)
        } {
            open.push(Fields::nested(message, at));
            deepest = deepest.max(open.len());
            if deepest > MAX_DEPTH {
                break;
            }
        }
    }
    Ok(deepest)
}
