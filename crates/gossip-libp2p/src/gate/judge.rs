// SPDX-License-Identifier: Apache-2.0
//! Asks the readers of channels about nodes without keeping the event loop: each answer takes the time
//! of a signature, and a node may name thousands of channels whenever it connects.

use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use futures::{StreamExt as _, stream::FuturesUnordered};
use libp2p::{PeerId, swarm::ConnectionId};
use tokio::{sync::Semaphore, task::spawn_blocking};

use crate::{access::Access, topic::TopicId};

/// About so many channels is asked at once for each connection, so that who is in a few does not wait.
const AT_ONCE: usize = 32;

/// About so many is asked beside the loop before others have their turn.
const BATCH: usize = 64;

/// So many nodes are judged beside the loop at a time.
const TURNS: usize = 2;

/// What of the table of rights is asked now, and what beside.
pub(super) struct Judge {
    access: Access,
    lines: BTreeMap<PeerId, Line>,
    turns: Arc<Semaphore>,
    running: FuturesUnordered<Pin<Box<dyn Future<Output = Done> + Send>>>,
}

/// What is to be asked about one connected node.
#[derive(Debug)]
struct Line {
    connection: ConnectionId,
    at_once: usize,
    waiting: BTreeSet<TopicId>,
    is_busy: bool,
}

/// These were asked about.
struct Done {
    peer: PeerId,
    connection: ConnectionId,
    topics: Vec<TopicId>,
}

impl Judge {
    pub(super) fn new(access: Access) -> Self {
        Self {
            access,
            lines: BTreeMap::new(),
            turns: Arc::new(Semaphore::new(TURNS)),
            running: FuturesUnordered::new(),
        }
    }

    pub(super) fn connected(&mut self, peer: PeerId, connection: ConnectionId) {
        let line = Line {
            connection,
            at_once: AT_ONCE,
            waiting: BTreeSet::new(),
            is_busy: false,
        };
        self.lines.insert(peer, line);
    }

    pub(super) fn disconnected(&mut self, peer: &PeerId) {
        self.lines.remove(peer);
    }

    /// Whether a node may have a channel, as far as that is known at once. What is not is asked beside,
    /// and [`Judge::poll`] says when to look again.
    pub(super) fn may_have(&mut self, peer: &PeerId, topic: TopicId) -> bool {
        if self.access.was_judged(peer, topic) {
            return self.access.may_have(peer, topic);
        }
        let Some(line) = self.lines.get_mut(peer) else {
            return false;
        };
        if let Some(left) = line.at_once.checked_sub(1) {
            line.at_once = left;
            return self.access.may_have(peer, topic);
        }
        line.waiting.insert(topic);
        self.begin(*peer);
        false
    }

    /// Channels that a node may have, as was found beside.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<(PeerId, Vec<TopicId>)> {
        while let Poll::Ready(Some(done)) = self.running.poll_next_unpin(cx) {
            let Done {
                peer,
                connection,
                mut topics,
            } = done;
            let line = self.lines.get_mut(&peer);
            // It may be another connection by now, which has a line of its own.
            let Some(line) = line.filter(|line| line.connection == connection) else {
                continue;
            };
            line.is_busy = false;
            self.begin(peer);
            let access = &self.access;
            topics
                .retain(|topic| access.was_judged(&peer, *topic) && access.may_have(&peer, *topic));
            if !topics.is_empty() {
                return Poll::Ready((peer, topics));
            }
        }
        Poll::Pending
    }

    /// Has the next of those that wait asked about, unless that goes on.
    fn begin(&mut self, peer: PeerId) {
        let Some(line) = self.lines.get_mut(&peer) else {
            return;
        };
        if line.is_busy || line.waiting.is_empty() {
            return;
        }
        line.is_busy = true;
        let connection = line.connection;
        let (access, turns) = (self.access.clone(), self.turns.clone());
        let mut topics = Vec::new();
        while topics.len() < BATCH
            && let Some(topic) = line.waiting.pop_first()
        {
            topics.push(topic);
        }
        self.running.push(Box::pin(async move {
            let asked = topics.clone();
            // Err would say that nobody waits for a turn any more.
            let turn = turns.acquire_owned().await;
            let asking = spawn_blocking(move || {
                for topic in asked {
                    access.may_have(&peer, topic);
                }
            });
            // Of whom the readers could not say anything has no right.
            drop(asking.await);
            drop(turn);
            Done {
                peer,
                connection,
                topics,
            }
        }));
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::poll_fn,
        sync::atomic::{AtomicUsize, Ordering},
        time::SystemTime,
    };

    use block_api::{FixedClock, Readers, ReadersDenied};

    use super::*;
    use crate::{Keypair, access::Others, membership::Proof};

    /// Lets everybody read one of two channels, and counts how often it is asked.
    #[derive(Debug)]
    struct Counting {
        asked: Arc<AtomicUsize>,
        lets: bool,
    }

    impl Readers for Counting {
        fn may_read(
            &self,
            _: &[u8],
            _: &[u8],
            _: &[u8],
            _: SystemTime,
        ) -> Result<(), ReadersDenied> {
            self.asked.fetch_add(1, Ordering::SeqCst);
            match self.lets {
                true => Ok(()),
                false => Err(ReadersDenied::new("not this one")),
            }
        }

        fn generation(&self) -> u64 {
            0
        }
    }

    #[tokio::test]
    async fn a_node_in_thousands_of_channels_is_judged_beside_the_event_loop() {
        let clock = Arc::new(FixedClock(SystemTime::UNIX_EPOCH));
        let access = Access::new(BTreeSet::new(), Others::All, clock);
        let asked = Arc::new(AtomicUsize::new(0));
        let count = || asked.load(Ordering::SeqCst);
        let peer = Keypair::from_seed([1; 32]).peer_id();
        let proof = Proof {
            identity: b"\x0a\x03Org".as_slice().into(),
            signed: Vec::new(),
            signature: b"signed".as_slice().into(),
        };
        access.admit(peer, proof).await.unwrap();
        access.connected(peer, access.claim(&peer).unwrap());
        let topics: Vec<TopicId> = (0..2000u16)
            .map(|n| {
                let mut id = [0; 32];
                id[..2].copy_from_slice(&n.to_be_bytes());
                TopicId::new(id)
            })
            .collect();
        for (n, topic) in topics.iter().enumerate() {
            let readers = Counting {
                asked: asked.clone(),
                lets: n % 2 == 0,
            };
            access.join(*topic, Arc::new(readers));
        }
        let mut judge = Judge::new(access.clone());
        let first = ConnectionId::new_unchecked(1);
        judge.connected(peer, first);
        let at_once = topics.iter().filter(|topic| judge.may_have(&peer, **topic));
        assert_eq!((at_once.count(), count()), (AT_ONCE / 2, AT_ONCE));

        let mut granted = Vec::new();
        while granted.len() < (topics.len() - AT_ONCE) / 2 {
            let (_, more) = poll_fn(|cx| judge.poll(cx)).await;
            assert!(more.len() <= BATCH);
            granted.extend(more);
        }
        assert_eq!(count(), topics.len(), "once about each");
        let now = topics.iter().filter(|topic| judge.may_have(&peer, **topic));
        assert_eq!((now.count(), count()), (topics.len() / 2, topics.len()));
        judge.disconnected(&peer);
        access.disconnected(&peer);
        assert!(!judge.may_have(&peer, topics[0]));
    }
}
