// SPDX-License-Identifier: Apache-2.0
//! The bare hops: a client of the orderer that stores nothing, and messages on a libp2p stream.

use std::{io::ErrorKind, path::Path, time::Duration};

use anyhow::{Context as _, Result};
use block_api::{Block, Start};
use e2e_tests::{
    bare::BareTransport,
    bench::{BareClient, Orders, tell},
    node::Files,
};
use futures::{AsyncReadExt as _, AsyncWriteExt as _};
use gossip_libp2p::Multiaddr;
use protos::deliver::DeliverMessage;
use tokio::{task::JoinSet, time::interval};

use crate::{
    child::{Came, MET, Stamp},
    run::INTERVAL,
};

/// What a message begins with: when it was sent.
const STAMP: usize = 8;

/// Tells of each block that comes from the orderer, as tonic gives it.
pub(crate) async fn client(dir: &Path, endpoint: &str) -> Result<()> {
    let files = Files(dir);
    let client = BareClient::connect(&endpoint.parse()?, files.authorities()?).await?;
    let envelope = files.request(Start::Newest).await?;
    let mut blocks = client.deliver(envelope).await?;
    // In a task of its own, as a node's pull loop is.
    let mut telling = JoinSet::new();
    telling.spawn(async move {
        let mut met = false;
        loop {
            let message = blocks.next().await?;
            let at = Stamp::now();
            if let DeliverMessage::Block(raw) = message {
                let number = Block::parse(raw)?.number().get();
                // The newest one was there before.
                if met {
                    tell(Came { number, at });
                } else {
                    tell(MET);
                    met = true;
                }
            }
        }
    });
    tokio::select! {
        ended = Orders::default().end() => ended,
        failed = telling.join_next() => failed.context("a task")??,
    }
}

/// Sends so many messages of so many bytes to who dials, at the pace of the blocks.
pub(crate) async fn sender(messages: usize, bytes: usize) -> Result<()> {
    let mut transport = BareTransport::new(1)?;
    tell(transport.listen().await?);
    let sending = async {
        let mut bare = transport.accept().await?;
        bare.stream.read_exact(&mut [0]).await?;
        let rest = vec![0xa5; bytes.saturating_sub(STAMP)];
        let mut turns = interval(INTERVAL);
        for _ in 0..messages {
            turns.tick().await;
            let now = u64::try_from(Stamp::now().0.as_nanos())?;
            bare.stream.write_all(&now.to_be_bytes()).await?;
            bare.stream.write_all(&rest).await?;
            bare.stream.flush().await?;
        }
        bare.hung_up().await;
        anyhow::Ok(())
    };
    tokio::select! {
        ended = Orders::default().end() => ended,
        sent = sending => {
            sent?;
            Orders::default().end().await
        }
    }
}

/// Tells how long each message took.
pub(crate) async fn taker(bytes: usize, sender: Multiaddr) -> Result<()> {
    let mut bare = BareTransport::new(2)?.dial(sender).await?;
    bare.stream.write_all(&[1]).await?;
    bare.stream.flush().await?;
    let mut message = vec![0; bytes.max(STAMP)];
    loop {
        match bare.stream.read_exact(&mut message).await {
            // The sender hangs up behind the last one.
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => {
                return Orders::default().end().await;
            }
            read => read?,
        }
        let at = Stamp::now();
        let stamp: [u8; STAMP] = *message.first_chunk().context("a stamp")?;
        let sent = Stamp(Duration::from_nanos(u64::from_be_bytes(stamp)));
        tell(at.since(sent).as_nanos());
    }
}
