// SPDX-License-Identifier: Apache-2.0
//! `verify` and `run --deep` on chains whose organisations and consenters come and go.

use std::{fs, path::Path, time::SystemTime};

use block_api::{
    Block, BlockStore as _, BlockVerifier, Endpoint, Standing, VerifiedBlock,
    testing::GullibleVerifier,
};
use block_store::SegmentStore;
use channel_config::ChannelVerifier;
use dev_orderer::{ChainMaker, Change, Consensus, NetworkConfig, OrdererNode, OrganizationSpec};
use serde_json::Value;
use tempfile::TempDir;

use crate::process::{Ended, Run, command, run};

/// A maker on a channel that `Left` (nodes 1 and 3) and `Right` (2 and 4) order.
fn maker(consensus: Consensus) -> ChainMaker {
    let config = NetworkConfig {
        consensus,
        orderers: ["Left", "Right"].map(OrganizationSpec::orderer).to_vec(),
        ..NetworkConfig::new("trust".parse().unwrap())
    };
    // Nobody listens there, and nobody is asked.
    let endpoints: Vec<Endpoint> = (1..=4)
        .map(|port| format!("127.0.0.1:{port}").parse().unwrap())
        .collect();
    ChainMaker::new(config, &endpoints, SystemTime::UNIX_EPOCH).unwrap()
}

/// A folder with the blocks of a chain, as `verify` takes it.
fn folder(blocks: &[Block]) -> TempDir {
    let dir = TempDir::new().unwrap();
    blocks.iter().for_each(|block| put(dir.path(), block));
    dir
}

fn put(dir: &Path, block: &Block) {
    let name = format!("block_{}.pb", block.number());
    fs::write(dir.join(name), block.raw()).unwrap();
}

async fn verify(dir: &Path) -> (Ended, Value) {
    let genesis = dir.join("block_0.pb");
    let arguments = ["verify", "--json", "--genesis"].map(AsRef::as_ref);
    let ended = run(arguments
        .into_iter()
        .chain([genesis.as_os_str(), dir.as_os_str()]))
    .await;
    let json = serde_json::from_str(&ended.stdout).unwrap_or_default();
    (ended, json)
}

/// A chain of this consensus on which `Third` (nodes 5 to 7) begins to order, node 1 gets another
/// certificate, and `Right` orders no longer.
struct Changed {
    maker: ChainMaker,
    blocks: Vec<Block>,
    /// Node 1 with its old keys.
    replaced: OrdererNode,
    /// The nodes of `Right`.
    removed: Vec<OrdererNode>,
}

impl Changed {
    async fn new(consensus: Consensus) -> Self {
        let mut maker = maker(consensus);
        let mut blocks = vec![maker.network().genesis().clone()];
        let replaced = maker.network().node(1).unwrap().clone();
        let mut removed = maker.network().nodes().to_vec();
        removed.retain(|node| node.organization() == "Right");
        let organization = |name: &str| name.to_owned();
        for change in [
            Change::AddOrderers {
                organization: OrganizationSpec::orderer("Third"),
                nodes: 3,
            },
            Change::ReplaceCertificates { node: 1 },
            Change::RemoveOrderers {
                organization: organization("Right"),
            },
        ] {
            blocks.push(maker.block(&[100, 200]).await.unwrap());
            blocks.push(maker.change(&[change]).await.unwrap());
        }
        Self {
            maker,
            blocks,
            replaced,
            removed,
        }
    }

    /// Those of these ids that order.
    fn nodes(&self, ids: &[u32]) -> Vec<OrdererNode> {
        let node = |id: &u32| self.maker.network().node(*id).unwrap().clone();
        ids.iter().map(node).collect()
    }

    /// Verifies the chain with this block and, in its place, the one that these nodes sign.
    async fn verify_signed_by(&mut self, nodes: &[OrdererNode]) -> (Ended, Value) {
        let dir = folder(&self.blocks);
        let last = self.maker.block_signed_by(nodes, &[300]).await.unwrap();
        put(dir.path(), &last);
        verify(dir.path()).await
    }

    async fn accepts(&mut self, nodes: &[OrdererNode]) {
        let (ended, json) = self.verify_signed_by(nodes).await;
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        assert_eq!((&json["ok"], &json["blocks"]), (&true.into(), &8.into()));
        assert_eq!(json["config_blocks"], 4, "the first one, and each change");
        assert_eq!(ended.stderr, "");
    }

    async fn refuses(&mut self, nodes: &[OrdererNode]) {
        let (ended, json) = self.verify_signed_by(nodes).await;
        assert_eq!(ended.code, Some(1), "{}", ended.stderr);
        assert_eq!((&json["ok"], &json["block"]), (&false.into(), &7.into()));
        assert_eq!(json["rule"], "signatures");
        assert!(
            ended.stderr.starts_with("error: block 7 ("),
            "{}",
            ended.stderr
        );
        assert!(
            ended
                .stderr
                .contains("block_7.pb) breaks the rule signatures: "),
            "{}",
            ended.stderr
        );
    }
}

/// Covers: VER-19, VER-21
#[tokio::test]
async fn verify_follows_a_raft_channel_whose_organisations_come_and_go() {
    let mut chain = Changed::new(Consensus::Raft).await;
    for node in chain.nodes(&[1, 3, 5, 6, 7]) {
        chain.accepts(&[node]).await;
    }
    // On raft who is a consenter does not matter: its organisation vouches for the old certificate,
    // as it does for Fabric's peers.
    let replaced = chain.replaced.clone();
    chain.accepts(&[replaced]).await;
    let removed = chain.removed.clone();
    for node in &removed {
        chain.refuses(std::slice::from_ref(node)).await;
    }
    chain.refuses(&removed).await;
    chain.refuses(&[]).await;
}

/// Covers: VER-19, VER-21, NEW-07
#[tokio::test]
async fn verify_follows_a_bft_channel_whose_consenters_come_and_go() {
    let mut chain = Changed::new(Consensus::Bft).await;
    // Five nodes are left, and four of them are a quorum.
    let good = chain.nodes(&[1, 3, 5, 6]);
    chain.accepts(&good).await;
    let minus_one = chain.nodes(&[1, 3, 5]);
    chain.refuses(&minus_one).await;
    let twice = chain.nodes(&[1, 3, 5, 5]);
    chain.refuses(&twice).await;
    // A quorum while there were seven of them.
    let removed = chain.removed.clone();
    let with_removed = [&minus_one[..], &removed].concat();
    chain.refuses(&with_removed).await;
    let mut with_replaced = good.clone();
    with_replaced[0] = chain.replaced.clone();
    chain.refuses(&with_replaced).await;
    // Whoever signs beside a quorum does no harm.
    let and_more = [&good[..], &removed].concat();
    chain.accepts(&and_more).await;
}

/// A config block is signed by the orderers before it: those whom it brings in cannot vouch for
/// themselves.
///
/// Covers: VER-21
#[tokio::test]
async fn verify_judges_a_config_block_by_the_configuration_before_it() {
    for consensus in [Consensus::Raft, Consensus::Bft] {
        let mut maker = maker(consensus);
        let genesis = maker.network().genesis().clone();
        let change = [Change::AddOrderers {
            organization: OrganizationSpec::orderer("Third"),
            nodes: 7,
        }];
        let mut other = maker.clone();
        other.change(&change).await.unwrap();
        let mut added = other.network().nodes().to_vec();
        added.retain(|node| node.organization() == "Third");
        let forged = maker.change_signed_by(&added, &change).await.unwrap();
        let dir = folder(&[genesis, forged]);
        let (ended, json) = verify(dir.path()).await;
        assert_eq!(ended.code, Some(1), "{consensus:?}: {}", ended.stdout);
        assert_eq!(
            (&json["block"], &json["rule"]),
            (&1.into(), &"signatures".into())
        );
        put(dir.path(), &maker.change(&change).await.unwrap());
        let (ended, json) = verify(dir.path()).await;
        assert_eq!(ended.code, Some(0), "{consensus:?}: {}", ended.stderr);
        assert_eq!(json["config_blocks"], 2);
    }
}

/// A chain of 100 blocks, a node's folder, and in its store one block without its signatures.
struct Tampered {
    dir: TempDir,
}

impl Tampered {
    async fn new(tampered: u64) -> Self {
        let dir = TempDir::new().unwrap();
        let mut maker = maker(Consensus::Bft);
        let network = maker.network().clone();
        for (path, content) in network.files() {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        fs::write(
            dir.path().join("node.toml"),
            "[node]\ndata_dir = \"node\"\n\
             [identity]\nmsp_id = \"Org1MSP\"\nmsp_dir = \"org1/user1/msp\"\n\
             [gossip]\nbackend = \"memory\"\n\
             [[channel]]\nid = \"trust\"\ngenesis = \"genesis.block\"\npull = \"never\"\n",
        )
        .unwrap();

        let genesis = network.genesis().clone();
        let config = block_store::Config {
            genesis: Some(genesis.header_hash()),
            ..block_store::Config::new(network.channel().clone())
        };
        let (store, _) =
            SegmentStore::open(dir.path().join("node/channels/trust"), config).unwrap();
        let verifier = ChannelVerifier::from_genesis(&genesis).unwrap();
        for number in 0..100 {
            let block = match number {
                0 => genesis.clone(),
                50 => maker
                    .change(&[Change::RemoveNode { node: 4 }])
                    .await
                    .unwrap(),
                _ => maker.block(&[10]).await.unwrap(),
            };
            let good = VerifiedBlock::new(block, &verifier, Standing::Linked).unwrap();
            verifier.apply_config(&good).unwrap();
            let stored = if number == tampered {
                let judge = GullibleVerifier {
                    judged_by: good.judged_by(),
                };
                VerifiedBlock::new(unsigned(good.block()), &judge, Standing::Linked).unwrap()
            } else {
                good
            };
            store.append(vec![stored]).await.unwrap();
        }
        store.close().await;
        Self { dir }
    }

    fn run(&self, options: &[&str]) -> Run {
        let mut node = command(["run"]);
        node.args(options).arg("--config");
        node.arg(self.dir.path().join("node.toml"));
        Run::start(node)
    }

    /// The start fails, and it is said which block is at fault, why, and what to do.
    async fn is_refused(&self, options: &[&str], number: u64) {
        let ended = self.run(options).end().await;
        assert_eq!(ended.code, Some(1), "{options:?}: {}", ended.stderr);
        let error = ended
            .stderr
            .lines()
            .find(|line| line.starts_with("error: "));
        let error = error.unwrap_or_else(|| panic!("{options:?}: {}", ended.stderr));
        for word in [
            "the block store of channel trust",
            &format!("block {number} breaks the rule `signatures`"),
            "move the folder away",
        ] {
            assert!(
                error.contains(word),
                "{options:?}: {word:?} is not in: {error}"
            );
        }
    }
}

/// The block with its header, its data, and no signature.
fn unsigned(block: &Block) -> Block {
    let entries: Vec<&[u8]> = block.data().collect();
    Block::assemble(
        block.number(),
        block.header().previous_hash,
        &entries,
        &[&[]],
    )
}

/// Covers: VER-19
#[tokio::test]
async fn run_finds_a_stored_block_that_was_tampered_with() {
    // Every third block or so is looked at when a node starts, and not this one.
    let tampered = Tampered::new(4).await;
    let mut node = tampered.run(&[]);
    node.stderr.line_with("channel joined").await;
    node.signal("-TERM").await;
    assert_eq!(node.end().await.code, Some(0));
    tampered.is_refused(&["--deep"], 4).await;

    // The newest one is always looked at, and so is a config block.
    for number in [99, 50] {
        let tampered = Tampered::new(number).await;
        for options in [&[][..], &["--deep"]] {
            tampered.is_refused(options, number).await;
        }
    }

    // With nothing wrong in it.
    let good = Tampered::new(100).await;
    let mut node = good.run(&["--deep"]);
    node.stderr.line_with("channel joined").await;
    node.signal("-TERM").await;
    assert_eq!(node.end().await.code, Some(0));
}
