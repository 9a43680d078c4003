// SPDX-License-Identifier: Apache-2.0
//! Deliver and Broadcast over real connections, with the real client.

use std::{num::NonZeroUsize, sync::Arc, time::Duration};

use block_api::{
    BlockNumber, BlockSource as _, ChannelId, DeliverStatus, Height, Readers, Standing,
    SystemClock,
    testing::{NobodyReads, OpenReaders, within},
};
use blockcast_dev_orderer::{
    Consensus, ConsenterState, DevOrderer, GenerateError, KeyKind, NodesConfig, Pace, Rate,
    RecordedChain, Role, StartError, SubmitError, TlsMode,
};
use channel_config::ChannelVerifier;
use orderer_client::Tls;
use prost::Message as _;
use protos::{
    common::{ConfigGroup, Envelope, HeaderType},
    orderer::{ConsensusType, consensus_type::State},
};
use signer::envelope::{EnvelopeHeader, Nonce, transaction_envelope};

use crate::support::{
    channel, client, client_with, config, from, mutual, next_block, next_error, next_status, open,
    recorded,
};

async fn transaction(orderer: &DevOrderer) -> Envelope {
    let header = EnvelopeHeader::new(
        HeaderType::EndorserTransaction,
        channel(),
        std::time::SystemTime::UNIX_EPOCH,
    );
    let signer = orderer.client().unwrap().signer();
    transaction_envelope(&*signer, header, vec![1; 100].into(), Nonce::random())
        .await
        .unwrap()
}

async fn wait_for(orderer: &DevOrderer, node: usize, height: u64) {
    within(
        "the chain grows",
        orderer.nodes()[node].reader().wait_for(Height::new(height)),
    )
    .await
    .unwrap();
}

#[tokio::test]
async fn blocks_are_delivered_with_and_without_tls_and_verify() {
    for (tls, key_kind, consensus, nodes) in [
        (TlsMode::Plain, KeyKind::EcdsaP256, Consensus::Raft, 1),
        (TlsMode::Server, KeyKind::Ed25519, Consensus::Raft, 2),
        (TlsMode::Mutual, KeyKind::EcdsaP256, Consensus::Raft, 1),
        (TlsMode::Mutual, KeyKind::Ed25519, Consensus::Bft, 4),
    ] {
        let mut config = config(nodes, tls, Vec::new());
        config.network.key_kind = key_kind;
        config.network.consensus = consensus;
        let orderer = DevOrderer::start(config).await.unwrap();
        let member = orderer.client().unwrap();
        let tls = match tls {
            TlsMode::Plain => Tls::Plain,
            TlsMode::Server => Tls::Server,
            TlsMode::Mutual => mutual(member),
        };
        let client = client_with(&orderer, member.signer(), tls);
        assert_eq!(
            orderer.generate(3, 5000, Pace::AllAtOnce).await.unwrap(),
            Some(BlockNumber::new(3))
        );
        let verifier = ChannelVerifier::from_genesis(orderer.genesis()).unwrap();
        for node in 0..nodes {
            let mut stream = open(&client, node, &from(&channel(), 0)).await;
            assert_eq!(next_block(&mut stream).await.raw(), orderer.genesis().raw());
            for number in 1..=3 {
                let block = next_block(&mut stream).await;
                assert_eq!(block.number().get(), number);
                block_api::VerifiedBlock::new(block, &verifier, Standing::Linked).unwrap();
            }
        }
        let stats = orderer.stats();
        assert_eq!(
            (stats.block_streams, stats.blocks_sent),
            (nodes as u64, nodes as u64 * 4)
        );
        within("the stop", orderer.stop()).await;
    }
}

#[tokio::test]
async fn under_mutual_tls_a_client_without_a_certificate_is_refused() {
    let orderer = DevOrderer::start(config(1, TlsMode::Mutual, Vec::new()))
        .await
        .unwrap();
    let client = client(&orderer);
    let endpoint = orderer.endpoint().clone();
    let opened = within("the refusal", client.open(&endpoint, &from(&channel(), 0))).await;
    // With TLS 1.3 the client learns of it with its first read.
    if let Ok(mut stream) = opened {
        next_error(&mut stream).await;
    }
    within("the stop", orderer.stop()).await;
}

/// Covers: ORD-02, ORD-03
#[tokio::test]
async fn what_is_broadcast_comes_back_in_blocks() {
    let orderer = DevOrderer::start(config(2, TlsMode::Server, Vec::new()))
        .await
        .unwrap();
    let client = client(&orderer);
    let mut sent = Vec::new();
    // One after the other on both nodes: there is one queue.
    for endpoint in client.endpoints() {
        let mut session = within("the session", client.broadcast(&endpoint))
            .await
            .unwrap();
        for _ in 0..2 {
            let envelope = transaction(&orderer).await;
            let ack = within("the acknowledgement", session.send(envelope.clone()))
                .await
                .unwrap();
            assert_eq!(
                (ack.status, ack.info.as_str()),
                (DeliverStatus::Success, "")
            );
            sent.push(envelope.encode_to_vec());
        }
    }
    let in_process = transaction(&orderer).await;
    orderer.submit(&in_process).await.unwrap();
    sent.push(in_process.encode_to_vec());

    let mut stream = open(&client, 1, &from(&channel(), 1)).await;
    let mut seen: Vec<Vec<u8>> = Vec::new();
    while seen.len() < sent.len() {
        seen.extend(next_block(&mut stream).await.data().map(<[u8]>::to_vec));
    }
    assert_eq!(seen, sent);
    assert_eq!(orderer.stats().broadcasts_received, 4);

    let mut unknown = open(&client, 0, &from(&"other".parse().unwrap(), 0)).await;
    assert_eq!(next_status(&mut unknown).await, DeliverStatus::NotFound);
    within("the stop", orderer.stop()).await;
}

/// Covers: ORD-04, ORD-07
#[tokio::test]
async fn a_refused_broadcast_says_why_and_ends_the_session() {
    let orderer = DevOrderer::start(config(1, TlsMode::Server, Vec::new()))
        .await
        .unwrap();
    let client = client(&orderer);
    let mut session = within("the session", client.broadcast(orderer.endpoint()))
        .await
        .unwrap();
    let mut forged = transaction(&orderer).await;
    forged.signature = transaction(&orderer).await.signature;
    let ack = within("the acknowledgement", session.send(forged))
        .await
        .unwrap();
    assert_eq!(ack.status, DeliverStatus::Forbidden);
    assert!(ack.info.contains("/Channel/Writers"), "{}", ack.info);
    let next = transaction(&orderer).await;
    assert!(within("the end", session.send(next)).await.is_err());
    assert_eq!(orderer.nodes()[0].reader().info().height, Height::new(1));
    within("the stop", orderer.stop()).await;
}

#[tokio::test]
async fn a_stranger_gets_no_block() {
    let orderer = DevOrderer::start(config(1, TlsMode::Server, Vec::new()))
        .await
        .unwrap();
    let other = DevOrderer::start(config(1, TlsMode::Plain, Vec::new()))
        .await
        .unwrap();
    let client = client_with(&orderer, other.client().unwrap().signer(), Tls::Server);
    let mut stream = open(&client, 0, &from(&channel(), 0)).await;
    assert_eq!(next_status(&mut stream).await, DeliverStatus::Forbidden);
    within("the stop", orderer.stop()).await;
    within("the stop", other.stop()).await;
}

#[tokio::test]
async fn a_node_without_a_leader_is_unavailable() {
    let orderer = DevOrderer::start(config(1, TlsMode::Server, Vec::new()))
        .await
        .unwrap();
    let client = client(&orderer);
    let mut waiting = open(&client, 0, &from(&channel(), 0)).await;
    next_block(&mut waiting).await;
    orderer.nodes()[0].set_consenter_state(ConsenterState::InError);
    assert_eq!(next_status(&mut waiting).await, DeliverStatus::Unavailable);
    let mut refused = open(&client, 0, &from(&channel(), 0)).await;
    assert_eq!(next_status(&mut refused).await, DeliverStatus::Unavailable);
    orderer.nodes()[0].set_consenter_state(ConsenterState::Ready);
    next_block(&mut open(&client, 0, &from(&channel(), 0)).await).await;
    within("the stop", orderer.stop()).await;
}

fn nodes(tls: TlsMode) -> NodesConfig {
    NodesConfig {
        tls,
        ..NodesConfig::new(Arc::new(SystemClock))
    }
}

async fn replay(pace: Pace, readers: Arc<dyn Readers>, folder: &str) -> DevOrderer {
    let chain = RecordedChain::new(recorded(folder)).unwrap();
    DevOrderer::replay(chain, pace, readers, nodes(TlsMode::Server))
        .await
        .unwrap()
}

/// A signer of an organisation that the replayed channel does not know, which its readers allow.
fn anyone(orderer: &DevOrderer) -> Arc<dyn block_api::Signer> {
    orderer
        .ordering_organization()
        .issue("anyone", Role::Client)
        .unwrap()
        .signer()
}

#[tokio::test]
async fn a_replay_gives_the_recorded_bytes() {
    for folder in ["raft", "bft"] {
        let orderer = replay(Pace::AllAtOnce, Arc::new(OpenReaders), folder).await;
        let name: ChannelId = format!("ch-{folder}").parse().unwrap();
        assert_eq!(orderer.channel(), &name);
        let client = client_with(&orderer, anyone(&orderer), Tls::Server);
        let mut stream = open(&client, 0, &from(&name, 0)).await;
        let expected = recorded(folder);
        assert!(expected.len() >= 60);
        for raw in &expected {
            assert_eq!(next_block(&mut stream).await.raw(), raw);
        }
        assert!(
            orderer
                .ordered_at(BlockNumber::new(expected.len() as u64 - 1))
                .is_some()
        );
        assert!(
            orderer
                .ordered_at(BlockNumber::new(expected.len() as u64))
                .is_none()
        );
        within("the stop", orderer.stop()).await;
    }
}

#[tokio::test]
async fn a_replay_orders_nothing_and_its_readers_are_the_callers() {
    let orderer = replay(Pace::AllAtOnce, Arc::new(NobodyReads), "raft-other-node").await;
    assert!(orderer.client().is_none() && orderer.network().is_none());
    assert_eq!(
        orderer.submit(&Envelope::default()).await,
        Err(SubmitError::Replaying)
    );
    let generated = orderer.generate(1, 1, Pace::AllAtOnce).await;
    assert!(matches!(
        generated,
        Err(GenerateError::Submit(SubmitError::Replaying))
    ));
    let client = client_with(&orderer, anyone(&orderer), Tls::Server);
    let mut stream = open(&client, 0, &from(&"ch-raft".parse().unwrap(), 0)).await;
    assert_eq!(next_status(&mut stream).await, DeliverStatus::Forbidden);
    within("the stop", orderer.stop()).await;
}

#[tokio::test]
async fn a_replay_at_a_rate_begins_with_the_genesis_block() {
    let rate = Rate::per_second(200.0).unwrap();
    let orderer = replay(Pace::At(rate), Arc::new(OpenReaders), "raft-other-node").await;
    let begin = orderer.ordered_at(BlockNumber::GENESIS).unwrap();
    wait_for(&orderer, 0, 19).await;
    for number in 1..19 {
        let at = orderer.ordered_at(BlockNumber::new(number)).unwrap();
        let earliest = rate.interval() * u32::try_from(number).unwrap();
        // The genesis block is there a moment before the pace begins.
        assert!(
            at - begin >= earliest,
            "block {number} after {:?}",
            at - begin
        );
    }
    within("the stop", orderer.stop()).await;
}

#[tokio::test]
async fn blocks_are_generated_at_a_rate() {
    let orderer = DevOrderer::start(config(1, TlsMode::Plain, Vec::new()))
        .await
        .unwrap();
    let rate = Rate::per_second(100.0).unwrap();
    assert_eq!(
        orderer.generate(5, 10, Pace::At(rate)).await.unwrap(),
        Some(BlockNumber::new(5))
    );
    let at = |number| orderer.ordered_at(BlockNumber::new(number)).unwrap();
    assert!(
        at(5) - at(1) >= Duration::from_millis(25),
        "{:?}",
        at(5) - at(1)
    );
    assert_eq!(
        orderer.generate(0, 10, Pace::AllAtOnce).await.unwrap(),
        None
    );
    within("the stop", orderer.stop()).await;
}

#[tokio::test]
async fn a_stop_ends_streams_and_frees_the_port() {
    let orderer = DevOrderer::start(config(1, TlsMode::Server, Vec::new()))
        .await
        .unwrap();
    let client = client(&orderer);
    let endpoint = orderer.endpoint().clone();
    let mut stream = open(&client, 0, &from(&channel(), 0)).await;
    next_block(&mut stream).await;
    let reader = orderer.nodes()[0].reader();
    within("the stop", orderer.stop()).await;
    // Either a status or an error, and then nothing: the stream is over.
    assert!(!matches!(
        crate::support::next(&mut stream).await,
        Some(Ok(block_api::Delivery::Block(_)))
    ));
    assert!(
        reader.wait_for(Height::new(2)).await.is_err(),
        "who waits for a block learns that none will come"
    );
    assert!(
        within("the refusal", client.open(&endpoint, &from(&channel(), 0)))
            .await
            .is_err()
    );
}

#[tokio::test]
async fn what_cannot_listen_says_so() {
    let orderer = DevOrderer::start(config(1, TlsMode::Plain, Vec::new()))
        .await
        .unwrap();
    let mut taken = config(1, TlsMode::Plain, Vec::new());
    taken
        .nodes
        .listen
        .set_port(orderer.endpoint().port().unwrap());
    let error = DevOrderer::start(taken).await.unwrap_err();
    assert!(
        error.to_string().starts_with("cannot listen on 127.0.0.1:"),
        "{error}"
    );

    let mut too_high = config(3, TlsMode::Plain, Vec::new());
    too_high.nodes.listen.set_port(65_535);
    too_high.nodes.count = NonZeroUsize::new(2).unwrap();
    // The first port may be taken by others; the second one cannot be.
    let error = DevOrderer::start(too_high).await.unwrap_err();
    assert!(
        matches!(error, StartError::Ports { .. } | StartError::Listen { .. }),
        "{error}"
    );

    let mut small = config(1, TlsMode::Plain, Vec::new());
    small.queue_bytes = 1.try_into().unwrap();
    let error = DevOrderer::start(small).await.unwrap_err();
    assert!(error.to_string().contains("queue_bytes"), "{error}");
    within("the stop", orderer.stop()).await;
}

/// Covers: ORD-09
#[tokio::test]
async fn a_new_configuration_is_ordered_and_decides_how_blocks_are_cut() {
    let mut slow = config(1, TlsMode::Server, Vec::new());
    // Nothing is cut by time.
    slow.network.batch.timeout = Duration::from_secs(3600);
    let orderer = DevOrderer::start(slow).await.unwrap();
    orderer.submit(&transaction(&orderer).await).await.unwrap();
    let changed = orderer
        .reconfigure(|group| crate::chain::set_batch_size(group, 1))
        .await
        .unwrap();
    assert_eq!(
        changed,
        BlockNumber::new(2),
        "what was pending is cut first"
    );
    orderer.submit(&transaction(&orderer).await).await.unwrap();

    let verifier = ChannelVerifier::from_genesis(orderer.genesis()).unwrap();
    let mut stream = open(&client(&orderer), 0, &from(&channel(), 1)).await;
    for last_config in [0, 2, 2] {
        let verified = block_api::VerifiedBlock::new(
            next_block(&mut stream).await,
            &verifier,
            Standing::Linked,
        )
        .unwrap();
        assert_eq!(verified.last_config().get(), last_config);
        block_api::BlockVerifier::apply_config(&verifier, &verified).unwrap();
    }
    let refused = orderer
        .reconfigure(|group| group.values.clear())
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("refused"), "{refused}");
    within("the stop", orderer.stop()).await;
}

#[tokio::test]
async fn a_replay_begins_when_it_is_told_to() {
    for pace in [Pace::AllAtOnce, Pace::At(Rate::per_second(1000.0).unwrap())] {
        let (begin, begun) = tokio::sync::oneshot::channel::<()>();
        let chain = RecordedChain::new(recorded("raft-other-node")).unwrap();
        let orderer = DevOrderer::replay_when(
            async { begun.await.unwrap() },
            chain,
            pace,
            Arc::new(OpenReaders),
            nodes(TlsMode::Plain),
        )
        .await
        .unwrap();
        let client = client_with(&orderer, anyone(&orderer), Tls::Plain);
        let mut stream = open(&client, 0, &from(orderer.channel(), 0)).await;
        next_block(&mut stream).await;
        assert_eq!(orderer.nodes()[0].reader().info().height, Height::new(1));
        begin.send(()).unwrap();
        for number in 1..19 {
            assert_eq!(next_block(&mut stream).await.number().get(), number);
        }
        within("the stop", orderer.stop()).await;
    }
}

/// Covers: ORD-11
#[tokio::test]
async fn in_maintenance_no_transaction_is_taken() {
    let orderer = DevOrderer::start(config(1, TlsMode::Plain, Vec::new()))
        .await
        .unwrap();
    let set_state = |state: State| {
        move |group: &mut ConfigGroup| {
            let value = group
                .groups
                .get_mut("Orderer")
                .unwrap()
                .values
                .get_mut("ConsensusType")
                .unwrap();
            let consensus = ConsensusType::decode(value.value.clone()).unwrap();
            value.value = ConsensusType {
                state: state.into(),
                ..consensus
            }
            .encode_to_vec()
            .into();
        }
    };
    orderer
        .reconfigure(set_state(State::Maintenance))
        .await
        .unwrap();
    let transaction = transaction(&orderer).await;
    assert_eq!(
        orderer.submit(&transaction).await,
        Err(SubmitError::Maintenance)
    );
    orderer.reconfigure(set_state(State::Normal)).await.unwrap();
    orderer.submit(&transaction).await.unwrap();
    wait_for(&orderer, 0, 4).await;
    within("the stop", orderer.stop()).await;
}
