// SPDX-License-Identifier: Apache-2.0
//! The process that reads: bare tonic clients that receive and count, no more.

use anyhow::Result;
use block_api::{Endpoint, Start};
use e2e_tests::bench::{BareClient, Role, Usage, tell};
use tokio::{task::JoinSet, time::Instant};

use crate::files::Files;

/// What this process is for.
pub(crate) const ROLE: &str = "readers";

/// Reads so many blocks, from this one on, with each of so many readers, from when all of them are connected, and tells
/// how many seconds that took and how many of a processor.
pub(crate) async fn run(role: &Role) -> Result<()> {
    let files = Files::of(role)?.of_readers();
    let (address, first): (Endpoint, u64) = (role.argument(1)?, role.argument(2)?);
    let (readers, blocks): (usize, usize) = (role.argument(3)?, role.argument(4)?);
    let asked = files.request(Start::At(first.into())).await?;
    let authorities = files.authorities()?;
    let mut clients = Vec::new();
    for _ in 0..readers {
        clients.push(BareClient::connect(&address, authorities.clone()).await?);
    }
    let mut reading = JoinSet::new();
    let (began, used) = (Instant::now(), Usage::own()?);
    for client in clients {
        let asked = asked.clone();
        reading.spawn(async move { client.deliver(asked).await?.take(blocks).await });
    }
    while let Some(read) = reading.join_next().await {
        read??;
    }
    let (seconds, cpu) = (
        began.elapsed().as_secs_f64(),
        Usage::own()?.cpu_s - used.cpu_s,
    );
    tell(format_args!("{seconds} {cpu}"));
    Ok(())
}
