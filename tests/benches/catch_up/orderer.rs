// SPDX-License-Identifier: Apache-2.0
//! A process that makes a chain and serves it from memory, all of it at once.

use std::{path::PathBuf, sync::Arc};

use anyhow::Result;
use block_api::{Clock as _, Endpoint, SystemClock};
use dev_orderer::{ChainMaker, NetworkConfig, NodesConfig};
use e2e_tests::{
    bench::{Blocks, Orders, Role, tell},
    node::CHANNEL,
};

use crate::rig::Signatures;

pub(crate) const ROLE: &str = "orderer";

pub(crate) async fn run(role: &Role) -> Result<()> {
    let folder: PathBuf = role.argument(0)?;
    let blocks = Blocks {
        count: role.argument(1)?,
        data_bytes: role.argument(2)?,
    };
    let nodes = role.argument(3)?;
    let config = NetworkConfig {
        consensus: Signatures::consensus(nodes),
        ..NetworkConfig::new(CHANNEL.parse()?)
    };
    // Nobody dials those that the channel names: the readers are told where to go.
    let endpoints = (0..nodes).map(|node| format!("localhost:{}", 7050 + node).parse());
    let endpoints: Vec<Endpoint> = endpoints.collect::<Result<_, _>>()?;
    let maker = ChainMaker::new(config, &endpoints, SystemClock.now())?;
    let config = NodesConfig::new(Arc::new(SystemClock));
    let (orderer, bytes) = blocks.serve(maker, config, &folder).await?;
    let raw_bytes = bytes / blocks.count.max(1);
    tell(format_args!("{} {raw_bytes}", orderer.endpoint()));
    Orders::default().end().await?;
    orderer.stop().await;
    Ok(())
}
