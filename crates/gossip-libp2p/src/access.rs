// SPDX-License-Identifier: Apache-2.0
//! Who may have what: the identities of the connected nodes, and who may read each channel.
//!
//! To be connected gives no right. Each channel's readers are asked about each node once per
//! configuration, and what they answered holds until its certificate expires.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, SystemTime},
};

use block_api::{
    Clock, Readers,
    wire::{Fields, Value},
};
use bytes::Bytes;
use libp2p::PeerId;
use tokio::time::Instant;

use crate::{membership::Proof, topic::TopicId};

/// How long what a node proved waits for its connection, which follows at once.
const ARRIVAL: Duration = Duration::from_secs(30);

/// How many nodes may have proven themselves and not be connected yet; of more the oldest is
/// forgotten, and tries again.
const ARRIVALS: usize = 256;

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
    /// The MSP id of its identity, where a channel has found that the identity holds.
    organisation: Option<String>,
    verdicts: BTreeMap<TopicId, Verdict>,
}

struct Inner {
    clock: Arc<dyn Clock>,
    others: Others,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    listed: BTreeSet<PeerId>,
    readers: BTreeMap<TopicId, Arc<dyn Readers>>,
    arriving: BTreeMap<PeerId, (Instant, Known)>,
    connected: BTreeMap<PeerId, Known>,
}

/// What the readers of a channel said of a node.
#[derive(Debug, Clone)]
struct Verdict {
    generation: u64,
    denied: Option<String>,
    /// When its certificate expires.
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
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Lets a node in from here on, whatever it may read.
    pub(crate) fn list(&self, peer: PeerId) {
        self.state().listed.insert(peer);
    }

    /// Whether a node that nobody vouches for may be let in, once it has proven itself.
    pub(crate) fn may_be_let_in(&self, peer: &PeerId) -> bool {
        self.inner.others != Others::None || self.is_listed(peer)
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
        self.state().readers.insert(topic, readers);
    }

    /// A channel was left: nobody may have anything of it.
    pub(crate) fn leave(&self, topic: TopicId) {
        let mut state = self.state();
        state.readers.remove(&topic);
        for known in state.connected.values_mut() {
            known.verdicts.remove(&topic);
        }
    }

    /// Whether a channel was joined.
    pub(crate) fn is_joined(&self, topic: &TopicId) -> bool {
        self.state().readers.contains_key(topic)
    }

    /// Judges a node that proves who it is, and keeps its proof for the connection that follows.
    ///
    /// # Errors
    ///
    /// When it is not let in.
    pub(crate) fn admit(&self, peer: PeerId, proof: Proof) -> Result<(), Refused> {
        let (listed, readers) = {
            let state = self.state();
            (state.listed.contains(&peer), state.readers.clone())
        };
        if !listed && self.inner.others == Others::None {
            return Err(Refused::NotListed(peer));
        }
        let mut known = Known {
            proof: Arc::new(proof),
            organisation: None,
            verdicts: BTreeMap::new(),
        };
        let mut reason = "no channel was joined yet".to_owned();
        for (topic, readers) in readers {
            let verdict = self.judge(&*readers, &known.proof);
            let denied = verdict.denied.clone();
            known.verdicts.insert(topic, verdict);
            match denied {
                // One is enough for this; the others are asked when it comes to them.
                None => {
                    known.organisation = msp_id(&known.proof.identity);
                    break;
                }
                Some(why) => reason = why,
            }
        }
        if !listed && self.inner.others == Others::Members && known.organisation.is_none() {
            return Err(Refused::NoReader { peer, reason });
        }
        let mut state = self.state();
        let now = Instant::now();
        state
            .arriving
            .retain(|_, (at, _)| now.duration_since(*at) < ARRIVAL);
        if state.arriving.len() >= ARRIVALS {
            let oldest = state.arriving.iter().min_by_key(|(_, (at, _))| *at);
            let oldest = oldest.map(|(peer, _)| *peer);
            state.arriving.retain(|peer, _| Some(*peer) != oldest);
        }
        state.arriving.insert(peer, (now, known));
        Ok(())
    }

    /// Takes what the node of a fresh connection proved; `None` when it did not.
    pub(crate) fn claim(&self, peer: &PeerId) -> Option<Known> {
        self.state().arriving.remove(peer).map(|(_, known)| known)
    }

    /// A node is connected that proved this.
    pub(crate) fn connected(&self, peer: PeerId, known: Known) {
        self.state().connected.insert(peer, known);
    }

    /// A node is connected no longer.
    pub(crate) fn disconnected(&self, peer: &PeerId) {
        self.state().connected.remove(peer);
    }

    /// How many nodes of an organisation are connected.
    pub(crate) fn count_of(&self, organisation: Option<&str>) -> usize {
        let state = self.state();
        let known = state.connected.values();
        known
            .filter(|known| known.organisation() == organisation)
            .count()
    }

    /// Whether a connected node may have a channel that was joined.
    pub(crate) fn may_have(&self, peer: &PeerId, topic: TopicId) -> bool {
        let now = self.inner.clock.now();
        let (readers, proof) = {
            let state = self.state();
            let (Some(readers), Some(known)) =
                (state.readers.get(&topic), state.connected.get(peer))
            else {
                return false;
            };
            let verdict = known.verdicts.get(&topic);
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
        if state.readers.contains_key(&topic)
            && let Some(known) = state.connected.get_mut(peer)
            && Arc::ptr_eq(&known.proof, &proof)
        {
            if may_have && known.organisation.is_none() {
                known.organisation = msp_id(&proof.identity);
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
        let expired = until.is_some_and(|until| until <= now);
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
    pub(crate) fn organisation(&self) -> Option<&str> {
        self.organisation.as_deref()
    }
}

impl Verdict {
    fn holds(&self, generation: u64, now: SystemTime) -> bool {
        let expired = self.until.is_some_and(|until| until <= now);
        self.generation == generation && (self.denied.is_some() || !expired)
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").finish_non_exhaustive()
    }
}

/// The MSP id of a `msp.SerializedIdentity`; text that is none is its own organisation's.
pub(crate) fn msp_id(identity: &[u8]) -> Option<String> {
    let named = Fields::new(identity).find_map(|field| match field {
        Ok(field) if field.number == 1 => Some(field.value),
        _ => None,
    });
    match named {
        Some(Value::Bytes(name, _)) => Some(String::from_utf8_lossy(name).into_owned()),
        _ => Some(String::new()),
    }
}
