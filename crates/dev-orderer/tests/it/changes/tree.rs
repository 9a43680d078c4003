// SPDX-License-Identifier: Apache-2.0
//! What changes do to the configuration tree, and which of them it does not bear.

use std::time::SystemTime;

use blockcast_dev_orderer::{
    BatchConfig, CapabilityGroup, ChainMaker, Change, ConfigError, Consensus, KeyKind, Network,
    NetworkConfig, OrganizationSpec, ReconfigureError,
};
use prost::Message as _;
use protos::common;

use super::{add_orderers, group, maker, remove_orderers, step};
use crate::{chain::set_batch_size, support::network_config};

#[tokio::test]
async fn versions_grow_as_fabric_has_them_grow() {
    let (mut maker, mut judge) = maker(Consensus::Bft, KeyKind::EcdsaP256, 4);
    let first = group(maker.network().genesis());
    let block = step(&mut maker, &mut judge, &[add_orderers("Third", 1)]).await;
    let second = group(&block);
    // The group has one more member; the values and the policy that name the nodes changed.
    let orderer = &second.groups["Orderer"];
    assert_eq!(orderer.version, 1);
    assert_eq!(orderer.values["Orderers"].version, 1);
    assert_eq!(orderer.policies["BlockValidation"].version, 1);
    assert_eq!(orderer.values["BatchSize"].version, 0);
    assert_eq!(orderer.groups["Third"].version, 0);
    assert_eq!(
        orderer.groups["Left"],
        first.groups["Orderer"].groups["Left"]
    );
    assert_eq!(second.groups["Application"], first.groups["Application"]);
    assert_eq!(second.version, 0);

    let replaced = [Change::ReplaceCertificates { node: 5 }];
    let third = group(&step(&mut maker, &mut judge, &replaced).await);
    let orderer = &third.groups["Orderer"];
    assert_eq!(orderer.version, 1, "its members are the same");
    assert_eq!(orderer.values["Orderers"].version, 2);
    assert_eq!(orderer.policies["BlockValidation"].version, 2);
}

#[tokio::test]
async fn the_quorum_follows_the_nodes() {
    let (mut maker, mut judge) = maker(Consensus::Bft, KeyKind::EcdsaP256, 4);
    for (change, nodes, quorum) in [
        (add_orderers("Third", 3), 7, 5),
        (Change::RemoveNode { node: 7 }, 6, 4),
        (remove_orderers("Right"), 4, 3),
        (remove_orderers("Third"), 2, 2),
        (Change::RemoveNode { node: 1 }, 1, 1),
    ] {
        let block = step(&mut maker, &mut judge, &[change]).await;
        let orderer = &group(&block).groups["Orderer"];
        let policy = orderer.policies["BlockValidation"].policy.clone().unwrap();
        let policy = common::SignaturePolicyEnvelope::decode(policy.value).unwrap();
        let Some(common::signature_policy::Type::NOutOf(rule)) = policy.rule.unwrap().r#type else {
            panic!("not a quorum");
        };
        assert_eq!((rule.n, policy.identities.len()), (quorum, nodes));
        assert_eq!(judge.config().orderer().consenters().len(), nodes);
    }
}

#[tokio::test]
async fn endpoints_and_tls_authorities_are_those_of_the_nodes() {
    let (mut maker, mut judge) = maker(Consensus::Bft, KeyKind::EcdsaP256, 2);
    let add = Change::AddTlsAuthority {
        organization: "Right".to_owned(),
    };
    step(&mut maker, &mut judge, &[Change::MoveNode { node: 2 }, add]).await;
    let roots = |maker: &ChainMaker| -> Vec<Vec<u8>> {
        let right = &maker.network().orderers()[1];
        right.tls_roots_der().map(<[u8]>::to_vec).collect()
    };
    let both = roots(&maker);
    assert_eq!(both.len(), 2);
    let named = judge.config().endpoints();
    let addresses: Vec<_> = named.iter().map(|named| named.endpoint.as_str()).collect();
    assert_eq!(addresses, ["localhost:7050", "localhost:7052"]);
    assert_eq!((named[0].tls_roots.len(), named[1].tls_roots.len()), (1, 2));
    assert!(
        named[1]
            .tls_roots
            .iter()
            .all(|root| both.contains(&root.to_vec()))
    );
    assert_eq!(judge.config().orderer().consenters()[1].port, 7052);

    let remove = Change::RemoveOldTlsAuthorities {
        organization: "Right".to_owned(),
    };
    step(&mut maker, &mut judge, &[remove]).await;
    let named = judge.config().endpoints();
    assert_eq!(named[1].tls_roots.len(), 1);
    assert_eq!(named[1].tls_roots[0].as_ref(), both[0], "the newest one");
}

#[tokio::test]
async fn what_was_edited_otherwise_stays() {
    let (mut maker, mut judge) = maker(Consensus::Raft, KeyKind::EcdsaP256, 1);
    let edited = maker.config_block(|group| set_batch_size(group, 7)).await;
    judge.accept(&edited.unwrap());
    step(&mut maker, &mut judge, &[add_orderers("Third", 1)]).await;
    assert_eq!(judge.config().orderer().batch_size().max_messages, 7);
    // Unless a change is about it.
    let batch = BatchConfig::default();
    let block = step(&mut maker, &mut judge, &[Change::SetBatch(batch)]).await;
    assert_eq!(judge.config().orderer().batch_size().max_messages, 10);
    assert_eq!(
        group(&block).groups["Orderer"].values["BatchSize"].version,
        2
    );
}

#[tokio::test]
async fn changes_that_cannot_be_made_are_refused() {
    let (mut maker, judge) = maker(Consensus::Bft, KeyKind::EcdsaP256, 4);
    let named = |name: &str| name.to_owned();
    let refused: [(&[Change], &str); 13] = [
        (&[add_orderers("org1", 1)], "is there twice"),
        (&[add_orderers("Third", 0)], "has no node"),
        (&[remove_orderers("Org1")], "no orderer organisation"),
        (
            &[remove_orderers("Left"), remove_orderers("Right")],
            "one node",
        ),
        (
            &[Change::AddNode {
                organization: named("No"),
            }],
            "no orderer organisation",
        ),
        (&[Change::RemoveNode { node: 9 }], "no node with the id 9"),
        (
            &[
                Change::RemoveNode { node: 1 },
                Change::RemoveNode { node: 3 },
            ],
            "\"Left\" has no node",
        ),
        (
            &[Change::ReplaceCertificates { node: 0 }],
            "no node with the id 0",
        ),
        (&[Change::MoveNode { node: 5 }], "no node with the id 5"),
        (
            &[Change::AddTlsAuthority {
                organization: named("No"),
            }],
            "no orderer or application organisation",
        ),
        (
            &[Change::RemoveApplication {
                organization: named("Left"),
            }],
            "no application",
        ),
        (
            &[Change::RemoveApplication {
                organization: named("Org1"),
            }],
            "a client",
        ),
        (
            &[Change::SetCapability {
                group: CapabilityGroup::Channel,
                name: named("V9_9"),
            }],
            "V9_9",
        ),
    ];
    for (changes, reason) in refused {
        let error = maker.change(changes).await.unwrap_err();
        assert!(error.to_string().contains(reason), "{changes:?}: {error}");
    }
    // All is as before.
    let block = maker.block(&[1]).await.unwrap();
    judge.approve(&block);
    assert_eq!(block.number().get(), 1);

    let ports = ["localhost:65535".parse().unwrap()];
    let now = SystemTime::UNIX_EPOCH;
    let mut maker = ChainMaker::new(network_config(), &ports, now).unwrap();
    let error = maker.change(&[add_orderers("Third", 1)]).await.unwrap_err();
    assert!(matches!(error, ReconfigureError::Change(_)), "{error}");
}

#[test]
fn an_organisation_without_a_node_is_refused() {
    let network = |names: &[&str]| {
        let config = NetworkConfig {
            orderers: names
                .iter()
                .map(|name| OrganizationSpec::orderer(name))
                .collect(),
            ..network_config()
        };
        let endpoints = ["localhost:7050".parse().unwrap()];
        Network::generate(config, &endpoints, SystemTime::UNIX_EPOCH)
    };
    assert_eq!(network(&["One"]).unwrap().nodes()[0].organization(), "One");
    let error = network(&["One", "Two"]).unwrap_err().to_string();
    assert!(error.contains("\"Two\" has no node"), "{error}");
    let error = network(&[]).unwrap_err().to_string();
    assert_eq!(error, ConfigError::NoOrderer.to_string());
    let error = network(&["Org1"]).unwrap_err().to_string();
    assert!(error.contains("is there twice"), "{error}");
}
