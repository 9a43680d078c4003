// SPDX-License-Identifier: Apache-2.0
//! Genesis blocks and chains under the channel's own rules.

use std::time::{Duration, SystemTime};

use block_api::{Block, BlockNumber, ChainInfo, Endpoint, Standing, VerifiedBlock, VerifyError};
use blockcast_dev_orderer::{ChainMaker, Consensus, KeyKind, NetworkConfig};
use channel_config::{ChannelVerifier, verify_chain_step};
use prost::Message as _;
use protos::common;

use crate::support::network_config;

const KINDS: [(Consensus, KeyKind, usize); 6] = [
    (Consensus::Raft, KeyKind::EcdsaP256, 1),
    (Consensus::Raft, KeyKind::EcdsaP256, 3),
    (Consensus::Raft, KeyKind::Ed25519, 1),
    (Consensus::Bft, KeyKind::EcdsaP256, 1),
    (Consensus::Bft, KeyKind::EcdsaP256, 4),
    (Consensus::Bft, KeyKind::Ed25519, 7),
];

fn maker(consensus: Consensus, key_kind: KeyKind, nodes: usize) -> ChainMaker {
    let config = NetworkConfig {
        consensus,
        key_kind,
        ..network_config()
    };
    let endpoints: Vec<Endpoint> = (0..nodes)
        .map(|i| format!("localhost:{}", 7050 + i).parse().unwrap())
        .collect();
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    ChainMaker::new(config, &endpoints, now).unwrap()
}

/// Covers: ORD-09, FLG-02
#[tokio::test]
async fn every_block_is_accepted_by_the_channels_own_rules() {
    for (consensus, key_kind, nodes) in KINDS {
        let mut maker = maker(consensus, key_kind, nodes);
        let verifier = ChannelVerifier::from_genesis(maker.network().genesis()).unwrap();
        let mut chain = ChainInfo::EMPTY;
        chain.height = BlockNumber::GENESIS.height();
        chain.tip_hash = Some(maker.network().genesis().header_hash());
        for transactions in [&[1][..], &[0], &[100, 0, 2000], &[300_000]] {
            let block = maker.block(transactions).await.unwrap();
            verify_chain_step(&chain, &block).unwrap();
            let verified = VerifiedBlock::new(block, &verifier, Standing::Linked)
                .unwrap_or_else(|error| panic!("{consensus:?} {key_kind:?} {nodes}: {error}"));
            assert_eq!(verified.block().entry_count(), transactions.len());
            assert!(!verified.is_config());
            chain = chain.grown_by(&verified);
        }
        assert_eq!(chain.height.get(), 5);
    }
}

/// A block that another ordering service signed, or whose content was changed, is not accepted: the
/// test above can fail.
#[tokio::test]
async fn blocks_of_another_network_are_rejected() {
    for (consensus, key_kind, nodes) in KINDS {
        let verifier =
            ChannelVerifier::from_genesis(maker(consensus, key_kind, nodes).network().genesis())
                .unwrap();
        let block = maker(consensus, key_kind, nodes)
            .block(&[10])
            .await
            .unwrap();
        let refused = VerifiedBlock::new(block, &verifier, Standing::Linked).unwrap_err();
        assert!(
            matches!(refused, VerifyError::Rejected(_)),
            "{consensus:?} {key_kind:?}: {refused}"
        );
    }
}

/// Covers: ORD-09
#[tokio::test]
async fn slots_are_those_of_an_orderer() {
    let mut maker = maker(Consensus::Raft, KeyKind::EcdsaP256, 3);
    let block = maker.block(&[1]).await.unwrap();
    let slots: Vec<&[u8]> = block.slots().collect();
    assert_eq!(slots.len(), 5);
    assert!(
        slots[1..].iter().all(|slot| slot.is_empty()),
        "last config is 0, which is empty on the wire"
    );

    let metadata = common::Metadata::decode(slots[0]).unwrap();
    assert_eq!(metadata.signatures.len(), 1);
    assert!(metadata.signatures[0].identifier_header.is_empty());
    let header =
        common::SignatureHeader::decode(metadata.signatures[0].signature_header.clone()).unwrap();
    assert_eq!(
        header.creator,
        maker.network().nodes()[0].member().identity()
    );
    assert_eq!(header.nonce.len(), 24);

    let value = common::OrdererBlockMetadata::decode(metadata.value).unwrap();
    assert_eq!(value.last_config, Some(common::LastConfig { index: 0 }));
    let consenter = common::Metadata::decode(value.consenter_metadata).unwrap();
    let raft = protos::etcdraft::BlockMetadata::decode(consenter.value).unwrap();
    assert_eq!(
        (raft.consenter_ids, raft.next_consenter_id),
        (vec![1, 2, 3], 4)
    );
}

#[tokio::test]
async fn a_bft_block_has_the_signatures_of_a_quorum_by_id() {
    let mut maker = maker(Consensus::Bft, KeyKind::EcdsaP256, 4);
    let block = maker.block(&[1]).await.unwrap();
    let metadata = common::Metadata::decode(block.signatures_slot().unwrap()).unwrap();
    let mut ids = Vec::new();
    for signature in &metadata.signatures {
        assert!(signature.signature_header.is_empty());
        ids.push(
            common::IdentifierHeader::decode(signature.identifier_header.clone())
                .unwrap()
                .identifier,
        );
    }
    assert_eq!(ids, [1, 2, 3]);
}

#[tokio::test]
async fn a_made_chain_can_be_recorded_and_read_again() {
    let mut maker = maker(Consensus::Raft, KeyKind::EcdsaP256, 1);
    let chain = maker.chain(5, 1000).await.unwrap();
    let raw: Vec<_> = chain
        .blocks()
        .iter()
        .map(|block| block.raw().clone())
        .collect();
    assert_eq!(raw.len(), 6);
    let again = blockcast_dev_orderer::RecordedChain::new(raw).unwrap();
    assert_eq!(again.channel(), chain.channel());
    // A second chain of one maker begins with the same genesis block.
    let second = maker.chain(1, 1000).await.unwrap();
    assert!(second.blocks()[1].links_to(&Block::header_hash(maker.network().genesis())));
}

/// Covers: ORD-09
#[tokio::test]
async fn a_config_block_is_its_own_last_config_and_the_next_ones_name_it() {
    for (consensus, key_kind, nodes) in KINDS {
        let mut maker = maker(consensus, key_kind, nodes);
        let verifier = ChannelVerifier::from_genesis(maker.network().genesis()).unwrap();
        let blocks = [
            maker.block(&[1]).await.unwrap(),
            maker
                .config_block(|group| set_batch_size(group, 7))
                .await
                .unwrap(),
            maker.block(&[1]).await.unwrap(),
        ];
        for (block, (is_config, last_config)) in
            blocks.into_iter().zip([(false, 0), (true, 2), (false, 2)])
        {
            let verified = VerifiedBlock::new(block, &verifier, Standing::Linked).unwrap();
            assert_eq!(
                (verified.is_config(), verified.last_config().get()),
                (is_config, last_config)
            );
            block_api::BlockVerifier::apply_config(&verifier, &verified).unwrap();
            let slot = common::Metadata::decode(verified.block().slots().nth(1).unwrap()).unwrap();
            assert_eq!(
                common::LastConfig::decode(slot.value).unwrap().index,
                last_config
            );
        }
        assert_eq!(verifier.config().orderer().batch_size().max_messages, 7);
        assert_eq!(verifier.config().sequence(), 1);
    }
}

#[tokio::test]
async fn a_configuration_that_cannot_be_is_refused() {
    let mut maker = maker(Consensus::Raft, KeyKind::EcdsaP256, 1);
    let error = maker
        .config_block(|group| group.groups.clear())
        .await
        .unwrap_err();
    assert!(error.to_string().contains("refused"), "{error}");
    assert_eq!(
        maker.block(&[1]).await.unwrap().number(),
        BlockNumber::new(1)
    );
}

/// Sets how many transactions a block has at most.
pub(crate) fn set_batch_size(group: &mut common::ConfigGroup, max_message_count: u32) {
    let value = group
        .groups
        .get_mut("Orderer")
        .unwrap()
        .values
        .get_mut("BatchSize")
        .unwrap();
    let size = protos::orderer::BatchSize::decode(value.value.clone()).unwrap();
    value.value = protos::orderer::BatchSize {
        max_message_count,
        ..size
    }
    .encode_to_vec()
    .into();
    value.version += 1;
}
