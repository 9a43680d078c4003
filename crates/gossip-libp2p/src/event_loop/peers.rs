// SPDX-License-Identifier: Apache-2.0
//! The peers of a node: their connections, what they are told, and what they are served.

use std::{
    collections::BTreeSet,
    num::NonZeroU8,
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};

use libp2p::{
    Multiaddr, PeerId, Swarm,
    swarm::{
        ConnectionId,
        dial_opts::{DialOpts, PeerCondition},
    },
};
use tokio::{
    sync::{Semaphore, watch},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, debug_span, info, warn};

use super::{EventLoop, Report, conduct::Share, early::Early};
use crate::{
    behaviour::Behaviour,
    bodies::Server,
    channels::Heard,
    credential::Credential,
    discovery::{Link, is_here},
    score::{Allowance, Offence},
    serve::{refuse, serve},
    status::{Outbox, Rhythm, hear, tell},
    streams::{BODIES, Incoming, PEERS, STATUS},
    topic::TopicId,
    wire::StatusMessage,
};

/// Hearing on a new stream of a peer begins no sooner after it began on the one before.
const NEXT_STREAM: Duration = Duration::from_secs(1);

/// A connected node.
#[derive(Debug)]
pub(super) struct Peer {
    connection: ConnectionId,
    /// Its certificate, where one is proven.
    pub(super) credential: Option<Credential>,
    /// When it was last known to live.
    last_seen: Instant,
    /// What it subscribed to, by which it takes part in a channel.
    pub(super) topics: BTreeSet<TopicId>,
    /// Statuses of channels that it did not subscribe to yet, or may not have yet: the two ways race.
    /// They are told when the subscription comes, so that whoever hears of a node reaches it by the
    /// topic.
    pub(super) early: Early,
    pub(super) outbox: watch::Sender<Outbox>,
    /// Ends the task that hears its statuses.
    hearing: Option<CancellationToken>,
    /// When hearing began on the newest stream with statuses, or is going to.
    hears_since: Option<Instant>,
    /// How many messages, and how many streams, it may send as yet.
    pub(super) messages: Allowance,
    pub(super) requests: Allowance,
    /// How many candidates of it wait for an answer.
    pub(super) waiting: usize,
    serving: Arc<Semaphore>,
    share: Arc<Share>,
    /// Of which channel each of its open streams is, as far as it may have that.
    served: Vec<Weak<OnceLock<TopicId>>>,
    /// Streams for bodies, and what may be promised on them, in KiB.
    serving_bodies: Arc<Semaphore>,
    serving_bytes: Arc<Semaphore>,
    /// How it is told of others, and tells of them.
    pub(super) link: Link,
    /// Ends every task that is about this peer.
    pub(super) gone: CancellationToken,
}

/// Of which channel a stream is that is being served, once that is known.
struct Serves(Arc<OnceLock<TopicId>>);

impl EventLoop {
    pub(super) fn dial(&mut self, peer: PeerId, addresses: Vec<Multiaddr>) {
        let options = DialOpts::peer_id(peer)
            .condition(PeerCondition::DisconnectedAndNotDialing)
            .addresses(addresses)
            // One after the other: each connection that is made has both sides sign and judge, and
            // of several they may keep different ones.
            .override_dial_concurrency_factor(NonZeroU8::MIN)
            .build();
        if let Err(error) = self.swarm.dial(options) {
            debug!(%peer, %error, "not dialled");
            self.dialer.failed(&peer, Instant::now());
            self.directory.failed(&peer, Instant::now());
        }
    }

    pub(super) fn connected(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        address: &Multiaddr,
    ) {
        let now = Instant::now();
        info!(%peer, "peer connected");
        self.dialer.connected(&peer, now);
        let (outbox, news) = watch::channel(Outbox::new());
        let gone = self.cancel.child_token();
        let rhythm = self.rhythm();
        let told = tell(peer, news, self.opener.clone(), rhythm);
        let told = gone.clone().run_until_cancelled_owned(told);
        self.tasks
            .spawn(told.instrument(debug_span!("tell", %peer)));
        let credential = self.access.credential(&peer);
        // Who is listed by its id is held by that.
        let held_by = credential.filter(|_| !self.access.is_listed(&peer));
        let [messages, requests] = self.gone.comes(&peer, held_by, now);
        let share = self.share(held_by);
        let state = Peer {
            connection,
            credential,
            last_seen: now,
            topics: BTreeSet::new(),
            early: Early::default(),
            outbox,
            hearing: None,
            hears_since: None,
            messages,
            requests,
            waiting: 0,
            serving: Arc::new(Semaphore::new(self.config.max_serving_per_peer.get())),
            share,
            served: Vec::new(),
            serving_bodies: Arc::new(Semaphore::new(self.config.max_body_streams_per_peer.get())),
            serving_bytes: Arc::new(Semaphore::new(
                self.config.serve_bytes_per_peer.get() / 1024,
            )),
            link: self.begin_telling(peer, is_here(address)),
            gone,
        };
        self.peers.insert(peer, state);
        self.tell_score(&peer);
        self.show_peers();
        self.directory.connected(&peer, now);
        self.check_claim(&peer);
    }

    pub(super) fn disconnected(&mut self, peer: PeerId) {
        self.dialer.disconnected(&peer, Instant::now());
        self.directory.disconnected(&peer, Instant::now());
        for other in self.peers.values() {
            other.link.forget(&peer);
        }
        let Some(state) = self.peers.remove(&peer) else {
            return;
        };
        let in_hand = [state.messages, state.requests];
        self.gone
            .leaves(peer, state.credential, in_hand, Instant::now());
        self.show_peers();
        for topic in &state.topics {
            self.remove_member(peer, *topic);
        }
    }

    /// A peer answered a ping.
    pub(super) fn lives(&mut self, peer: &PeerId, connection: ConnectionId) {
        if let Some(state) = self.peers.get_mut(peer)
            && state.connection == connection
        {
            state.last_seen = Instant::now();
        }
    }

    /// Closes the connections on which pings find no answer any more.
    pub(super) fn hang_up_on_the_dead(&mut self) {
        let patience = self.config.ping_interval * 2 + self.config.ping_timeout;
        for (peer, state) in &self.peers {
            if state.last_seen.elapsed() > patience {
                warn!(%peer, "peer does not answer pings, connection closed");
                self.swarm.close_connection(state.connection);
            }
        }
    }

    /// Hangs up on the nodes that subscribed to a channel which they may not have any more, or are
    /// being given something of it, and on
    /// those that may have none: removed, revoked, expired. They may come back, and are judged anew
    /// then. Those that may have a channel which they could not have before are heard.
    pub(super) fn check_rights(&mut self) {
        if !self.access.changed() {
            return;
        }
        for (peer, state) in &self.peers {
            let topics = state.topics.iter().copied().chain(state.served());
            let mut joined = topics.filter(|topic| self.access.is_joined(topic));
            let lost = joined.find(|topic| !self.access.may_have(peer, *topic));
            if lost.is_some() || !self.access.is_welcome(peer) {
                hang_up(&mut self.swarm, peer, state, lost.as_ref());
            }
        }
        self.swarm.behaviour_mut().gossipsub.look_again();
    }

    /// The same for one channel, which was joined: with thousands of them, to look at all for each
    /// would take seconds.
    pub(super) fn check_right(&mut self, topic: TopicId) {
        for (peer, state) in &self.peers {
            if state.topics.contains(&topic) && !self.access.may_have(peer, topic) {
                hang_up(&mut self.swarm, peer, state, Some(&topic));
            }
        }
    }

    /// A peer opened a stream.
    pub(super) fn incoming(&mut self, incoming: Incoming) {
        let Incoming {
            peer,
            protocol,
            mut stream,
        } = incoming;
        if !self.takes_request(&peer) {
            self.counters.requests_limited.increment();
            return self.offends(peer, Offence::Flood);
        }
        if protocol == PEERS {
            return self.hear_nodes(peer, stream);
        }
        let rhythm = self.rhythm();
        // Its connection closed meanwhile.
        let Some(state) = self.peers.get_mut(&peer) else {
            return;
        };
        let counters = self.counters.clone();
        if protocol == STATUS {
            let reporting = self.reporting.clone();
            // One stream at a time: a new one means that the peer gave the old one up.
            let hearing = state.gone.child_token();
            if let Some(old) = state.hearing.replace(hearing.clone()) {
                old.cancel();
            }
            // The pace of the old stream is not known on the new one.
            let start = hearing_begins(state.hears_since, Instant::now());
            state.hears_since = Some(start);
            let heard = async move {
                sleep_until(start).await;
                hear(peer, stream, reporting, rhythm, &counters).await
            };
            let heard = hearing.run_until_cancelled_owned(heard);
            self.tasks
                .spawn(heard.instrument(debug_span!("hear", %peer)));
            return;
        }
        let patience = self.config.serve_timeout;
        let gone = state.gone.clone();
        let span = debug_span!("serve", %peer);
        if protocol == BODIES
            && let Ok(permit) = state.serving_bodies.clone().try_acquire_owned()
        {
            let budgets = [
                state.serving_bytes.clone(),
                state.share.bytes.clone(),
                self.serving_bytes.clone(),
            ];
            let (bodies, library) = (self.bodies.clone(), self.library.subscribe());
            let (access, reporting) = (self.access.clone(), self.reporting.clone());
            let serves = state.serves();
            let served = async move {
                let may_have = |topic| serves.note(topic, access.may_have(&peer, topic));
                let server = Server {
                    bodies: &bodies,
                    library: &library,
                    may_have: &may_have,
                    peer,
                    patience,
                    budgets,
                    counters: &counters,
                };
                if let Err(error) = server.serve(stream).await {
                    debug!(%error, "request for a body broke off");
                    if let Some(offence) = error.offence() {
                        // The event loop is gone when the node stops.
                        let _ = reporting.send(Report::Offence { peer, offence }).await;
                    }
                }
                drop(permit);
            };
            self.tasks
                .spawn(gone.run_until_cancelled_owned(served).instrument(span));
            return;
        }
        let permits = (
            state.serving.clone().try_acquire_owned(),
            state.share.serving.clone().try_acquire_owned(),
            self.serving.clone().try_acquire_owned(),
        );
        if let (Ok(of_peer), Ok(of_share), Ok(of_all)) = permits
            && protocol != BODIES
        {
            let library = self.library.subscribe();
            let reporting = self.reporting.clone();
            let access = self.access.clone();
            let serves = state.serves();
            let served = async move {
                let may_have = |topic| serves.note(topic, access.may_have(&peer, topic));
                let served = serve(&mut stream, &library, may_have, patience, &counters);
                if let Err(error) = served.await {
                    debug!(%error, "request for blocks broke off");
                    if let Some(offence) = error.offence() {
                        // The event loop is gone when the node stops.
                        let _ = reporting.send(Report::Offence { peer, offence }).await;
                    }
                }
                drop((of_peer, of_share, of_all));
            };
            self.tasks
                .spawn(gone.run_until_cancelled_owned(served).instrument(span));
            return;
        }
        counters.requests_refused.increment();
        // Saying no takes a task as well; beyond so many the stream is just dropped.
        if let Ok(permit) = self.refusing.clone().try_acquire_owned() {
            let refused = async move {
                if let Err(error) = refuse(&mut stream, patience).await {
                    debug!(%error, "refusal not delivered");
                }
                drop(permit);
            };
            self.tasks
                .spawn(gone.run_until_cancelled_owned(refused).instrument(span));
        }
    }

    /// A peer told how it stands.
    pub(super) fn handle_status(&mut self, peer: PeerId, message: StatusMessage) {
        self.counters.statuses.increment();
        let StatusMessage { topic, status } = message;
        let Some(state) = self.peers.get_mut(&peer) else {
            return;
        };
        let Some(channel) = self.channels.get_mut(&topic) else {
            return;
        };
        if state.topics.contains(&topic) {
            // Whoever lost the right is about to be hung up on.
            let identity = self.access.identity(&peer, topic);
            if identity.is_none() {
                return self.counters.not_entitled.increment();
            }
            channel.tell(peer, Heard { identity, status });
            self.wait_for_room(topic);
        } else {
            let may_have = self.access.may_have(&peer, topic);
            let room = &self.early_tips;
            state.early.keep(topic, status, may_have, room);
        }
    }

    /// Nothing is heard of a peer, though it may be connected: its channels do without it until it
    /// tells them how it stands.
    pub(super) fn handle_silence(&mut self, peer: PeerId) {
        let Some(state) = self.peers.get_mut(&peer) else {
            return;
        };
        info!(%peer, "peer is silent");
        state.early.clear();
        let topics: Vec<TopicId> = state.topics.iter().copied().collect();
        for topic in topics {
            if let Some(channel) = self.channels.get_mut(&topic) {
                channel.tell_left(peer);
                self.wait_for_room(topic);
            }
        }
    }

    fn rhythm(&self) -> Rhythm {
        Rhythm {
            patience: self.config.idle_timeout,
            beat: self.config.beat(),
            silence: self.config.silence_limit,
        }
    }
}

impl Peer {
    /// A stream is served from here on, for as long as what this gives lives.
    fn serves(&mut self) -> Serves {
        self.served.retain(|stream| stream.strong_count() > 0);
        let serves = Serves(Arc::default());
        self.served.push(Arc::downgrade(&serves.0));
        serves
    }

    /// The channels of which it is being given something.
    fn served(&self) -> impl Iterator<Item = TopicId> {
        let streams = self.served.iter().filter_map(Weak::upgrade);
        streams.filter_map(|stream| stream.get().copied())
    }
}

impl Serves {
    /// Notes the channel of the stream if the peer may have it, and says whether it may.
    fn note(&self, topic: TopicId, may_have: bool) -> bool {
        if may_have {
            self.0.get_or_init(|| topic);
        }
        may_have
    }
}

/// Closes the connection of a peer that lost a right.
fn hang_up(swarm: &mut Swarm<Behaviour>, peer: &PeerId, state: &Peer, lost: Option<&TopicId>) {
    let topic = lost.map(tracing::field::display);
    info!(%peer, topic, "peer lost a right, connection closed");
    // What is published from here on does not go to it, however long closing takes.
    swarm.behaviour_mut().gossipsub.cut(peer);
    state.gone.cancel();
    swarm.close_connection(state.connection);
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.gone.cancel();
    }
}

/// When hearing begins on a new stream, where it began or is going to on the one before.
fn hearing_begins(before: Option<Instant>, now: Instant) -> Instant {
    match before {
        None => now,
        // The stream before was given up unheard.
        Some(before) if before > now => before,
        Some(before) => now.max(before + NEXT_STREAM),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_streams_are_heard_at_their_pace_and_none_waits_longer() {
        let now = Instant::now();
        let late = now + NEXT_STREAM / 2;
        assert_eq!(hearing_begins(None, now), now);
        let second = hearing_begins(Some(now), late);
        assert_eq!(second, now + NEXT_STREAM);
        assert_eq!(hearing_begins(Some(second), late), second);
        let later = now + NEXT_STREAM * 3;
        assert_eq!(hearing_begins(Some(second), later), later);
    }
}
