// SPDX-License-Identifier: Apache-2.0
//! Random policies and signers, against Fabric's algorithm as plain as it can be written.

use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;
use crate::{msp::SerializedIdentity, test_support::serialized};

/// The identities of the model: a client and a peer of each organisation; one without a role, who is
/// not valid; one of another authority of the same name; one of an organisation that is not there.
const SIGNERS: usize = 7;
const NOT_VALID: usize = 4;
const KNOWN: usize = 5;

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let mut world = World::new();
    let stranger = TestCa::root("one");
    let more = [
        world.cas[0].issue("nobody", &[]).signer("OneMSP"),
        stranger.issue("client", &["client"]).signer("OneMSP"),
        stranger.issue("client", &["client"]).signer("ThreeMSP"),
    ];
    world.signers.extend(more);
    world
});

/// What a principal asks for.
#[derive(Debug, Clone)]
enum Asks {
    Member(usize),
    Client(usize),
    Peer(usize),
    Identity(usize),
    NotAnonymous,
    All(Vec<Self>),
    Unknown,
}

/// A policy of a group: none, of signatures, or over the groups in it.
#[derive(Debug, Clone)]
enum Kind {
    Missing,
    Signatures(RuleProto),
    Meta(MetaRule),
}

#[derive(Debug, Clone)]
struct Node {
    kind: Kind,
    groups: Vec<Self>,
}

/// A signature: by whom, whether it is genuine, and whether the certificate comes with a comment.
type Signed = (usize, bool, bool);

impl Asks {
    fn proto(&self) -> MspPrincipal {
        let name = |organisation: &usize| ["OneMSP", "TwoMSP"][*organisation];
        match self {
            Self::Member(organisation) => role(name(organisation), MspRoleType::Member),
            Self::Client(organisation) => role(name(organisation), MspRoleType::Client),
            Self::Peer(organisation) => role(name(organisation), MspRoleType::Peer),
            Self::Identity(signer) => principal(
                Classification::Identity,
                WORLD.signers[*signer].identity.clone(),
            ),
            Self::NotAnonymous => principal(Classification::Anonymity, vec![]),
            Self::All(all) => {
                let principals = all.iter().map(Self::proto).collect();
                principal(
                    Classification::Combined,
                    CombinedPrincipal { principals }.encode_to_vec(),
                )
            }
            Self::Unknown => principal(Classification::Role, vec![0x10, 77]),
        }
    }

    /// Semantics §2.5, for an identity that the channel knows.
    fn is(&self, signer: usize) -> bool {
        let (organisation, unit) = (signer / 2, signer % 2);
        signer < NOT_VALID
            && match self {
                Self::Member(of) => organisation == *of,
                Self::Client(of) => organisation == *of && unit == 0,
                Self::Peer(of) => organisation == *of && unit == 1,
                Self::Identity(other) => signer == *other,
                Self::NotAnonymous => true,
                Self::All(all) => !all.is_empty() && all.iter().all(|one| one.is(signer)),
                Self::Unknown => false,
            }
    }
}

/// The identities that count, each once, in the order of their first genuine signatures.
fn counted(signed: &[Signed]) -> Vec<usize> {
    let mut counted = Vec::new();
    for (signer, is_genuine, _) in signed {
        if *signer < KNOWN && !counted.contains(signer) && *is_genuine {
            counted.push(*signer);
        }
    }
    counted
}

fn rule_holds(rule: &RuleProto, asks: &[Asks], counted: &[usize], used: &mut Vec<bool>) -> bool {
    match rule.r#type.as_ref().unwrap() {
        Type::SignedBy(index) => {
            let asked = &asks[usize::try_from(*index).unwrap()];
            let free = (0..counted.len()).find(|at| !used[*at] && asked.is(counted[*at]));
            if let Some(at) = free {
                used[at] = true;
            }
            free.is_some()
        }
        Type::NOutOf(out_of) => {
            let mut held = 0;
            for rule in &out_of.rules {
                let mut scratch = used.clone();
                if rule_holds(rule, asks, counted, &mut scratch) {
                    *used = scratch;
                    held += 1;
                }
            }
            held >= out_of.n
        }
    }
}

fn node_holds(node: &Node, asks: &[Asks], counted: &[usize]) -> bool {
    match &node.kind {
        Kind::Missing => false,
        Kind::Signatures(rule) => rule_holds(rule, asks, counted, &mut vec![false; counted.len()]),
        Kind::Meta(rule) => {
            let groups = node.groups.iter();
            let held = groups
                .filter(|group| node_holds(group, asks, counted))
                .count();
            let count = node.groups.len();
            count == 0
                || match rule {
                    MetaRule::Any => held >= 1,
                    MetaRule::All => held == count,
                    MetaRule::Majority => held > count / 2,
                }
        }
    }
}

fn group_of(node: &Node, asks: &[Asks]) -> ConfigGroup {
    let policy = match &node.kind {
        Kind::Missing => None,
        Kind::Signatures(rule) => {
            let principals = asks.iter().map(Asks::proto).collect();
            Some(signature(rule.clone(), principals))
        }
        Kind::Meta(rule) => Some(implicit(*rule, "Policy")),
    };
    let mut group = ConfigGroup::default();
    if let Some(policy) = policy {
        group.policies.insert("Policy".to_owned(), policy);
    }
    for (index, inner) in node.groups.iter().enumerate() {
        group
            .groups
            .insert(format!("Group{index}"), group_of(inner, asks));
    }
    group
}

fn any_asks() -> impl Strategy<Value = Asks> {
    let leaf = prop_oneof![
        3 => (0usize..2).prop_map(Asks::Member),
        2 => (0usize..2).prop_map(Asks::Client),
        2 => (0usize..2).prop_map(Asks::Peer),
        2 => (0..SIGNERS).prop_map(Asks::Identity),
        1 => Just(Asks::NotAnonymous),
        1 => Just(Asks::Unknown),
    ];
    leaf.prop_recursive(2, 6, 3, |inner| {
        proptest::collection::vec(inner, 0..3).prop_map(Asks::All)
    })
}

/// A rule over so many principals.
fn any_rule(principals: i32) -> impl Strategy<Value = RuleProto> {
    let leaf = (0..principals).prop_map(signed_by);
    leaf.prop_recursive(4, 24, 4, |inner| {
        (-1i32..4, proptest::collection::vec(inner, 0..4)).prop_map(|(n, rules)| out_of(n, rules))
    })
}

fn any_tree(principals: i32) -> impl Strategy<Value = Node> {
    let leaf = prop_oneof![
        1 => Just(Kind::Missing),
        6 => any_rule(principals).prop_map(Kind::Signatures),
        1 => Just(Kind::Meta(MetaRule::Any)),
    ];
    let leaf = leaf.prop_map(|kind| Node {
        kind,
        groups: Vec::new(),
    });
    leaf.prop_recursive(2, 12, 4, |inner| {
        let rule = prop_oneof![
            Just(MetaRule::Any),
            Just(MetaRule::All),
            Just(MetaRule::Majority)
        ];
        (rule, proptest::collection::vec(inner, 0..5)).prop_map(|(rule, groups)| Node {
            kind: Kind::Meta(rule),
            groups,
        })
    })
}

fn any_signed() -> impl Strategy<Value = Vec<Signed>> {
    let genuine = proptest::bool::weighted(0.8);
    proptest::collection::vec((0..SIGNERS, genuine, any::<bool>()), 0..8)
}

/// What the policy at the root of a tree says of these signatures.
fn verdict(node: &Node, asks: &[Asks], signed: &[Signed]) -> bool {
    let world = &*WORLD;
    let tree = PolicyTree::compile("Channel", &group_of(node, asks), V2).unwrap();
    let signatures: Vec<(Vec<u8>, Vec<u8>)> = signed
        .iter()
        .map(|(signer, is_genuine, has_comment)| {
            let signer = &world.signers[*signer];
            let identity = match has_comment {
                true => {
                    let plain = SerializedIdentity::parse(&signer.identity).unwrap();
                    let certificate = [b"a comment\n", plain.credential].concat();
                    serialized(plain.msp_id, &certificate)
                }
                false => signer.identity.clone(),
            };
            let message = if *is_genuine { MESSAGE } else { b"other" };
            (identity, signer.sign(message))
        })
        .collect();
    let data: Vec<SignedData<'_>> = signatures
        .iter()
        .map(|(identity, signature)| SignedData::by(identity, MESSAGE, signature))
        .collect();
    tree.get("Policy")
        .is_some_and(|policy| policy.is_satisfied(&Evaluation::new(&data, &world.msps)))
}

/// The model agrees with what the tests of evaluation say in words.
#[test]
fn the_model_is_greedy_and_counts_once() {
    let asks = [Asks::Member(0), Asks::Client(0)];
    let holds = |rule, signed: &[Signed]| {
        let node = Node {
            kind: Kind::Signatures(rule),
            groups: Vec::new(),
        };
        let model = node_holds(&node, &asks, &counted(signed));
        assert_eq!(model, verdict(&node, &asks, signed), "{signed:?}");
        model
    };
    let both = [(0, true, false), (1, true, false)];
    assert!(!holds(out_of(2, vec![signed_by(0), signed_by(1)]), &both));
    assert!(holds(out_of(2, vec![signed_by(1), signed_by(0)]), &both));
    let twice = [(0, false, false), (0, true, true), (0, true, false)];
    assert!(!holds(out_of(2, vec![signed_by(1), signed_by(0)]), &twice));
    assert!(holds(out_of(1, vec![signed_by(1), signed_by(0)]), &twice));
    let strangers = [(4, true, false), (5, true, false), (6, true, false)];
    assert!(!holds(signed_by(0), &strangers));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Covers: POL-04, POL-05, POL-06
    #[test]
    fn random_signature_policies_agree_with_the_model(
        asks in proptest::collection::vec(any_asks(), 4),
        rule in any_rule(4),
        signed in any_signed(),
    ) {
        let node = Node { kind: Kind::Signatures(rule), groups: Vec::new() };
        prop_assert_eq!(verdict(&node, &asks, &signed), node_holds(&node, &asks, &counted(&signed)));
    }

    /// Covers: POL-07, POL-08, POL-09, POL-10
    #[test]
    fn random_trees_agree_with_the_model(
        asks in proptest::collection::vec(any_asks(), 4),
        node in any_tree(4),
        signed in any_signed(),
    ) {
        prop_assert_eq!(verdict(&node, &asks, &signed), node_holds(&node, &asks, &counted(&signed)));
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let msps = Msps::default();
        let groups = std::collections::BTreeMap::new();
        let compiled = [
            SignaturePolicy::compile(&bytes, V2),
            ImplicitMetaPolicy::compile(&bytes, &groups),
        ];
        for policy in compiled.into_iter().flatten() {
            drop(policy.to_string());
            policy.is_satisfied(&Evaluation::new(&[], &msps));
        }
        let classified = MspPrincipal {
            principal_classification: i32::from(bytes.len() as u8 % 6),
            principal: bytes.into(),
        };
        drop(Principal::decode(&classified, MspVersion::V3_0).to_string());
    }
}
