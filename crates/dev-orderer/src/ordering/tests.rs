// SPDX-License-Identifier: Apache-2.0
//! The ordering task in virtual time.

use std::time::SystemTime;

use block_api::{BlockReader as _, Height, testing::within};
use bytes::Bytes;
use tokio::{task::JoinHandle, time};

use super::*;
use crate::{Consensus, Network, NetworkConfig};

const TIMEOUT: Duration = Duration::from_secs(60);

struct Fixture {
    handle: OrderingHandle,
    chains: Vec<Arc<MemoryChain>>,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// An ordering service that cuts blocks of three messages or ten bytes.
fn start(consensus: Consensus, nodes: usize, queue_bytes: u32) -> Fixture {
    let mut config = NetworkConfig {
        consensus,
        ..NetworkConfig::new("ch".parse().unwrap())
    };
    config.batch.max_message_count = 3.try_into().unwrap();
    config.batch.preferred_max_bytes = 10.try_into().unwrap();
    config.batch.timeout = TIMEOUT;
    let endpoints: Vec<_> = (0..nodes)
        .map(|i| format!("localhost:{}", 7050 + i).parse().unwrap())
        .collect();
    let network = Network::generate(config, &endpoints, SystemTime::UNIX_EPOCH).unwrap();
    let chains: Vec<_> = (0..nodes).map(|_| Arc::new(MemoryChain::new())).collect();
    for chain in &chains {
        chain.append(network.genesis());
    }
    let batch = &network.config().batch;
    let (ordering, handle) = Ordering::new(batch, queue_bytes, network.writer(), chains.clone());
    let stop = CancellationToken::new();
    #[expect(clippy::disallowed_methods, reason = "the test awaits the task")]
    let task = tokio::spawn(ordering.run(stop.clone()));
    Fixture {
        handle,
        chains,
        stop,
        task,
    }
}

impl Fixture {
    async fn send(&self, size: usize) {
        let message = Message {
            envelope: vec![b'x'; size].into(),
            size,
        };
        within("room in the queue", self.handle.enqueue(message))
            .await
            .unwrap();
    }

    /// The sizes of the entries of a block, once it is there.
    async fn block(&self, number: u64) -> Vec<usize> {
        let chain = &self.chains[0];
        chain.wait_for(Height::new(number + 1)).await.unwrap();
        let raw = chain
            .read(BlockNumber::new(number), block_api::ReadLimits::one())
            .await
            .unwrap();
        Block::parse(raw[0].clone())
            .unwrap()
            .data()
            .map(<[u8]>::len)
            .collect()
    }

    async fn stop(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

/// Covers: ORD-08
#[tokio::test(start_paused = true)]
async fn the_timeout_cuts_what_is_pending() {
    let ordering = start(Consensus::Raft, 1, 1000);
    let begin = Instant::now();
    ordering.send(1).await;
    time::sleep(TIMEOUT / 2).await;
    ordering.send(2).await;
    assert_eq!(ordering.block(1).await, [1, 2]);
    assert_eq!(begin.elapsed(), TIMEOUT, "from the first message on");
    // Nothing is pending, so nothing is cut; the next message has the whole time again.
    time::sleep(TIMEOUT * 3).await;
    assert_eq!(ordering.chains[0].info().height, Height::new(2));
    let begin = Instant::now();
    ordering.send(3).await;
    assert_eq!(ordering.block(2).await, [3]);
    assert_eq!(begin.elapsed(), TIMEOUT);
    ordering.stop().await;
}

/// Covers: ORD-08
#[tokio::test(start_paused = true)]
async fn count_and_bytes_cut_without_waiting() {
    let ordering = start(Consensus::Raft, 1, 1000);
    let begin = Instant::now();
    for size in [1, 1, 1, 8, 4, 20] {
        ordering.send(size).await;
    }
    assert_eq!(ordering.block(1).await, [1, 1, 1]);
    assert_eq!(ordering.block(2).await, [8]);
    assert_eq!(ordering.block(3).await, [4]);
    assert_eq!(ordering.block(4).await, [20]);
    assert_eq!(begin.elapsed(), Duration::ZERO);
    ordering.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_whole_block_cuts_what_is_pending_first() {
    let ordering = start(Consensus::Raft, 1, 1000);
    ordering.send(1).await;
    let batch = vec![Bytes::from_static(b"whole"), Bytes::from_static(b"block")];
    let number = ordering.handle.enqueue_block(batch).await.unwrap();
    assert_eq!(number.await.unwrap(), BlockNumber::new(2));
    assert_eq!(ordering.block(1).await, [1]);
    assert_eq!(ordering.block(2).await, [5, 5]);
    ordering.stop().await;
}

#[tokio::test(start_paused = true)]
async fn nodes_have_equal_headers_and_data_and_signatures_of_their_own() {
    for (consensus, nodes) in [(Consensus::Raft, 3), (Consensus::Bft, 4)] {
        let ordering = start(consensus, nodes, 1000);
        ordering.send(20).await;
        let mut copies = Vec::new();
        for chain in &ordering.chains {
            chain.wait_for(Height::new(2)).await.unwrap();
            let raw = chain
                .read(BlockNumber::new(1), block_api::ReadLimits::one())
                .await
                .unwrap();
            copies.push(Block::parse(raw[0].clone()).unwrap());
        }
        for (index, copy) in copies.iter().enumerate() {
            for other in &copies[..index] {
                assert_eq!(copy.header_hash(), other.header_hash());
                assert_eq!(copy.relay().body, other.relay().body);
                assert_ne!(copy.raw(), other.raw(), "{consensus:?}");
            }
        }
        ordering.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn who_submits_waits_for_room() {
    let ordering = start(Consensus::Raft, 1, 100);
    // One that is larger than the whole room goes alone.
    ordering.send(5000).await;
    assert_eq!(ordering.block(1).await, [5000]);
    let room = ordering.handle.room.clone();
    let taken = room.acquire_many(100).await.unwrap();
    let mut waiting = Box::pin(ordering.send(20));
    assert!(futures::poll!(waiting.as_mut()).is_pending());
    drop(taken);
    waiting.await;
    assert_eq!(ordering.block(2).await, [20]);
    ordering.stop().await;
}

/// Covers: ORD-06
#[tokio::test(start_paused = true)]
async fn after_the_stop_nothing_is_taken_and_nobody_waits() {
    let ordering = start(Consensus::Raft, 1, 1000);
    ordering.send(1).await;
    let (handle, chain) = (ordering.handle.clone(), ordering.chains[0].clone());
    ordering.stop().await;
    let message = Message {
        envelope: Bytes::from_static(b"x"),
        size: 1,
    };
    assert_eq!(handle.enqueue(message).await, Err(Stopped));
    assert_eq!(handle.enqueue_block(Vec::new()).await.unwrap_err(), Stopped);
    assert!(
        chain.wait_for(Height::new(2)).await.is_err(),
        "what was pending is lost"
    );
}
