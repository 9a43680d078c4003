// SPDX-License-Identifier: Apache-2.0
//! A process that is a node which catches up: pulled, verified, durable, with the settings that
//! `blockcast` has by default.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use block_api::{BlockReader as _, Endpoint, Height};
use e2e_tests::{
    bench::{Orders, Role, tell},
    node::{Files, Puller, USER},
};
use tokio::time::Instant;

use crate::rig::READY;

pub(crate) const ROLE: &str = "node";

pub(crate) async fn run(role: &Role) -> Result<()> {
    let (folder, endpoint): (PathBuf, Endpoint) = (role.argument(0)?, role.argument(1)?);
    let blocks: u64 = role.argument(2)?;
    let joins = Files(&folder).joins(USER, endpoint)?;
    let dir = tempfile::tempdir_in(&folder)?;
    let node = Puller::alone(joins, &dir.path().join("chain")).await?;

    let mut orders = Orders::default();
    tell(READY);
    orders.next().await?;
    let began = Instant::now();
    node.pull().await?;
    let whole = Height::new(blocks + 1);
    let height = node.store.wait_for(whole).await?.height;
    let elapsed = began.elapsed();
    ensure!(
        height == whole,
        "the chain has the height {whole}, not {height}"
    );
    tell(format_args!("{} {}", elapsed.as_nanos(), node.appends()));
    orders.end().await?;
    node.stop().await;
    Ok(())
}
