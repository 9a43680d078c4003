// SPDX-License-Identifier: Apache-2.0
//! Policies that are made to take long, to nest deep or to read at length.

use super::*;
use crate::policy::evaluate::MAX_STEPS;

/// As many signatures as a block may have.
const SIGNATURES: usize = 256;

/// How many steps an evaluation took, and what came of it.
fn evaluate(world: &World, policy: &Policy, signer: usize) -> (Option<usize>, bool) {
    let signature = world.signers[signer].sign(MESSAGE);
    let identity = &world.signers[signer].identity;
    let signed = vec![SignedData::by(identity, MESSAGE, &signature); SIGNATURES];
    let evaluation = Evaluation::new(&signed, &world.msps);
    let holds = policy.is_satisfied(&evaluation);
    let left = evaluation.steps().left();
    (left.map(|left| MAX_STEPS - left), holds)
}

fn compile(world: &World, rule: RuleProto, identities: Vec<MspPrincipal>) -> Policy {
    let envelope = SignaturePolicyEnvelope {
        version: 0,
        rule: Some(rule),
        identities,
    };
    world.compile(&envelope).unwrap()
}

/// A marshalled envelope whose rule is one out of one, over and over.
fn nested(levels: usize) -> Vec<u8> {
    // From the inside out, each level before what it holds: written backwards, it takes no time.
    let mut lengths = Vec::with_capacity(levels);
    let inner = signed_by(0).encode_to_vec();
    let mut length = inner.len();
    for _ in 0..levels {
        let mut head = vec![0x08, 0x01];
        block_api::wire::put_length(&mut head, 2, length);
        let mut outer = Vec::new();
        block_api::wire::put_length(&mut outer, 2, head.len() + length);
        outer.extend(head);
        length += outer.len();
        lengths.push(outer);
    }
    let mut rule: Vec<u8> = lengths.into_iter().rev().flatten().collect();
    rule.extend(inner);
    let mut envelope = Vec::new();
    block_api::wire::put_bytes(&mut envelope, 2, &rule);
    let principal = role("OneMSP", MspRoleType::Member).encode_to_vec();
    block_api::wire::put_bytes(&mut envelope, 3, &principal);
    envelope
}

#[test]
fn policies_that_nest_deep_are_satisfied_by_nobody_or_refused() {
    let world = World::new();
    let compile = |levels| SignaturePolicy::compile(&nested(levels), V2);
    for levels in [1, 20, 45] {
        let policy = compile(levels).unwrap();
        assert!(world.evaluate(&policy, &[(0, true)]), "{levels}");
        assert!(!world.evaluate(&policy, &[(2, true)]), "{levels}");
    }
    // Fabric takes them, so the configuration around them serves.
    for levels in [60, 4_000, 4_998] {
        let policy = compile(levels).unwrap();
        assert!(
            matches!(policy, Policy::Never(Unsupported::TooDeep)),
            "{levels}: {policy}"
        );
        assert!(!world.evaluate(&policy, &[(0, true)]), "{levels}");
    }
    for levels in [5_000, 10_000, 100_000] {
        let error = compile(levels).unwrap_err();
        assert!(matches!(error, PolicyError::Malformed { .. }), "{error}");
    }
    let mut cut = nested(4_000);
    cut.pop();
    assert!(SignaturePolicy::compile(&cut, V2).is_err());
}

/// Whatever the policy, the steps of an evaluation are counted and bounded; one that would need more
/// lets nobody in, even where a rule at its end would hold.
#[test]
fn the_work_of_an_evaluation_is_bounded() {
    let world = World::new();
    let combined = |parts: usize| {
        let principals = vec![role("OneMSP", MspRoleType::Member); parts];
        principal(
            Classification::Combined,
            CombinedPrincipal { principals }.encode_to_vec(),
        )
    };
    let others = || role("TwoMSP", MspRoleType::Member);
    let member = || role("OneMSP", MspRoleType::Member);
    let peers = |parts: usize| {
        let mut principals = vec![role("OneMSP", MspRoleType::Member); parts];
        principals.push(role("OneMSP", MspRoleType::Peer));
        principal(
            Classification::Combined,
            CombinedPrincipal { principals }.encode_to_vec(),
        )
    };
    // A rule behind which a good one stands, both always asked, for they do not stand outermost.
    let behind = |rules: Vec<RuleProto>| {
        let mut rules = rules;
        rules.push(signed_by(1));
        out_of(1, vec![out_of(1, rules)])
    };
    let pairs = vec![out_of(2, vec![signed_by(0); 2]); 5_000];
    let deep = (0..45).fold(signed_by(0), |rule, _| out_of(1, vec![rule]));
    let rows = [
        ("wide", behind(vec![signed_by(0); 10_000]), others(), true),
        ("wider", behind(vec![signed_by(0); 20_000]), others(), false),
        (
            "wide and combined",
            behind(vec![signed_by(0); 10_000]),
            peers(1_000),
            false,
        ),
        ("pairs", behind(pairs), others(), true),
        ("deep", behind(vec![deep; 400]), others(), true),
        (
            "principals that fail late",
            behind(vec![signed_by(0); 100]),
            peers(1_000),
            false,
        ),
        (
            "combined",
            behind(vec![signed_by(0); 10]),
            combined(1_000),
            true,
        ),
    ];
    for (name, rule, identity, within) in rows {
        let policy = compile(&world, rule, vec![identity, member()]);
        let (steps, holds) = evaluate(&world, &policy, 0);
        assert_eq!(steps.is_some(), within, "{name}: {steps:?}");
        assert_eq!(holds, within, "{name}: whoever gives up says no");
    }
}

/// Fifty organisations with a costly policy each, which the channel's policy asks one by one.
#[test]
fn the_policies_behind_an_implicit_one_share_its_bound() {
    let world = World::new();
    let costly = || {
        let others = vec![role("TwoMSP", MspRoleType::Member)];
        signature(out_of(1, vec![signed_by(0); 1_000]), others)
    };
    let cheap = || signature(out_of(0, vec![]), vec![]);
    let holds = |organisations: usize| {
        let mut group = ConfigGroup::default();
        let policies = &mut group.policies;
        policies.insert("Policy".to_owned(), implicit(MetaRule::Any, "Sub"));
        for index in 0..=organisations {
            let mut organisation = ConfigGroup::default();
            let policy = if index == organisations {
                cheap()
            } else {
                costly()
            };
            organisation.policies.insert("Sub".to_owned(), policy);
            group.groups.insert(format!("Org{index:03}"), organisation);
        }
        let tree = PolicyTree::compile("Channel", &group, V2).unwrap();
        evaluate(&world, tree.get("Policy").unwrap(), 0)
    };
    let (steps, satisfied) = holds(10);
    assert!(satisfied && steps.is_some_and(|steps| steps > 10 * 1_000 * SIGNATURES));
    assert_eq!(holds(50), (None, false));
}

/// Names and certificates of any length take steps, too.
#[test]
fn long_names_are_compared_within_the_bound() {
    let name = "x".repeat(1 << 20);
    let ca = TestCa::root("ca");
    let msp = Msp::from_config(&marshalled(&msp_config(&name, &[&ca])), V2).unwrap();
    let world = World {
        msps: Msps::new([Arc::new(msp)]),
        signers: vec![ca.issue("client", &["client"]).signer(&name)],
        cas: [TestCa::root("one"), TestCa::root("two")],
    };
    let peer = vec![role(&name, MspRoleType::Peer)];
    let policy = compile(&world, out_of(1, vec![signed_by(0)]), peer.clone());
    let (steps, holds) = evaluate(&world, &policy, 0);
    assert!(!holds && steps.is_some_and(|steps| steps > SIGNATURES * 4096));
    let policy = compile(&world, out_of(1, vec![signed_by(0); 10]), peer);
    assert_eq!(evaluate(&world, &policy, 0), (None, false));
}

#[test]
fn combined_principals_that_hold_themselves_are_satisfied_by_nobody() {
    let world = World::new();
    let mut combined = role("OneMSP", MspRoleType::Member);
    for depth in 0..40 {
        let inner = CombinedPrincipal {
            principals: vec![combined],
        };
        combined = principal(Classification::Combined, inner.encode_to_vec());
        let holds = world.holds(signed_by(0), vec![combined.clone()], &[(0, true)]);
        assert_eq!(holds, depth < 16, "{depth}");
    }
}

#[test]
fn an_implicit_policy_with_an_unknown_rule_is_satisfied_by_nobody() {
    let world = World::new();
    let unknown = ImplicitProto {
        sub_policy: "Sub".to_owned(),
        rule: 9,
    };
    let unknown = config_policy(PolicyType::ImplicitMeta, unknown.encode_to_vec());
    for accepts in [&[][..], &[Some(true)], &[Some(true), Some(true)]] {
        let mut group = organisations(&unknown, accepts);
        group
            .policies
            .insert("Other".to_owned(), implicit(MetaRule::All, "Sub"));
        let tree = PolicyTree::compile("Channel", &group, V2).unwrap();
        let policy = tree.get("Policy").unwrap();
        assert!(!world.evaluate(policy, &[(0, true)]), "{accepts:?}");
        assert_eq!(
            policy.to_string(),
            "nobody (implicit meta policies with the rule 9 are unknown)"
        );
        assert!(
            world.evaluate(tree.get("Other").unwrap(), &[]),
            "the other policies serve"
        );
    }
}

#[test]
fn the_text_of_a_policy_has_a_bound() {
    let world = World::new();
    let long = "ß".repeat(1 << 20);
    let wide = compile(
        &world,
        out_of(1, vec![signed_by(0); 1_000_000]),
        vec![role("OneMSP", MspRoleType::Member)],
    );
    let named = compile(&world, signed_by(0), vec![role(&long, MspRoleType::Member)]);
    let meta = organisations(&implicit(MetaRule::Any, &long), &[]);
    let meta = PolicyTree::compile("Channel", &meta, V2).unwrap();
    for policy in [&wide, &named, meta.get("Policy").unwrap()] {
        let text = policy.to_string();
        let bound = MAX_TEXT + '…'.len_utf8();
        assert!(
            text.ends_with('…') && text.len() > MAX_TEXT - 40,
            "{}",
            text.len()
        );
        assert!(text.len() <= bound, "{}", text.len());
    }
}
