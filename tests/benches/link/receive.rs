// SPDX-License-Identifier: Apache-2.0
//! What it takes to receive the chain and do nothing with it: by the client, and by a bare stub.

use std::{path::Path, sync::Arc};

use anyhow::{Context as _, Result, ensure};
use block_api::{BlockSource as _, Delivery, Start, StreamRequest, SystemClock};
use e2e_tests::{
    bench::{BareClient, Usage},
    node::{CHANNEL, Files, USER},
};
use orderer_client::OrdererClient;
use tokio::{task::JoinSet, time::Instant};
use tokio_stream::StreamExt as _;

use crate::{hosts, took::Took};

/// The role of one who receives with the client.
pub(crate) const CLIENT: &str = "receive";

/// The role of one who receives with a stub and nothing else.
pub(crate) const STUB: &str = "receive-bare";

/// Receives the chain with the client, and says what it took.
pub(crate) async fn client(dir: &Path, blocks: usize) -> Result<()> {
    let (files, endpoint) = (Files(dir), hosts::orderer_endpoint()?);
    let (config, signer) = (files.orderer(endpoint.clone())?, files.signer(USER)?);
    let client = OrdererClient::new(config, signer, Arc::new(SystemClock))?;
    let request = StreamRequest::blocks_from(CHANNEL.parse()?, Start::At(1.into()));
    let mut stream = client.open(&endpoint, &request).await?;
    tell_cpu(async move {
        for _ in 0..blocks {
            let delivery = stream.next().await.context("the stream ended early")??;
            ensure!(matches!(delivery, Delivery::Block(_)), "no block");
        }
        Ok(())
    })
    .await
}

/// Receives the chain with a stub over the same TLS and windows, and says what it took.
pub(crate) async fn stub(dir: &Path, blocks: usize) -> Result<()> {
    let files = Files(dir);
    let client = BareClient::connect(&hosts::orderer_endpoint()?, files.authorities()?).await?;
    let envelope = files.request(Start::At(1.into())).await?;
    let receiving = client.deliver(envelope).await?;
    tell_cpu(receiving.take(blocks)).await
}

/// Receives in a task, as a pull loop does, and says what that took.
async fn tell_cpu(receiving: impl Future<Output = Result<()>> + Send + 'static) -> Result<()> {
    let (before, began) = (Usage::own()?, Instant::now());
    let mut tasks = JoinSet::new();
    tasks.spawn(receiving);
    tasks.join_next().await.context("a task")???;
    println!("{}", Took::since(&before, began)?);
    Ok(())
}
