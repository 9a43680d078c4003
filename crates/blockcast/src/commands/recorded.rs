// SPDX-License-Identifier: Apache-2.0
//! A chain in a folder, one file a block, as it is replayed.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use block_api::{Block, BlockNumber, Endpoint, Readers, ReadersDenied};
use channel_config::ChannelConfig;
use dev_orderer::RecordedChain;
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};

use crate::error::CommandError;

/// How often a folder is looked into for the next block.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Blocks that were read and are not served yet; when there are so many, no more are read.
const FOLLOW_QUEUE: usize = 64;

/// Lets everybody read: the members of a recorded chain are not ours to be.
#[derive(Debug)]
pub(crate) struct OpenReaders;

/// Reads the blocks that come into a folder after those that were there.
#[derive(Debug)]
pub(crate) struct Follower {
    folder: PathBuf,
    next: u64,
    blocks: mpsc::Sender<Block>,
}

impl Readers for OpenReaders {
    fn may_read(&self, _: &[u8], _: &[u8], _: &[u8], _: SystemTime) -> Result<(), ReadersDenied> {
        Ok(())
    }

    fn generation(&self) -> u64 {
        0
    }
}

impl Follower {
    /// One that begins with this block, and what it reads.
    pub(crate) fn new(folder: &Path, next: u64) -> (Self, mpsc::Receiver<Block>) {
        let (blocks, further) = mpsc::channel(FOLLOW_QUEUE);
        let folder = folder.to_owned();
        let follower = Self {
            folder,
            next,
            blocks,
        };
        (follower, further)
    }

    /// Reads until a file does not hold the block that its name says.
    pub(crate) async fn run(mut self) -> CommandError {
        let mut look = interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            look.tick().await;
            if let Err(error) = self.read_what_came().await {
                return error;
            }
        }
    }

    async fn read_what_came(&mut self) -> Result<(), CommandError> {
        loop {
            let path = self.folder.join(format!("block_{}.pb", self.next));
            let failed = |error: CommandError| error.during(path.display());
            let bytes = match fs::read(&path) {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                Err(error) => return Err(failed(error.into())),
            };
            let block = Block::parse(bytes.into()).map_err(|error| {
                failed(error.into()).hint("write the file under another name and rename it")
            })?;
            if block.number().get() != self.next {
                let number = block.number();
                return Err(failed(CommandError::new(format!(
                    "it holds block {number}"
                ))));
            }
            // Nobody receives once the orderer stops, and then this is dropped with it.
            let _ = self.blocks.send(block).await;
            self.next += 1;
        }
    }
}

/// Every endpoint that a configuration of the chain names.
pub(crate) fn endpoints(chain: &RecordedChain) -> Result<BTreeSet<Endpoint>, CommandError> {
    let mut endpoints = BTreeSet::new();
    let is_config = |block: &&Block| block.number() == BlockNumber::GENESIS || block.is_config();
    for block in chain.blocks().iter().filter(is_config) {
        let config = ChannelConfig::from_block(block).map_err(|error| {
            CommandError::from(error).during(format_args!(
                "config block {} of the recorded chain",
                block.number()
            ))
        })?;
        endpoints.extend(config.endpoints().into_iter().map(|named| named.endpoint));
    }
    Ok(endpoints)
}

/// Reads `block_0.pb` and so on, as far as they go.
pub(crate) fn read_chain(folder: &Path) -> Result<RecordedChain, CommandError> {
    let mut blocks = Vec::new();
    loop {
        let path = folder.join(format!("block_{}.pb", blocks.len()));
        match fs::read(&path) {
            Ok(bytes) => blocks.push(bytes.into()),
            Err(error) if error.kind() == io::ErrorKind::NotFound && !blocks.is_empty() => break,
            Err(error) => {
                return Err(CommandError::from(error)
                    .during(path.display())
                    .hint("give a folder with block_0.pb, block_1.pb and so on, as `blockcast fetch` writes it"));
            }
        }
    }
    RecordedChain::new(blocks).map_err(|error| CommandError::from(error).during(folder.display()))
}
