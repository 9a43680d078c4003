// SPDX-License-Identifier: Apache-2.0
//! The process that is measured: `orderer-server` over a segment store, as the relay has it.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use block_api::{Block, BlockReader, ReadLimits, SystemClock};
use channel_config::{ChannelAccess, ChannelVerifier};
use e2e_tests::{
    bench::{Role, tell},
    node::CHANNEL,
};
use orderer_server::{OrdererServer, ServeConfig, ServedChannel, ServerTls};
use tokio::net::TcpListener;

use crate::{files::Files, until_told};

/// What this process is for.
pub(crate) const ROLE: &str = "ours";

pub(crate) async fn run(role: &Role) -> Result<()> {
    let files = Files::of(role)?;
    let (store, _) = files.store()?;
    let genesis = store.read(0.into(), ReadLimits::one()).await?;
    let genesis = genesis.into_iter().next().context("the chain is empty")?;
    let verifier = ChannelVerifier::from_genesis(&Block::parse(genesis)?)?;
    let readers = Arc::new(ChannelAccess::readers(&verifier));
    let server = OrdererServer::builder(Arc::new(SystemClock)).build();
    server.add_channel(
        CHANNEL.parse()?,
        ServedChannel::new(Arc::new(store), readers),
    );
    let (certificate, key) = files.server()?;
    let tls = ServerTls::server(vec![certificate], key, Arc::new(SystemClock))?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    tell(listener.local_addr()?);
    server
        .serve(listener, tls, ServeConfig::default(), until_told())
        .await?;
    Ok(())
}
