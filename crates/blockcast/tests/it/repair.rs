// SPDX-License-Identifier: Apache-2.0
//! `blockcast store repair`, with blocks from other nodes.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use block_api::{
    Block, BlockNumber, BlockReader, ChainInfo, Gossip as _, HeaderHash, Height, JoinRequest,
    Membership, NodeId, ReadError, ReadLimits, testing::OpenReaders,
};
use block_store::StoreSnapshot;
use bytes::Bytes;
use gossip_libp2p::{Admission, Config, Keypair, Libp2pGossip};
use tokio::{sync::watch, time::timeout};

use crate::{
    node::{ends_well, node, stores},
    process::{DEADLINE, Ended, Run, command},
    store::{check, flip, left_behind, repair, segments},
};

const OPTIONS: [&str; 6] = ["--blocks", "150", "--block-bytes", "20KiB", "--rate", "400"];
const NEWEST: u64 = 150;
const CHANNEL: &str = "mychannel";

/// A node of the channel that gives what it was told to.
struct Giver {
    gossip: Libp2pGossip,
    genesis: HeaderHash,
    reader: Arc<Reader>,
}

/// A chain as a node gives it.
#[derive(Debug)]
struct Reader {
    chain: StoreSnapshot,
    /// Whether a byte of each block is another one.
    bent: bool,
    /// How often others have asked for blocks.
    asked: watch::Sender<usize>,
}

impl Giver {
    /// A node that is not in the channel yet.
    async fn start(seed: u8, dir: &Path, genesis: HeaderHash, reader: Reader) -> Self {
        let signer = signer::load_msp_folder(&dir.join("org1/peer0/msp"), "Org1MSP").unwrap();
        let mut config = Config::new(Keypair::from_seed([seed; 32]), signer);
        config.listen = vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()];
        config.admission = Admission::AllowList([id_in(dir)].into());
        Self {
            gossip: Libp2pGossip::start(config).await.unwrap(),
            genesis,
            reader: Arc::new(reader),
        }
    }

    async fn join(&self) -> Membership {
        let request = JoinRequest {
            channel: CHANNEL.parse().unwrap(),
            genesis: self.genesis,
            reader: self.reader.clone(),
            readers: Arc::new(OpenReaders),
        };
        self.gossip.join(request).await.unwrap()
    }

    fn id(&self) -> String {
        self.gossip.node_id().to_string()
    }

    fn times_asked(&self) -> usize {
        *self.reader.asked.borrow()
    }

    async fn is_asked_again(&self, before: usize) {
        let mut asked = self.reader.asked.subscribe();
        let again = asked.wait_for(|times| *times > before);
        timeout(DEADLINE, again).await.unwrap().unwrap();
    }
}

impl Reader {
    fn of(dir: &Path, bent: bool) -> Self {
        Self {
            chain: StoreSnapshot::open(dir).unwrap(),
            bent,
            asked: watch::Sender::new(0),
        }
    }
}

#[async_trait]
impl BlockReader for Reader {
    fn info(&self) -> ChainInfo {
        self.chain.info()
    }

    async fn read(&self, from: BlockNumber, limits: ReadLimits) -> Result<Vec<Bytes>, ReadError> {
        // The newest block is read to tell of it, too.
        if from.height() < self.info().height {
            self.asked.send_modify(|times| *times += 1);
        }
        let blocks = self.chain.read(from, limits).await?;
        let given = |block: Bytes| {
            let mut bytes = block.to_vec();
            let middle = bytes.len() / 2;
            bytes[middle] ^= u8::from(self.bent);
            bytes.into()
        };
        Ok(blocks.into_iter().map(given).collect())
    }

    async fn wait_for(&self, height: Height) -> Result<ChainInfo, ReadError> {
        self.chain.wait_for(height).await
    }

    fn config_at(&self, number: BlockNumber) -> Option<BlockNumber> {
        self.chain.config_at(number)
    }
}

fn store_of(dir: &Path) -> PathBuf {
    dir.join("node/channels").join(CHANNEL)
}

/// The id of the node whose folder was left behind.
fn id_in(dir: &Path) -> NodeId {
    let mut seed = [0; 32];
    let text = fs::read_to_string(dir.join("node/gossip.key")).unwrap();
    hex::decode_to_slice(text.trim(), &mut seed).unwrap();
    Keypair::from_seed(seed).node_id()
}

/// Writes the configuration again, with more lines under `[gossip]`.
fn with_gossip(from: &Path, to: &Path, lines: &str) {
    let text = fs::read_to_string(from).unwrap();
    let text = text.replace("[gossip]", &format!("[gossip]\n{lines}"));
    fs::write(to, text).unwrap();
}

fn with_peers(from: &Path, to: &Path, givers: &[&Giver]) {
    let addresses = givers.iter().flat_map(|giver| giver.gossip.peer_addrs());
    let addresses: Vec<String> = addresses.map(|address| format!("\"{address}\"")).collect();
    with_gossip(from, to, &format!("peers = [{}]", addresses.join(", ")));
}

fn repaired_from(ended: &Ended, sources: &[&str]) {
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let mut lines: Vec<&str> = ended.stdout.lines().collect();
    let last = lines.pop().unwrap();
    let what = format!("ok: channel {CHANNEL}, ");
    assert!(
        last.starts_with(&what) && last.ends_with(" repaired"),
        "{last}"
    );
    assert_eq!(lines.len(), sources.len(), "{lines:?}");
    for (line, source) in lines.iter().zip(sources) {
        let (_, from) = line.split_once(" from ").unwrap();
        assert!(from.starts_with(source) && !from.contains(','), "{line}");
    }
}

/// Nobody else is there: the ordering service is gone, and the other node runs on.
#[tokio::test]
async fn damaged_segments_come_from_a_node_that_runs() {
    let (dir, orderer, config) = left_behind(&OPTIONS, "1MiB", NEWEST).await;
    let blocks = store_of(dir.path());
    let all = segments(&blocks);
    assert!(all.len() >= 3, "{all:?}");
    let sound = check(&blocks).await.stdout;

    let other = dir.path().join("other.toml");
    let listed = format!("admission = \"list\"\nallow = [\"{}\"]", id_in(dir.path()));
    with_gossip(&config, &other, &listed);
    let text = fs::read_to_string(&other).unwrap();
    let text = text.replace("data_dir = \"node\"", "data_dir = \"other\"");
    fs::write(&other, text).unwrap();
    let mut healthy = node(&other);
    let started = healthy.stderr.line_with("node started").await;
    let mut words = started.split('"');
    let address = words.find(|word| word.starts_with("/ip4/127.0.0.1/tcp/"));
    let address = address.unwrap().to_owned();
    stores(&mut healthy, NEWEST).await;
    ends_well(orderer).await;

    let peers = dir.path().join("peers.toml");
    with_gossip(&config, &peers, &format!("peers = [\"{address}\"]"));
    fs::remove_file(&all[0]).unwrap();
    flip(&all[1], 700_000);
    assert_eq!(check(&blocks).await.code, Some(1));
    let repaired = repair(&peers, CHANNEL, &[]).await;
    let (_, id) = address.split_once("/p2p/").unwrap();
    repaired_from(&repaired, &[id, id]);
    assert_eq!(check(&blocks).await.stdout, sound);

    // A node that runs has its store for itself.
    let refused = repair(&other, CHANNEL, &[]).await;
    assert_eq!(refused.code, Some(1));
    assert!(
        refused.stderr.contains("is in use by"),
        "{}",
        refused.stderr
    );
    ends_well(healthy).await;
}

/// One node gives the blocks of another chain under the name of this one, another one gives blocks
/// that were tampered with.
#[tokio::test]
async fn a_node_that_gives_wrong_blocks_is_not_believed_and_the_next_one_is_asked() {
    let (dir, orderer, config) = left_behind(&OPTIONS, "1MiB", NEWEST).await;
    let (elsewhere, other_orderer, _) = left_behind(&OPTIONS, "1MiB", NEWEST).await;
    ends_well(other_orderer).await;
    let blocks = store_of(dir.path());
    let (all, sound) = (segments(&blocks), check(&blocks).await.stdout);
    let copy = dir.path().join("copy");
    fs::create_dir(&copy).unwrap();
    for entry in fs::read_dir(&blocks).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, copy.join(path.file_name().unwrap())).unwrap();
    }

    let genesis = fs::read(dir.path().join("genesis.block")).unwrap();
    let genesis = Block::parse(genesis.into()).unwrap().header_hash();
    let start = |seed, reader| Giver::start(seed, dir.path(), genesis, reader);
    let stranger = start(21, Reader::of(&store_of(elsewhere.path()), false)).await;
    let forger = start(22, Reader::of(&copy, true)).await;
    let honest = start(23, Reader::of(&copy, false)).await;
    let _in_channel = [stranger.join().await, forger.join().await];
    let liars = dir.path().join("liars.toml");
    with_peers(&config, &liars, &[&stranger, &forger]);
    let three = dir.path().join("three.toml");
    with_peers(&config, &three, &[&stranger, &forger, &honest]);

    // What no node gives comes from the orderers.
    flip(&all[1], 700_000);
    let repaired = repair(&liars, CHANNEL, &[]).await;
    repaired_from(&repaired, &["127.0.0.1:"]);
    assert!(stranger.times_asked() > 0 && forger.times_asked() > 0);
    assert_eq!(check(&blocks).await.stdout, sound);

    // There is nobody else: the store stays as it is, and what was wrong with each is told.
    ends_well(orderer).await;
    fs::remove_file(&all[0]).unwrap();
    flip(&all[1], 700_000);
    let failed = repair(&liars, CHANNEL, &[]).await;
    assert_eq!((failed.code, failed.stdout.as_str()), (Some(1), ""));
    for told in [&stranger.id(), &forger.id(), "--from-dir", "gossip.peers"] {
        assert!(failed.stderr.contains(told), "{told}: {}", failed.stderr);
    }
    assert!(!all[0].exists());

    // The honest one comes into the channel when the others have been asked.
    let before = [stranger.times_asked(), forger.times_asked()];
    let mut repairing = command(["store", "repair", "--channel", CHANNEL, "--config"]);
    repairing.arg(&three);
    let repairing = Run::start(repairing);
    stranger.is_asked_again(before[0]).await;
    forger.is_asked_again(before[1]).await;
    let _joined = honest.join().await;
    repaired_from(&repairing.end().await, &[&honest.id(), &honest.id()]);
    assert_eq!(check(&blocks).await.stdout, sound);
    for giver in [stranger, forger, honest] {
        giver.gossip.stop().await;
    }
}
