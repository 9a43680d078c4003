// SPDX-License-Identifier: Apache-2.0
//! A node of the simulation: the engine over simulated connections and gossip, and what is left of
//! it when it dies.

use std::{
    collections::BTreeSet,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use block_api::{
    AppendError, Block, BlockStore, BlockVerifier, ChainInfo, Clock, Endpoint, HeaderHash,
    HeaderProof, Rejection, Standing, Verdict, VerifiedBlock,
    testing::{AlteredStore, GullibleVerifier, MemoryStore},
};
use channel_config::{ChannelAccess, OwnMsp};
use deliver_service::{ChannelParts, Config, DeliverService};
use gossip_memory::{MemoryNetwork, NodeConfig};
use orderer_client::{Config as ClientConfig, Connector, Io, OrdererClient, OrdererEndpoint, Tls};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::sleep,
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use crate::{
    run::Broken,
    scene::{Chain, ORDERERS, Scene, epoch, node_name, orderer_name, port},
    source::{Asked, SimSource},
    trace::Trace,
};

/// How often a node is asked whether a task of it died.
pub(crate) const SAMPLE_EVERY: Duration = Duration::from_millis(250);

/// A node, as its disk and its place in the network outlive its crashes.
#[derive(Debug)]
pub(crate) struct Node {
    index: usize,
    seed: u64,
    gossip: MemoryNetwork,
    pub(crate) trace: Trace,
    /// What was asked of the orderers of each channel.
    pub(crate) asked: Vec<Asked>,
    pub(crate) broken: Broken,
    pub(crate) stores: Vec<Arc<SimStore>>,
    /// What breaks the connections to each orderer.
    resets: Mutex<Vec<CancellationToken>>,
    starts: AtomicU64,
}

/// What all nodes of a run have in common.
#[derive(Debug)]
pub(crate) struct Setting {
    pub(crate) seed: u64,
    pub(crate) gossip: MemoryNetwork,
    pub(crate) trace: Trace,
    pub(crate) asked: Vec<Asked>,
    pub(crate) broken: Broken,
}

/// The clock on the wall of the simulation.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SimClock;

/// A store that lets nothing pass that is not of the true chain, or that nobody judged.
#[derive(Debug)]
pub(crate) struct SimStore {
    who: String,
    chain: &'static Chain,
    pub(crate) store: MemoryStore,
    accepted: Mutex<BTreeSet<HeaderHash>>,
    trace: Trace,
    broken: Broken,
}

/// The verifier of a node, whose verdicts are noted.
#[derive(Debug)]
struct SimVerifier {
    verifier: Box<dyn BlockVerifier>,
    store: Arc<SimStore>,
}

/// Dials in the simulation.
#[derive(Debug)]
struct SimConnector {
    node: Arc<Node>,
}

/// A connection that can be broken, as TCP breaks one that gets no answers.
struct Breakable {
    io: turmoil::net::TcpStream,
    broken: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Node {
    pub(crate) async fn new(index: usize, setting: Setting) -> Arc<Self> {
        let Setting {
            seed,
            gossip,
            trace,
            asked,
            broken,
        } = setting;
        let mut stores = Vec::new();
        for chain in &Scene::get().channels {
            stores.push(Arc::new(SimStore {
                who: node_name(index),
                chain,
                store: MemoryStore::with(vec![chain.genesis.clone()]).await,
                accepted: Mutex::default(),
                trace: trace.clone(),
                broken,
            }));
        }
        Arc::new(Self {
            index,
            seed,
            gossip,
            trace,
            asked,
            broken,
            stores,
            resets: Mutex::new(vec![CancellationToken::new(); ORDERERS]),
            starts: AtomicU64::new(0),
        })
    }

    /// Runs until it is killed.
    pub(crate) async fn run(self: Arc<Self>) -> turmoil::Result {
        let start = self.starts.fetch_add(1, Ordering::Relaxed);
        let name = node_name(self.index);
        self.trace.tell(&name, "starts");
        let identity = |chain: &Chain| (chain.id.clone(), chain.signer(self.index).identity());
        let config = NodeConfig {
            identities: Scene::get().channels.iter().map(identity).collect(),
            ..NodeConfig::default()
        };
        let gossip = self.gossip.node_with(&name, config);
        let service = DeliverService::new(self.config(start), Arc::new(gossip))?;
        for (channel, chain) in Scene::get().channels.iter().enumerate() {
            service.join_channel(self.parts(channel, chain)?).await?;
            let ledger = self.stores[channel].clone();
            service.elect_for_channel(&chain.id, ledger).await?;
        }
        loop {
            sleep(SAMPLE_EVERY).await;
            for chain in &Scene::get().channels {
                let state = service.state(&chain.id);
                let deaths = state.map(|state| state.deaths).unwrap_or_default();
                if !deaths.is_empty() {
                    let what = format!("{}: tasks died: {deaths:?}", chain.id);
                    self.trace.violated(&name, what);
                }
            }
        }
    }

    /// Breaks the connections to an orderer.
    pub(crate) fn break_connections(&self, orderer: usize) {
        std::mem::take(&mut lock(&self.resets)[orderer]).cancel();
    }

    fn config(&self, start: u64) -> Config {
        Config {
            provider: blocks_provider::Config {
                censorship_timeout: Duration::from_secs(10),
                idle_limit: Duration::from_secs(8),
                probe_timeout: Duration::from_secs(3),
                seed: Some(self.seed ^ (self.index as u64 + 1) << 32 ^ start << 48),
                ..blocks_provider::Config::default()
            },
            ..Config::default()
        }
    }

    fn parts(self: &Arc<Self>, channel: usize, chain: &Chain) -> turmoil::Result<ChannelParts> {
        let signer = chain.signer(self.index);
        let endpoints = (0..ORDERERS).map(|orderer| OrdererEndpoint {
            endpoint: format!("{}:{}", orderer_name(orderer), port(channel))
                .parse()
                .unwrap(),
            tls_roots: Vec::new(),
        });
        let config = ClientConfig {
            endpoints: endpoints.collect(),
            tls: Tls::Plain,
            ..ClientConfig::default()
        };
        let client = OrdererClient::new(config, signer.clone(), Arc::new(SimClock))?
            .with_connector(Arc::new(SimConnector { node: self.clone() }));
        let verifier = chain.verifier();
        let store = self.stores[channel].clone();
        Ok(ChannelParts {
            channel: chain.id.clone(),
            genesis: chain.hashes[0],
            readers: Arc::new(ChannelAccess::readers(&verifier)),
            organisation: Arc::new(OwnMsp::of_identity(&verifier, &signer.identity())),
            verifier: Arc::new(SimVerifier {
                verifier: if self.broken == Broken::Gullible {
                    Box::new(GullibleVerifier::default())
                } else {
                    Box::new(verifier)
                },
                store: store.clone(),
            }),
            store,
            signer,
            source: Arc::new(SimSource {
                client: Arc::new(client),
                node: self.clone(),
                node_index: self.index,
                channel,
            }),
        })
    }
}

impl SimStore {
    pub(crate) fn height(&self) -> u64 {
        self.inner().info().height.get()
    }

    /// What an append of these blocks breaks.
    fn violation(&self, blocks: &[VerifiedBlock]) -> Option<String> {
        let height = self.height();
        for (number, block) in (height..).zip(blocks) {
            if block.number().get() != number {
                return Some(format!("block {} upon height {number}", block.number()));
            }
            if self.chain.hashes.get(number as usize) != Some(&block.header_hash()) {
                return Some(format!("block {number} is another one than was ordered"));
            }
            if !lock(&self.accepted).contains(&block.header_hash()) {
                return Some(format!("block {number} was never accepted"));
            }
        }
        None
    }
}

#[async_trait]
impl AlteredStore for SimStore {
    fn inner(&self) -> &dyn BlockStore {
        &self.store
    }

    async fn instead_of_append(
        &self,
        blocks: Vec<VerifiedBlock>,
    ) -> Result<ChainInfo, AppendError> {
        let (before, violation) = (self.height(), self.violation(&blocks));
        let appended = if self.broken == Broken::Forgetful {
            Ok(self.inner().info())
        } else {
            self.inner().append(blocks).await
        };
        let id = &self.chain.id;
        match &appended {
            Ok(info) => {
                let what = format!("stores {id} {before} to {}", info.height.get() - 1);
                self.trace.tell(&self.who, what);
                if info.height.get() <= before {
                    let what = format!("{id} fell from height {before} to {}", info.height);
                    self.trace.violated(&self.who, what);
                }
                if let Some(violation) = violation {
                    self.trace.violated(&self.who, format!("{id}: {violation}"));
                }
            }
            Err(_) => self
                .trace
                .tell(&self.who, format!("cannot store {id} {before}")),
        }
        appended
    }
}

impl BlockVerifier for SimVerifier {
    fn verify(&self, block: &Block, standing: Standing) -> Verdict {
        let panics = self.store.broken == Broken::Panics && block.number() == 3.into();
        assert!(!panics, "it is meant to panic");
        let verdict = self.verifier.verify(block, standing);
        let SimStore {
            who,
            chain,
            accepted,
            trace,
            ..
        } = &*self.store;
        match &verdict {
            Verdict::Accepted(_) => drop(lock(accepted).insert(block.header_hash())),
            Verdict::Rejected(rejection) => {
                let (id, number, rule) = (&chain.id, block.number(), rejection.rule());
                trace.tell(who, format!("rejects {id} {number} by {rule}"));
            }
            Verdict::AwaitsConfig(_) | Verdict::AwaitsLink => {}
        }
        verdict
    }

    fn verify_attestation(&self, block: &Block, standing: Standing) -> Verdict {
        self.verifier.verify_attestation(block, standing)
    }

    fn apply_config(&self, stored: &VerifiedBlock) -> Result<(), Rejection> {
        self.verifier.apply_config(stored)
    }

    fn header_proof(&self) -> HeaderProof {
        self.verifier.header_proof()
    }
}

#[async_trait]
impl Connector for SimConnector {
    async fn connect(&self, endpoint: &Endpoint) -> io::Result<Box<dyn Io>> {
        let who = node_name(self.node.index);
        self.node.trace.tell(&who, format!("dials {endpoint}"));
        let orderer = (0..ORDERERS).find(|index| orderer_name(*index) == endpoint.host());
        let broken = lock(&self.node.resets)[orderer.unwrap()].clone();
        let port = endpoint.port().unwrap();
        let io = turmoil::net::TcpStream::connect((endpoint.host(), port)).await?;
        Ok(Box::new(Breakable {
            io,
            broken: Box::pin(broken.cancelled_owned()),
        }))
    }
}

impl AsyncRead for Breakable {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.broken.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Breakable {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

impl Clock for SimClock {
    fn now(&self) -> SystemTime {
        epoch() + turmoil::sim_elapsed().unwrap_or_default()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
