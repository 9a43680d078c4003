// SPDX-License-Identifier: Apache-2.0
//! A process that is a bare client: messages are received and counted, no more.

use std::{fs, path::PathBuf};

use anyhow::{Context as _, Result};
use block_api::{Clock as _, Endpoint, Start, StreamRequest, SystemClock};
use e2e_tests::bench::{BareClient, Orders, Role, tell};
use orderer_client::parse_pem_certificates;
use signer::{
    envelope::{Nonce, seek_envelope},
    load_msp_folder,
};
use tokio::{task::JoinSet, time::Instant};

use crate::{
    node::{MSP, MSP_FOLDER},
    orderer::{CHANNEL, SERVED_BY},
    rig::READY,
};

pub(crate) const ROLE: &str = "bare";

pub(crate) async fn run(role: &Role) -> Result<()> {
    let (folder, endpoint): (PathBuf, Endpoint) = (role.argument(0)?, role.argument(1)?);
    let blocks: usize = role.argument(2)?;
    let signer = load_msp_folder(&folder.join(MSP_FOLDER), MSP)?;
    let request = StreamRequest::blocks_from(CHANNEL.parse()?, Start::At(1.into()));
    let (now, nonce) = (SystemClock.now(), Nonce::random());
    let envelope = seek_envelope(&*signer, &request, None, now, nonce).await?;
    let authority = parse_pem_certificates(&fs::read(folder.join(SERVED_BY))?)?;

    let mut orders = Orders::default();
    tell(READY);
    orders.next().await?;
    let began = Instant::now();
    // In a task of its own, as a node's pull loop is.
    let mut pulling = JoinSet::new();
    pulling.spawn(async move {
        let client = BareClient::connect(&endpoint, authority).await?;
        client.deliver(envelope).await?.take(blocks).await
    });
    pulling.join_next().await.context("a task")???;
    tell(format_args!("{} 0", began.elapsed().as_nanos()));
    orders.end().await
}
