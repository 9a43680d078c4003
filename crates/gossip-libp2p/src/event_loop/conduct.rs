// SPDX-License-Identifier: Apache-2.0
//! What is held against peers, and what becomes of those who are banned.

use block_api::Answer;
use libp2p::PeerId;
use tokio::time::Instant;
use tracing::{debug, error, info, warn};

use super::EventLoop;
use crate::{
    identity::node_id,
    score::{Ban, Banned, Offence, application_score},
};

/// How many messages a second more a peer may send for each channel that was joined: while this node
/// is behind, those of every block are too far ahead.
const PER_CHANNEL: usize = 10;

impl EventLoop {
    /// Holds something against a peer.
    pub(super) fn offends(&mut self, peer: PeerId, offence: Offence) {
        self.counters.offences.increment();
        let now = Instant::now();
        match self.standings.holds_against(peer, offence, now) {
            Some(banned) => self.ban(peer, banned),
            None => {
                debug!(%peer, ?offence, points = self.standings.points(&peer, now), "peer offends");
                self.tell_score(&peer);
            }
        }
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

    /// Ends the bans that are over.
    pub(super) fn end_bans(&mut self) {
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
        let points = self.standings.points(peer, Instant::now());
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
