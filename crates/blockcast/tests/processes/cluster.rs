// SPDX-License-Identifier: Apache-2.0
//! The orderers and nodes, each on a host of its own.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use block_api::{Block, BlockNumber, BlockReader as _, Endpoint, Height, ReadLimits};
use block_store::SegmentStore;
use gossip_libp2p::Keypair;
use tokio::{
    process::Command,
    time::{Instant, timeout_at},
};

use crate::{
    CAP,
    chain::{CHANNEL, Chain},
    network::Network,
    program::Program,
};

pub(crate) const ORDERERS: usize = 3;
pub(crate) const NODES: usize = 5;
pub(crate) const HOSTS: usize = ORDERERS + NODES;

/// Shows each block that is stored.
const LOG: &str = "info,blockcast_deliver_service=debug";

/// The processes by their hosts, orderers first, and the network between them.
pub(crate) struct Cluster {
    // Before the network, so that nothing runs in a namespace that is removed.
    pub(crate) programs: Vec<Program>,
    pub(crate) network: Network,
    dir: PathBuf,
}

/// Where the orderers are reached.
pub(crate) fn orderers() -> impl Iterator<Item = Endpoint> {
    (0..ORDERERS).map(|host| format!("{}:7050", Network::address(host)).parse().unwrap())
}

/// The name of a node.
pub(crate) fn peer(index: usize) -> String {
    format!("peer{index}")
}

impl Cluster {
    pub(crate) fn start(network: Network, chain: &Chain, dir: &Path) -> Self {
        for (path, content) in chain.members().files() {
            let path = dir.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        let mut programs = Vec::with_capacity(HOSTS);
        for (index, endpoint) in orderers().enumerate() {
            let name = format!("orderer{index}");
            let arguments = [
                "orderer",
                "--dir",
                dir.join(&name).to_str().unwrap(),
                "--force",
                "--listen",
                endpoint.as_str(),
                // Each start makes other certificates, and nodes do not follow them.
                "--tls",
                "none",
                "--replay",
                chain.folder().to_str().unwrap(),
                "--follow",
            ]
            .map(str::to_owned);
            let log = dir.join(format!("{name}.log"));
            programs.push(Program::start(
                name,
                network.namespace(index),
                arguments.into(),
                log,
            ));
        }
        for index in 0..NODES {
            let name = peer(index);
            let config = node(dir, index);
            let arguments = ["--log", LOG, "run", "--config", config.to_str().unwrap()];
            let log = dir.join(format!("{name}.log"));
            programs.push(Program::start(
                name,
                network.namespace(ORDERERS + index),
                arguments.map(str::to_owned).into(),
                log,
            ));
        }
        Self {
            programs,
            network,
            dir: dir.to_owned(),
        }
    }

    /// Waits until every node has stored a block, and gives the time that it took.
    pub(crate) async fn reach(&self, number: u64, limit: Duration) -> Duration {
        let began = Instant::now();
        for node in &self.programs[ORDERERS..] {
            let mut seen = node.seen();
            let stored = seen.wait_for(|seen| seen.stored >= Some(number));
            let reached = timeout_at(began + limit, stored).await.is_ok();
            if !reached {
                panic!(
                    "block {number} is not at every node after {limit:?}:{}",
                    self.state()
                );
            }
        }
        began.elapsed()
    }

    /// Ends everything, and compares what the nodes have with the chain.
    pub(crate) async fn stop(mut self, blocks: &[Block]) {
        for program in &mut self.programs {
            program.stop().await;
        }
        // Only what a node says it found in its store shows that nothing was lost: a log in other
        // words must not pass for that.
        for node in &self.programs[ORDERERS..] {
            let seen = *node.seen().borrow();
            assert!(
                seen.opened.is_some(),
                "{} was not heard to open its store: {seen:?}",
                node.name
            );
        }
        for index in 0..NODES {
            let dir = self.dir.join(peer(index)).join("channels").join(CHANNEL);
            check(&dir).await;
            compare(&dir, blocks).await;
        }
    }

    /// How far the nodes are, and what each said last.
    fn state(&self) -> String {
        let mut state = String::new();
        for program in &self.programs {
            let seen = *program.seen().borrow();
            state += &format!("\n== {} {seen:?}\n{}", program.name, program.last_words());
        }
        state
    }
}

/// Writes the configuration of a node.
fn node(dir: &Path, index: usize) -> PathBuf {
    let name = peer(index);
    let seed = |index: usize| [u8::try_from(index).unwrap() + 1; 32];
    let key: String = seed(index)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    fs::write(dir.join(format!("{name}.key")), key).unwrap();
    let address = |index| Network::address(ORDERERS + index);
    let peers: Vec<String> = (0..NODES)
        .map(|peer| {
            let id = Keypair::from_seed(seed(peer)).node_id();
            format!("\"/ip4/{}/tcp/7100/p2p/{id}\"", address(peer))
        })
        .collect();
    let config = format!(
        "[node]\n\
         name = \"{name}\"\n\
         data_dir = \"{name}\"\n\
         [identity]\n\
         msp_id = \"Org1MSP\"\n\
         msp_dir = \"org1/{name}/msp\"\n\
         [gossip]\n\
         key_file = \"{name}.key\"\n\
         listen = [\"/ip4/{}/tcp/7100\"]\n\
         peers = [{}]\n\
         [orderer]\n\
         tls = \"none\"\n\
         longest_back_off = \"{}s\"\n\
         idle_limit = \"{}s\"\n\
         [[channel]]\n\
         id = \"{CHANNEL}\"\n\
         genesis = \"genesis.block\"\n\
         pull = \"elected\"\n",
        address(index),
        peers.join(", "),
        CAP.as_secs(),
        CAP.as_secs(),
    );
    let path = dir.join(format!("{name}.toml"));
    fs::write(&path, config).unwrap();
    path
}

/// Has the command look at every byte of a store.
async fn check(dir: &Path) {
    let ended = Command::new(env!("CARGO_BIN_EXE_blockcast"))
        .args(["store", "check"])
        .arg(dir)
        .output()
        .await
        .unwrap();
    assert!(
        ended.status.success(),
        "{}",
        String::from_utf8_lossy(&ended.stderr)
    );
}

/// Compares header and data of every block.
async fn compare(dir: &Path, blocks: &[Block]) {
    let config = block_store::Config::new(CHANNEL.parse().unwrap());
    let (store, report) = SegmentStore::open(dir, config).unwrap();
    assert!(report.is_clean(), "{}: {report:?}", dir.display());
    assert_eq!(store.info().height, Height::new(blocks.len() as u64));
    let mut kept = Vec::new();
    while kept.len() < blocks.len() {
        let next = BlockNumber::new(kept.len() as u64);
        let read = store
            .read(next, ReadLimits::new(256, 16 << 20))
            .await
            .unwrap();
        kept.extend(read.into_iter().map(|raw| Block::parse(raw).unwrap()));
    }
    for (kept, block) in kept.iter().zip(blocks) {
        assert_eq!(
            kept.header_hash(),
            block.header_hash(),
            "{}",
            block.number()
        );
        assert_eq!(kept.relay().body, block.relay().body, "{}", block.number());
    }
    store.close().await;
}
