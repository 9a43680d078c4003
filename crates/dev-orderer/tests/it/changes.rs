// SPDX-License-Identifier: Apache-2.0
//! Chains on which organisations, nodes and certificates come and go.

mod signatures;
mod tree;

use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime},
};

use block_api::{Block, Endpoint};
use blockcast_dev_orderer::{
    BatchConfig, CapabilityGroup, ChainMaker, Change, Consensus, KeyKind, NetworkConfig,
    OrdererNode, OrganizationSpec,
};
use channel_config::{ConsensusState, ConsensusType};
use prost::Message as _;
use protos::common;

use crate::{
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

/// Covers: ORD-09, ORD-12
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
