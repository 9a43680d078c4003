// SPDX-License-Identifier: Apache-2.0
//! Who is told of whom, and which of the nodes that this one was told of it dials.
//!
//! A node is told of another where both are in a channel of this node, or where both are of this
//! node's organisation; of the internal addresses only in the second case. Nobody is told of a node
//! that is not connected: its record may be of an id that never proved anything.

use libp2p::{Multiaddr, PeerId, Stream};
use tokio::time::Instant;
use tracing::{Instrument, debug, debug_span, trace};

use super::EventLoop;
use crate::{
    access::msp_id,
    discovery::{Link, News, Record, Scope, Told, hear_records, tell_records, unix_millis},
    topic::TopicId,
};

/// How another node stands to this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Relation {
    /// It proved to be of the same organisation.
    OwnOrg,
    /// It is of another one, or did not prove anything.
    Other,
}

impl EventLoop {
    /// Begins to tell a peer, who is `here` on this machine or not, of other nodes.
    pub(super) fn begin_telling(&self, peer: PeerId, here: bool) -> Link {
        let (link, news) = Link::new(here);
        let told = tell_records(peer, news, self.opener.clone(), self.config.idle_timeout);
        // It ends with the link, and in the midst of a wait with the node.
        let told = self.cancel.clone().run_until_cancelled_owned(told);
        self.tasks
            .spawn(told.instrument(debug_span!("tell nodes", %peer)));
        link
    }

    /// A peer opened a stream to tell of nodes.
    pub(super) fn hear_nodes(&mut self, peer: PeerId, stream: Stream) {
        let Some(state) = self.peers.get_mut(&peer) else {
            return;
        };
        let (start, hearing) = state.link.hear(&state.gone, Instant::now());
        let (reporting, patience) = (self.reporting.clone(), self.config.idle_timeout);
        let counters = self.counters.clone();
        let heard = async move {
            hear_records(peer, stream, start, reporting, patience, &counters).await;
        };
        let heard = hearing.run_until_cancelled_owned(heard);
        self.tasks
            .spawn(heard.instrument(debug_span!("hear nodes", %peer)));
    }

    /// A channel found out who a peer is: where it is of the own organisation, it and the others of
    /// it are told of each other. That waits for a channel of both, because the peer cannot know
    /// sooner who this node is, and would not listen.
    fn meet(&mut self, peer: PeerId) {
        if self.relation(&peer) != Relation::OwnOrg {
            return;
        }
        if let Some(state) = self.peers.get_mut(&peer)
            && std::mem::replace(&mut state.link.own_org, true)
        {
            return;
        }
        let others: Vec<PeerId> = self.peers.keys().copied().collect();
        for other in others {
            if other != peer && self.relation(&other) == Relation::OwnOrg {
                for scope in [Scope::External, Scope::Internal] {
                    self.tell_of(&peer, &other, scope);
                    self.tell_of(&other, &peer, scope);
                }
            }
        }
        for scope in [Scope::External, Scope::Internal] {
            self.tell_of_self(&peer, scope);
        }
    }

    /// A peer takes part in a channel of this node: it and the others in it are told of each other.
    pub(super) fn introduce(&mut self, peer: PeerId, topic: TopicId) {
        // Asking is what finds out of which organisation it is, too.
        if !self.access.may_have(&peer, topic) {
            return;
        }
        let known = self
            .peers
            .get(&peer)
            .is_some_and(|state| state.link.own_org);
        if !known {
            self.check_claim(&peer);
            self.meet(peer);
        }
        let Some(channel) = self.channels.get(&topic) else {
            return;
        };
        for other in channel.members().iter().filter(|other| **other != peer) {
            self.tell_of(&peer, other, Scope::External);
            self.tell_of(other, &peer, Scope::External);
        }
        self.tell_of_self(&peer, Scope::External);
    }

    /// A peer told of nodes.
    pub(super) fn handle_records(&mut self, teller: PeerId, records: Vec<Record>) {
        let Some(state) = self.peers.get(&teller) else {
            return;
        };
        let here = state.link.here;
        let trusted = self.relation(&teller) == Relation::OwnOrg;
        let (now, unix) = (Instant::now(), unix_millis(self.config.clock.now()));
        for record in records {
            // Whoever passes on what was not for it is not to be helped.
            if record.scope == Scope::Internal && !trusted {
                self.counters.records_refused.increment();
                continue;
            }
            let (node, scope) = (record.node, record.scope);
            let told = Told {
                teller,
                here,
                connected: self.peers.contains_key(&node),
            };
            let news = self.directory.learn(record, told, now, unix);
            if news != News::None {
                trace!(%node, ?scope, %teller, "told of a node");
                self.counters.records.increment();
                self.pass_on(&node, scope, news);
                self.check_claim(&node);
            }
        }
    }

    /// A node was found on the local network.
    #[cfg(feature = "mdns")]
    pub(super) fn found_nearby(&mut self, found: Vec<(PeerId, Multiaddr)>) {
        let now = Instant::now();
        for (node, address) in found {
            trace!(%node, %address, "node found on the local network");
            let connected = self.peers.contains_key(&node);
            self.directory.found(node, address, connected, now);
        }
    }

    /// Signs this node's records anew when it is time, and forgets those of others that expired.
    pub(super) fn keep_records(&mut self) {
        let unix = unix_millis(self.config.clock.now());
        self.directory.expire(unix);
        let listening = self.addresses.borrow().clone();
        if !self.own.renew(&self.config.identity, &listening, unix) {
            return;
        }
        for peer in self.peers.keys() {
            let own_org = self.relation(peer) == Relation::OwnOrg;
            if own_org || self.shares_channel(peer) {
                self.tell_of_self(peer, Scope::External);
            }
            if own_org {
                self.tell_of_self(peer, Scope::Internal);
            }
        }
    }

    /// What a connected node proved is held against what its records say of its organisation. Whoever
    /// was dialled for a false claim is hung up on, unless nodes of others are wanted, too.
    pub(super) fn check_claim(&mut self, peer: &PeerId) {
        let Some(organisation) = self.access.organisation(peer) else {
            return;
        };
        let connected = self.peers.len();
        if self.directory.proved(peer, &organisation, connected) && !self.dialer.keeps(peer) {
            self.counters.claims_refused.increment();
            debug!(%peer, %organisation, "dialled as of the own organisation, connection closed");
            // It may be closing already.
            let _ = self.swarm.disconnect_peer_id(*peer);
        }
    }

    /// Dials nodes that this one was told of, while it wants more peers.
    pub(super) fn dial_learned(&mut self) {
        let own: Vec<Multiaddr> = self
            .addresses
            .borrow()
            .iter()
            .chain(&self.config.external_addrs)
            .chain(&self.config.internal_addrs)
            .cloned()
            .collect();
        loop {
            let (access, dialer) = (&self.access, &self.dialer);
            let standings = &self.standings;
            let may_dial = |node: &PeerId| {
                access.may_come(node) && !dialer.keeps(node) && !standings.is_banned(node)
            };
            let due = self
                .directory
                .take_due(self.peers.len(), &own, Instant::now(), may_dial);
            let Some((node, addresses)) = due else {
                return;
            };
            self.dial(node, addresses);
        }
    }

    /// A record of a connected node came: whoever may know of it is told. Where it is not the first
    /// one, that is who was told of the node before: to find out who has a channel in common with it
    /// takes its time, and records may come often.
    fn pass_on(&self, node: &PeerId, scope: Scope, news: News) {
        let (Some(state), Some(record)) =
            (self.peers.get(node), self.directory.record(node, scope))
        else {
            return;
        };
        let own_org = self.relation(node) == Relation::OwnOrg;
        for (peer, other) in self.peers.iter().filter(|(peer, _)| *peer != node) {
            let together = || {
                state.topics.iter().any(|topic| {
                    other.topics.contains(topic) && self.are_members(topic, node, peer)
                })
            };
            let both_own = own_org && self.relation(peer) == Relation::OwnOrg;
            if both_own {
                other.link.offer(record);
            } else if scope == Scope::External && news == News::Newer {
                other.link.update(record);
            } else if scope == Scope::External && together() {
                other.link.offer(record);
            }
        }
    }

    /// Has `peer` told of `node`, whose record there may be or not. Both are connected.
    fn tell_of(&self, node: &PeerId, peer: &PeerId, scope: Scope) {
        if let Some(record) = self.directory.record(node, scope)
            && let Some(state) = self.peers.get(peer)
        {
            state.link.offer(record);
        }
    }

    fn tell_of_self(&self, peer: &PeerId, scope: Scope) {
        if let Some(record) = self.own.record(scope)
            && let Some(state) = self.peers.get(peer)
        {
            state.link.offer(record);
        }
    }

    fn shares_channel(&self, peer: &PeerId) -> bool {
        self.channels
            .values()
            .any(|channel| channel.members().contains(peer))
    }

    fn are_members(&self, topic: &TopicId, one: &PeerId, other: &PeerId) -> bool {
        self.channels.get(topic).is_some_and(|channel| {
            let members = channel.members();
            members.contains(one) && members.contains(other)
        })
    }

    /// How a connected node stands to this one.
    fn relation(&self, peer: &PeerId) -> Relation {
        let own = msp_id(&self.config.signer.identity());
        match own {
            Some(own) if self.access.is_of(peer, &own) => Relation::OwnOrg,
            Some(_) | None => Relation::Other,
        }
    }
}
