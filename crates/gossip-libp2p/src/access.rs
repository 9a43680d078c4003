// SPDX-License-Identifier: Apache-2.0
//! Who may have what: the identities of the connected nodes, and who may read each channel.
//!
//! To be connected gives no right. Each channel's readers are asked about each node once per
//! configuration, and what they answered holds until its certificate expires.

mod claim;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, SystemTime},
};

use block_api::{Clock, Readers};
use bytes::Bytes;
use libp2p::PeerId;
use tokio::{sync::Semaphore, task::yield_now, time::Instant};

use self::claim::claim_of;
pub(crate) use self::claim::{Ambiguous, msp_id};
use crate::{credential::Credential, membership::Proof, topic::TopicId};

/// How long what a node proved waits for its connection, which follows at once.
const ARRIVAL: Duration = Duration::from_secs(30);

/// How many nodes may have proven themselves and not be connected yet; of more the oldest is
/// forgotten, and tries again.
const ARRIVALS: usize = 256;

/// How many nodes are judged at a time before they are let in; others wait. Those that this node
/// called, or has on its list, do not wait for those that nobody knows.
const JUDGING: usize = 2;

/// Who is let in beside the nodes that are listed by their ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Others {
    /// Nobody.
    None,
    /// Who may read a channel that was joined.
    Members,
    /// Whoever comes.
    All,
}

/// A node is not let in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    #[error("node {0} is not on the list of those that are let in")]
    NotListed(PeerId),
    #[error("node {peer} may read no channel of this node; the last one said: {reason}")]
    NoReader { peer: PeerId, reason: String },
    #[error("node {0} has a certificate that is banned, under this node id or another one")]
    Banned(PeerId),
    #[error("the identity of node {peer} is {what}")]
    Identity { peer: PeerId, what: Ambiguous },
}

/// The table of rights. Cloning gives another handle of the same one.
#[derive(Debug, Clone)]
pub(crate) struct Access {
    inner: Arc<Inner>,
}

/// What a node proved, and what came of it.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    proof: Arc<Proof>,
    /// Whether a channel has found that its identity holds.
    is_proven: bool,
    /// The MSP id of its identity then, and its certificate.
    organisation: Option<String>,
    credential: Option<Credential>,
    verdicts: BTreeMap<TopicId, Verdict>,
}

struct Inner {
    clock: Arc<dyn Clock>,
    others: Others,
    state: Mutex<State>,
    /// Of those who are not in yet, so many are judged at a time: of those who called, and of those
    /// who are wanted.
    judging: Semaphore,
    judging_wanted: Semaphore,
}

#[derive(Default)]
struct State {
    listed: BTreeSet<PeerId>,
    channels: BTreeMap<TopicId, Channel>,
    /// The oldest first; of one node there may be several, as two may call each other at once.
    arriving: VecDeque<(Instant, PeerId, Known)>,
    connected: BTreeMap<PeerId, Known>,
    /// Whoever is listed is not refused for these: that name is its own, and nobody takes another one
    /// to escape.
    banned: BTreeSet<Credential>,
}

/// A channel that was joined.
#[derive(Clone)]
struct Channel {
    readers: Arc<dyn Readers>,
    /// The configuration by which rights were looked at last.
    looked_at: Option<u64>,
}

/// What the readers of a channel said of a node.
#[derive(Debug, Clone)]
struct Verdict {
    generation: u64,
    denied: Option<String>,
    /// The last moment of its certificate.
    until: Option<SystemTime>,
}

impl Access {
    pub(crate) fn new(listed: BTreeSet<PeerId>, others: Others, clock: Arc<dyn Clock>) -> Self {
        let state = State {
            listed,
            ..State::default()
        };
        let inner = Inner {
            clock,
            others,
            state: Mutex::new(state),
            judging: Semaphore::new(JUDGING),
            judging_wanted: Semaphore::new(JUDGING),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Lets a node in from here on, whatever it may read.
    pub(crate) fn list(&self, peer: PeerId) {
        self.state().listed.insert(peer);
    }

    /// Whether a node may be let in, as far as its id says.
    pub(crate) fn may_come(&self, peer: &PeerId) -> bool {
        self.inner.others != Others::None || self.is_listed(peer)
    }

    /// Whether anybody can be let in: with no channel there is none by which to judge.
    pub(crate) fn can_admit(&self) -> bool {
        self.inner.others != Others::Members || !self.state().channels.is_empty()
    }

    /// Whether a connected node is of this organisation, by an identity that may read a channel.
    pub(crate) fn is_of(&self, peer: &PeerId, organisation: &str) -> bool {
        let topics: Vec<TopicId> = {
            let state = self.state();
            let Some(known) = state.connected.get(peer) else {
                return false;
            };
            if known.organisation() != Some(organisation) {
                return false;
            }
            let granted = known
                .verdicts
                .iter()
                .filter(|(_, one)| one.denied.is_none());
            granted.map(|(topic, _)| *topic).collect()
        };
        // The name is as good as an identity that still holds.
        topics.into_iter().any(|topic| self.may_have(peer, topic))
    }

    /// Whether a node is listed by its id.
    pub(crate) fn is_listed(&self, peer: &PeerId) -> bool {
        self.state().listed.contains(peer)
    }

    /// A channel was joined that these may read.
    pub(crate) fn join(&self, topic: TopicId, readers: Arc<dyn Readers>) {
        let channel = Channel {
            readers,
            looked_at: None,
        };
        self.state().channels.insert(topic, channel);
    }

    /// A channel was left: nobody may have anything of it.
    pub(crate) fn leave(&self, topic: TopicId) {
        let mut state = self.state();
        state.channels.remove(&topic);
        for known in state.connected.values_mut() {
            known.verdicts.remove(&topic);
        }
    }

    /// Whether a connected node would be let in today.
    pub(crate) fn is_welcome(&self, peer: &PeerId) -> bool {
        if self.inner.others != Others::Members || self.is_listed(peer) {
            return true;
        }
        let topics: Vec<TopicId> = self.state().channels.keys().copied().collect();
        topics.is_empty() || topics.iter().any(|topic| self.may_have(peer, *topic))
    }

    /// Whether a channel was joined.
    pub(crate) fn is_joined(&self, topic: &TopicId) -> bool {
        self.state().channels.contains_key(topic)
    }

    /// Whether a right may be another one than when this was asked last: a channel has a newer
    /// configuration or was joined, or a certificate expired.
    pub(crate) fn changed(&self) -> bool {
        let now = self.inner.clock.now();
        let mut state = self.state();
        let mut changed = false;
        for channel in state.channels.values_mut() {
            let generation = channel.readers.generation();
            changed |= channel.looked_at.replace(generation) != Some(generation);
        }
        let verdicts = state
            .connected
            .values()
            .flat_map(|known| known.verdicts.values());
        changed || verdicts.into_iter().any(|verdict| !verdict.is_valid(now))
    }

    /// Whether a channel has a newer configuration than when rights were looked at.
    pub(crate) fn changed_in(&self, topic: &TopicId) -> bool {
        let state = self.state();
        let channel = state.channels.get(topic);
        channel.is_some_and(|channel| channel.looked_at != Some(channel.readers.generation()))
    }

    /// Judges a node that proves who it is, and keeps its proof for the connection that follows.
    ///
    /// # Errors
    ///
    /// When it is not let in.
    ///
    /// # Cancel safety
    ///
    /// Nothing is kept of a node that does not wait for the answer.
    pub(crate) async fn admit(&self, peer: PeerId, proof: Proof) -> Result<(), Refused> {
        let judging = match self.is_listed(&peer) {
            true => &self.inner.judging_wanted,
            false => &self.inner.judging,
        };
        self.admit_in(judging, peer, proof).await
    }

    /// The same for a node that this one called.
    pub(crate) async fn admit_called(&self, peer: PeerId, proof: Proof) -> Result<(), Refused> {
        self.admit_in(&self.inner.judging_wanted, peer, proof).await
    }

    async fn admit_in(
        &self,
        judging: &Semaphore,
        peer: PeerId,
        proof: Proof,
    ) -> Result<(), Refused> {
        let (listed, channels) = {
            let state = self.state();
            (state.listed.contains(&peer), state.channels.clone())
        };
        if !listed && self.inner.others == Others::None {
            return Err(Refused::NotListed(peer));
        }
        match claim_of(&proof.identity) {
            Err(what @ Ambiguous::Repeated) => return Err(Refused::Identity { peer, what }),
            // Whom the list lets in needs no organisation.
            Err(what) if !listed && self.inner.others == Others::Members => {
                return Err(Refused::Identity { peer, what });
            }
            Ok(_) | Err(_) => {}
        }
        let mut known = Known {
            proof: Arc::new(proof),
            is_proven: false,
            organisation: None,
            credential: None,
            verdicts: BTreeMap::new(),
        };
        // Whoever comes may bring false proofs, and each costs a look of each channel.
        let judging = judging.acquire().await;
        let mut reason = "no channel was joined yet".to_owned();
        for (topic, channel) in channels {
            let verdict = self.judge(&*channel.readers, &known.proof);
            let denied = verdict.denied.clone();
            known.verdicts.insert(topic, verdict);
            match denied {
                // One is enough for this; the others are asked when it comes to them.
                None => {
                    known.prove();
                    break;
                }
                Some(why) => reason = why,
            }
            yield_now().await;
        }
        drop(judging);
        if !listed && self.inner.others == Others::Members && !known.is_proven {
            return Err(Refused::NoReader { peer, reason });
        }
        let mut state = self.state();
        if !listed && state.is_banned(known.credential) {
            return Err(Refused::Banned(peer));
        }
        let now = Instant::now();
        state
            .arriving
            .retain(|(at, ..)| now.duration_since(*at) < ARRIVAL);
        if state.arriving.len() >= ARRIVALS {
            state.arriving.pop_front();
        }
        state.arriving.push_back((now, peer, known));
        Ok(())
    }

    /// Takes what the node of a fresh connection proved; `None` when it did not.
    pub(crate) fn claim(&self, peer: &PeerId) -> Option<Known> {
        let mut state = self.state();
        let newest = state.arriving.iter().rposition(|(_, of, _)| of == peer)?;
        let (.., known) = state.arriving.remove(newest)?;
        // Since it proved that, its certificate may have been banned.
        let is_refused = state.is_banned(known.credential) && !state.listed.contains(peer);
        (!is_refused).then_some(known)
    }

    /// A node is connected that proved this.
    pub(crate) fn connected(&self, peer: PeerId, known: Known) {
        self.state().connected.insert(peer, known);
    }

    /// A node is connected no longer.
    pub(crate) fn disconnected(&self, peer: &PeerId) {
        self.state().connected.remove(peer);
    }

    /// How many nodes of an organisation are connected; those together of whom none is proven.
    pub(crate) fn count_of(&self, organisation: Option<&str>) -> usize {
        let state = self.state();
        let known = state.connected.values();
        known
            .filter(|known| known.organisation() == organisation)
            .count()
    }

    /// Of which organisation a connected node is, where that is proven.
    pub(crate) fn organisation(&self, peer: &PeerId) -> Option<String> {
        let state = self.state();
        Some(state.connected.get(peer)?.organisation()?.to_owned())
    }

    /// The certificate of a connected node, where one is proven.
    pub(crate) fn credential(&self, peer: &PeerId) -> Option<Credential> {
        self.state().connected.get(peer)?.credential
    }

    /// How many nodes with this certificate are connected.
    pub(crate) fn count_with(&self, credential: Credential) -> usize {
        let state = self.state();
        let known = state.connected.values();
        known
            .filter(|known| known.credential == Some(credential))
            .count()
    }

    /// Lets nobody in with this certificate who is not listed.
    pub(crate) fn ban(&self, credential: Credential) {
        self.state().banned.insert(credential);
    }

    pub(crate) fn end_ban(&self, credential: &Credential) {
        self.state().banned.remove(credential);
    }

    /// Whether [`Access::may_have`] answers without asking the channel's readers for the first time.
    pub(crate) fn was_judged(&self, peer: &PeerId, topic: TopicId) -> bool {
        let state = self.state();
        let known = state.connected.get(peer);
        known.is_none_or(|known| known.verdicts.contains_key(&topic))
            || !state.channels.contains_key(&topic)
    }

    /// Whether a connected node may have a channel that was joined.
    pub(crate) fn may_have(&self, peer: &PeerId, topic: TopicId) -> bool {
        let now = self.inner.clock.now();
        let (readers, proof) = {
            let state = self.state();
            let (Some(channel), Some(known)) =
                (state.channels.get(&topic), state.connected.get(peer))
            else {
                return false;
            };
            let (readers, verdict) = (&channel.readers, known.verdicts.get(&topic));
            if let Some(verdict) =
                verdict.filter(|verdict| verdict.holds(readers.generation(), now))
            {
                return verdict.denied.is_none();
            }
            (readers.clone(), known.proof.clone())
        };
        // Signatures take their time: others look things up meanwhile.
        let verdict = self.judge(&*readers, &proof);
        let may_have = verdict.denied.is_none();
        let mut state = self.state();
        if state.channels.contains_key(&topic)
            && let Some(known) = state.connected.get_mut(peer)
            && Arc::ptr_eq(&known.proof, &proof)
        {
            if may_have {
                known.prove();
            }
            known.verdicts.insert(topic, verdict);
        }
        may_have
    }

    /// The identity of a connected node, for a channel that it may have.
    pub(crate) fn identity(&self, peer: &PeerId, topic: TopicId) -> Option<Bytes> {
        if !self.may_have(peer, topic) {
            return None;
        }
        let state = self.state();
        let known = state.connected.get(peer)?;
        Some(known.proof.identity.clone())
    }

    fn judge(&self, readers: &dyn Readers, proof: &Proof) -> Verdict {
        let now = self.inner.clock.now();
        // Read first: a configuration that comes meanwhile has it judged again.
        let generation = readers.generation();
        let Proof {
            identity,
            signed,
            signature,
        } = proof;
        let denied = readers.may_read(identity, signed, signature, now).err();
        let until = readers.expires(identity);
        let expired = until.is_some_and(|until| until < now);
        let denied = match (denied, expired) {
            (Some(denied), _) => Some(denied.to_string()),
            (None, true) => Some("its certificate has expired".to_owned()),
            (None, false) => None,
        };
        Verdict {
            generation,
            denied,
            until,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.inner
            .state
            .lock()
            .expect("invariant: no holder of this lock panics")
    }
}

impl Known {
    fn prove(&mut self) {
        if !std::mem::replace(&mut self.is_proven, true) {
            self.organisation = msp_id(&self.proof.identity);
            self.credential = Some(Credential::of(&self.proof.identity));
        }
    }

    pub(crate) fn credential(&self) -> Option<Credential> {
        self.credential
    }

    pub(crate) fn organisation(&self) -> Option<&str> {
        self.organisation.as_deref()
    }
}

impl State {
    fn is_banned(&self, credential: Option<Credential>) -> bool {
        credential.is_some_and(|credential| self.banned.contains(&credential))
    }
}

impl Verdict {
    fn holds(&self, generation: u64, now: SystemTime) -> bool {
        self.generation == generation && self.is_valid(now)
    }

    /// Whether it is none that gives a right on a certificate which has expired.
    fn is_valid(&self, now: SystemTime) -> bool {
        self.denied.is_some() || self.until.is_none_or(|until| now <= until)
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use block_api::testing::{MemberKey, MemberReaders};

    use super::*;
    use crate::Keypair;

    const FIRST: MemberKey = MemberKey {
        organisation: "Org1MSP",
        name: "first",
    };
    const SECOND: MemberKey = MemberKey {
        organisation: "Org2MSP",
        name: "second",
    };
    const TOPICS: [TopicId; 2] = [TopicId::new([1; 32]), TopicId::new([2; 32])];

    /// A clock that a test moves.
    #[derive(Debug)]
    struct Hand(Mutex<SystemTime>);

    impl Clock for Hand {
        fn now(&self) -> SystemTime {
            *self.0.lock().unwrap()
        }
    }

    /// Lets everybody read.
    #[derive(Debug)]
    struct Everybody;

    impl Readers for Everybody {
        fn may_read(
            &self,
            _: &[u8],
            _: &[u8],
            _: &[u8],
            _: SystemTime,
        ) -> Result<(), block_api::ReadersDenied> {
            Ok(())
        }

        fn generation(&self) -> u64 {
            0
        }
    }

    struct Fixture {
        access: Access,
        clock: Arc<Hand>,
        readers: [Arc<MemberReaders>; 2],
    }

    fn peer(n: u8) -> PeerId {
        Keypair::from_seed([n; 32]).peer_id()
    }

    /// Two channels: one of both organisations, and one of the second alone.
    fn fixture(others: Others) -> Fixture {
        let clock = Arc::new(Hand(Mutex::new(SystemTime::UNIX_EPOCH)));
        let access = Access::new([peer(9)].into(), others, clock.clone());
        let readers = [&["Org1MSP", "Org2MSP"][..], &["Org2MSP"]];
        let readers = readers.map(|organisations| Arc::new(MemberReaders::of(organisations)));
        for (topic, readers) in TOPICS.into_iter().zip(&readers) {
            access.join(topic, readers.clone());
        }
        Fixture {
            access,
            clock,
            readers,
        }
    }

    fn proof(key: &MemberKey) -> Proof {
        let signed = b"what binds a connection".to_vec();
        Proof {
            identity: key.serialized().into(),
            signature: key.signature(&signed).into(),
            signed,
        }
    }

    async fn connect(access: &Access, n: u8, key: &MemberKey) {
        access.admit(peer(n), proof(key)).await.unwrap();
        let known = access.claim(&peer(n)).unwrap();
        access.connected(peer(n), known);
    }

    fn rights(access: &Access, n: u8) -> [bool; 2] {
        TOPICS.map(|topic| access.may_have(&peer(n), topic))
    }

    /// Covers: GOS-09, GCH-09, GCH-10
    #[tokio::test]
    async fn each_channel_says_for_itself_who_may_have_it() {
        let Fixture { access, .. } = fixture(Others::Members);
        connect(&access, 1, &FIRST).await;
        connect(&access, 2, &SECOND).await;
        assert_eq!(rights(&access, 1), [true, false]);
        assert_eq!(rights(&access, 2), [true, true]);
        assert_eq!(rights(&access, 3), [false, false], "nobody knows it");
        let identity = access.identity(&peer(1), TOPICS[0]).unwrap();
        assert_eq!(identity, FIRST.serialized());
        assert_eq!(access.identity(&peer(1), TOPICS[1]), None);
        assert_eq!(
            (access.count_of(Some("Org1MSP")), access.count_of(None)),
            (1, 0)
        );
        access.leave(TOPICS[0]);
        assert_eq!(rights(&access, 1), [false, false]);
        access.disconnected(&peer(2));
        assert_eq!(rights(&access, 2), [false, false]);
    }

    #[tokio::test]
    async fn who_is_listed_is_let_in_and_gets_no_right_by_that() {
        let stranger = MemberKey {
            organisation: "Org3MSP",
            name: "stranger",
        };
        for others in [Others::Members, Others::None] {
            let Fixture { access, .. } = fixture(others);
            let refused = access.admit(peer(1), proof(&stranger)).await.unwrap_err();
            assert!(
                refused.to_string().contains(&peer(1).to_string()),
                "{refused}"
            );
            connect(&access, 9, &stranger).await;
            assert_eq!(rights(&access, 9), [false, false]);
            assert_eq!(access.count_of(None), 1, "its organisation is not proven");
            access.list(peer(1));
            connect(&access, 1, &stranger).await;
        }
        let Fixture { access, .. } = fixture(Others::None);
        assert!(access.admit(peer(1), proof(&FIRST)).await.is_err());
        let Fixture { access, .. } = fixture(Others::All);
        connect(&access, 1, &stranger).await;
        assert_eq!(rights(&access, 1), [false, false]);
        // A proof that does not hold is worth nothing later, either.
        let mut bent = proof(&FIRST);
        bent.signed.push(0);
        access.admit(peer(2), bent).await.unwrap();
        access.connected(peer(2), access.claim(&peer(2)).unwrap());
        assert_eq!(rights(&access, 2), [false, false]);
    }

    #[tokio::test]
    async fn an_identity_names_one_organisation() {
        let twice = |part: &[u8]| [&FIRST.serialized(), part].concat();
        assert_eq!(msp_id(&FIRST.serialized()).as_deref(), Some("Org1MSP"));
        // A field of another wire type is none of these two, for the verifier as well.
        assert_eq!(msp_id(&twice(b"\x08\x01")).as_deref(), Some("Org1MSP"));
        let other = twice(&SECOND.serialized());
        let credential = twice(b"\x12\x01x");
        let (cut, nameless) = (twice(b"\x0a\x07Org"), b"\x12\x01x".to_vec());
        for identity in [other, credential, cut, nameless, b"\x0a\x01\xff".to_vec()] {
            assert_eq!(msp_id(&identity), None, "{identity:?}");
            let Fixture { access, .. } = fixture(Others::Members);
            // Whatever the channels would say of it.
            access.join(TOPICS[0], Arc::new(Everybody));
            let proof = Proof {
                identity: identity.into(),
                ..proof(&FIRST)
            };
            let refused = access.admit(peer(1), proof).await;
            assert!(matches!(refused, Err(Refused::Identity { .. })));
        }
        let Fixture { access, .. } = fixture(Others::All);
        let twice = Proof {
            identity: twice(&SECOND.serialized()).into(),
            ..proof(&FIRST)
        };
        assert!(access.admit(peer(9), twice).await.is_err(), "not if listed");
    }

    /// Covers: GOS-12, GCH-21, GCH-22, GCH-23
    #[tokio::test]
    async fn rights_change_with_the_configuration() {
        let Fixture {
            access, readers, ..
        } = fixture(Others::Members);
        connect(&access, 1, &FIRST).await;
        assert!(access.changed(), "channels were joined");
        assert!(!access.changed());
        assert_eq!(rights(&access, 1), [true, false]);
        readers[1].add("Org1MSP");
        assert!(access.changed_in(&TOPICS[1]) && !access.changed_in(&TOPICS[0]));
        assert!(access.changed() && !access.changed_in(&TOPICS[1]));
        assert_eq!(rights(&access, 1), [true, true]);
        readers[0].revoke(&FIRST);
        readers[1].remove("Org1MSP");
        assert!(access.changed());
        assert_eq!(rights(&access, 1), [false, false]);
        assert!(!access.is_welcome(&peer(1)));
        assert!(access.admit(peer(1), proof(&FIRST)).await.is_err());
    }

    /// Covers: STA-13
    #[tokio::test]
    async fn a_right_ends_with_the_certificate() {
        let Fixture {
            access,
            clock,
            readers,
        } = fixture(Others::Members);
        let last = SystemTime::UNIX_EPOCH + Duration::from_secs(10);
        readers[0].set_expiry(&FIRST, last);
        connect(&access, 1, &FIRST).await;
        assert_eq!(rights(&access, 1), [true, false]);
        *clock.0.lock().unwrap() = last;
        assert!(access.changed() && !access.changed());
        assert_eq!(rights(&access, 1), [true, false], "the last second counts");
        *clock.0.lock().unwrap() = last + Duration::from_secs(1);
        assert!(access.changed());
        assert_eq!(rights(&access, 1), [false, false]);
        assert!(!access.changed(), "it was looked at");
    }

    #[tokio::test]
    async fn who_is_called_or_listed_does_not_wait_for_strangers() {
        let Fixture { access, .. } = fixture(Others::Members);
        assert!(access.can_admit());
        let strangers = access.inner.judging.acquire_many(JUDGING as u32).await;
        access.admit_called(peer(1), proof(&FIRST)).await.unwrap();
        access.admit(peer(9), proof(&FIRST)).await.unwrap();
        let called = access.admit(peer(2), proof(&FIRST));
        assert!(futures::FutureExt::now_or_never(called).is_none());
        drop(strangers);
        for topic in TOPICS {
            access.leave(topic);
        }
        assert!(!access.can_admit());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_proven_and_not_claimed_does_not_stay() {
        let Fixture { access, .. } = fixture(Others::Members);
        for n in 0..=ARRIVALS {
            let peer = Keypair::generate().peer_id();
            access.admit(peer, proof(&FIRST)).await.unwrap();
            assert!(access.state().arriving.len() <= ARRIVALS, "{n}");
        }
        tokio::time::advance(ARRIVAL).await;
        access.admit(peer(1), proof(&FIRST)).await.unwrap();
        assert_eq!(access.state().arriving.len(), 1);
        // Two that call each other have two connections, and either is taken.
        access.admit(peer(1), proof(&FIRST)).await.unwrap();
        assert!(access.claim(&peer(1)).is_some() && access.claim(&peer(1)).is_some());
        assert!(access.claim(&peer(1)).is_none());
    }
}
