// SPDX-License-Identifier: Apache-2.0
//! Chains on which organisations, nodes and certificates come and go.

use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime},
};

use block_api::{Block, Endpoint};
use blockcast_dev_orderer::{
    BatchConfig, CapabilityGroup, ChainMaker, Change, ConfigError, Consensus, KeyKind,
    NetworkConfig, OrdererNode, OrganizationSpec, ReconfigureError,
};
use channel_config::{ConsensusState, ConsensusType};
use prost::Message as _;
use protos::common;

use crate::{
    chain::set_batch_size,
    judge::{Judge, Signer, signers},
    support::network_config,
};

/// A maker on a network whose organisations `Left` and `Right` have the nodes in turn, and a judge
/// of its chain.
fn maker(consensus: Consensus, key_kind: KeyKind, nodes: usize) -> (ChainMaker, Judge) {
    let config = NetworkConfig {
        consensus,
        key_kind,
        orderers: ["Left", "Right"]
            .into_iter()
            .take(nodes)
            .map(OrganizationSpec::orderer)
            .collect(),
        ..network_config()
    };
    let endpoints: Vec<Endpoint> = (0..nodes)
        .map(|i| format!("localhost:{}", 7050 + i).parse().unwrap())
        .collect();
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let maker = ChainMaker::new(config, &endpoints, now).unwrap();
    let judge = Judge::new(maker.network().genesis());
    (maker, judge)
}

/// Has a change made, and judges its block and the copies of the next one.
async fn step(maker: &mut ChainMaker, judge: &mut Judge, changes: &[Change]) -> Block {
    let before: BTreeSet<Signer> = all_signers(maker);
    let block = maker.change(changes).await.unwrap();
    judge.accept(&block);
    assert!(
        signers(&block).iter().all(|signer| before.contains(signer)),
        "{changes:?}: the old nodes sign it"
    );
    let copies = maker.copies(&[10]).await.unwrap();
    let may: BTreeSet<Signer> = all_signers(maker);
    let mut seen = BTreeSet::new();
    for copy in &copies {
        seen.extend(signers(copy));
    }
    assert_eq!(seen, may, "{changes:?}: the new nodes sign the next one");
    judge.accept(&copies[0]);
    block
}

/// The names that signatures of the nodes in force have.
fn all_signers(maker: &ChainMaker) -> BTreeSet<Signer> {
    let bft = consensus(maker) == ConsensusType::Bft;
    let name = |node: &OrdererNode| match bft {
        true => Signer::Id(node.id()),
        false => Signer::Identity(node.member().identity().to_vec()),
    };
    maker.network().nodes().iter().map(name).collect()
}

/// Of a maker whose consensus nobody changes.
fn consensus(maker: &ChainMaker) -> ConsensusType {
    match maker.network().config().consensus {
        Consensus::Raft => ConsensusType::Raft,
        Consensus::Bft => ConsensusType::Bft,
    }
}

fn add_orderers(name: &str, nodes: usize) -> Change {
    Change::AddOrderers {
        organization: OrganizationSpec::orderer(name),
        nodes,
    }
}

fn remove_orderers(name: &str) -> Change {
    Change::RemoveOrderers {
        organization: name.to_owned(),
    }
}

fn group(block: &Block) -> common::ConfigGroup {
    let envelope = common::Envelope::decode(block.data().next().unwrap()).unwrap();
    let payload = common::Payload::decode(envelope.payload).unwrap();
    let config = common::ConfigEnvelope::decode(payload.data).unwrap();
    config.config.unwrap().channel_group.unwrap()
}

fn ids(nodes: &[OrdererNode]) -> Vec<u32> {
    nodes.iter().map(OrdererNode::id).collect()
}

/// Covers: ORD-09
#[tokio::test]
async fn organisations_and_consenters_come_and_go() {
    for (consensus, key_kind) in [
        (Consensus::Raft, KeyKind::EcdsaP256),
        (Consensus::Bft, KeyKind::EcdsaP256),
        (Consensus::Bft, KeyKind::Ed25519),
    ] {
        let (mut maker, mut judge) = maker(consensus, key_kind, 4);
        judge.accept(&maker.block(&[1]).await.unwrap());
        let changes: [&[Change]; 12] = [
            &[add_orderers("Third", 3)],
            &[Change::ReplaceCertificates { node: 1 }],
            &[remove_orderers("Right")],
            &[Change::AddNode {
                organization: "Left".to_owned(),
            }],
            &[Change::RemoveNode { node: 3 }],
            &[Change::MoveNode { node: 5 }],
            &[Change::AddTlsAuthority {
                organization: "Third".to_owned(),
            }],
            &[
                Change::ReplaceCertificates { node: 6 },
                Change::RemoveOldTlsAuthorities {
                    organization: "Third".to_owned(),
                },
            ],
            &[Change::AddApplication {
                organization: OrganizationSpec::application("Org2"),
            }],
            // From here on it is the client of the other one that writes.
            &[Change::RemoveApplication {
                organization: "Org1".to_owned(),
            }],
            &[Change::SetBatch(BatchConfig {
                max_message_count: 77.try_into().unwrap(),
                ..BatchConfig::default()
            })],
            // Whoever was there in the beginning is gone.
            &[remove_orderers("Left"), add_orderers("Last", 1)],
        ];
        let mut nodes = Vec::new();
        for changes in changes {
            step(&mut maker, &mut judge, changes).await;
            nodes.push(ids(maker.network().nodes()));
        }
        let expected: [&[u32]; 12] = [
            &[1, 2, 3, 4, 5, 6, 7],
            &[1, 2, 3, 4, 5, 6, 7],
            &[1, 3, 5, 6, 7],
            &[1, 3, 5, 6, 7, 8],
            &[1, 5, 6, 7, 8],
            &[1, 5, 6, 7, 8],
            &[1, 5, 6, 7, 8],
            &[1, 5, 6, 7, 8],
            &[1, 5, 6, 7, 8],
            &[1, 5, 6, 7, 8],
            &[1, 5, 6, 7, 8],
            &[5, 6, 7, 9],
        ];
        assert_eq!(nodes, expected, "{consensus:?}");
        let config = judge.config();
        assert_eq!(config.sequence(), 12);
        assert_eq!(config.orderer().batch_size().max_messages, 77);
        let names: Vec<_> = config.orderer().organisations().map(|o| o.name()).collect();
        assert_eq!(names, ["Last", "Third"]);
        let names: Vec<_> = config.applications().map(|o| o.name()).collect();
        assert_eq!(names, ["Org2"]);
    }
}

#[tokio::test]
async fn a_removed_organisation_signs_in_vain() {
    for consensus in [Consensus::Raft, Consensus::Bft] {
        let (mut maker, mut judge) = maker(consensus, KeyKind::EcdsaP256, 4);
        step(&mut maker, &mut judge, &[add_orderers("Third", 3)]).await;
        let all = maker.network().nodes().to_vec();
        let third = &all[4..];
        assert!(third.iter().all(|node| node.organization() == "Third"));
        // While it is there, its signatures count.
        let enough = match consensus {
            Consensus::Raft => &third[..1],
            Consensus::Bft => &all[2..],
        };
        judge.approve(&maker.block_signed_by(enough, &[1]).await.unwrap());

        step(&mut maker, &mut judge, &[remove_orderers("Third")]).await;
        judge.refuse(&maker.block_signed_by(third, &[1]).await.unwrap());
        // Nor can it come back by itself.
        let back = [add_orderers("Third", 1)];
        judge.refuse(&maker.change_signed_by(third, &back).await.unwrap());
        if consensus == Consensus::Bft {
            // Nor does it fill up what is missing.
            let mixed = [third, &all[..2]].concat();
            judge.refuse(&maker.block_signed_by(&mixed, &[1]).await.unwrap());
        }
        judge.accept(&maker.block(&[1]).await.unwrap());
    }
}

#[tokio::test]
async fn a_replaced_certificate_signs_in_vain_where_the_consenters_are_named() {
    let (mut maker, mut judge) = maker(Consensus::Bft, KeyKind::EcdsaP256, 4);
    let before = maker.network().nodes().to_vec();
    step(
        &mut maker,
        &mut judge,
        &[Change::ReplaceCertificates { node: 2 }],
    )
    .await;
    let after = maker.network().nodes().to_vec();
    assert_eq!(ids(&before), ids(&after));
    for (old, new) in before.iter().zip(&after) {
        let same = old.id() != 2;
        let (old_member, new_member) = (old.member(), new.member());
        assert_eq!(old_member.identity() == new_member.identity(), same);
        assert_eq!(
            old_member.tls_certificate_pem() == new_member.tls_certificate_pem(),
            same
        );
        assert_eq!(old.endpoint(), new.endpoint());
    }
    // Three of four are a quorum, if all of them are genuine.
    judge.refuse(&maker.block_signed_by(&before[..3], &[1]).await.unwrap());
    judge.approve(&maker.block_signed_by(&after[..3], &[1]).await.unwrap());

    // On raft any orderer certificate of the organisation will do, and no revocation was asked for.
    let (mut maker, mut judge) = self::maker(Consensus::Raft, KeyKind::EcdsaP256, 4);
    let before = maker.network().nodes().to_vec();
    step(
        &mut maker,
        &mut judge,
        &[Change::ReplaceCertificates { node: 2 }],
    )
    .await;
    judge.approve(&maker.block_signed_by(&before[1..2], &[1]).await.unwrap());
}

#[tokio::test]
async fn a_quorum_signs_each_copy_and_one_fewer_is_not_enough() {
    for (nodes, quorum) in [(1, 1), (4, 3), (7, 5)] {
        let (mut maker, mut judge) = maker(Consensus::Bft, KeyKind::EcdsaP256, nodes);
        let copies = maker.copies(&[1]).await.unwrap();
        assert_eq!(copies.len(), nodes);
        let mut sets = BTreeSet::new();
        for copy in &copies {
            judge.approve(copy);
            assert_eq!(copy.header_hash(), copies[0].header_hash());
            let ids: BTreeSet<Signer> = signers(copy).into_iter().collect();
            assert_eq!((ids.len(), signers(copy).len()), (quorum, quorum));
            assert!(ids.iter().all(|id| matches!(id, Signer::Id(_))));
            sets.insert(ids);
        }
        assert_eq!(sets.len(), nodes, "each node has other signatures");
        judge.accept(&copies[0]);

        let all = maker.network().nodes().to_vec();
        judge.approve(&maker.block_signed_by(&all[..quorum], &[1]).await.unwrap());
        let fewer = &all[..quorum - 1];
        judge.refuse(&maker.block_signed_by(fewer, &[1]).await.unwrap());
        let change = [add_orderers("Third", 1)];
        judge.refuse(&maker.change_signed_by(fewer, &change).await.unwrap());
        // The same node twice is one.
        let twice = [fewer, &all[..1]].concat();
        if quorum > 1 {
            judge.refuse(&maker.block_signed_by(&twice, &[1]).await.unwrap());
        }
    }
}

/// Covers: ORD-09
#[tokio::test]
async fn raft_moves_to_bft_through_maintenance() {
    let (mut maker, mut judge) = maker(Consensus::Raft, KeyKind::EcdsaP256, 4);
    let refused = maker.change(&[Change::MigrateToBft]).await.unwrap_err();
    assert!(refused.to_string().contains("maintenance"), "{refused}");
    let enter = maker.change(&[Change::EnterMaintenance]).await.unwrap();
    judge.accept(&enter);
    assert_eq!(
        judge.config().orderer().state(),
        ConsensusState::Maintenance
    );
    let refused = maker.change(&[Change::MigrateToBft]).await.unwrap_err();
    assert!(refused.to_string().contains("V3_0"), "{refused}");
    let v3 = Change::SetCapability {
        group: CapabilityGroup::Channel,
        name: "V3_0".to_owned(),
    };
    judge.accept(&maker.change(&[v3]).await.unwrap());
    assert_eq!(judge.config().capabilities().channel(), ["V3_0"]);

    let raft: BTreeSet<Signer> = (0..4)
        .map(|i| Signer::Identity(maker.network().nodes()[i].member().identity().to_vec()))
        .collect();
    let migration = maker.change(&[Change::MigrateToBft]).await.unwrap();
    judge.accept(&migration);
    assert!(
        signers(&migration)
            .iter()
            .all(|signer| raft.contains(signer))
    );
    assert!(consenter_metadata(&migration).is_empty());
    assert!(!consenter_metadata(&enter).is_empty());
    assert_eq!(*judge.config().orderer().consensus(), ConsensusType::Bft);
    assert_eq!(
        judge.config().orderer().state(),
        ConsensusState::Maintenance
    );

    let leave = maker.change(&[Change::LeaveMaintenance]).await.unwrap();
    judge.accept(&leave);
    assert_eq!(signers(&leave), [1, 2, 3].map(Signer::Id));
    assert_eq!(judge.config().orderer().state(), ConsensusState::Normal);
    judge.accept(&maker.block(&[1]).await.unwrap());
    let two = maker.network().nodes()[..2].to_vec();
    judge.refuse(&maker.block_signed_by(&two, &[1]).await.unwrap());
}

/// Covers: ORD-09
#[tokio::test]
async fn raft_names_its_nodes_in_each_block() {
    let (mut maker, mut judge) = maker(Consensus::Raft, KeyKind::EcdsaP256, 4);
    let mut metadata = |block: &Block| {
        judge.accept(block);
        let wrapped = common::Metadata::decode(consenter_metadata(block)).unwrap();
        protos::etcdraft::BlockMetadata::decode(wrapped.value).unwrap()
    };
    let first = metadata(&maker.block(&[1]).await.unwrap());
    assert_eq!(first.consenter_ids, [1, 2, 3, 4]);
    let change = [add_orderers("Third", 1), remove_orderers("Right")];
    let changed = metadata(&maker.change(&change).await.unwrap());
    assert_eq!(changed.consenter_ids, [1, 3, 5]);
    assert_eq!(changed.next_consenter_id, 6);
    assert!(changed.raft_index > first.raft_index);
    let next = metadata(&maker.block(&[1]).await.unwrap());
    assert_eq!(next.consenter_ids, [1, 3, 5]);
    assert!(next.raft_index > changed.raft_index);
}

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
        blockcast_dev_orderer::Network::generate(config, &endpoints, SystemTime::UNIX_EPOCH)
    };
    assert_eq!(network(&["One"]).unwrap().nodes()[0].organization(), "One");
    let error = network(&["One", "Two"]).unwrap_err().to_string();
    assert!(error.contains("\"Two\" has no node"), "{error}");
    let error = network(&[]).unwrap_err().to_string();
    assert_eq!(error, ConfigError::NoOrderer.to_string());
    let error = network(&["Org1"]).unwrap_err().to_string();
    assert!(error.contains("is there twice"), "{error}");
}

#[tokio::test]
async fn a_clone_forks_the_chain_and_a_new_chain_begins_as_the_first_one_did() {
    let (mut maker, mut judge) = maker(Consensus::Bft, KeyKind::EcdsaP256, 4);
    let mut fork = maker.clone();
    step(&mut maker, &mut judge, &[remove_orderers("Right")]).await;
    // The other one does not know of it.
    let other = fork.block(&[1]).await.unwrap();
    Judge::new(fork.network().genesis()).accept(&other);
    assert_eq!(fork.network().nodes().len(), 4);

    let chain = maker.chain(2, 10).await.unwrap();
    let mut judge = Judge::new(&chain.blocks()[0]);
    for block in &chain.blocks()[1..] {
        judge.accept(block);
    }
    assert_eq!(maker.network().nodes().len(), 4);
}

/// What the consensus keeps of its own in a block.
fn consenter_metadata(block: &Block) -> bytes::Bytes {
    let metadata = common::Metadata::decode(block.signatures_slot().unwrap()).unwrap();
    let value = common::OrdererBlockMetadata::decode(metadata.value).unwrap();
    value.consenter_metadata
}
