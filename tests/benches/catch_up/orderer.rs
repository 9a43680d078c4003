// SPDX-License-Identifier: Apache-2.0
//! A process that makes a chain and serves it from memory, all of it at once.

use std::{fs, path::PathBuf, sync::Arc};

use anyhow::{Context as _, Result};
use block_api::{Clock as _, Endpoint, SystemClock, testing::OpenReaders};
use dev_orderer::{ChainMaker, DevOrderer, NetworkConfig, NodesConfig, Pace};
use e2e_tests::bench::{Orders, Role, tell};

use crate::rig::Signatures;

pub(crate) const ROLE: &str = "orderer";

/// The channel, and files of the folder that the network's own files go to.
pub(crate) const CHANNEL: &str = "bench";
pub(crate) const GENESIS: &str = "genesis.block";
pub(crate) const SERVED_BY: &str = "served-by.pem";

pub(crate) async fn run(role: &Role) -> Result<()> {
    let folder: PathBuf = role.argument(0)?;
    let (blocks, bytes, nodes) = (role.argument(1)?, role.argument(2)?, role.argument(3)?);
    let config = NetworkConfig {
        consensus: Signatures::consensus(nodes),
        ..NetworkConfig::new(CHANNEL.parse()?)
    };
    // Nobody dials those that the channel names: the readers are told where to go.
    let endpoints = (0..nodes).map(|node| format!("localhost:{}", 7050 + node).parse());
    let endpoints: Vec<Endpoint> = endpoints.collect::<Result<_, _>>()?;
    let mut maker = ChainMaker::new(config, &endpoints, SystemClock.now())?;
    for (path, content) in maker.network().files() {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().context("a file is in a folder")?)?;
        fs::write(path, content)?;
    }
    let chain = maker.chain(blocks, bytes).await?;
    let last = chain.blocks().last().context("a chain has a block")?;
    let raw_bytes = last.raw().len();
    let config = NodesConfig::new(Arc::new(SystemClock));
    let readers = Arc::new(OpenReaders);
    let orderer = DevOrderer::replay(chain, Pace::AllAtOnce, readers, config).await?;
    let authority = orderer.ordering_organization().tls_ca_pem().to_owned();
    fs::write(folder.join(SERVED_BY), authority)?;
    tell(format_args!("{} {raw_bytes}", orderer.endpoint()));
    Orders::default().end().await?;
    orderer.stop().await;
    Ok(())
}
