// SPDX-License-Identifier: Apache-2.0
//! Bodies among nodes that are joined by pipes: true ones, and such that lie.

mod serving;

use std::{
    collections::{BTreeMap, BTreeSet},
    num::NonZeroUsize,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use block_api::{
    Block, BlockNumber, BlockReader, ChainInfo, DeliverStatus, FetchError, Height, ReadError,
    ReadLimits,
    testing::{TestChain, TestSigner, within},
};
use bytes::Bytes;
use futures::{FutureExt as _, future::BoxFuture};
use libp2p::PeerId;
use tokio::{
    io::{DuplexStream, duplex},
    sync::{Semaphore, watch},
    time::{Instant, sleep, timeout},
};
use tokio_util::{
    compat::{Compat, TokioAsyncReadCompatExt},
    sync::CancellationToken,
    task::TaskTracker,
};

use super::{
    assembly::Assembly,
    fetch::Network,
    hints::{CHUNK, WHOLE},
    making::Making,
    shelf::{Begun, Found},
    *,
};
use crate::{
    Config, Keypair,
    channels::Shared,
    error::OpenError,
    frames::{self, Frame, Patience, flush, read_frame, write_frame},
    score::Offence,
    serve::Library,
    stats::Counters,
    topic::TopicId,
    wire::{Ask, Offer, Want, parse_end},
};

const TOPIC: TopicId = TopicId::new([1; 32]);
const SECOND: Duration = Duration::from_secs(1);
const MIB: usize = 1024 * 1024;
const PATIENCE: Patience = Patience {
    first: Some(Duration::from_secs(60)),
    next: Duration::from_secs(60),
};

type Pipe = Compat<DuplexStream>;
type Liar = Arc<dyn Fn(Pipe) -> BoxFuture<'static, ()> + Send + Sync>;

/// A node, and what it serves.
struct Node {
    key: Keypair,
    bodies: Arc<Bodies>,
    library: watch::Sender<Library>,
    counters: Counters,
    /// Whether others may have its channel.
    open: AtomicBool,
    budgets: [Arc<Semaphore>; 3],
    shared: Shared,
    members: watch::Sender<BTreeSet<PeerId>>,
}

/// A store of blocks that nobody judged.
#[derive(Debug, Default)]
struct Shelf(BTreeMap<BlockNumber, Bytes>);

/// A store that has blocks and does not give them.
#[derive(Debug)]
struct Broken;

/// All nodes; those that lie answer by themselves.
#[derive(Default)]
struct World {
    nodes: BTreeMap<PeerId, Arc<Node>>,
    liars: BTreeMap<PeerId, Liar>,
    blamed: Mutex<Vec<(PeerId, Offence)>>,
    tasks: TaskTracker,
}

/// The world as one node sees it.
#[derive(Clone)]
struct Seen {
    world: Arc<World>,
    own: PeerId,
}

#[async_trait]
impl BlockReader for Shelf {
    fn info(&self) -> ChainInfo {
        let last = self.0.keys().next_back();
        ChainInfo {
            height: last.map_or(Height::ZERO, |last| last.height()),
            ..ChainInfo::EMPTY
        }
    }

    async fn read(&self, from: BlockNumber, _: ReadLimits) -> Result<Vec<Bytes>, ReadError> {
        Ok(self.0.get(&from).cloned().into_iter().collect())
    }

    async fn wait_for(&self, height: Height) -> Result<ChainInfo, ReadError> {
        if self.info().height < height {
            std::future::pending::<()>().await;
        }
        Ok(self.info())
    }

    fn config_at(&self, _: BlockNumber) -> Option<BlockNumber> {
        None
    }
}

#[async_trait]
impl BlockReader for Broken {
    fn info(&self) -> ChainInfo {
        ChainInfo {
            height: Height::new(1000),
            ..ChainInfo::EMPTY
        }
    }

    async fn read(&self, _: BlockNumber, _: ReadLimits) -> Result<Vec<Bytes>, ReadError> {
        Err(ReadError::Closed)
    }

    async fn wait_for(&self, _: Height) -> Result<ChainInfo, ReadError> {
        Err(ReadError::Closed)
    }

    fn config_at(&self, _: BlockNumber) -> Option<BlockNumber> {
        None
    }
}

impl Network for Seen {
    type Stream = Pipe;

    async fn open(&self, peer: PeerId) -> Result<Pipe, OpenError> {
        let (here, there) = duplex(64 * 1024);
        if let Some(liar) = self.world.liars.get(&peer) {
            self.world.tasks.spawn(liar(there.compat()));
            return Ok(here.compat());
        }
        let node = self.world.nodes.get(&peer).ok_or(OpenError::NotConnected)?;
        let (node, own) = (node.clone(), self.own);
        self.world.tasks.spawn(async move {
            // Whoever hangs up in the middle has what it wanted.
            let _ = node.serve(own, there.compat()).await;
        });
        Ok(here.compat())
    }

    fn blame(&self, peer: PeerId, offence: Offence) {
        self.world.blamed.lock().unwrap().push((peer, offence));
    }
}

impl Node {
    fn new(seed: u8) -> Self {
        let key = Keypair::from_seed([seed; 32]);
        let (members, seen) = watch::channel(BTreeSet::new());
        let shared = Shared {
            topic: TOPIC,
            generation: 1,
            members: seen,
            holders: Holders::default(),
            pulling: Arc::new(AtomicBool::new(false)),
            left: CancellationToken::new(),
        };
        let empty = Shelf::default();
        let library = Library::from([(TOPIC, Arc::new(empty) as Arc<dyn BlockReader>)]);
        Self {
            bodies: Bodies::new(key.clone(), 64 * MIB),
            key,
            library: watch::Sender::new(library),
            counters: Counters::default(),
            open: AtomicBool::new(true),
            budgets: [16, 64, 64].map(|mib| Arc::new(Semaphore::new(mib * 1024))),
            shared,
            members,
        }
    }

    fn id(&self) -> PeerId {
        self.key.peer_id()
    }

    async fn serve(&self, peer: PeerId, stream: Pipe) -> Result<(), frames::FrameError> {
        let server = Server {
            bodies: &self.bodies,
            library: &self.library.subscribe(),
            peer,
            may_have: &|_| self.open.load(Ordering::Relaxed),
            patience: 30 * SECOND,
            budgets: self.budgets.clone(),
            counters: &self.counters,
        };
        server.serve(stream).await
    }

    /// It has these blocks in its store, true or not.
    fn stores(&self, blocks: &[&Block]) {
        let raw = |block: &&Block| (block.number(), block.raw().clone());
        let store = Shelf(blocks.iter().map(raw).collect());
        self.library
            .send_modify(|library| drop(library.insert(TOPIC, Arc::new(store))));
    }

    fn bytes_served(&self) -> usize {
        self.counters.snapshot().body_bytes_served as usize
    }

    fn bytes_came(&self) -> usize {
        self.counters.snapshot().body_bytes_came as usize
    }
}

impl World {
    /// So many nodes.
    fn of(count: u8) -> (Self, Vec<Arc<Node>>) {
        let nodes: Vec<Arc<Node>> = (1..=count).map(|n| Arc::new(Node::new(n))).collect();
        let all = nodes.iter().map(|node| (node.id(), node.clone())).collect();
        let world = Self {
            nodes: all,
            ..Self::default()
        };
        (world, nodes)
    }

    fn lies(&mut self, seed: u8, liar: Liar) -> PeerId {
        let id = Keypair::from_seed([seed; 32]).peer_id();
        self.liars.insert(id, liar);
        id
    }

    fn blamed(&self) -> Vec<(PeerId, Offence)> {
        self.blamed.lock().unwrap().clone()
    }
}

/// A node fetches a block from these nodes, the first of which announced it.
async fn fetch(
    world: &Arc<World>,
    node: &Node,
    announcement: &Block,
    from: impl AsRef<[PeerId]>,
) -> Result<Block, FetchError> {
    let from = from.as_ref();
    node.members.send_replace(from.iter().copied().collect());
    for peer in from {
        node.shared.holders.announced(announcement, *peer);
    }
    let size = |n| NonZeroUsize::new(n).unwrap();
    let config = Config {
        max_block: size(60 * MIB),
        ..Config::new(node.key.clone(), Arc::new(TestSigner("node")))
    };
    let fetcher = Fetcher {
        bodies: &node.bodies,
        shared: &node.shared,
        network: Seen {
            world: world.clone(),
            own: node.id(),
        },
        config: &config,
        counters: &node.counters,
    };
    fetcher.fetch(announcement).await
}

/// A block with so many bytes of data.
fn block(bytes: usize) -> Block {
    let (mut chain, _) = TestChain::of_blocks("ch", 2, 10);
    chain.data(bytes)
}

/// The same header, and other data of the same length.
fn with_false_data(block: &Block) -> Block {
    let mut raw = block.raw().to_vec();
    let middle = raw.len() / 2;
    raw[middle] ^= 1;
    let forged = Block::parse(raw.into()).unwrap();
    assert_eq!(forged.header_hash(), block.header_hash());
    forged
}

/// The same header, and data with the hash that it claims, cut into entries elsewhere.
fn cut_elsewhere(block: &Block) -> Block {
    let joined: Vec<u8> = block.data().flatten().copied().collect();
    let (first, second) = joined.split_at(joined.len() / 2);
    let header = block.header();
    let previous = header.previous_hash;
    let slots: Vec<&[u8]> = block.slots().collect();
    let cut = Block::assemble(header.number, previous, &[first, second], &slots);
    assert_eq!(cut.header_hash(), block.header_hash());
    cut
}

fn body_id(block: &Block) -> BodyId {
    BodyId {
        topic: TOPIC,
        number: block.number(),
        hash: block.header_hash(),
    }
}

/// Answers with true hints, and then with frames of its own.
fn liar(
    block: &Block,
    seed: u8,
    frames: impl Fn(&[u8]) -> Vec<Vec<u8>> + Send + Sync + 'static,
    pause: Duration,
) -> Liar {
    let data = block.data_bytes().unwrap();
    let hints = Hints::make(&body_id(block), &data, &Keypair::from_seed([seed; 32]));
    let offer = Offer {
        have: Bits::all(hints.chunks()),
        hints,
    };
    let frames = Arc::new(frames);
    Arc::new(move |mut pipe: Pipe| {
        let (data, offer, frames) = (data.clone(), offer.encode(), frames.clone());
        Box::pin(async move {
            // A requester that has hung up ends it.
            let _ = read_frame(&mut pipe, 1 << 16, PATIENCE).await;
            let _ = write_frame(&mut pipe, frames::BODY_OFFER, &[&offer], SECOND * 99).await;
            for frame in frames(&data) {
                sleep(pause).await;
                if write_frame(&mut pipe, frames::BODY_PIECE, &[&frame], SECOND * 99)
                    .await
                    .is_err()
                {
                    return;
                }
            }
            sleep(SECOND * 3600).await;
        })
    })
}

fn piece(at: usize, bytes: &[u8]) -> Vec<u8> {
    [&(at as u32).to_be_bytes(), bytes].concat()
}

#[tokio::test(start_paused = true)]
async fn a_long_body_comes_from_several_nodes_at_the_same_time_and_once() {
    let (world, nodes) = World::of(5);
    let (world, block) = (Arc::new(world), block(20 * MIB));
    for node in &nodes[1..] {
        node.stores(&[&block]);
    }
    let from: Vec<PeerId> = nodes[1..].iter().map(|node| node.id()).collect();
    let announcement = block.without_data();
    let fetched = fetch(&world, &nodes[0], &announcement, &from)
        .await
        .unwrap();
    assert_eq!(fetched.raw(), &block.without_extras().raw());
    let served: Vec<usize> = nodes.iter().map(|node| node.bytes_served()).collect();
    assert!(
        served[1..].iter().filter(|bytes| **bytes > MIB).count() >= 2,
        "{served:?}"
    );
    assert_eq!(nodes[0].bytes_came(), block.data_bytes().unwrap().len());
    assert!(world.blamed().is_empty());
    // It is held for others, by the hints of its maker.
    assert!(matches!(
        nodes[0].bodies.find(&body_id(&block)),
        Found::Held(_)
    ));
}

/// Covers: GCH-16, NEW-11
#[tokio::test(start_paused = true)]
async fn a_false_body_is_its_senders_fault_and_hides_nothing() {
    let lies: [fn(&Block) -> Block; 2] = [with_false_data, cut_elsewhere];
    let rows = [200_000, 3 * MIB].map(|size| lies.map(|lie| (size, lie)));
    for (size, lie) in rows.into_iter().flatten() {
        let (world, nodes) = World::of(3);
        let (world, block) = (Arc::new(world), block(size));
        nodes[1].stores(&[&lie(&block)]);
        nodes[2].stores(&[&block]);
        let from = [nodes[1].id(), nodes[2].id()];
        let announcement = block.without_data();
        let fetched = within("the body", fetch(&world, &nodes[0], &announcement, &from)).await;
        assert_eq!(fetched.unwrap().data_bytes(), block.data_bytes());
        assert_eq!(world.blamed(), [(nodes[1].id(), Offence::WrongBody)]);
    }
}

/// Who sends by true hints while others are followed does what it was asked for.
#[tokio::test(start_paused = true)]
async fn who_is_not_followed_is_not_to_blame_for_what_it_sends() {
    let (mut world, _) = World::of(0);
    let (block, node) = (block(3 * MIB), Node::new(1));
    let pieces = |data: &[u8]| {
        let piece = |at: usize| piece(at, &data[at..data.len().min(at + MIB / 4)]);
        (0..data.len()).step_by(MIB / 4).map(piece).collect()
    };
    let honest = liar(&block, 8, pieces, Duration::ZERO);
    let late: Liar = Arc::new(move |pipe| {
        let honest = honest.clone();
        Box::pin(async move {
            sleep(SECOND / 2).await;
            honest(pipe).await;
        })
    });
    let late = world.lies(8, late);
    // Its hints are of a longer body, of which nothing comes.
    let key = Keypair::from_seed([9; 32]);
    let hints = Hints::make(&body_id(&block), &vec![0; 6 * MIB], &key);
    let offer = Offer {
        have: Bits::all(hints.chunks()),
        hints,
    };
    let false_one: Liar = Arc::new(move |mut pipe: Pipe| {
        let offer = offer.encode();
        Box::pin(async move {
            let _ = read_frame(&mut pipe, 1 << 16, PATIENCE).await;
            let _ = write_frame(&mut pipe, frames::BODY_OFFER, &[&offer], SECOND * 99).await;
            sleep(SECOND * 3600).await;
        })
    });
    let false_one = world.lies(9, false_one);
    let world = Arc::new(world);
    let announcement = block.without_data();
    let fetched = fetch(&world, &node, &announcement, [late, false_one]);
    let fetched = timeout(120 * SECOND, fetched).await.expect("the body");
    assert_eq!(fetched.unwrap().data_bytes(), block.data_bytes());
    let blamed = world.blamed();
    assert!(blamed.iter().all(|(peer, _)| *peer != late), "{blamed:?}");
}

/// A manifest in a name that nobody has.
#[tokio::test(start_paused = true)]
async fn who_tells_a_false_manifest_in_a_made_up_name_answers_for_it() {
    let (mut world, nodes) = World::of(2);
    let block = block(6 * MIB);
    nodes[1].stores(&[&block]);
    let pieces = |data: &[u8]| {
        let piece = |at: usize| piece(at, &data[at..data.len().min(at + CHUNK)]);
        (0..data.len()).step_by(CHUNK).map(piece).collect()
    };
    let made_up = 77;
    let lies = liar(&with_false_data(&block), made_up, pieces, Duration::ZERO);
    let liar = world.lies(9, lies);
    let (world, announcement) = (Arc::new(world), block.without_data());
    let from = [liar, nodes[1].id()];
    let fetched = within("the body", fetch(&world, &nodes[0], &announcement, &from)).await;
    assert_eq!(fetched.unwrap().data_bytes(), block.data_bytes());
    assert_eq!(world.blamed(), [(liar, Offence::WrongBody)]);
}

/// The node in the middle passes the manifest on that it was told; who made it is blamed by those
/// who know it.
#[tokio::test(start_paused = true)]
async fn a_false_manifest_is_its_makers_fault_and_not_of_who_passes_it_on() {
    let (world, nodes) = World::of(4);
    let (world, block) = (Arc::new(world), block(6 * MIB));
    let announcement = block.without_data();
    nodes[1].stores(&[&with_false_data(&block)]);
    nodes[2].stores(&[&block]);
    let (maker, honest, middle) = (nodes[1].id(), nodes[2].id(), nodes[3].id());
    let through = fetch(&world, &nodes[3], &announcement, [maker]);
    let fetched = async {
        let begun = fetch(&world, &nodes[0], &announcement, [middle]);
        tokio::pin!(begun);
        let early = timeout(5 * SECOND, &mut begun).await;
        assert!(early.is_err(), "{early:?}");
        nodes[0].members.send_replace([middle, honest].into());
        begun.await
    };
    let (early, fetched) = tokio::join!(timeout(60 * SECOND, through), fetched);
    assert!(early.is_err(), "{early:?}");
    assert_eq!(fetched.unwrap().data_bytes(), block.data_bytes());
    let mut blamed = world.blamed();
    blamed.retain(|(_, offence)| *offence == Offence::WrongBody);
    let blamed: BTreeSet<PeerId> = blamed.into_iter().map(|(peer, _)| peer).collect();
    assert_eq!(blamed, [maker].into());
}

/// Covers: GCH-16
#[tokio::test(start_paused = true)]
async fn a_false_chunk_is_its_senders_fault() {
    let (mut world, nodes) = World::of(2);
    let block = block(6 * MIB);
    nodes[1].stores(&[&block]);
    let rows: [Liar; 3] = [
        liar(
            &block,
            9,
            |data| {
                let mut chunk = data[..CHUNK].to_vec();
                chunk[7] ^= 1;
                vec![piece(0, &chunk)]
            },
            Duration::ZERO,
        ),
        liar(
            &block,
            9,
            |data| vec![piece(1, &data[..CHUNK])],
            Duration::ZERO,
        ),
        liar(
            &block,
            9,
            |data| vec![piece(64 * CHUNK, &data[..9])],
            Duration::ZERO,
        ),
    ];
    for lies in rows {
        let seed = 9;
        let liar = world.lies(seed, lies);
        let fresh = Node::new(1);
        let shared = Arc::new(std::mem::take(&mut world));
        let from = [liar, nodes[1].id()];
        let announcement = block.without_data();
        let fetched = within("the body", fetch(&shared, &fresh, &announcement, &from)).await;
        assert_eq!(fetched.unwrap().data_bytes(), block.data_bytes());
        assert_eq!(shared.blamed(), [(liar, Offence::WrongBody)]);
        world.nodes = shared.nodes.clone();
    }
}

#[tokio::test(start_paused = true)]
async fn who_trickles_holds_nothing_up() {
    for size in [3 * MIB, 6 * MIB] {
        let (mut world, nodes) = World::of(2);
        let block = block(size);
        nodes[1].stores(&[&block]);
        // A true body, a few bytes at a time.
        let drops = |data: &[u8]| {
            let drop = |at: usize| piece(at, &data[at..at + 100]);
            (0..data.len() - 100).step_by(100).map(drop).collect()
        };
        let slow = world.lies(9, liar(&block, 9, drops, 3 * SECOND));
        let world = Arc::new(world);
        let began = Instant::now();
        let announcement = block.without_data();
        let from = [slow, nodes[1].id()];
        let fetched = fetch(&world, &nodes[0], &announcement, &from)
            .await
            .unwrap();
        assert_eq!(fetched.data_bytes(), block.data_bytes());
        assert!(began.elapsed() < 8 * SECOND, "{:?}", began.elapsed());
    }
}
