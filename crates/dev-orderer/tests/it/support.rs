// SPDX-License-Identifier: Apache-2.0
//! What several tests need.

use std::{num::NonZeroUsize, sync::Arc, time::Duration};

use block_api::{
    Block, BlockNumber, BlockSource as _, BlockStream, ChannelId, Content, DeliverStatus, Delivery,
    Endpoint, Signer, SourceError, Start, Stop, StreamRequest, SystemClock, WhenMissing,
    testing::within,
};
use blockcast_dev_orderer::{Config, DevOrderer, Member, NetworkConfig, Script, TlsMode};
use bytes::Bytes;
use futures::StreamExt as _;
use orderer_client::{Config as ClientConfig, OrdererClient, OrdererEndpoint, Tls};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// The channel of all tests.
pub(crate) fn channel() -> ChannelId {
    "dev-channel".parse().unwrap()
}

/// A network that cuts blocks of three transactions, or after 20 ms.
pub(crate) fn network_config() -> NetworkConfig {
    let mut network = NetworkConfig::new(channel());
    network.batch.max_message_count = 3.try_into().unwrap();
    network.batch.timeout = Duration::from_millis(20);
    network
}

pub(crate) fn config(nodes: usize, tls: TlsMode, scripts: Vec<Script>) -> Config {
    let mut config = Config::new(channel(), Arc::new(SystemClock));
    config.network = network_config();
    config.nodes.count = NonZeroUsize::new(nodes).unwrap();
    config.nodes.tls = tls;
    config.nodes.faults = scripts;
    config
}

/// How a client proves who it is under mutual TLS.
pub(crate) fn mutual(member: &Member) -> Tls {
    Tls::Mutual {
        certificates: vec![CertificateDer::from(member.tls_certificate_der().to_vec())],
        key: Arc::new(PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(
            member.tls_key_der().to_vec(),
        ))),
    }
}

/// A client of all nodes.
pub(crate) fn client_with(
    orderer: &DevOrderer,
    signer: Arc<dyn Signer>,
    tls: Tls,
) -> OrdererClient {
    let endpoint = |endpoint: &Endpoint| OrdererEndpoint {
        endpoint: endpoint.clone(),
        tls_roots: orderer.tls_roots(),
    };
    let config = ClientConfig {
        endpoints: orderer.endpoints().map(endpoint).collect(),
        tls,
        ..ClientConfig::default()
    };
    OrdererClient::new(config, signer, Arc::new(SystemClock)).unwrap()
}

/// A client of all nodes over server TLS, as the network's client.
pub(crate) fn client(orderer: &DevOrderer) -> OrdererClient {
    client_with(orderer, orderer.client().unwrap().signer(), Tls::Server)
}

/// Blocks from a number on, for ever.
pub(crate) fn from(channel: &ChannelId, number: u64) -> StreamRequest {
    StreamRequest {
        channel: channel.clone(),
        start: Start::At(BlockNumber::new(number)),
        stop: Stop::Never,
        content: Content::Blocks,
        when_missing: WhenMissing::Wait,
    }
}

pub(crate) async fn open(
    client: &OrdererClient,
    node: usize,
    request: &StreamRequest,
) -> BlockStream {
    let endpoint = client.endpoints()[node].clone();
    within("opening a stream", client.open(&endpoint, request))
        .await
        .unwrap()
}

pub(crate) async fn next(stream: &mut BlockStream) -> Option<Result<Delivery, SourceError>> {
    within("the next message", stream.next()).await
}

pub(crate) async fn next_block(stream: &mut BlockStream) -> Block {
    match next(stream).await {
        Some(Ok(Delivery::Block(block))) => block,
        other => panic!("no block, but {other:?}"),
    }
}

pub(crate) async fn next_status(stream: &mut BlockStream) -> DeliverStatus {
    match next(stream).await {
        Some(Ok(Delivery::Status(status))) => status,
        other => panic!("no status, but {other:?}"),
    }
}

/// The error with which a stream breaks.
pub(crate) async fn next_error(stream: &mut BlockStream) -> SourceError {
    match next(stream).await {
        Some(Err(error)) => error,
        other => panic!("no error, but {other:?}"),
    }
}

/// The recorded blocks of a folder, from number 0 on.
pub(crate) fn recorded(folder: &str) -> Vec<Bytes> {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures");
    (0..)
        .map_while(|number: u64| std::fs::read(format!("{root}/{folder}/block_{number}.pb")).ok())
        .map(Bytes::from)
        .collect()
}
