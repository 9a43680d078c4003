// SPDX-License-Identifier: Apache-2.0
//! Bare libp2p streams with bytes of no meaning on them.

use anyhow::{Result, bail};
use e2e_tests::{
    bare::{BareStream, BareTransport},
    bench::{Orders, tell},
};
use futures::{AsyncReadExt as _, AsyncWriteExt as _};
use gossip_libp2p::Multiaddr;
use tokio::{task::JoinSet, time::Instant};

use crate::child::{READY, Took};

/// How many bytes are written and read at a time.
const CHUNK: usize = 64 * 1024;

/// Sends on one stream as many bytes as it asks for, until standard input ends.
pub(crate) async fn give(index: u8) -> Result<()> {
    let mut transport = BareTransport::new(index + 1)?;
    tell(transport.listen().await?);
    let serving = async { serve(transport.accept().await?).await };
    tokio::select! {
        ended = Orders::default().end() => ended,
        served = serving => {
            served?;
            Orders::default().end().await
        }
    }
}

/// Takes so many bytes from these nodes together, and tells how long it took from asking on.
pub(crate) async fn take(index: u8, bytes: u64, peers: Vec<Multiaddr>) -> Result<()> {
    let mut transport = BareTransport::new(index + 1)?;
    let mut streams = Vec::new();
    for peer in peers {
        streams.push(transport.dial(peer).await?);
    }
    let givers = streams.len() as u64;
    let share = bytes / givers;
    let mut orders = Orders::default();
    tell(READY);
    orders.next().await?;
    let began = Instant::now();
    // Tasks of their own, as the streams of a node are.
    let mut taking = JoinSet::new();
    for stream in streams {
        taking.spawn(ask(stream, share));
    }
    while let Some(taken) = taking.join_next().await {
        taken??;
    }
    let elapsed = began.elapsed();
    let bytes = share * givers;
    tell(Took {
        bytes,
        elapsed,
        appends: 0,
    });
    orders.end().await
}

async fn serve(mut bare: BareStream) -> Result<()> {
    let mut count = [0; 8];
    bare.stream.read_exact(&mut count).await?;
    let mut left = u64::from_be_bytes(count);
    let chunk = vec![0xa5; CHUNK];
    while left > 0 {
        let part = chunk.len().min(usize::try_from(left)?);
        let part = chunk.get(..part).unwrap_or_default();
        bare.stream.write_all(part).await?;
        left -= part.len() as u64;
    }
    bare.stream.close().await?;
    bare.hung_up().await;
    Ok(())
}

/// Asks for so many bytes, and reads them.
async fn ask(mut bare: BareStream, bytes: u64) -> Result<()> {
    bare.stream.write_all(&bytes.to_be_bytes()).await?;
    bare.stream.flush().await?;
    let mut chunk = vec![0; CHUNK];
    let mut left = bytes;
    while left > 0 {
        match bare.stream.read(&mut chunk).await? {
            0 => bail!("{left} bytes did not come"),
            count => left = left.saturating_sub(count as u64),
        }
    }
    Ok(())
}
