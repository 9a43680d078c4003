// SPDX-License-Identifier: Apache-2.0
//! Changes of a service that runs, as its clients meet them.

use block_api::{
    BlockNumber, BlockSource as _, BlockStream, DeliverStatus, Endpoint, testing::within,
};
use blockcast_dev_orderer::{
    Change, Config, Consensus, DevOrderer, Member, OrganizationSpec, Pace, Role, Script, TlsMode,
};
use orderer_client::{Config as ClientConfig, OrdererClient, OrdererEndpoint, Tls};
use signer::envelope::{EnvelopeHeader, Nonce, transaction_envelope};

use crate::{
    judge::{Judge, signers},
    support::{channel, client, client_with, config, from, mutual, next_block, next_status, open},
};

/// A BFT service whose organisations `Left` and `Right` have two nodes each.
fn bft() -> Config {
    let mut config = config(4, TlsMode::Server, Vec::new());
    config.network.consensus = Consensus::Bft;
    config.network.orderers = ["Left", "Right"].map(OrganizationSpec::orderer).to_vec();
    config
}

fn add_orderers(name: &str, nodes: usize) -> Change {
    Change::AddOrderers {
        organization: OrganizationSpec::orderer(name),
        nodes,
    }
}

/// A stream from the node with an id, from the genesis block on.
async fn stream_of(client: &OrdererClient, orderer: &DevOrderer, id: u32) -> BlockStream {
    let endpoint = orderer.node(id).unwrap().endpoint();
    within(
        "opening a stream",
        client.open(endpoint, &from(&channel(), 0)),
    )
    .await
    .unwrap()
}

/// Has the next `count` blocks of a stream judged.
async fn judged(stream: &mut BlockStream, judge: &mut Judge, count: u64) {
    for _ in 0..count {
        judge.accept(&next_block(stream).await);
    }
}

/// A client of one endpoint with these TLS authorities.
fn client_of(orderer: &DevOrderer, endpoint: &Endpoint, roots: &[Vec<u8>]) -> OrdererClient {
    let config = ClientConfig {
        endpoints: vec![OrdererEndpoint {
            endpoint: endpoint.clone(),
            tls_roots: roots.iter().map(|root| root.clone().into()).collect(),
        }],
        tls: Tls::Server,
        ..ClientConfig::default()
    };
    let signer = orderer.client().unwrap().signer();
    OrdererClient::new(config, signer, std::sync::Arc::new(block_api::SystemClock)).unwrap()
}

async fn opens(client: &OrdererClient) -> bool {
    let endpoint = client.endpoints()[0].clone();
    let opened = within("the answer", client.open(&endpoint, &from(&channel(), 0))).await;
    opened.is_ok()
}

/// Covers: ORD-09
#[tokio::test]
async fn nodes_come_with_the_whole_chain_and_leave_it() {
    let mut orderer = DevOrderer::start(bft()).await.unwrap();
    orderer.generate(2, 10, Pace::AllAtOnce).await.unwrap();
    let added = orderer.change(&[add_orderers("Third", 3)]).await.unwrap();
    assert_eq!(added, BlockNumber::new(3));
    orderer.generate(1, 10, Pace::AllAtOnce).await.unwrap();
    assert_eq!(orderer.endpoints().count(), 7);

    // The client knows the authority of the new organisation, too.
    let client = client(&orderer);
    let mut streams = Vec::new();
    for id in 1..=7 {
        let mut stream = stream_of(&client, &orderer, id).await;
        let mut judge = Judge::new(&next_block(&mut stream).await);
        judged(&mut stream, &mut judge, 3).await;
        let next = next_block(&mut stream).await;
        assert_eq!(signers(&next).len(), 5, "the quorum of seven");
        judge.accept(&next);
        streams.push((stream, judge));
    }

    let removed = orderer
        .change(&[Change::RemoveOrderers {
            organization: "Left".to_owned(),
        }])
        .await
        .unwrap();
    let last = orderer.generate(1, 10, Pace::AllAtOnce).await.unwrap();
    assert_eq!((removed.get(), last.unwrap().get()), (5, 6));
    for (id, (stream, judge)) in (1..).zip(&mut streams) {
        let node = orderer.node(id).unwrap();
        if node.has_left() {
            assert!([1, 3].contains(&id));
            // It may have sent the block that removed it.
            let ended = crate::support::next(stream).await;
            if let Some(Ok(block_api::Delivery::Block(block))) = ended {
                assert_eq!(block.number(), removed);
                assert_eq!(next_status(stream).await, DeliverStatus::Unavailable);
            }
            let mut again = stream_of(&client, &orderer, id).await;
            assert_eq!(next_status(&mut again).await, DeliverStatus::NotFound);
            assert_eq!(node.reader().info().height, removed.height());
            assert!(node.reader().wait_for(removed.height()).await.is_ok());
            let next = last.unwrap().height();
            assert!(
                node.reader().wait_for(next).await.is_err(),
                "it grows no more"
            );
        } else {
            judged(stream, judge, 2).await;
        }
    }
    assert_eq!(orderer.endpoints().count(), 5);
    assert_eq!(orderer.nodes().len(), 7);
    assert_eq!(orderer.endpoint(), orderer.node(2).unwrap().endpoint());
    within("the stop", orderer.stop()).await;
}

#[tokio::test]
async fn a_node_that_left_takes_no_transaction() {
    let mut orderer = DevOrderer::start(config(2, TlsMode::Server, Vec::new()))
        .await
        .unwrap();
    let client = client(&orderer);
    orderer
        .change(&[Change::RemoveNode { node: 2 }])
        .await
        .unwrap();
    for (id, status) in [(1, DeliverStatus::Success), (2, DeliverStatus::NotFound)] {
        let endpoint = orderer.node(id).unwrap().endpoint();
        let mut session = within("the session", client.broadcast(endpoint))
            .await
            .unwrap();
        let header = EnvelopeHeader::new(
            protos::common::HeaderType::Message,
            channel(),
            std::time::SystemTime::UNIX_EPOCH,
        );
        let signer = orderer.client().unwrap().signer();
        let envelope = transaction_envelope(&*signer, header, vec![1].into(), Nonce::random())
            .await
            .unwrap();
        let ack = within("the acknowledgement", session.send(envelope))
            .await
            .unwrap();
        assert_eq!(ack.status, status, "{}", ack.info);
    }
    within("the stop", orderer.stop()).await;
}

#[tokio::test]
async fn a_node_shows_its_new_certificate_and_signs_with_it() {
    // The relay of a node with a script is served anew as well.
    for scripts in [Vec::new(), vec![Script::new()]] {
        let mut config = bft();
        config.nodes.faults = scripts;
        let mut orderer = DevOrderer::start(config).await.unwrap();
        let roots = |orderer: &DevOrderer| -> Vec<Vec<u8>> {
            let left = &orderer.network().unwrap().orderers()[0];
            left.tls_roots_der().map(<[u8]>::to_vec).collect()
        };
        let old_roots = roots(&orderer);
        let endpoint = orderer.endpoint().clone();
        let streaming = client_of(&orderer, &endpoint, &old_roots);
        let mut stream = stream_of(&streaming, &orderer, 1).await;
        let mut judge = Judge::new(&next_block(&mut stream).await);

        let organization = "Left".to_owned();
        orderer
            .change(&[
                Change::AddTlsAuthority { organization },
                Change::ReplaceCertificates { node: 1 },
            ])
            .await
            .unwrap();
        orderer.generate(1, 10, Pace::AllAtOnce).await.unwrap();
        assert_eq!(*orderer.endpoint(), endpoint);
        assert!(!opens(&client_of(&orderer, &endpoint, &old_roots)).await);
        let new = client_of(&orderer, &endpoint, &roots(&orderer));
        let mut stream = stream_of(&new, &orderer, 1).await;
        next_block(&mut stream).await;
        judged(&mut stream, &mut judge, 2).await;
        // What it counted before still counts.
        assert_eq!(orderer.node(1).unwrap().stats().counts().block_streams, 2);
        within("the stop", orderer.stop()).await;
    }
}

#[tokio::test]
async fn a_node_that_moved_is_reached_at_its_new_endpoint_alone() {
    let mut orderer = DevOrderer::start(bft()).await.unwrap();
    let before = orderer.endpoint().clone();
    orderer
        .change(&[Change::MoveNode { node: 1 }])
        .await
        .unwrap();
    orderer.generate(1, 10, Pace::AllAtOnce).await.unwrap();
    let after = orderer.endpoint().clone();
    assert_ne!(before, after);
    let roots: Vec<Vec<u8>> = orderer
        .tls_roots()
        .iter()
        .map(|root| root.to_vec())
        .collect();
    assert!(!opens(&client_of(&orderer, &before, &roots)).await);
    let mut stream = stream_of(&client(&orderer), &orderer, 1).await;
    let mut judge = Judge::new(&next_block(&mut stream).await);
    judged(&mut stream, &mut judge, 2).await;
    let named = judge.config().endpoints();
    assert!(named.iter().any(|named| named.endpoint == after));
    assert!(named.iter().all(|named| named.endpoint != before));
    within("the stop", orderer.stop()).await;
}

#[tokio::test]
async fn under_mutual_tls_a_new_organisation_is_let_in() {
    let mut orderer = DevOrderer::start(config(1, TlsMode::Mutual, Vec::new()))
        .await
        .unwrap();
    orderer
        .change(&[Change::AddApplication {
            organization: OrganizationSpec::application("Org2"),
        }])
        .await
        .unwrap();
    let organization = &orderer.network().unwrap().applications()[1];
    let member: Member = organization.issue("someone", Role::Client).unwrap();
    let client = client_with(&orderer, member.signer(), mutual(&member));
    let mut stream = open(&client, 0, &from(&channel(), 0)).await;
    let mut judge = Judge::new(&next_block(&mut stream).await);
    judged(&mut stream, &mut judge, 1).await;
    within("the stop", orderer.stop()).await;
}

#[tokio::test]
async fn what_is_refused_changes_nothing() {
    let mut orderer = DevOrderer::start(bft()).await.unwrap();
    let refused = orderer
        .change(&[add_orderers("Third", 1), Change::RemoveNode { node: 77 }])
        .await
        .unwrap_err();
    assert!(refused.to_string().contains("77"), "{refused}");
    assert_eq!(orderer.nodes().len(), 4);
    assert_eq!(orderer.network().unwrap().orderers().len(), 2);
    assert_eq!(
        orderer.generate(1, 10, Pace::AllAtOnce).await.unwrap(),
        Some(BlockNumber::new(1))
    );
    within("the stop", orderer.stop()).await;
}
