// SPDX-License-Identifier: Apache-2.0
//! Policies: compilation, evaluation, and the tree.

mod limits;
mod model;

use std::sync::{Arc, Mutex};

use prost::Message;
use protos::common::{
    CombinedPrincipal, ConfigGroup, ConfigPolicy, ImplicitMetaPolicy as ImplicitProto,
    MspIdentityAnonymity, MspPrincipal, MspRole, OrganizationUnit, Policy as PolicyProto,
    SignaturePolicy as RuleProto, SignaturePolicyEnvelope,
    implicit_meta_policy::Rule as MetaRule,
    msp_principal::Classification,
    msp_role::MspRoleType,
    policy::PolicyType,
    signature_policy::{NOutOf, Type},
};

use super::{principal::Principal, *};
use crate::{
    msp::{Msp, MspVersion, Msps},
    test_support::{
        TestSigner,
        pki::{TestCa, TestCert, marshalled, msp_config},
    },
};

const V2: MspVersion = MspVersion::V1_4_3;
const MESSAGE: &[u8] = b"a message";

/// Two organisations, each with some identities.
struct World {
    msps: Msps,
    signers: Vec<TestSigner>,
    cas: [TestCa; 2],
}

impl World {
    /// Signers 0 and 1 are a client and a peer of OneMSP, 2 and 3 of TwoMSP.
    fn new() -> Self {
        let cas = [TestCa::root("one"), TestCa::root("two")];
        let names = ["OneMSP", "TwoMSP"];
        let mut msps = Vec::new();
        let mut signers = Vec::new();
        for (ca, name) in cas.iter().zip(names) {
            msps.push(Arc::new(
                Msp::from_config(&marshalled(&msp_config(name, &[ca])), V2).unwrap(),
            ));
            for unit in ["client", "peer"] {
                signers.push(ca.issue(unit, &[unit]).signer(name));
            }
        }
        Self {
            msps: Msps::new(msps),
            signers,
            cas,
        }
    }

    fn compile(&self, envelope: &SignaturePolicyEnvelope) -> Result<Policy, PolicyError> {
        SignaturePolicy::compile(&envelope.encode_to_vec(), V2)
    }

    fn holds(
        &self,
        rule: RuleProto,
        identities: Vec<MspPrincipal>,
        signed: &[(usize, bool)],
    ) -> bool {
        let envelope = SignaturePolicyEnvelope {
            version: 0,
            rule: Some(rule),
            identities,
        };
        let policy = self.compile(&envelope).unwrap();
        self.evaluate(&policy, signed)
    }

    /// Evaluates with these signers, of which some sign something else.
    fn evaluate(&self, policy: &Policy, signed: &[(usize, bool)]) -> bool {
        let signatures: Vec<Vec<u8>> = signed
            .iter()
            .map(|(signer, good)| {
                self.signers[*signer].sign(if *good { MESSAGE } else { b"other" })
            })
            .collect();
        let data: Vec<SignedData<'_>> = signed
            .iter()
            .zip(&signatures)
            .map(|((signer, _), signature)| {
                SignedData::by(&self.signers[*signer].identity, MESSAGE, signature)
            })
            .collect();
        policy.is_satisfied(&Evaluation::new(&data, &self.msps))
    }
}

fn signed_by(index: i32) -> RuleProto {
    RuleProto {
        r#type: Some(Type::SignedBy(index)),
    }
}

fn out_of(n: i32, rules: Vec<RuleProto>) -> RuleProto {
    RuleProto {
        r#type: Some(Type::NOutOf(NOutOf { n, rules })),
    }
}

fn principal(classification: Classification, principal: Vec<u8>) -> MspPrincipal {
    MspPrincipal {
        principal_classification: classification as i32,
        principal: principal.into(),
    }
}

fn role(msp_id: &str, role: MspRoleType) -> MspPrincipal {
    let role = MspRole {
        msp_identifier: msp_id.to_owned(),
        role: role as i32,
    };
    principal(Classification::Role, role.encode_to_vec())
}

fn members() -> Vec<MspPrincipal> {
    vec![
        role("OneMSP", MspRoleType::Member),
        role("TwoMSP", MspRoleType::Member),
    ]
}

/// Covers: SIG-03, SIG-04, SIG-05, POL-04, POL-06
#[test]
fn signature_policies_count_each_identity_once() {
    let world = World::new();
    let and = || out_of(2, vec![signed_by(0), signed_by(1)]);
    let two_of_one = || out_of(2, vec![signed_by(0), signed_by(0)]);
    let nested = || out_of(2, vec![two_of_one(), signed_by(1)]);
    let good = |signers: &[usize]| {
        signers
            .iter()
            .map(|signer| (*signer, true))
            .collect::<Vec<_>>()
    };
    type Row = (&'static str, RuleProto, Vec<(usize, bool)>, bool);
    let rows: [Row; 17] = [
        ("the right signer", signed_by(0), good(&[0]), true),
        ("another organisation", signed_by(0), good(&[2]), false),
        ("nobody", signed_by(0), good(&[]), false),
        ("a bad signature", signed_by(0), vec![(0, false)], false),
        (
            "a bad signature, then a good one by the same",
            signed_by(0),
            vec![(0, false), (0, true)],
            true,
        ),
        ("both of and", and(), good(&[0, 2]), true),
        ("both of and, turned round", and(), good(&[2, 0]), true),
        ("one of and", and(), good(&[0]), false),
        ("one of and, twice", and(), good(&[0, 0]), false),
        ("two of one organisation", two_of_one(), good(&[0, 1]), true),
        ("the same one twice", two_of_one(), good(&[0, 0]), false),
        (
            "the same one twice, bad in between",
            two_of_one(),
            vec![(0, false), (0, true), (0, true)],
            false,
        ),
        ("nested, all there", nested(), good(&[0, 1, 2]), true),
        ("nested, one short", nested(), good(&[0, 2]), false),
        (
            "zero out of some",
            out_of(0, vec![signed_by(0)]),
            good(&[]),
            true,
        ),
        (
            "fewer than zero",
            out_of(-1, vec![signed_by(0)]),
            good(&[]),
            true,
        ),
        (
            "more than there are",
            out_of(3, vec![signed_by(0), signed_by(1)]),
            good(&[0, 1, 2, 3]),
            false,
        ),
    ];
    for (name, rule, signed, holds) in rows {
        assert_eq!(world.holds(rule, members(), &signed), holds, "{name}");
    }
}

/// The order of rules can matter, because none of them gives back what it used.
#[test]
fn evaluation_is_greedy() {
    let world = World::new();
    let principals = || {
        vec![
            role("OneMSP", MspRoleType::Member),
            role("OneMSP", MspRoleType::Client),
        ]
    };
    let greedy = out_of(2, vec![signed_by(0), signed_by(1)]);
    assert!(
        !world.holds(greedy, principals(), &[(0, true), (1, true)]),
        "any member takes the client"
    );
    let thrifty = out_of(2, vec![signed_by(1), signed_by(0)]);
    assert!(world.holds(thrifty, principals(), &[(0, true), (1, true)]));
    // A rule that fails gives back what its parts used; one that holds keeps even what it did not need.
    let failing_first = out_of(
        1,
        vec![out_of(2, vec![signed_by(1), signed_by(1)]), signed_by(1)],
    );
    assert!(world.holds(failing_first, principals(), &[(0, true)]));
    let one_of_two = out_of(1, vec![signed_by(0), signed_by(0)]);
    let keeps_both = out_of(2, vec![one_of_two, signed_by(0)]);
    assert!(!world.holds(keeps_both, principals(), &[(0, true), (1, true)]));
}

/// Covers: SIG-01, SIG-02, SIG-06
#[test]
fn malformed_policies_do_not_compile() {
    let world = World::new();
    let compile = |version, rule: Option<RuleProto>| {
        world
            .compile(&SignaturePolicyEnvelope {
                version,
                rule,
                identities: members(),
            })
            .map(|_| ())
    };
    let empty = RuleProto { r#type: None };
    assert_eq!(compile(0, Some(signed_by(1))), Ok(()));
    assert_eq!(
        compile(1, Some(signed_by(1))),
        Err(PolicyError::Version { version: 1 })
    );
    assert_eq!(compile(0, None), Err(PolicyError::EmptyRule));
    assert_eq!(compile(0, Some(empty.clone())), Err(PolicyError::EmptyRule));
    assert_eq!(
        compile(0, Some(out_of(1, vec![empty]))),
        Err(PolicyError::EmptyRule)
    );
    for index in [2, -1, i32::MIN] {
        assert_eq!(
            compile(0, Some(signed_by(index))),
            Err(PolicyError::NoSuchPrincipal { index, count: 2 })
        );
    }
    let garbage = SignaturePolicy::compile(&[0xff], V2);
    assert!(matches!(garbage, Err(PolicyError::Malformed { .. })));
    let accept_all = SignaturePolicyEnvelope {
        rule: Some(out_of(0, vec![])),
        ..Default::default()
    };
    let reject_all = SignaturePolicyEnvelope {
        rule: Some(out_of(1, vec![])),
        ..Default::default()
    };
    for (envelope, holds) in [(accept_all, true), (reject_all, false)] {
        let policy = world.compile(&envelope).unwrap();
        for signed in [&[][..], &[(0, true)]] {
            assert_eq!(world.evaluate(&policy, signed), holds);
        }
    }
}

/// The certificate of a principal and that of a signer may each have a high S.
#[test]
fn identities_are_the_same_whatever_s_their_certificates_have() {
    let world = World::new();
    for signer in 0..20 {
        let certificate = world.cas[0].issue(&format!("client{signer}"), &["client"]);
        let (der, _) = crate::pem::first_block(certificate.pem.as_bytes()).unwrap();
        let forms = crate::certificate::low_s_forms(der.clone());
        assert!(forms.iter().any(|form| **form == *der) && forms.len() < 3);
        let identity = world.msps.get("OneMSP").unwrap();
        let identity = identity.identity(certificate.pem.as_bytes()).unwrap();
        assert!(forms.iter().any(|form| **form == *identity.certificate()));
        for form in &forms {
            let principal = Principal::Identity {
                msp_id: "OneMSP".to_owned(),
                certificates: crate::certificate::low_s_forms(form.to_vec()),
            };
            let evaluation = Evaluation::new(&[], &world.msps);
            assert!(principal.is_satisfied_by(&identity, evaluation.steps()));
        }
    }
}

/// Covers: SIG-07
#[test]
fn principals_of_every_kind() {
    let world = World::new();
    let unit = |unit: &str, certifiers: Vec<u8>| {
        let unit = OrganizationUnit {
            msp_identifier: "OneMSP".to_owned(),
            organizational_unit_identifier: unit.to_owned(),
            certifiers_identifier: certifiers.into(),
        };
        principal(Classification::OrganizationUnit, unit.encode_to_vec())
    };
    let (ca, _) = crate::pem::first_block(world.cas[0].pem.as_bytes()).unwrap();
    let ca = crate::certificate::Certificate::from_der(ca).unwrap();
    let low_s = ca.clone().with_low_s(ca.key.curve()).unwrap();
    let certifiers = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &low_s.der)
        .as_ref()
        .to_vec();
    let anonymity = |kind: i32| {
        principal(
            Classification::Anonymity,
            MspIdentityAnonymity {
                anonymity_type: kind,
            }
            .encode_to_vec(),
        )
    };
    let combined = |principals: Vec<MspPrincipal>| {
        principal(
            Classification::Combined,
            CombinedPrincipal { principals }.encode_to_vec(),
        )
    };
    let one = |kind| role("OneMSP", kind);
    let rows = [
        ("member", one(MspRoleType::Member), [true, true, false]),
        ("client", one(MspRoleType::Client), [true, false, false]),
        ("peer", one(MspRoleType::Peer), [false, true, false]),
        ("admin", one(MspRoleType::Admin), [false, false, false]),
        ("orderer", one(MspRoleType::Orderer), [false, false, false]),
        (
            "unit",
            unit("client", certifiers.clone()),
            [true, false, false],
        ),
        (
            "unit of others",
            unit("client", vec![1; 32]),
            [false, false, false],
        ),
        (
            "unit of another name",
            unit("other", certifiers),
            [false, false, false],
        ),
        (
            "identity",
            principal(Classification::Identity, world.signers[0].identity.clone()),
            [true, false, false],
        ),
        (
            "no identity",
            principal(Classification::Identity, vec![0xff]),
            [false, false, false],
        ),
        ("nominal", anonymity(0), [true, true, true]),
        ("anonymous", anonymity(1), [false, false, false]),
        (
            "both",
            combined(vec![one(MspRoleType::Member), one(MspRoleType::Client)]),
            [true, false, false],
        ),
        (
            "both, nested",
            combined(vec![combined(vec![one(MspRoleType::Client)])]),
            [true, false, false],
        ),
        ("none", combined(vec![]), [false, false, false]),
        (
            "unknown role",
            one(MspRoleType::Member),
            [true, true, false],
        ),
        (
            "unknown kind",
            MspPrincipal {
                principal_classification: 9,
                principal: vec![].into(),
            },
            [false; 3],
        ),
    ];
    for (name, principal, expected) in rows {
        for (signer, expected) in [0, 1, 2].into_iter().zip(expected) {
            let holds = world.holds(signed_by(0), vec![principal.clone()], &[(signer, true)]);
            assert_eq!(holds, expected, "{name}, signer {signer}");
        }
    }
    let unknown = MspRole {
        msp_identifier: "OneMSP".to_owned(),
        role: 77,
    };
    let unknown = principal(Classification::Role, unknown.encode_to_vec());
    assert!(!world.holds(signed_by(0), vec![unknown], &[(0, true)]));
}

#[test]
fn principals_depend_on_the_version() {
    let world = World::new();
    let satisfied = |principal: MspPrincipal, version| {
        let principal = Principal::decode(&principal, version);
        let identity = world.msps.identity(&world.signers[0].identity).unwrap();
        principal.is_satisfied_by(&identity, Evaluation::new(&[], &world.msps).steps())
    };
    let nominal = || principal(Classification::Anonymity, vec![]);
    let combined = || {
        let inner = CombinedPrincipal {
            principals: vec![role("OneMSP", MspRoleType::Client)],
        };
        principal(Classification::Combined, inner.encode_to_vec())
    };
    assert!(satisfied(nominal(), MspVersion::V1_3) && satisfied(combined(), MspVersion::V1_3));
    assert!(!satisfied(nominal(), MspVersion::V1_1) && !satisfied(combined(), MspVersion::V1_1));
}

/// Covers: POL-05
#[test]
fn unknown_identities_are_skipped() {
    let world = World::new();
    let stranger: TestCert = TestCa::root("one").issue("client", &["client"]);
    let stranger = stranger.signer("OneMSP");
    let envelope = SignaturePolicyEnvelope {
        rule: Some(signed_by(0)),
        identities: members(),
        ..Default::default()
    };
    let policy = world.compile(&envelope).unwrap();
    let (bad, good) = (stranger.sign(MESSAGE), world.signers[0].sign(MESSAGE));
    let data = [
        SignedData::by(b"\xff", MESSAGE, &good),
        SignedData::by(&stranger.identity, MESSAGE, &bad),
        SignedData::by(&world.signers[0].identity, MESSAGE, &good),
    ];
    let log = Arc::new(Log::default());
    tracing::subscriber::with_default(log.clone(), || {
        assert!(!policy.is_satisfied(&Evaluation::new(&data[..2], &world.msps)));
        assert!(policy.is_satisfied(&Evaluation::new(&data, &world.msps)));
    });
    let log = log.0.lock().unwrap();
    assert_eq!(log.len(), 4, "two of them, twice: {log:?}");
    assert!(log[0].contains("does not parse"), "{log:?}");
    assert!(log[1].contains("CN=client"), "{log:?}");
}

/// Keeps the events of a thread as text.
#[derive(Debug, Default)]
struct Log(Mutex<Vec<String>>);

impl tracing::Subscriber for Log {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        struct Text(String);
        impl tracing::field::Visit for Text {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn fmt::Debug) {
                self.0 += &format!("{field}={value:?} ");
            }
        }
        let mut text = Text(String::new());
        event.record(&mut text);
        self.0.lock().unwrap().push(text.0);
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

fn config_policy(kind: PolicyType, value: Vec<u8>) -> ConfigPolicy {
    ConfigPolicy {
        policy: Some(PolicyProto {
            r#type: kind as i32,
            value: value.into(),
        }),
        ..Default::default()
    }
}

fn implicit(rule: MetaRule, sub_policy: &str) -> ConfigPolicy {
    let policy = ImplicitProto {
        sub_policy: sub_policy.to_owned(),
        rule: rule as i32,
    };
    config_policy(PolicyType::ImplicitMeta, policy.encode_to_vec())
}

fn signature(rule: RuleProto, identities: Vec<MspPrincipal>) -> ConfigPolicy {
    let envelope = SignaturePolicyEnvelope {
        version: 0,
        rule: Some(rule),
        identities,
    };
    config_policy(PolicyType::Signature, envelope.encode_to_vec())
}

/// A group of organisations, some of whose policies accept everything; `None` has no policy.
fn organisations(policy: &ConfigPolicy, accepts: &[Option<bool>]) -> ConfigGroup {
    let mut group = ConfigGroup::default();
    group.policies.insert("Policy".to_owned(), policy.clone());
    for (index, accepts) in accepts.iter().enumerate() {
        let mut organisation = ConfigGroup::default();
        if let Some(accepts) = accepts {
            let rule = out_of(i32::from(!accepts), vec![]);
            organisation
                .policies
                .insert("Sub".to_owned(), signature(rule, vec![]));
        }
        group.groups.insert(format!("Org{index}"), organisation);
    }
    group
}

/// Covers: POL-07, POL-08, POL-09, POL-10
#[test]
fn implicit_meta_policies_count_the_missing() {
    let world = World::new();
    let (yes, no, missing) = (Some(true), Some(false), None);
    let rows: [(MetaRule, &[Option<bool>], bool); 16] = [
        (MetaRule::Any, &[], true),
        (MetaRule::Any, &[no, yes, no], true),
        (MetaRule::Any, &[no, no], false),
        (MetaRule::Any, &[missing], false),
        (MetaRule::Any, &[missing, yes], true),
        (MetaRule::All, &[], true),
        (MetaRule::All, &[yes, yes], true),
        (MetaRule::All, &[yes, no], false),
        (MetaRule::All, &[yes, missing], false),
        (MetaRule::Majority, &[], true),
        (MetaRule::Majority, &[yes], true),
        (MetaRule::Majority, &[yes, no], false),
        (MetaRule::Majority, &[yes, yes, no], true),
        (MetaRule::Majority, &[yes, no, no], false),
        (MetaRule::Majority, &[yes, missing], false),
        (MetaRule::Majority, &[yes, missing, yes], true),
    ];
    for (rule, accepts, holds) in rows {
        let group = organisations(&implicit(rule, "Sub"), accepts);
        let tree = PolicyTree::compile("Channel", &group, V2).unwrap();
        let policy = tree.get("/Channel/Policy").unwrap();
        assert_eq!(
            world.evaluate(policy, &[]),
            holds,
            "{policy} of {accepts:?}"
        );
    }
    let malformed = organisations(&config_policy(PolicyType::ImplicitMeta, vec![0xff]), &[]);
    assert!(PolicyTree::compile("Channel", &malformed, V2).is_err());
}

/// Covers: POL-01, POL-02, POL-03
#[test]
fn policies_are_found_by_relative_and_absolute_names() {
    let world = World::new();
    let mut inner = ConfigGroup::default();
    inner
        .policies
        .insert("Deep".to_owned(), signature(out_of(0, vec![]), vec![]));
    let mut middle = ConfigGroup::default();
    middle.groups.insert("Inner".to_owned(), inner);
    middle
        .policies
        .insert("Readers".to_owned(), implicit(MetaRule::Any, "Deep"));
    let mut root = ConfigGroup::default();
    root.groups.insert("Middle".to_owned(), middle);
    root.policies
        .insert("Through".to_owned(), implicit(MetaRule::All, "Inner/Deep"));
    let tree = PolicyTree::compile("Channel", &root, V2).unwrap();
    for name in [
        "/Channel/Through",
        "Through",
        "/Channel/Middle/Readers",
        "Middle/Readers",
        "Middle/Inner/Deep",
    ] {
        let policy = tree.get(name).unwrap_or_else(|| panic!("{name}"));
        assert!(world.evaluate(policy, &[]), "{name}");
    }
    for name in [
        "",
        "/",
        "/Channel",
        "/Channel/",
        "/Other/Through",
        "Readers",
        "/Channel/Middle",
        "Middle/",
        "//Through",
    ] {
        assert!(tree.get(name).is_none(), "{name:?}");
    }
}

#[test]
fn groups_with_bad_policies_are_refused_with_their_path() {
    let error = |policy: ConfigPolicy| {
        let group = organisations(&policy, &[]);
        PolicyTree::compile("Channel", &group, V2)
            .unwrap_err()
            .to_string()
    };
    for (policy, reason) in [
        (ConfigPolicy::default(), "no policy under this name"),
        (config_policy(PolicyType::Msp, vec![]), "type 2"),
        (config_policy(PolicyType::Unknown, vec![]), "type 0"),
        (signature(signed_by(0), vec![]), "asks for principal 0"),
        (
            config_policy(PolicyType::ImplicitMeta, vec![0xff]),
            "does not parse",
        ),
    ] {
        let error = error(policy);
        assert!(
            error.contains("/Channel/Policy") && error.contains(reason),
            "{error}"
        );
    }
}

#[test]
fn policies_read_as_people_write_them() {
    let world = World::new();
    let identities = vec![
        role("OneMSP", MspRoleType::Admin),
        role("TwoMSP", MspRoleType::Peer),
    ];
    let text = |rule| {
        let envelope = SignaturePolicyEnvelope {
            rule: Some(rule),
            identities: identities.clone(),
            ..Default::default()
        };
        world.compile(&envelope).unwrap().to_string()
    };
    let both = || vec![signed_by(0), signed_by(1)];
    assert_eq!(text(signed_by(0)), "OneMSP.admin");
    assert_eq!(text(out_of(1, vec![signed_by(0)])), "OneMSP.admin");
    assert_eq!(text(out_of(1, both())), "OR(OneMSP.admin, TwoMSP.peer)");
    assert_eq!(text(out_of(2, both())), "AND(OneMSP.admin, TwoMSP.peer)");
    assert_eq!(
        text(out_of(
            2,
            vec![out_of(1, both()), signed_by(0), signed_by(1)]
        )),
        "OutOf(2, OR(OneMSP.admin, TwoMSP.peer), OneMSP.admin, TwoMSP.peer)"
    );
    assert_eq!(
        text(out_of(3, both())),
        "OutOf(3, OneMSP.admin, TwoMSP.peer)"
    );
    assert_eq!(text(out_of(1, vec![])), "OutOf(1)");
}
