// SPDX-License-Identifier: Apache-2.0
//! A process that is a bare client: messages are received and counted, no more.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use block_api::{Endpoint, Start};
use e2e_tests::{
    bench::{BareClient, Orders, Role, tell},
    node::Files,
};
use tokio::{task::JoinSet, time::Instant};

use crate::rig::READY;

pub(crate) const ROLE: &str = "bare";

pub(crate) async fn run(role: &Role) -> Result<()> {
    let (folder, endpoint): (PathBuf, Endpoint) = (role.argument(0)?, role.argument(1)?);
    let blocks: usize = role.argument(2)?;
    let files = Files(&folder);
    let envelope = files.request(Start::At(1.into())).await?;
    let authorities = files.authorities()?;

    let mut orders = Orders::default();
    tell(READY);
    orders.next().await?;
    let began = Instant::now();
    // In a task of its own, as a node's pull loop is.
    let mut pulling = JoinSet::new();
    pulling.spawn(async move {
        let client = BareClient::connect(&endpoint, authorities).await?;
        client.deliver(envelope).await?.take(blocks).await
    });
    pulling.join_next().await.context("a task")???;
    tell(format_args!("{} 0", began.elapsed().as_nanos()));
    orders.end().await
}
