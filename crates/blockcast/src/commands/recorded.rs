// SPDX-License-Identifier: Apache-2.0
//! A chain in a folder, one file a block, as it is replayed.

use std::{collections::BTreeSet, fs, io, path::Path, time::SystemTime};

use block_api::{Block, BlockNumber, Endpoint, Readers, ReadersDenied};
use channel_config::ChannelConfig;
use dev_orderer::RecordedChain;

use crate::error::CommandError;

/// Lets everybody read: the members of a recorded chain are not ours to be.
#[derive(Debug)]
pub(crate) struct OpenReaders;

impl Readers for OpenReaders {
    fn may_read(&self, _: &[u8], _: &[u8], _: &[u8], _: SystemTime) -> Result<(), ReadersDenied> {
        Ok(())
    }

    fn generation(&self) -> u64 {
        0
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
