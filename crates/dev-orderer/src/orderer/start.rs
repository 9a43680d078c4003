// SPDX-License-Identifier: Apache-2.0
//! Starting a dev orderer: on a new network, or with a recorded chain.

use std::{
    future::{self, Future},
    sync::Arc,
};

use block_api::{Block, BlockNumber, Readers};
use channel_config::ChannelVerifier;
use tokio::{
    sync::{Mutex, mpsc},
    task::JoinSet,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, error, info_span};

use super::{DevOrderer, Mode, OrderingMode, tls_roots};
use crate::{
    broadcast::Admission,
    chain::MemoryChain,
    config::{Config, NodesConfig, ORDERER_ORGANIZATION},
    network::Network,
    nodes::{Bound, Common, Node, StartError},
    ordering::Ordering,
    pace::Pace,
    pki::{KeyKind, Member, Organization, OrganizationSpec, Role},
    recorded::RecordedChain,
    terms::OrdererNode,
};

impl DevOrderer {
    /// Starts an ordering service on a new network. It listens, and has its genesis block, when
    /// this returns.
    ///
    /// # Errors
    ///
    /// When the configuration contradicts itself, or a node cannot listen.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future starts nothing.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        config.validate()?;
        let Config {
            network,
            nodes: nodes_config,
            queue_bytes,
        } = config;
        let count = nodes_config.count.get();
        let bound = Bound::all(&nodes_config, 0, count).await?;
        let endpoints: Vec<_> = bound.iter().map(|bound| bound.endpoint.clone()).collect();
        let batch = network.batch.clone();
        let network = Network::generate(network, &endpoints, nodes_config.clock.now())?;
        let verifier =
            Arc::new(ChannelVerifier::from_genesis(network.genesis()).map_err(Box::new)?);

        let chains = chains(count);
        for chain in &chains {
            chain.append(network.genesis());
        }
        let (ordering, handle) =
            Ordering::new(&batch, queue_bytes.get(), network.writer(), chains.clone());
        let admission = Arc::new(Admission::new(
            verifier.clone(),
            nodes_config.clock.clone(),
            handle.clone(),
        ));
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let mode = OrderingMode {
            configuration: Mutex::new(network.first_configuration()),
            network,
            nodes: nodes_config,
            verifier,
            admission,
            ordering: handle,
            listeners: count,
        };
        let network = &mode.network;
        let members = network.nodes().iter().map(OrdererNode::member);
        let common = mode.common(network, &stop);
        let nodes = open(&common, bound, members, chains, &mut tasks).await?;
        tasks.spawn(
            ordering
                .run(stop.clone())
                .instrument(info_span!("ordering", channel = %network.channel())),
        );
        Ok(Self {
            channel: network.channel().clone(),
            genesis: network.genesis().clone(),
            nodes,
            mode: Mode::Ordering(Box::new(mode)),
            stop,
            tasks,
        })
    }

    /// Serves a recorded chain, byte for byte, to whom `readers` lets read. The genesis block is
    /// there at once, the others at the pace. Nothing is ordered.
    ///
    /// The addresses in the recorded configuration are not those of the nodes here: clients need
    /// overrides.
    ///
    /// # Errors
    ///
    /// When a node cannot listen.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future starts nothing.
    pub async fn replay(
        chain: RecordedChain,
        pace: Pace,
        readers: Arc<dyn Readers>,
        nodes_config: NodesConfig,
    ) -> Result<Self, StartError> {
        let at_once = match pace {
            Pace::AllAtOnce => chain.blocks().len(),
            Pace::At(_) => 1,
        };
        let growing = |blocks, chains| replay(blocks, at_once, pace, chains);
        Self::serve_recorded(chain, at_once, growing, readers, nodes_config).await
    }

    /// Serves a recorded chain as [`replay`](Self::replay) does, all of it at once, and then each
    /// block of `further`, as it comes. Several ordering services that follow one chain serve one
    /// channel, and any of them may begin again.
    ///
    /// A block that is not the next one ends it: the chain grows no more, and is served as it is.
    ///
    /// # Errors
    ///
    /// As [`replay`](Self::replay).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future starts nothing.
    pub async fn follow(
        chain: RecordedChain,
        further: mpsc::Receiver<Block>,
        readers: Arc<dyn Readers>,
        nodes_config: NodesConfig,
    ) -> Result<Self, StartError> {
        let at_once = chain.blocks().len();
        let next = BlockNumber::new(at_once as u64);
        let growing = |_, chains| follow(next, further, chains);
        Self::serve_recorded(chain, at_once, growing, readers, nodes_config).await
    }

    /// Serves a recorded chain as [`replay`](Self::replay) does, except that until `begin` is done
    /// there is the genesis block alone.
    ///
    /// # Errors
    ///
    /// As [`replay`](Self::replay).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future starts nothing.
    pub async fn replay_when(
        begin: impl Future<Output = ()> + Send + 'static,
        chain: RecordedChain,
        pace: Pace,
        readers: Arc<dyn Readers>,
        nodes_config: NodesConfig,
    ) -> Result<Self, StartError> {
        let growing = |blocks, chains| async move {
            begin.await;
            replay(blocks, 1, pace, chains).await;
        };
        Self::serve_recorded(chain, 1, growing, readers, nodes_config).await
    }

    /// Serves the first blocks of a chain at once, and lets `growing` append the others.
    async fn serve_recorded<G>(
        chain: RecordedChain,
        at_once: usize,
        growing: impl FnOnce(Vec<Block>, Vec<Arc<MemoryChain>>) -> G,
        readers: Arc<dyn Readers>,
        nodes_config: NodesConfig,
    ) -> Result<Self, StartError>
    where
        G: Future<Output = ()> + Send + 'static,
    {
        let bound = Bound::all(&nodes_config, 0, nodes_config.count.get()).await?;
        let spec = OrganizationSpec::new(ORDERER_ORGANIZATION, []);
        let pki = |err| StartError::Network(crate::NetworkError::Pki(err));
        let organization =
            Organization::generate(&spec, KeyKind::EcdsaP256, nodes_config.clock.now())
                .map_err(pki)?;
        let members = bound
            .iter()
            .enumerate()
            .map(|(index, bound)| {
                organization.issue_reached_by(
                    &format!("orderer{index}"),
                    Role::Orderer,
                    &[bound.endpoint.host()],
                )
            })
            .collect::<Result<Vec<_>, _>>()
            .map_err(pki)?;
        let chains = chains(bound.len());
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let channel = chain.channel().clone();
        let common = Common {
            config: &nodes_config,
            channel: &channel,
            readers,
            broadcast: None,
            client_roots: tls_roots([&organization]),
            stop: &stop,
        };
        let genesis = chain
            .blocks()
            .first()
            .expect("invariant: a recorded chain has its genesis block")
            .clone();
        let blocks = chain.into_blocks();
        for block in blocks.iter().take(at_once) {
            append(&chains, block);
        }
        let nodes = open(&common, bound, members.iter(), chains.clone(), &mut tasks).await?;
        let growing = growing(blocks, chains.clone());
        tasks.spawn(until_stopped(growing, chains, stop.clone()));
        Ok(Self {
            channel,
            genesis,
            nodes,
            mode: Mode::Replay(Box::new(organization)),
            stop,
            tasks,
        })
    }
}

/// Serves a chain on each listener, as the members with the ids from 1 on.
async fn open<'a>(
    common: &Common<'_>,
    bound: Vec<Bound>,
    members: impl Iterator<Item = &'a Member>,
    chains: Vec<Arc<MemoryChain>>,
    tasks: &mut JoinSet<()>,
) -> Result<Vec<Node>, StartError> {
    let mut nodes = Vec::with_capacity(chains.len());
    for (((index, bound), member), chain) in bound.into_iter().enumerate().zip(members).zip(chains)
    {
        let ready = common.ready(index, bound, member).await?;
        let id = u32::try_from(index + 1).expect("invariant: there are fewer nodes than ports");
        nodes.push(Node::open(ready, id, common, chain, tasks));
    }
    Ok(nodes)
}

fn chains(count: usize) -> Vec<Arc<MemoryChain>> {
    (0..count).map(|_| Arc::new(MemoryChain::new())).collect()
}

fn append(chains: &[Arc<MemoryChain>], block: &Block) {
    for chain in chains {
        chain.append(block);
    }
}

/// Puts the blocks from an index on on the chains, each at its time.
async fn replay(blocks: Vec<Block>, from: usize, pace: Pace, chains: Vec<Arc<MemoryChain>>) {
    let start = Instant::now();
    for (index, block) in blocks.iter().enumerate().skip(from) {
        sleep_until(start + pace.offset(index)).await;
        append(&chains, block);
    }
}

/// Puts blocks on the chains as they come, from the one with this number on.
async fn follow(
    mut next: BlockNumber,
    mut further: mpsc::Receiver<Block>,
    chains: Vec<Arc<MemoryChain>>,
) {
    while let Some(block) = further.recv().await {
        let number = block.number();
        let Some(after) = next.next().filter(|_| number == next) else {
            error!(block.number = %number, %next, "this block is not the next one; the chain grows no more");
            return;
        };
        append(&chains, &block);
        next = after;
    }
}

/// Lets the chains grow until told to stop, and closes them then.
async fn until_stopped(
    growing: impl Future<Output = ()>,
    chains: Vec<Arc<MemoryChain>>,
    stop: CancellationToken,
) {
    let growing = async {
        growing.await;
        // A chain that has come to its end stays open, as that of an orderer without work does.
        future::pending::<()>().await;
    };
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        () = growing => {}
    }
    for chain in &chains {
        chain.close();
    }
}
