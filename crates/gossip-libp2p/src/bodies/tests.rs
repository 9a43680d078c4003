// SPDX-License-Identifier: Apache-2.0
//! Bodies among nodes that are joined by pipes: true ones, and such that lie.

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

/// What a node answers to a question, and after how long.
async fn answer(node: &Arc<Node>, from: &PeerId, block: &Block) -> (Frame, Duration) {
    let began = Instant::now();
    let (_, frame) = ask(node, from, block).await;
    (frame, began.elapsed())
}

/// A question to a node, and what it answers first.
async fn ask(node: &Arc<Node>, from: &PeerId, block: &Block) -> (Pipe, Frame) {
    let (here, there) = duplex(1 << 16);
    let (mut here, serving) = (here.compat(), node.clone());
    let (tasks, from) = (TaskTracker::new(), *from);
    tasks.spawn(async move { drop(serving.serve(from, there.compat()).await) });
    let ask = Ask {
        id: body_id(block),
        max_size: u64::MAX,
        first: 0,
        count: 0,
    };
    write_frame(&mut here, frames::BODY_ASK, &[&ask.encode()], SECOND)
        .await
        .unwrap();
    flush(&mut here, SECOND).await.unwrap();
    let frame = read_frame(&mut here, 1 << 20, PATIENCE).await.unwrap();
    (here, frame.unwrap())
}

/// A peer that asks for blocks and takes nothing has a share of the room, and not for long.
#[tokio::test(start_paused = true)]
async fn who_takes_nothing_leaves_room_for_others() {
    let (_, nodes) = World::of(3);
    let (mut chain, _) = TestChain::of_blocks("ch", 2, 10);
    let blocks = [(); 3].map(|()| chain.data(WHOLE - 100));
    nodes[0].stores(&blocks.each_ref());
    let (slow, other) = (nodes[1].id(), nodes[2].id());
    let mut open = Vec::new();
    for block in &blocks[..2] {
        let (pipe, frame) = ask(&nodes[0], &slow, block).await;
        assert_eq!(frame.kind, frames::BODY_OFFER);
        open.push(pipe);
    }
    let (refused, _) = answer(&nodes[0], &slow, &blocks[2]).await;
    assert_eq!(parse_end(&refused.payload), Ok(DeliverStatus::Unavailable));
    let (given, _) = answer(&nodes[0], &other, &blocks[2]).await;
    assert_eq!(given.kind, frames::BODY_OFFER);
    // What nobody understands is no sign that anything is wanted.
    for _ in 0..4 {
        for pipe in &mut open {
            let _ = write_frame(pipe, 19, &[b"later"], SECOND).await;
        }
        sleep(SECOND).await;
    }
    for mut pipe in open {
        let frame = read_frame(&mut pipe, 1 << 20, PATIENCE).await.unwrap();
        assert_eq!(frame.unwrap().kind, frames::END);
    }
    for block in &blocks {
        assert!(matches!(
            nodes[0].bodies.find(&body_id(block)),
            Found::Nothing
        ));
    }
}

#[tokio::test(start_paused = true)]
async fn who_has_nothing_says_so_within_a_second_and_at_once_to_whom_it_asks() {
    let (mut world, nodes) = World::of(3);
    let block = block(2 * MIB);
    let (asks, others) = (&nodes[0], &nodes[1]);
    let (frame, waited) = answer(asks, &others.id(), &block).await;
    assert_eq!(frame.kind, frames::BODY_NOT_YET);
    assert!(waited < SECOND && waited > SECOND / 2, "{waited:?}");
    // A node that says nothing is asked, and may not wait for an answer itself.
    let silent = world.lies(
        9,
        Arc::new(|pipe| {
            Box::pin(async move {
                sleep(SECOND * 3600).await;
                drop(pipe);
            })
        }),
    );
    let (world, announcement) = (Arc::new(world), block.without_data());
    let fetching = fetch(&world, asks, &announcement, [silent]);
    let answers = async {
        sleep(SECOND / 10).await;
        let (to_silent, at_once) = answer(asks, &silent, &block).await;
        assert_eq!(
            (to_silent.kind, at_once),
            (frames::BODY_NOT_YET, Duration::ZERO)
        );
        let (to_other, later) = answer(asks, &others.id(), &block).await;
        assert_eq!(to_other.kind, frames::BODY_NOT_YET);
        assert!(later < SECOND && later > SECOND / 2, "{later:?}");
    };
    tokio::select! {
        fetched = fetching => panic!("{fetched:?}"),
        () = answers => {}
    }
    // What is pruned, or is another block of that number, is not waited for.
    let stored = self::block(9);
    others.stores(&[&stored]);
    let (frame, waited) = answer(others, &silent, &block).await;
    assert_eq!(parse_end(&frame.payload), Ok(DeliverStatus::NotFound));
    assert_eq!((frame.kind, waited), (frames::END, Duration::ZERO));
}

/// Whoever does not have a block is not asked again, so nobody is to say so who has it.
#[tokio::test(start_paused = true)]
async fn what_cannot_be_read_now_is_not_said_to_be_missing() {
    let (_, nodes) = World::of(2);
    let (asked, other) = (&nodes[0], nodes[1].id());
    let block = block(2 * MIB);
    asked.stores(&[&block]);
    // Another peer is given as much of the store as there is room for.
    let (mut chain, _) = TestChain::of_blocks("ch", 2, 10);
    let (one, other_one) = (chain.data(2 * MIB), chain.data(2 * MIB));
    let small = Arc::new(Node {
        bodies: Bodies::new(asked.key.clone(), 4 * MIB),
        ..Node::new(4)
    });
    small.stores(&[&one, &other_one]);
    let (pipe, frame) = ask(&small, &nodes[1].id(), &one).await;
    assert_eq!(frame.kind, frames::BODY_OFFER);
    let (frame, _) = answer(&small, &asked.id(), &other_one).await;
    assert_eq!(
        (frame.kind, parse_end(&frame.payload)),
        (frames::END, Ok(DeliverStatus::Unavailable))
    );
    drop(pipe);
    let (frame, _) = answer(asked, &other, &block).await;
    assert_eq!(frame.kind, frames::BODY_OFFER);
    let broken = Library::from([(TOPIC, Arc::new(Broken) as Arc<dyn BlockReader>)]);
    let stores = Node {
        library: watch::Sender::new(broken),
        ..Node::new(3)
    };
    let (frame, _) = answer(&Arc::new(stores), &other, &block).await;
    assert_eq!(parse_end(&frame.payload), Ok(DeliverStatus::Unavailable));
}

#[tokio::test(start_paused = true)]
async fn chunks_are_passed_on_before_the_body_is_whole() {
    let (mut world, nodes) = World::of(2);
    let block = block(8 * MIB);
    // Three chunks come, and then nothing.
    let some = |data: &[u8]| {
        let chunk = |n: usize| piece(n * CHUNK, &data[n * CHUNK..(n + 1) * CHUNK]);
        [1, 4, 6].map(chunk).to_vec()
    };
    let source = world.lies(9, liar(&block, 9, some, Duration::ZERO));
    let (world, announcement) = (Arc::new(world), block.without_data());
    let (middle, end) = (&nodes[0], &nodes[1]);
    let through = fetch(&world, middle, &announcement, [source]);
    let behind = fetch(&world, end, &announcement, [middle.id()]);
    let came = async {
        while end.bytes_came() < 3 * CHUNK {
            sleep(SECOND / 100).await;
        }
    };
    tokio::select! {
        fetched = through => panic!("{fetched:?}"),
        fetched = behind => panic!("{fetched:?}"),
        came = timeout(5 * SECOND, came) => came.unwrap(),
    }
}

#[tokio::test(start_paused = true)]
async fn budgets_bound_what_is_promised_and_what_is_made() {
    let (world, nodes) = World::of(3);
    let world = Arc::new(world);
    let (mut chain, _) = TestChain::of_blocks("ch", 2, 10);
    let (one, other) = (chain.data(3 * MIB), chain.data(3 * MIB));
    nodes[1].stores(&[&one, &other]);
    let from = [nodes[1].id()];
    // All that may be promised to this peer is taken.
    let all = nodes[1].budgets[0].clone();
    let taken = all.acquire_many(16 * 1024).await.unwrap();
    let announcement = one.without_data();
    let refused = timeout(SECOND * 2, fetch(&world, &nodes[0], &announcement, &from)).await;
    assert!(
        refused.is_err() && nodes[1].bytes_served() == 0,
        "{refused:?}"
    );
    drop(taken);
    assert!(world.blamed().is_empty());
    assert!(fetch(&world, &nodes[0], &announcement, &from).await.is_ok());

    // There is room for one body at a time; the second one waits, and kept ones make room.
    let small = Bodies::new(nodes[2].key.clone(), 4 * MIB);
    let mut node = Node::new(3);
    node.bodies = small.clone();
    let both = [one.without_data(), other.without_data()];
    let (first, second) = tokio::join!(
        fetch(&world, &node, &both[0], &from),
        fetch(&world, &node, &both[1], &from),
    );
    assert_eq!(first.unwrap().data_bytes(), one.data_bytes());
    assert_eq!(second.unwrap().data_bytes(), other.data_bytes());
    let held = [&one, &other].map(|block| matches!(small.find(&body_id(block)), Found::Held(_)));
    assert_eq!(held.iter().filter(|held| **held).count(), 1);
    small.sweep(Instant::now() + 10 * SECOND, |_| Some(Height::new(9)));
    assert!(matches!(small.find(&body_id(&other)), Found::Nothing));
}

#[test]
fn nothing_is_given_by_hints_other_than_those_that_were_offered() {
    let (block, key) = (block(6 * MIB), Keypair::from_seed([1; 32]));
    let data = block.data_bytes().unwrap();
    let hints = Hints::make(&body_id(&block), &data, &key);
    let others = Hints::make(&body_id(&block), &vec![7; data.len()], &key);
    let (making, mut out) = (Making::default(), Vec::new());
    let assembly =
        |hints: &Hints| Assembly::new(&block.without_data(), hints.clone(), 1, <_>::default());
    making.assemble(assembly(&hints));
    let second = &data[CHUNK..2 * CHUNK];
    making
        .with(|body| body.put_chunk(1, second))
        .unwrap()
        .unwrap();
    assert!(making.copy(&hints, CHUNK, 100, &mut out));
    assert_eq!(out, second[..100]);
    // Neither what did not come, nor what was offered otherwise.
    assert!(!making.copy(&hints, 0, 100, &mut out));
    assert!(!making.copy(&others, CHUNK, 100, &mut out));
    // It begins anew by the same hints, and by others.
    making.assemble(assembly(&hints));
    assert!(!making.copy(&hints, CHUNK, 100, &mut out));
    making.assemble(assembly(&others));
    let filled = [7; CHUNK];
    making
        .with(|body| body.put_chunk(1, &filled))
        .unwrap()
        .unwrap();
    assert!(!making.copy(&hints, CHUNK, 100, &mut out));
}

#[test]
fn one_peer_is_asked_for_so_many_bodies_at_a_time() {
    let bodies = Bodies::new(Keypair::from_seed([1; 32]), MIB);
    let [peer, other] = [2, 3].map(|n| Keypair::from_seed([n; 32]).peer_id());
    let mut links: Vec<_> = (0..32).map(|_| bodies.link(peer).unwrap()).collect();
    assert!(bodies.link(peer).is_none());
    assert!(bodies.link(other).is_some());
    drop(links.pop());
    assert!(bodies.link(peer).is_some());
}

#[tokio::test]
async fn who_waits_for_room_keeps_its_place() {
    let bodies = Bodies::new(Keypair::from_seed([1; 32]), 4 * MIB);
    let [first, second, third] = [1, 2, 3].map(|number| {
        let id = BodyId {
            number: BlockNumber::new(number),
            ..body_id(&block(9))
        };
        match bodies.begin(id) {
            Begun::Mine(guard) => guard,
            Begun::Held(_) | Begun::Others => panic!("nobody else brings it"),
        }
    });
    let taken = first.room(3 * MIB).await;
    let (one, other) = (second.room(3 * MIB), third.room(2 * MIB));
    tokio::pin!(one, other);
    for _ in 0..2 {
        assert!(one.as_mut().now_or_never().is_none());
        assert!(other.as_mut().now_or_never().is_none());
        // Something changes, which is nothing to those who wait.
        drop(bodies.begin(body_id(&block(10))));
    }
    drop(taken);
    assert!(other.as_mut().now_or_never().is_none());
    assert!(one.as_mut().now_or_never().flatten().is_some());
    assert!(other.as_mut().now_or_never().flatten().is_some());
}

/// Who loses the right while a body is given gets no further piece of it, with chunks and without.
///
/// Covers: GCH-21
#[tokio::test(start_paused = true)]
async fn a_body_ends_where_the_right_is_lost() {
    for (size, at_once) in [(8 * MIB, 0), (WHOLE - 1000, 1)] {
        let (node, block) = (Arc::new(Node::new(1)), block(size));
        node.stores(&[&block]);
        let (here, there) = duplex(1 << 16);
        let (mut here, serving) = (here.compat(), node.clone());
        let other = Keypair::from_seed([2; 32]).peer_id();
        let served =
            TaskTracker::new().spawn(async move { serving.serve(other, there.compat()).await });
        let ask = Ask {
            id: body_id(&block),
            max_size: u64::MAX,
            first: 0,
            count: at_once,
        };
        write_frame(&mut here, frames::BODY_ASK, &[&ask.encode()], SECOND)
            .await
            .unwrap();
        let want = Want {
            chunks: (0..6).collect(),
            all: false,
        };
        if at_once == 0 {
            write_frame(&mut here, frames::BODY_WANT, &[&want.encode()], SECOND)
                .await
                .unwrap();
        }
        let mut pieces = 0;
        let end = loop {
            let frame = read_frame(&mut here, 2 * MIB, PATIENCE).await.unwrap();
            let Frame { kind, payload } = frame.unwrap();
            match kind {
                frames::BODY_PIECE => {
                    pieces += 1;
                    node.open.store(false, Ordering::Relaxed);
                }
                frames::END => break parse_end(&payload),
                _ => assert_eq!(kind, frames::BODY_OFFER),
            }
        };
        assert_eq!(end, Ok(DeliverStatus::Forbidden));
        assert!((1..=2).contains(&pieces), "{pieces}");
        assert_eq!(node.counters.snapshot().not_entitled, 1);
        served.await.unwrap().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_published_takes_the_place_of_what_came() {
    for size in [200_000, 6 * MIB] {
        let (world, nodes) = World::of(2);
        let (world, block) = (Arc::new(world), block(size));
        nodes[1].stores(&[&block]);
        let (announcement, from) = (block.without_data(), [nodes[1].id()]);
        let came = fetch(&world, &nodes[0], &announcement, &from)
            .await
            .unwrap();
        let held = |node: &Node| match node.bodies.find(&body_id(&block)) {
            Found::Held(held) => held,
            Found::Making(_) | Found::Nothing => panic!("{size}"),
        };
        let bodies = &nodes[0].bodies;
        let told = bodies.hints(&body_id(&block), &held(&nodes[0])).await;
        bodies.keep(body_id(&block), &block);
        let kept = held(&nodes[0]);
        let bytes = block.raw().as_ptr_range();
        assert!(bytes.contains(&kept.data().as_ptr()), "{size}");
        assert!(came.raw().is_unique(), "nobody else has it any more");
        // The manifest is still that of its maker.
        assert_eq!(bodies.hints(&body_id(&block), &kept).await, told);
    }
}

#[tokio::test(start_paused = true)]
async fn two_who_want_one_body_get_it_once() {
    let (world, nodes) = World::of(2);
    let (world, block) = (Arc::new(world), block(WHOLE));
    nodes[1].stores(&[&block]);
    let announcement = block.without_data();
    let from = [nodes[1].id()];
    let both = [(); 2].map(|()| fetch(&world, &nodes[0], &announcement, &from));
    for fetched in futures::future::join_all(both).await {
        assert_eq!(fetched.unwrap().data_bytes(), block.data_bytes());
    }
    assert_eq!(nodes[0].counters.snapshot().bodies_fetched, 1);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_longer_than_any_may_be_is_not_begun() {
    let (world, nodes) = World::of(2);
    let (world, block) = (Arc::new(world), block(61 * MIB));
    nodes[1].stores(&[&block]);
    let announcement = block.without_data();
    let from = [nodes[1].id()];
    let fetched = fetch(&world, &nodes[0], &announcement, &from).await;
    assert!(
        matches!(fetched, Err(FetchError::TooLarge { .. })),
        "{fetched:?}"
    );
    nodes[0].shared.left.cancel();
    let closed = fetch(&world, &nodes[0], &announcement, &from).await;
    assert!(matches!(closed, Err(FetchError::Closed)), "{closed:?}");
    assert!(!nodes[0].shared.pulling.load(Ordering::Relaxed));
}
