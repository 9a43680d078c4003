// SPDX-License-Identifier: Apache-2.0
//! What the tests of the client share.

pub(crate) mod net;
pub(crate) mod pki;
pub(crate) mod raw;
pub(crate) mod script;

use std::{
    fs,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use block_api::{
    BlockNumber, BlockStream, ChannelId, Delivery, Endpoint, FixedClock, Signer, SourceError,
    Start, StreamRequest, testing::TestSigner,
};
use bytes::Bytes;
use orderer_client::{Config, OrdererClient, OrdererEndpoint};
use tokio_stream::StreamExt as _;

/// The channel of the recorded chain.
pub(crate) const CHANNEL: &str = "ch-raft";

/// Nothing takes longer.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// The moment of the tests: the day after the fixtures were made.
pub(crate) fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_795_420_000)
}

pub(crate) fn clock() -> Arc<FixedClock> {
    Arc::new(FixedClock(now()))
}

pub(crate) fn fixtures() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures"))
}

pub(crate) fn fixture(path: &str) -> Vec<u8> {
    fs::read(fixtures().join(path)).unwrap_or_else(|err| panic!("{path}: {err}"))
}

/// The bytes of a recorded block.
pub(crate) fn recorded(number: u64) -> Bytes {
    fixture(&format!("raft/block_{number}.pb")).into()
}

pub(crate) fn channel() -> ChannelId {
    CHANNEL.parse().unwrap()
}

/// What a puller asks.
pub(crate) fn blocks_from(number: u64) -> StreamRequest {
    StreamRequest::blocks_from(channel(), Start::At(BlockNumber::new(number)))
}

/// A request that never waits.
pub(crate) fn range(first: u64, last: u64) -> StreamRequest {
    StreamRequest::range(channel(), BlockNumber::new(first), BlockNumber::new(last))
}

pub(crate) fn test_signer() -> Arc<dyn Signer> {
    Arc::new(TestSigner("Tester"))
}

pub(crate) fn endpoint(text: &str) -> Endpoint {
    text.parse().unwrap()
}

/// An endpoint without TLS roots.
pub(crate) fn plain(endpoint: &Endpoint) -> OrdererEndpoint {
    OrdererEndpoint {
        endpoint: endpoint.clone(),
        tls_roots: Vec::new(),
    }
}

/// A client without TLS.
pub(crate) fn client_of(endpoints: &[&Endpoint]) -> OrdererClient {
    client_with(Config {
        endpoints: endpoints.iter().map(|endpoint| plain(endpoint)).collect(),
        ..Config::default()
    })
}

pub(crate) fn client_with(config: Config) -> OrdererClient {
    OrdererClient::new(config, test_signer(), clock()).unwrap()
}

/// Waits for what must happen.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what} did not happen within {DEADLINE:?}"),
    }
}

/// The next item of a stream, which must come.
pub(crate) async fn next(stream: &mut BlockStream) -> Result<Delivery, SourceError> {
    within("a delivery", stream.next())
        .await
        .expect("the stream goes on")
}

/// The bytes of the next block.
pub(crate) async fn block(stream: &mut BlockStream) -> Bytes {
    match next(stream).await {
        Ok(Delivery::Block(block)) => block.raw().clone(),
        other => panic!("no block, but {other:?}"),
    }
}

/// The error of a stream that was not opened.
pub(crate) fn refusal(opened: Result<BlockStream, SourceError>) -> SourceError {
    match opened {
        Ok(_) => panic!("the stream was opened"),
        Err(error) => error,
    }
}
