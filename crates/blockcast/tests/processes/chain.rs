// SPDX-License-Identifier: Apache-2.0
//! The chain that the orderers serve: a folder that grows.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use block_api::{Block, Clock as _, SystemClock};
use dev_orderer::{ChainMaker, Network as Members, NetworkConfig, OrganizationSpec, Role};
use tokio::{
    sync::watch,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;

use crate::cluster;

pub(crate) const CHANNEL: &str = "mychannel";

/// A block comes after so long.
const PACE: Duration = Duration::from_millis(50);

/// The bytes of a block's data: most of them travel whole, and some are announced and fetched.
const SMALL: usize = 4_000;
const LARGE: usize = 100_000;

/// Every so many blocks one is large.
const LARGE_EVERY: u64 = 25;

/// Makes the chain.
pub(crate) struct Chain {
    folder: PathBuf,
    maker: ChainMaker,
    blocks: Vec<Block>,
    tip: watch::Sender<u64>,
}

impl Chain {
    /// A chain with its genesis block, which names the orderers of the cluster.
    pub(crate) async fn begin(dir: &Path) -> Self {
        let names: Vec<String> = (0..cluster::NODES).map(cluster::peer).collect();
        let peers = names.iter().map(|name| (name.as_str(), Role::Peer));
        let mut config = NetworkConfig::new(CHANNEL.parse().unwrap());
        let members = peers.chain([("user1", Role::Client), ("admin", Role::Admin)]);
        config.applications = vec![OrganizationSpec::new("Org1", members)];
        let endpoints = cluster::orderers().collect::<Vec<_>>();
        let maker = ChainMaker::new(config, &endpoints, SystemClock.now()).unwrap();
        let folder = dir.join("chain");
        fs::create_dir(&folder).unwrap();
        let mut chain = Self {
            folder,
            blocks: Vec::new(),
            tip: watch::Sender::new(0),
            maker,
        };
        chain.put(chain.maker.network().genesis().clone());
        for _ in 0..10 {
            chain.next().await;
        }
        chain
    }

    /// Who there is on the channel.
    pub(crate) fn members(&self) -> &Members {
        self.maker.network()
    }

    /// Where the blocks are.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The number of the newest block.
    pub(crate) fn tip(&self) -> watch::Receiver<u64> {
        self.tip.subscribe()
    }

    /// Makes blocks until told to stop, and gives all of them.
    pub(crate) async fn grow(mut self, stop: CancellationToken) -> Vec<Block> {
        let mut pace = interval(PACE);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while !stop.is_cancelled() {
            pace.tick().await;
            self.next().await;
        }
        self.blocks
    }

    async fn next(&mut self) {
        let number = self.blocks.len() as u64;
        let bytes = if number.is_multiple_of(LARGE_EVERY) {
            LARGE
        } else {
            SMALL
        };
        let block = self.maker.block(&[bytes]).await.unwrap();
        self.put(block);
    }

    /// Puts a block into the folder as orderers that follow it want it: at once.
    fn put(&mut self, block: Block) {
        let number = block.number().get();
        let new = self.folder.join("new");
        fs::write(&new, block.raw()).unwrap();
        fs::rename(new, self.folder.join(format!("block_{number}.pb"))).unwrap();
        self.blocks.push(block);
        self.tip.send_replace(number);
    }
}
