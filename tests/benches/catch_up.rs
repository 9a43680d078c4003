// SPDX-License-Identifier: Apache-2.0
//! `catch-up`: a chain from an ordering service into a durable store, verified, against a bare
//! tonic stream of the same blocks from the same server.
//!
//! Both ends run in this process and share its cores, in the measured case and in the baseline.
//! The rounds of the two are interleaved.

use std::{sync::Arc, time::Duration};

use anyhow::{Context as _, Result, ensure};
use block_api::{
    BlockReader, BlockStore, Clock, Height, Standing, Start, StreamRequest, SystemClock,
    VerifiedBlock, testing::OpenReaders,
};
use block_store::SegmentStore;
use channel_config::{ChannelAccess, ChannelVerifier, OwnMsp};
use clap::Parser;
use deliver_service::{ChannelParts, DeliverService};
use dev_orderer::{ChainMaker, DevOrderer, NetworkConfig, NodesConfig, Pace};
use e2e_tests::bench::{self, Round, Row, Target};
use gossip_memory::MemoryNetwork;
use orderer_client::{Config as ClientConfig, OrdererClient, OrdererEndpoint, Tls};
use protos::{
    deliver::DeliverMessage,
    grpc::{AtomicBroadcastClient, MAX_MESSAGE_BYTES},
};
use rustls_pki_types::ServerName;
use signer::envelope::{Nonce, seek_envelope};
use tokio::{net::TcpStream, time::Instant};
use tokio_stream::StreamExt as _;

/// Verified and durable, over the bare stream. The bare stream neither hashes nor writes.
const TARGET_LARGE: f64 = 0.75;

/// With small blocks one signature a block weighs more than the bytes.
const TARGET_SMALL: f64 = 0.3;

#[derive(Debug, Parser)]
struct Args {
    #[command(flatten)]
    shared: bench::Args,
    /// Blocks of 101 KB in a chain; ten times as many of 11 KB have about as many bytes.
    #[arg(long, default_value_t = 1000)]
    blocks: usize,
}

/// An ordering service that has a whole chain, and someone who may read it.
struct Rig {
    orderer: DevOrderer,
    signer: Arc<dyn block_api::Signer>,
    clock: Arc<dyn Clock>,
    height: Height,
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    let rounds = args.shared.rounds();
    let blocks = if args.shared.smoke { 20 } else { args.blocks };
    let mut rows = Vec::new();
    for (case, blocks, bytes, target) in [
        ("catch-up size=101KB", blocks, 100_000, TARGET_LARGE),
        ("catch-up size=11KB", blocks * 2, 10_000, TARGET_SMALL),
    ] {
        let rig = Rig::start(blocks, bytes).await?;
        let mut measured = Vec::new();
        for _ in 0..rounds {
            let baseline = rig.rate(rig.bare().await?);
            let value = rig.rate(rig.catch_up().await?);
            measured.push(Round { value, baseline });
        }
        rig.orderer.stop().await;
        rows.push(Row::new(
            case,
            "blocks/s",
            Target::AtLeast(target),
            &measured,
        ));
    }
    bench::finish(&rows, &args.shared)
}

impl Rig {
    async fn start(blocks: usize, bytes: usize) -> Result<Self> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let config = NetworkConfig::new("bench".parse()?);
        let mut maker = ChainMaker::new(config, &["localhost:7050".parse()?], clock.now())?;
        let chain = maker.chain(blocks, bytes).await?;
        let signer = maker.network().client().signer();
        let nodes = NodesConfig::new(clock.clone());
        let orderer =
            DevOrderer::replay(chain, Pace::AllAtOnce, Arc::new(OpenReaders), nodes).await?;
        Ok(Self {
            orderer,
            signer,
            clock,
            height: Height::new(blocks as u64 + 1),
        })
    }

    /// Blocks in a second.
    fn rate(&self, elapsed: Duration) -> f64 {
        (self.height.get() - 1) as f64 / elapsed.as_secs_f64()
    }

    /// A bare tonic stream: the messages are received and counted, no more.
    async fn bare(&self) -> Result<Duration> {
        let began = Instant::now();
        let mut roots = rustls::RootCertStore::empty();
        for root in self.orderer.tls_roots() {
            roots.add(root)?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let connector = tokio_rustls::TlsConnector::from(Arc::new(tls));
        let endpoint = self.orderer.endpoint().clone();
        let name = ServerName::try_from(endpoint.host().to_owned())?;
        let address = endpoint.to_string();
        let dial = tower::service_fn(move |_| {
            let (connector, name, address) = (connector.clone(), name.clone(), address.clone());
            async move {
                let tcp = TcpStream::connect(address).await?;
                tcp.set_nodelay(true)?;
                Ok::<_, std::io::Error>(hyper_util::rt::TokioIo::new(
                    connector.connect(name, tcp).await?,
                ))
            }
        });
        let client_config = ClientConfig::default();
        let channel = tonic::transport::Endpoint::from_shared(format!("https://{endpoint}"))?
            .initial_stream_window_size(client_config.stream_window_bytes)
            .initial_connection_window_size(client_config.connection_window_bytes)
            .connect_with_connector(dial)
            .await?;
        let mut client =
            AtomicBroadcastClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
        let request =
            StreamRequest::blocks_from(self.orderer.channel().clone(), Start::At(1.into()));
        let envelope = seek_envelope(
            &*self.signer,
            &request,
            None,
            self.clock.now(),
            Nonce::random(),
        )
        .await?;
        // The half that sends stays open, as an orderer's client leaves it.
        let requests = tokio_stream::iter([envelope]).chain(tokio_stream::pending());
        let mut responses = client.deliver(requests).await?.into_inner();
        for _ in 1..self.height.get() {
            let response = responses.next().await.context("the stream ended early")??;
            ensure!(
                matches!(response.parse()?, DeliverMessage::Block(_)),
                "no block"
            );
        }
        Ok(began.elapsed())
    }

    /// The whole way: pulled, verified, buffered, durable.
    async fn catch_up(&self) -> Result<Duration> {
        let genesis = self.orderer.genesis();
        let dir = tempfile::tempdir()?;
        let channel = self.orderer.channel().clone();
        let (store, _) = SegmentStore::open(
            dir.path().join("chain"),
            block_store::Config::new(channel.clone()),
        )?;
        let store = Arc::new(store);
        let verifier = Arc::new(ChannelVerifier::from_genesis(genesis)?);
        store
            .append(vec![VerifiedBlock::new(
                genesis.clone(),
                &*verifier,
                Standing::Linked,
            )?])
            .await?;
        let client = ClientConfig {
            endpoints: vec![OrdererEndpoint {
                endpoint: self.orderer.endpoint().clone(),
                tls_roots: self.orderer.tls_roots(),
            }],
            tls: Tls::Server,
            ..ClientConfig::default()
        };
        let source = OrdererClient::new(client, self.signer.clone(), self.clock.clone())?;
        let gossip = Arc::new(MemoryNetwork::new(0).node("node"));
        let service = DeliverService::new(deliver_service::Config::default(), gossip)?;
        let readers = Arc::new(ChannelAccess::readers(&verifier));
        let organisation = Arc::new(OwnMsp::of_identity(&verifier, &self.signer.identity()));
        service
            .join_channel(ChannelParts {
                channel: channel.clone(),
                genesis: genesis.header_hash(),
                store: store.clone(),
                verifier,
                readers,
                signer: self.signer.clone(),
                organisation,
                source: Arc::new(source),
            })
            .await?;
        let began = Instant::now();
        service
            .start_deliver_for_channel(&channel, store.clone())
            .await?;
        let waited =
            tokio::time::timeout(Duration::from_secs(300), store.wait_for(self.height)).await;
        let elapsed = began.elapsed();
        waited.context("the chain did not arrive within five minutes")??;
        service.stop().await;
        SegmentStore::clone(&store).close().await;
        Ok(elapsed)
    }
}
