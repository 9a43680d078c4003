// SPDX-License-Identifier: Apache-2.0
//! That a node holds an identity of a channel: a signature over the channel and the node's id, which
//! goes with each status.
//!
//! The connection proves the node's id, so that nobody can use what another one signed.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use block_api::{Clock, Readers, Signer};
use bytes::Bytes;
use libp2p::PeerId;
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tracing::{debug, warn};

use crate::{topic::TopicId, wire::StatusMessage};

/// What is signed begins with it, so that the signature means nothing elsewhere.
const DOMAIN: &[u8] = b"blockcast channel member 1\0";

/// The longest identity: a certificate in PEM and the name of its MSP. Fabric's take some 1 KiB.
pub(crate) const MAX_IDENTITY: usize = 16 * 1024;

/// The longest signature; those of Fabric's identities have at most 72 bytes.
pub(crate) const MAX_SIGNATURE: usize = 1024;

/// How long the holder of a key may take.
const SIGN_TIMEOUT: Duration = Duration::from_secs(30);

/// How long to wait before it is asked again; doubled up to [`MAX_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// How long no other proof of a node is checked for a channel whose configuration refused one.
pub(crate) const REFUSED_PAUSE: Duration = Duration::from_secs(1);

/// Who may read each channel that this node joined.
pub(crate) type Judges = BTreeMap<TopicId, Arc<dyn Readers>>;

/// An identity, and the signature that its holder made for a node and a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Proof {
    pub(crate) identity: Bytes,
    pub(crate) signature: Bytes,
}

/// Checks the proofs of one node. Each is checked once for each configuration of its channel.
pub(crate) struct Examiner {
    peer: PeerId,
    judges: watch::Receiver<Judges>,
    clock: Arc<dyn Clock>,
    examined: BTreeMap<TopicId, Examined>,
    /// The last refusal for each channel, and the configuration that it was by. A status without a
    /// proof does not undo it.
    refused: BTreeMap<TopicId, (Instant, u64)>,
}

/// What came of the proof for one channel.
struct Examined {
    proof: Proof,
    /// The configuration that it was checked by; `None` while that waits.
    generation: Option<u64>,
    holds: bool,
    /// The newest status, while the proof does not hold: it may under a newer configuration.
    waiting: Option<StatusMessage>,
}

impl Examiner {
    pub(crate) fn new(
        peer: PeerId,
        judges: watch::Receiver<Judges>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            peer,
            judges,
            clock,
            examined: BTreeMap::new(),
            refused: BTreeMap::new(),
        }
    }

    /// The identity that the node proved with this status. Without a proof that holds there is none,
    /// which is no fault: the configuration that it holds by may not have come yet.
    pub(crate) fn identity(&mut self, message: &StatusMessage) -> Option<Bytes> {
        let topic = message.topic;
        let judge = self.judges.borrow().get(&topic).cloned();
        let (Some(judge), Some(proof)) = (judge, &message.proof) else {
            self.examined.remove(&topic);
            return None;
        };
        let generation = judge.generation();
        let known = self.examined.get(&topic);
        let known =
            known.filter(|known| known.generation == Some(generation) && known.proof == *proof);
        let held = match known {
            Some(known) => Some(known.holds),
            None if self.pauses(&topic, generation) => None,
            None => Some(self.holds(&*judge, topic, proof, generation)),
        };
        let holds = held == Some(true);
        let examined = Examined {
            proof: proof.clone(),
            generation: held.is_some().then_some(generation),
            holds,
            waiting: (!holds).then(|| message.clone()),
        };
        self.examined.insert(topic, examined);
        // As many at most as channels were joined, however many the node names.
        if self.examined.len() > self.judges.borrow().len() {
            let judges = self.judges.borrow();
            self.examined.retain(|topic, _| judges.contains_key(topic));
            self.refused.retain(|topic, _| judges.contains_key(topic));
        }
        holds.then(|| proof.identity.clone())
    }

    /// The statuses whose proofs did not hold and do by a newer configuration, or were not checked.
    pub(crate) fn look_again(&mut self) -> Vec<(StatusMessage, Bytes)> {
        let judges = self.judges.borrow();
        let newer = |topic: &TopicId, examined: &Examined| {
            let judge = judges.get(topic);
            judge.is_some_and(|judge| Some(judge.generation()) != examined.generation)
        };
        let waiting = self.examined.iter().filter_map(|(topic, examined)| {
            let message = examined.waiting.as_ref()?;
            newer(topic, examined).then(|| message.clone())
        });
        let waiting: Vec<StatusMessage> = waiting.collect();
        drop(judges);
        let proven = waiting.into_iter().filter_map(|message| {
            let identity = self.identity(&message)?;
            Some((message, identity))
        });
        proven.collect()
    }

    /// Checking takes its time, and nothing keeps a node from making up proofs.
    fn pauses(&self, topic: &TopicId, generation: u64) -> bool {
        let refused = self.refused.get(topic);
        refused.is_some_and(|(at, by)| *by == generation && at.elapsed() < REFUSED_PAUSE)
    }

    fn holds(
        &mut self,
        judge: &dyn Readers,
        topic: TopicId,
        proof: &Proof,
        generation: u64,
    ) -> bool {
        let signed = signed(topic, &self.peer);
        let Proof {
            identity,
            signature,
        } = proof;
        match judge.may_read(identity, &signed, signature, self.clock.now()) {
            Ok(()) => true,
            Err(error) => {
                debug!(peer = %self.peer, %error, "a node did not prove its identity");
                self.refused.insert(topic, (Instant::now(), generation));
                false
            }
        }
    }
}

/// Has the holder of the key sign until it does. It may take its time: nobody waits for it, and until
/// then the node is one that proves nothing.
pub(crate) async fn prove(signer: Arc<dyn Signer>, topic: TopicId, peer: PeerId) -> Option<Proof> {
    let signed = signed(topic, &peer);
    let identity = signer.identity();
    let mut pause = FIRST_PAUSE;
    let signature = loop {
        match timeout(SIGN_TIMEOUT, signer.sign(&signed)).await {
            Ok(Ok(signature)) => break signature,
            Ok(Err(error)) => {
                warn!(%error, ?pause, "the identity of this node is not proven to others; trying again");
            }
            Err(_) => {
                warn!(
                    ?pause,
                    "the identity of this node is not proven to others: the signer does not answer; trying again"
                );
            }
        }
        sleep(pause).await;
        pause = (pause * 2).min(MAX_PAUSE);
    };
    if identity.len() > MAX_IDENTITY || signature.len() > MAX_SIGNATURE {
        warn!(
            identity = identity.len(),
            signature = signature.len(),
            "the identity of this node is too long to be proven to others"
        );
        return None;
    }
    Some(Proof {
        identity,
        signature,
    })
}

/// What is signed.
fn signed(topic: TopicId, peer: &PeerId) -> Vec<u8> {
    let peer = peer.to_bytes();
    [DOMAIN, topic.as_bytes(), &peer].concat()
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicU64, Ordering},
        time::SystemTime,
    };

    use async_trait::async_trait;
    use block_api::{BlockNumber, ChannelStatus, FixedClock, Height, ReadersDenied, SignError};

    use super::*;
    use crate::Keypair;

    /// A signature is the identity and what was signed; one may read from some configuration on.
    #[derive(Debug, Default)]
    struct Judge {
        generation: AtomicU64,
        allowed_from: u64,
        asked: AtomicU64,
    }

    impl Readers for Judge {
        fn may_read(
            &self,
            identity: &[u8],
            message: &[u8],
            signature: &[u8],
            now: SystemTime,
        ) -> Result<(), ReadersDenied> {
            self.asked.fetch_add(1, Ordering::SeqCst);
            let holds = signature == [identity, message].concat()
                && now == SystemTime::UNIX_EPOCH
                && self.generation() >= self.allowed_from;
            holds.then_some(()).ok_or_else(|| ReadersDenied::new("no"))
        }

        fn generation(&self) -> u64 {
            self.generation.load(Ordering::SeqCst)
        }
    }

    /// Signs after some failures.
    #[derive(Debug, Default)]
    struct Key {
        failures: AtomicU64,
        length: usize,
    }

    #[async_trait]
    impl Signer for Key {
        fn identity(&self) -> Bytes {
            Bytes::from(vec![7; self.length])
        }

        async fn sign(&self, message: &[u8]) -> Result<Bytes, SignError> {
            let left = self.failures.load(Ordering::SeqCst);
            if left > 0 {
                self.failures.store(left - 1, Ordering::SeqCst);
                if left.is_multiple_of(2) {
                    std::future::pending::<()>().await;
                }
                return Err(SignError::new("no key"));
            }
            Ok([&self.identity(), message].concat().into())
        }
    }

    const TOPIC: TopicId = TopicId::new([1; 32]);

    fn peer(n: u8) -> PeerId {
        Keypair::from_seed([n; 32]).peer_id()
    }

    fn message(topic: TopicId, proof: Option<Proof>) -> StatusMessage {
        let status = ChannelStatus {
            first: BlockNumber::GENESIS,
            height: Height::ZERO,
            tip: None,
            pulling: false,
        };
        StatusMessage {
            topic,
            status,
            proof,
        }
    }

    async fn proof_of(n: u8) -> Proof {
        let key = Key {
            length: 3,
            ..Key::default()
        };
        prove(Arc::new(key), TOPIC, peer(n)).await.unwrap()
    }

    fn examiner(judge: &Arc<Judge>) -> Examiner {
        let judges = Judges::from([(TOPIC, judge.clone() as Arc<dyn Readers>)]);
        let clock = Arc::new(FixedClock(SystemTime::UNIX_EPOCH));
        Examiner::new(peer(1), watch::channel(judges).1, clock)
    }

    #[tokio::test]
    async fn a_proof_holds_for_one_node_and_one_channel_and_is_checked_once() {
        let judge = Arc::new(Judge::default());
        let mut examiner = examiner(&judge);
        let proof = proof_of(1).await;
        let good = message(TOPIC, Some(proof.clone()));
        for _ in 0..3 {
            assert_eq!(examiner.identity(&good).as_deref(), Some(&[7; 3][..]));
        }
        assert_eq!(judge.asked.load(Ordering::SeqCst), 1);
        judge.generation.store(1, Ordering::SeqCst);
        assert!(examiner.identity(&good).is_some());
        assert_eq!(
            judge.asked.load(Ordering::SeqCst),
            2,
            "a newer configuration"
        );

        let bent = Proof {
            identity: Bytes::from_static(&[8; 3]),
            ..proof.clone()
        };
        for bad in [Some(bent), Some(proof_of(2).await), None] {
            assert_eq!(examiner.identity(&message(TOPIC, bad)), None);
        }
        let elsewhere = message(TopicId::new([2; 32]), Some(proof));
        assert_eq!(examiner.identity(&elsewhere), None);
        assert!(examiner.examined.len() <= 1);
    }

    /// Two proofs in turn, with and without statuses between them that have none.
    #[tokio::test(start_paused = true)]
    async fn proofs_that_are_made_up_are_not_all_checked() {
        let judge = Arc::new(Judge::default());
        let mut examiner = examiner(&judge);
        let bad = [proof_of(2).await, proof_of(3).await];
        for n in 0..100 {
            let proof = Some(bad[n % 2].clone());
            assert_eq!(examiner.identity(&message(TOPIC, proof)), None);
            if n % 3 == 0 {
                assert_eq!(examiner.identity(&message(TOPIC, None)), None);
            }
            assert!(examiner.look_again().is_empty());
        }
        assert_eq!(judge.asked.load(Ordering::SeqCst), 1);

        // One that holds is checked when the pause is over, or by a newer configuration.
        let good = message(TOPIC, Some(proof_of(1).await));
        assert_eq!(examiner.identity(&good), None);
        tokio::time::advance(REFUSED_PAUSE).await;
        assert_eq!(examiner.look_again().len(), 1);
        assert!(examiner.identity(&good).is_some());
        assert_eq!(judge.asked.load(Ordering::SeqCst), 2);
        let bent = message(TOPIC, Some(bad[0].clone()));
        assert_eq!(examiner.identity(&bent), None);
        judge.generation.store(1, Ordering::SeqCst);
        assert!(examiner.identity(&good).is_some());
        assert_eq!(judge.asked.load(Ordering::SeqCst), 4);
    }

    /// Covers: GCH-22
    #[tokio::test]
    async fn a_proof_may_hold_once_the_configuration_has_come() {
        let judge = Arc::new(Judge {
            allowed_from: 2,
            ..Judge::default()
        });
        let mut examiner = examiner(&judge);
        let told = message(TOPIC, Some(proof_of(1).await));
        assert_eq!(examiner.identity(&told), None);
        assert!(examiner.look_again().is_empty());
        assert_eq!(judge.asked.load(Ordering::SeqCst), 1, "nothing changed");
        judge.generation.store(1, Ordering::SeqCst);
        assert!(examiner.look_again().is_empty());
        judge.generation.store(2, Ordering::SeqCst);
        assert_eq!(examiner.look_again().len(), 1);
        assert!(examiner.look_again().is_empty(), "it was told");
        assert!(examiner.identity(&told).is_some());
    }

    /// Covers: MCS-03
    #[tokio::test(start_paused = true)]
    async fn a_signer_is_asked_until_it_signs() {
        let key = Arc::new(Key {
            failures: AtomicU64::new(5),
            length: 3,
        });
        assert!(prove(key, TOPIC, peer(1)).await.is_some());
        let long = Key {
            length: MAX_IDENTITY + 1,
            ..Key::default()
        };
        assert!(prove(Arc::new(long), TOPIC, peer(1)).await.is_none());
    }
}
