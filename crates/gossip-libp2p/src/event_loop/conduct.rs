// SPDX-License-Identifier: Apache-2.0
//! What is held against peers, and what becomes of those who are banned.

use std::sync::{Arc, Weak};

use block_api::Answer;
use libp2p::PeerId;
use tokio::{sync::Semaphore, time::Instant};
use tracing::{debug, error, info, warn};

use super::EventLoop;
use crate::{
    config::Config,
    credential::Credential,
    identity::node_id,
    score::{Ban, Banned, Offence, application_score},
};

/// How many messages a second more a peer may send for each channel that was joined: while this node
/// is behind, those of every block are too far ahead.
const PER_CHANNEL: usize = 10;

/// What is served to all nodes with one certificate; each that is listed has one of its own.
#[derive(Debug)]
pub(super) struct Share {
    pub(super) serving: Arc<Semaphore>,
    /// In KiB.
    pub(super) bytes: Arc<Semaphore>,
}

impl Share {
    fn new(config: &Config) -> Arc<Self> {
        let [serving, bytes] = config.share();
        Arc::new(Self {
            serving: Arc::new(Semaphore::new(serving)),
            bytes: Arc::new(Semaphore::new(bytes / 1024)),
        })
    }
}

impl EventLoop {
    /// The share of a node that connected.
    pub(super) fn share(&mut self, credential: Option<Credential>) -> Arc<Share> {
        let Some(credential) = credential else {
            return Share::new(&self.config);
        };
        self.shares.retain(|_, share| share.strong_count() > 0);
        if let Some(share) = self.shares.get(&credential).and_then(Weak::upgrade) {
            return share;
        }
        let share = Share::new(&self.config);
        self.shares.insert(credential, Arc::downgrade(&share));
        share
    }

    /// The certificate of a node, connected or gone.
    fn credential(&self, peer: &PeerId) -> Option<Credential> {
        match self.peers.get(peer) {
            Some(state) => state.credential,
            None => self.gone.credential(peer),
        }
    }

    /// Holds something against a peer.
    pub(super) fn offends(&mut self, peer: PeerId, offence: Offence) {
        self.counters.offences.increment();
        let now = Instant::now();
        let credential = self.credential(&peer);
        if let Some(credential) = credential
            && let Some(banned) = self.credentials.holds_against(credential, offence, now)
        {
            self.ban_all(credential, banned);
        }
        match self.standings.holds_against(peer, offence, now) {
            Some(banned) => self.ban(peer, banned),
            None => {
                debug!(%peer, ?offence, points = self.points(&peer), "peer offends");
                self.tell_score(&peer);
            }
        }
    }

    /// Bans a certificate, and all that are connected with it. Who is listed by its id is held by that
    /// alone: nobody else takes that name, and several that a test runs may have one certificate.
    fn ban_all(&mut self, credential: Credential, banned: Banned) {
        self.access.ban(credential);
        let with_it = self.peers.iter();
        let with_it = with_it.filter(|(_, state)| state.credential == Some(credential));
        let with_it: Vec<PeerId> = with_it.map(|(peer, _)| *peer).collect();
        for peer in with_it {
            if !self.access.is_listed(&peer) && self.standings.ban_too(peer, banned) {
                self.ban(peer, banned);
            }
        }
    }

    /// How many points are held against a peer, under whatever node id it did what they are for.
    fn points(&self, peer: &PeerId) -> u32 {
        let now = Instant::now();
        let is_listed = self.access.is_listed(peer);
        let credential = self.credential(peer).filter(|_| !is_listed);
        let others = credential.map(|credential| self.credentials.points(&credential, now));
        self.standings.points(peer, now).max(others.unwrap_or(0))
    }

    fn ban(&mut self, peer: PeerId, banned: Banned) {
        let Banned {
            reason,
            since,
            until,
        } = banned;
        let seconds = until.saturating_duration_since(since).as_secs();
        match self.wanted.contains(&peer) {
            true => {
                error!(%peer, ?reason, seconds, "a peer of the configuration is banned, look at what it does");
            }
            false => warn!(%peer, ?reason, seconds, "peer banned"),
        }
        self.counters.bans.increment();
        self.callers.ban(peer);
        // Its connections are closed with the next turn of the swarm.
        self.swarm.behaviour_mut().bans.block_peer(peer);
        let since = self.config.clock.now();
        let ban = Ban {
            reason,
            since,
            until: since + self.config.ban_time,
        };
        self.bans.send_modify(|bans| {
            bans.insert(node_id(&peer), ban);
        });
    }

    /// When the next ban ends.
    pub(super) fn next_ban_end(&self) -> Option<Instant> {
        let ends = [self.standings.next_end(), self.credentials.next_end()];
        ends.into_iter().flatten().min()
    }

    /// Ends the bans that are over.
    pub(super) fn end_bans(&mut self) {
        for credential in self.credentials.end_bans(Instant::now()) {
            self.access.end_ban(&credential);
        }
        for peer in self.standings.end_bans(Instant::now()) {
            info!(%peer, "the ban of a peer is over");
            self.callers.end_ban(&peer);
            self.swarm.behaviour_mut().bans.unblock_peer(peer);
            self.bans.send_modify(|bans| {
                bans.remove(&node_id(&peer));
            });
        }
    }

    /// Tells gossipsub how a peer stands.
    pub(super) fn tell_score(&mut self, peer: &PeerId) {
        let points = self.points(peer);
        let gossipsub = &mut self.swarm.behaviour_mut().gossipsub;
        gossipsub.set_application_score(peer, application_score(points));
    }

    /// The same of everyone, since things are forgiven.
    pub(super) fn tell_scores(&mut self) {
        let peers: Vec<PeerId> = self.peers.keys().copied().collect();
        for peer in &peers {
            self.tell_score(peer);
        }
    }

    /// Whether one more message of a peer is looked at.
    pub(super) fn takes_message(&mut self, peer: &PeerId) -> bool {
        let rate = self.message_rate();
        let state = self.peers.get_mut(peer);
        // A connection that closed left messages behind, which were in time.
        state.is_none_or(|state| state.messages.take(rate, Instant::now()))
    }

    /// Whether a candidate of a peer may wait for an answer beside those of others: of a peer that sent
    /// many that were not good, as many do as take a quarter of a channel's queue.
    pub(super) fn has_share(&self, peer: &PeerId) -> bool {
        let share = self.config.event_queue.get().div_ceil(4);
        let state = self.peers.get(peer);
        state.is_none_or(|state| state.waiting < share || !state.messages.is_used(Instant::now()))
    }

    /// A message was judged. What is good costs its sender nothing, so that no rate of blocks is too
    /// high.
    pub(super) fn judged(&mut self, peer: PeerId, answer: Answer) {
        if let Some(state) = self.peers.get_mut(&peer) {
            // One that came back waits for nothing of what it sent before.
            state.waiting = state.waiting.saturating_sub(1);
        }
        match answer {
            Answer::Accept => {
                let rate = self.message_rate();
                if let Some(state) = self.peers.get_mut(&peer) {
                    state.messages.give_back(rate);
                }
            }
            Answer::Ignore => {}
            Answer::Reject => self.offends(peer, Offence::Rejected),
        }
    }

    /// Whether one more stream of a peer is heard.
    pub(super) fn takes_request(&mut self, peer: &PeerId) -> bool {
        let rate = self.config.max_requests_per_second.get();
        let state = self.peers.get_mut(peer);
        state.is_some_and(|state| state.requests.take(rate, Instant::now()))
    }

    fn message_rate(&self) -> usize {
        let channels = self.channels.len().saturating_mul(PER_CHANNEL);
        let rate = self.config.max_messages_per_second.get();
        rate.saturating_add(channels)
    }
}
