// SPDX-License-Identifier: Apache-2.0
//! Enemies whose proofs do not hold.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

use block_api::{
    Gossip, JoinRequest, Readers, ReadersDenied,
    testing::{MemoryStore, TestChain, within},
};
use blockcast_gossip_libp2p::{Admission, Config, Keypair, Libp2pGossip};
use tokio::{task::JoinSet, time::Instant};

use crate::{
    honest::support,
    raw::{is_taken, is_taken_as},
};

/// The identity of the insiders: of the MSP "insider", without a certificate.
const INSIDER: &[u8] = b"\x0a\x07insider";

/// Lets the insiders read, and counts how often it is asked.
#[derive(Debug, Default)]
struct Insiders(AtomicU64);

impl Readers for Insiders {
    fn may_read(
        &self,
        identity: &[u8],
        _: &[u8],
        signature: &[u8],
        _: SystemTime,
    ) -> Result<(), ReadersDenied> {
        self.0.fetch_add(1, Ordering::SeqCst);
        match identity == INSIDER && signature == identity {
            true => Ok(()),
            false => Err(ReadersDenied::new("it is none of them")),
        }
    }

    fn generation(&self) -> u64 {
        0
    }
}

/// Strangers, each with a key of its own, whose proofs cost their verification: of so many from one
/// address the rest is hung up on, and whoever may come is let in when they are fewer.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_proofs_that_do_not_hold_is_not_verified() {
    const MANY: u64 = 100;
    let seed = |n: u64| {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&n.to_be_bytes());
        seed
    };
    let node = Libp2pGossip::start(Config {
        admission: Admission::Members,
        ..support::config(Keypair::generate(), &[])
    });
    let node = node.await.unwrap();
    let genesis = TestChain::new("private").config();
    let insiders = Arc::new(Insiders::default());
    let request = JoinRequest {
        channel: TestChain::new("private").channel(),
        genesis: genesis.header_hash(),
        reader: Arc::new(MemoryStore::with(vec![TestChain::verified(&genesis)]).await),
        readers: insiders.clone(),
    };
    let _membership = within("joining", node.join(request)).await.unwrap();
    let address = node.peer_addrs().remove(0);
    let began = Instant::now();
    let mut calling = JoinSet::new();
    for n in 0..MANY {
        let address = address.clone();
        calling.spawn(async move { is_taken(seed(n), &address).await });
        // A few at a time: those that are being judged count when they are.
        if n % 4 == 3 {
            while let Some(taken) = calling.join_next().await {
                assert!(!taken.unwrap(), "a stranger is let in");
            }
        }
    }
    let asked = insiders.0.load(Ordering::SeqCst);
    // Sixteen at once, four a second, and those that were being judged then.
    let most = 16 + 4 * (began.elapsed().as_secs() + 1) + 4;
    assert!((16..=most).contains(&asked), "{asked} proofs were verified");
    assert_eq!(node.stats().proofs_refused, MANY);
    let let_in = async {
        while !is_taken_as(seed(MANY), &address, INSIDER).await {
            tokio::task::yield_now().await;
        }
    };
    within("an insider is let in again", let_in).await;
    within("stopping", node.stop()).await;
}
