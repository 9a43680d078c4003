// SPDX-License-Identifier: Apache-2.0
//! Channels that are joined at a config block which the operator trusts.

use std::{fs, num::NonZeroU32, path::Path, sync::Arc};

use block_api::{
    Block, BlockNumber, BlockReader, ChannelId, HeaderHash, Height, ReadError, ReadLimits,
    SystemClock,
};
use blockcast::{
    Node, NodeConfig, StartError, StoreCheck,
    config::{ChannelSection, Pull, StartAfter},
};
use dev_orderer::{BatchConfig, Change, Config, DevOrderer, Pace};
use gossip_memory::{Link, MemoryGossip, MemoryNetwork};
use tempfile::TempDir;
use tokio::time::timeout;

use crate::{
    node::stores,
    process::{DEADLINE, Ended, Run, command},
};

/// The config blocks of the channel, and its newest block.
const CONFIGS: [usize; 3] = [0, 6, 11];
const NEWEST: usize = 15;

/// A channel with some history, and nodes of it in one process.
struct Scene {
    orderer: DevOrderer,
    network: MemoryNetwork,
    dir: TempDir,
    blocks: Vec<Block>,
    /// The node that has every block.
    old: Node,
}

impl Scene {
    async fn new() -> Self {
        let config = Config::new(channel(), Arc::new(SystemClock));
        let mut orderer = DevOrderer::start(config).await.unwrap();
        let dir = TempDir::new().unwrap();
        fs::write(dir.path().join("genesis.block"), orderer.genesis().raw()).unwrap();
        orderer.generate(5, 100, Pace::AllAtOnce).await.unwrap();
        let organization = "Orderer".to_owned();
        let changes = [
            Change::AddTlsAuthority { organization },
            Change::SetBatch(BatchConfig {
                max_message_count: NonZeroU32::new(3).unwrap(),
                ..BatchConfig::default()
            }),
        ];
        for change in changes {
            orderer.change(&[change]).await.unwrap();
            orderer.generate(4, 100, Pace::AllAtOnce).await.unwrap();
        }
        let network = MemoryNetwork::new(8);
        let gossip = network.node_of("old", orderer.client().unwrap().signer().identity());
        let section = ChannelSection::new(channel(), dir.path().join("genesis.block"));
        let old = start_node(&orderer, dir.path(), "old", section, gossip).await;
        let old = old.unwrap();
        reaches(&old, NEWEST as u64 + 1).await;
        let mut blocks = Vec::new();
        for number in 0..=NEWEST {
            blocks.push(read(&old, number as u64).await.unwrap());
        }
        for number in CONFIGS {
            assert!(blocks[number].is_config());
            fs::write(dir.path().join(config_file(number)), blocks[number].raw()).unwrap();
        }
        Self {
            orderer,
            network,
            dir,
            blocks,
            old,
        }
    }

    /// The channel as it is joined at a config block, behind another block.
    fn joined(&self, config: usize, start: usize) -> ChannelSection {
        let file = self.dir.path().join(config_file(config));
        let genesis = self.blocks[0].header_hash();
        ChannelSection {
            start_after: Some(StartAfter {
                number: self.blocks[start].number(),
                hash: self.blocks[start].header_hash(),
            }),
            ..ChannelSection::joined_at(channel(), genesis, file)
        }
    }

    /// A node that has blocks from other nodes alone.
    async fn fed(&self, name: &str, section: ChannelSection) -> Result<Node, StartError> {
        let signer = self.orderer.client().unwrap().signer();
        let gossip = self.network.node_of(name, signer.identity());
        let section = ChannelSection {
            pull: Pull::Never,
            ..section
        };
        start_node(&self.orderer, self.dir.path(), name, section, gossip).await
    }

    fn link(&self, one: &Node, other: &Node) {
        self.network.link(&one.id(), &other.id(), Link::default());
    }

    /// More blocks, which `old` has at the end.
    async fn grow(&self, blocks: usize) -> u64 {
        let last = self.orderer.generate(blocks, 100, Pace::AllAtOnce).await;
        let height = last.unwrap().unwrap().get() + 1;
        reaches(&self.old, height).await;
        height
    }

    /// The configuration of a node that runs as a process and pulls, joined so.
    fn process(&self, name: &str, channel: &str) -> Run {
        let network = self.orderer.network().unwrap();
        for (path, content) in network.files() {
            let path = self.dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        let genesis = self.blocks[0].header_hash();
        let text = format!(
            "[node]\ndata_dir = \"{name}\"\n\
             [identity]\nmsp_id = \"Org1MSP\"\nmsp_dir = \"org1/user1/msp\"\n\
             [gossip]\nbackend = \"memory\"\n\
             [orderer]\nlongest_back_off = \"200ms\"\n\
             [[channel]]\nid = \"joined\"\ngenesis_hash = \"{genesis}\"\n{channel}\n"
        );
        let path = self.dir.path().join(format!("{name}.toml"));
        fs::write(&path, text).unwrap();
        let log = "info,blockcast_deliver_service=debug";
        let mut node = command(["--log", log, "run", "--config"]);
        node.arg(path);
        Run::start(node)
    }

    fn hash(&self, number: usize) -> HeaderHash {
        self.blocks[number].header_hash()
    }

    async fn stop(self) {
        self.old.stop().await;
        self.orderer.stop().await;
    }
}

fn channel() -> ChannelId {
    "joined".parse().unwrap()
}

fn config_file(number: usize) -> String {
    format!("config_{number}.block")
}

async fn start_node(
    orderer: &DevOrderer,
    dir: &Path,
    name: &str,
    section: ChannelSection,
    gossip: MemoryGossip,
) -> Result<Node, StartError> {
    let mut config = NodeConfig::new(dir.join(name));
    config.node.name = name.to_owned();
    config.channels.push(section);
    Node::builder(config)
        .signer(orderer.client().unwrap().signer())
        .gossip(Arc::new(gossip))
        .check_stores(StoreCheck::Whole)
        .start()
        .await
}

async fn reaches(node: &Node, height: u64) {
    let channel = channel();
    let reached = node.wait_for_height(&channel, Height::new(height));
    let reached = timeout(DEADLINE, reached).await;
    assert!(
        reached.unwrap_or_else(|_| panic!("{} takes too long", node.name())),
        "{} ended",
        node.name()
    );
}

fn reader(node: &Node) -> Arc<dyn BlockReader> {
    node.reader(&channel()).unwrap()
}

async fn read(node: &Node, number: u64) -> Result<Block, ReadError> {
    let number = BlockNumber::new(number);
    let read = reader(node).read(number, ReadLimits::one()).await?;
    Ok(Block::parse(read[0].clone()).unwrap())
}

/// Checks that a node has the chain from a block on as another node has it.
async fn same_from(node: &Node, other: &Node, first: u64) {
    let info = reader(node).info();
    assert_eq!(info.first.get(), first);
    for number in first..info.height.get() {
        let (one, other) = (read(node, number).await, read(other, number).await);
        assert_eq!(one.unwrap().header_hash(), other.unwrap().header_hash());
    }
}

fn error_of(ended: &Ended) -> &str {
    let error = ended.stderr.lines().find(|line| line.starts_with("error"));
    error.unwrap_or_else(|| panic!("{}", ended.stderr))
}

/// It catches up, follows every configuration, goes on after a restart, and serves what it has.
///
/// Covers: VER-04, VER-07
#[tokio::test]
async fn a_node_joins_at_a_config_block_and_is_one_of_the_channel() {
    let mut scene = Scene::new().await;
    let joined = scene.fed("joined", scene.joined(11, 13)).await.unwrap();
    assert_eq!(reader(&joined).info().height, Height::new(14));
    scene.link(&scene.old, &joined);
    reaches(&joined, 16).await;
    same_from(&joined, &scene.old, 14).await;
    let config = read(&joined, 11).await.unwrap();
    assert_eq!(config.raw(), scene.blocks[11].raw());
    let gone = read(&joined, 13).await;
    assert!(matches!(gone, Err(ReadError::Gone { first, .. }) if first.get() == 14));

    let replaced = Change::ReplaceCertificates { node: 1 };
    scene.orderer.change(&[replaced]).await.unwrap();
    let height = scene.grow(3).await;
    reaches(&joined, height).await;
    same_from(&joined, &scene.old, 14).await;

    // Started again it has its blocks, judged one by one, and goes on.
    joined.stop().await;
    let height = scene.grow(3).await;
    let joined = scene.fed("joined", scene.joined(11, 13)).await.unwrap();
    assert_eq!(reader(&joined).info().first.get(), 14);
    reaches(&joined, height).await;
    same_from(&joined, &scene.old, 14).await;

    // One that joined later has them from it alone, and one that wants the whole chain does not.
    let later = scene.fed("later", scene.joined(11, 15)).await.unwrap();
    let genesis = scene.dir.path().join("genesis.block");
    let section = ChannelSection::new(channel(), genesis);
    let whole = scene.fed("whole", section).await.unwrap();
    scene.link(&joined, &later);
    scene.link(&joined, &whole);
    reaches(&later, height).await;
    same_from(&later, &scene.old, 16).await;
    assert_eq!(reader(&whole).info().height, Height::new(1));
    scene.link(&scene.old, &whole);
    reaches(&whole, height).await;
    same_from(&whole, &scene.old, 0).await;
    for node in [&joined, &later, &whole] {
        node.stop().await;
    }
    scene.stop().await;
}

/// Without `start_after` the chain starts behind the config block; any of them will do.
#[tokio::test]
async fn a_node_that_pulls_starts_behind_any_config_block() {
    let scene = Scene::new().await;
    for config in CONFIGS {
        let file = scene.dir.path().join(config_file(config));
        let section = ChannelSection::joined_at(channel(), scene.hash(0), file);
        let name = format!("behind_{config}");
        let gossip = MemoryNetwork::new(1).node(&name);
        let node = start_node(&scene.orderer, scene.dir.path(), &name, section, gossip).await;
        let node = node.unwrap();
        reaches(&node, NEWEST as u64 + 1).await;
        same_from(&node, &scene.old, config as u64 + 1).await;
        let stats = node.channel_state(&channel()).unwrap().stats;
        assert_eq!(stats.from_orderer, (NEWEST - config) as u64);
        node.stop().await;
    }
    scene.stop().await;
}

/// What the operator says of the beginning must hold together.
#[tokio::test]
async fn what_cannot_be_the_beginning_is_refused() {
    let scene = Scene::new().await;
    let refused = async |name: &str, section: ChannelSection, words: &[&str]| {
        let error = scene.fed(name, section).await.unwrap_err();
        let text = error.to_string();
        for word in words {
            assert!(text.contains(word), "{word:?} is not in: {text}");
        }
        error
    };
    let early = refused("a", scene.joined(11, 10), &["config block 11", "block 10"]).await;
    assert!(early.is_config());
    let no_config = ChannelSection {
        config_block: Some(scene.dir.path().join("data.block")),
        ..scene.joined(11, 13)
    };
    fs::write(scene.dir.path().join("data.block"), scene.blocks[12].raw()).unwrap();
    refused("a", no_config, &["channel.config_block", "no config block"]).await;
    let other_hash = ChannelSection {
        start_after: Some(StartAfter {
            number: BlockNumber::new(11),
            hash: scene.hash(10),
        }),
        ..scene.joined(11, 11)
    };
    refused(
        "a",
        other_hash,
        &["channel.start_after", "that is the config block"],
    )
    .await;
    let other_genesis = ChannelSection {
        genesis_hash: Some(scene.hash(1)),
        ..scene.joined(0, 3)
    };
    refused(
        "a",
        other_genesis,
        &["channel.genesis_hash", "correct the one"],
    )
    .await;
    let other_channel = ChannelSection {
        id: "another".parse().unwrap(),
        ..scene.joined(11, 13)
    };
    let words = [
        "channel another",
        "that of channel joined",
        "correct the id",
    ];
    refused("a", other_channel, &words).await;

    // A store that has blocks does not begin anew.
    let node = scene.fed("b", scene.joined(6, 8)).await.unwrap();
    scene.link(&scene.old, &node);
    reaches(&node, NEWEST as u64 + 1).await;
    node.stop().await;
    refused("b", scene.joined(11, 13), &["begins with block 9", "14"]).await;
    let genesis = scene.dir.path().join("genesis.block");
    let section = ChannelSection::new(channel(), genesis);
    refused("b", section, &["begins with block 9"]).await;
    refused("b", scene.joined(0, 8), &["begins with config block 6"]).await;
    let node = scene.fed("b", scene.joined(6, 8)).await.unwrap();
    node.stop().await;
    scene.stop().await;
}

/// A config block that was replaced before the start, or a hash of another chain: no block is
/// taken, and the log says what is wrong.
///
/// Covers: VER-07
#[tokio::test]
async fn a_beginning_that_is_not_true_takes_no_block() {
    let scene = Scene::new().await;
    let start = |config: usize, number: usize, hash: usize| {
        let hash = scene.hash(hash);
        format!(
            "config_block = \"{}\"\nstart_after = {{ number = {number}, hash = \"{hash}\" }}",
            config_file(config)
        )
    };
    for (config, needed) in [(6, 13), (0, 13), (0, 8)] {
        let newest = CONFIGS.into_iter().rfind(|config| *config <= needed);
        let mut node = scene.process("wrong", &start(config, needed, needed));
        let words = format!("trust config block {} instead", newest.unwrap());
        let line = node.stderr.line_with(&words).await;
        assert!(line.contains("last-config"), "{line}");
        node.signal("-TERM").await;
        let ended = node.end().await;
        assert!(!ended.stderr.contains("block stored"), "{}", ended.stderr);
    }
    let mut node = scene.process("wrong", &start(11, 13, 12));
    node.stderr.line_with("no endpoint gives blocks").await;
    node.signal("-TERM").await;
    let ended = node.end().await;
    let hash = scene.hash(12).to_string();
    assert!(ended.stderr.contains(&hash), "{}", ended.stderr);
    assert!(!ended.stderr.contains("block stored"), "{}", ended.stderr);

    // Nothing was stored, so that the right ones are taken.
    let mut node = scene.process("wrong", &start(11, 13, 13));
    stores(&mut node, NEWEST as u64).await;
    node.signal("-TERM").await;
    assert_eq!(node.end().await.code, Some(0));
    let ended = scene.process("wrong", &start(11, 11, 12)).end().await;
    assert_eq!(ended.code, Some(78), "{}", ended.stderr);
    assert!(error_of(&ended).contains("channel.start_after"));
    scene.stop().await;
}

/// Killed at any time, the node has what it had, and the config block that it began with.
#[tokio::test]
async fn a_node_that_joined_so_survives_being_killed() {
    let scene = Scene::new().await;
    let channel = format!(
        "config_block = \"config_6.block\"\n\
         start_after = {{ number = 8, hash = \"{}\" }}",
        scene.hash(8)
    );
    for words in ["block store opened", "channel joined", "stream opened"] {
        let mut node = scene.process("killed", &channel);
        node.stderr.line_with(words).await;
        node.signal("-KILL").await;
        assert_eq!(node.end().await.code, None);
    }
    let mut newest = NEWEST as u64;
    for _ in 0..3 {
        let mut node = scene.process("killed", &channel);
        newest = scene.grow(2).await - 1;
        stores(&mut node, newest).await;
        node.signal("-KILL").await;
        assert_eq!(node.end().await.code, None);
    }
    let dir = scene.dir.path().join("killed/channels/joined");
    let checked = block_store::repair::check(&dir).unwrap();
    assert_eq!((checked.first.get(), checked.damages.len()), (9, 0));
    let snapshot = block_store::StoreSnapshot::open(&dir).unwrap();
    assert_eq!(snapshot.info().height.get(), newest + 1);
    let config_at = |number| snapshot.config_at(BlockNumber::new(number));
    assert_eq!(config_at(10), Some(BlockNumber::new(6)));
    assert_eq!(config_at(newest), Some(BlockNumber::new(11)));

    // The configuration is known from the config block on, not from the oldest block.
    for (at, expected) in [
        ("5", None),
        ("6", Some(6)),
        ("8", Some(6)),
        ("12", Some(11)),
    ] {
        let mut shown = command(["channel", "config", "--json", "--at", at, "--dir"]);
        shown.arg(&dir);
        let shown = Run::start(shown).end().await;
        let json: serde_json::Value = serde_json::from_str(&shown.stdout).unwrap_or_default();
        assert_eq!(json["config_block"].as_u64(), expected, "{}", shown.stderr);
    }

    // What is damaged is fetched again, and judged by the config block that was given.
    let segment = fs::read_dir(&dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut segments = segment.filter(|path| path.extension().is_some_and(|end| end == "seg"));
    let segment = segments.next().unwrap();
    let mut bytes = fs::read(&segment).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&segment, bytes).unwrap();
    let checked = block_store::repair::check(&dir).unwrap();
    assert_eq!(checked.damages.len(), 1, "{checked:?}");
    let config = scene.dir.path().join("killed.toml");
    let mut repair = command(["store", "repair", "--channel", "joined", "--config"]);
    repair.arg(config);
    let repaired = Run::start(repair).end().await;
    assert_eq!(repaired.code, Some(0), "{}", repaired.stderr);
    let checked = block_store::repair::check(&dir).unwrap();
    assert_eq!(checked.damages, []);
    assert_eq!(checked.height.get(), newest + 1);
    scene.stop().await;
}
