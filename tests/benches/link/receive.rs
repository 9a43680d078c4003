// SPDX-License-Identifier: Apache-2.0
//! What it takes to receive the chain and do nothing with it: by the client, and by a bare stub.

use std::{fs, path::Path, sync::Arc};

use anyhow::{Context as _, Result, ensure};
use block_api::{BlockSource as _, Clock as _, Delivery, Start, StreamRequest, SystemClock};
use e2e_tests::bench::{BareClient, Usage};
use orderer_client::OrdererClient;
use signer::{
    envelope::{Nonce, seek_envelope},
    load_msp_folder,
};
use tokio::{task::JoinSet, time::Instant};
use tokio_stream::StreamExt as _;

use crate::{hosts, took::Took};

/// The role of one who receives with the client.
pub(crate) const CLIENT: &str = "receive";

/// The role of one who receives with a stub and nothing else.
pub(crate) const STUB: &str = "receive-bare";

/// Receives the chain with the client, and says what it took.
pub(crate) async fn client(dir: &Path, blocks: usize) -> Result<()> {
    let signer = load_msp_folder(&dir.join(hosts::MSP), hosts::MSP_ID)?;
    let config = hosts::client_config(dir)?;
    let endpoint = config
        .endpoints
        .first()
        .context("an endpoint")?
        .endpoint
        .clone();
    let client = OrdererClient::new(config, signer, Arc::new(SystemClock))?;
    let request = StreamRequest::blocks_from(hosts::CHANNEL.parse()?, Start::At(1.into()));
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
    let signer = load_msp_folder(&dir.join(hosts::MSP), hosts::MSP_ID)?;
    let root = fs::read(dir.join(hosts::TLS_ROOT))?.into();
    let endpoint = hosts::orderer_address().to_string().parse()?;
    let client = BareClient::connect(&endpoint, [root]).await?;
    let request = StreamRequest::blocks_from(hosts::CHANNEL.parse()?, Start::At(1.into()));
    let now = SystemClock.now();
    let envelope = seek_envelope(&*signer, &request, None, now, Nonce::random()).await?;
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
