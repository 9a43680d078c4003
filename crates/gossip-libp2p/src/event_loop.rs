// SPDX-License-Identifier: Apache-2.0
//! The one task that owns the swarm: it takes commands, judges what comes, and keeps the peers.

mod conduct;
mod discovery;
mod early;
mod messages;
mod peers;
mod start;
mod topics;

use std::{
    collections::{BTreeMap, BTreeSet},
    future::pending,
    sync::{Arc, Weak},
    time::Duration,
};

use block_api::{Answer, Block, GossipError, GossipEvent, JoinRequest, NodeId};
use futures::{StreamExt, future::BoxFuture, stream::FuturesUnordered};
use libp2p::{
    Multiaddr, PeerId, StreamProtocol, Swarm,
    core::transport::ListenerId,
    gossipsub::MessageId,
    swarm::{DialError, ListenError, SwarmEvent},
};
use tokio::{
    sync::{Semaphore, mpsc, oneshot, watch},
    time::{Instant, MissedTickBehavior, interval, sleep_until, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, error, info};

use self::{conduct::Share, peers::Peer};
use crate::{
    access::Access,
    behaviour::{Behaviour, BehaviourEvent},
    bodies::Bodies,
    channels::{Channel, Shared, Told},
    config::Config,
    credential::Credential,
    dialer::Dialer,
    discovery::{Directory, Own, Record},
    error::OpenError,
    handle::Opener,
    identity::node_id,
    score::{Bans, Callers, Gone, Offence, Standings},
    seen::Seen,
    serve::Library,
    stats::Counters,
    streams::Opened,
    topic::TopicId,
    wire::StatusMessage,
};

/// How long closing connections in good order may take before they are dropped.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// What handles ask for. Each answer may find nobody who waits for it any more.
#[derive(Debug)]
pub(crate) enum Command {
    Join {
        request: JoinRequest,
        reply: oneshot::Sender<Result<Joined, GossipError>>,
    },
    Leave {
        topic: TopicId,
        generation: u64,
        reply: oneshot::Sender<()>,
    },
    Publish {
        block: Published,
        reply: oneshot::Sender<Result<(), GossipError>>,
    },
    Open {
        peer: PeerId,
        protocol: StreamProtocol,
        opened: Opened,
    },
    /// Something in the status of a channel is another than before.
    Look {
        topic: TopicId,
    },
    AddPeer {
        peer: PeerId,
        address: Multiaddr,
    },
    /// Whoever asked a peer for something got what it should not have.
    Blame {
        peer: PeerId,
        offence: Offence,
    },
}

/// What a handle of a channel is made of.
pub(crate) type Joined = (Shared, mpsc::Receiver<GossipEvent>);

/// A block to publish.
#[derive(Debug)]
pub(crate) struct Published {
    pub(crate) topic: TopicId,
    pub(crate) generation: u64,
    /// The message for the topic; empty when nobody is to hear it, or it would be too long.
    pub(crate) message: Vec<u8>,
    /// Header and signatures.
    pub(crate) attestation: Block,
}

/// What the tasks of a node report.
#[derive(Debug)]
pub(crate) enum Report {
    /// A peer told how it stands.
    Status {
        peer: PeerId,
        message: StatusMessage,
    },
    /// A peer told of nodes.
    Records { peer: PeerId, records: Vec<Record> },
    /// Nothing was heard of a peer for too long.
    Silent { peer: PeerId },
    /// A peer did what it should not.
    Offence { peer: PeerId, offence: Offence },
    /// The newest block of a channel was read, or could not be.
    Tip {
        topic: TopicId,
        generation: u64,
        seen: Told,
        tip: Option<Block>,
    },
}

/// What handles see of the event loop without asking.
pub(crate) struct Views {
    pub(crate) bodies: Arc<Bodies>,
    pub(crate) peers: watch::Receiver<BTreeSet<NodeId>>,
    pub(crate) addresses: watch::Receiver<Vec<Multiaddr>>,
    pub(crate) bans: watch::Receiver<Bans>,
    pub(crate) counters: Arc<Counters>,
}

pub(crate) struct EventLoop {
    swarm: Swarm<Behaviour>,
    config: Arc<Config>,
    listeners: Vec<ListenerId>,
    commands: mpsc::Receiver<Command>,
    opener: Opener,
    reports: mpsc::Receiver<Report>,
    reporting: mpsc::Sender<Report>,
    tasks: TaskTracker,
    cancel: CancellationToken,
    counters: Arc<Counters>,
    dialer: Dialer,
    directory: Directory,
    own: Own,
    peers: BTreeMap<PeerId, Peer>,
    connected: watch::Sender<BTreeSet<NodeId>>,
    addresses: watch::Sender<Vec<Multiaddr>>,
    channels: BTreeMap<TopicId, Channel>,
    library: watch::Sender<Library>,
    access: Access,
    bodies: Arc<Bodies>,
    /// What may be promised of bodies to all peers, in KiB.
    serving_bytes: Arc<Semaphore>,
    seen: Seen,
    standings: Standings<PeerId>,
    /// The same by certificate, and what is remembered of who is gone.
    credentials: Standings<Credential>,
    gone: Gone,
    /// What is served by certificate.
    shares: BTreeMap<Credential, Weak<Share>>,
    callers: Callers,
    bans: watch::Sender<Bans>,
    /// Peers that this node was told to keep a connection to.
    wanted: BTreeSet<PeerId>,
    /// Candidates that wait for an answer, at most `max_validations`.
    validations: FuturesUnordered<BoxFuture<'static, Validated>>,
    /// The bytes of their messages, at most `max_validation_bytes`.
    validation_bytes: usize,
    /// Channels whose events wait for room in their queue, one entry each.
    room: FuturesUnordered<BoxFuture<'static, Room>>,
    serving: Arc<Semaphore>,
    refusing: Arc<Semaphore>,
    /// What the tips of statuses that came too early may take, in KiB.
    early_tips: Arc<Semaphore>,
    /// Grows with each joining and each status.
    version: u64,
}

/// The answer to a candidate.
struct Validated {
    id: MessageId,
    source: PeerId,
    topic: TopicId,
    answer: Answer,
    /// How long the message was.
    bytes: usize,
}

/// Room in the queue of a channel; none when nobody reads it any more.
struct Room {
    topic: TopicId,
    generation: u64,
    permit: Option<mpsc::OwnedPermit<GossipEvent>>,
}

impl EventLoop {
    /// Runs until it is cancelled.
    pub(crate) async fn run(mut self: Box<Self>) {
        let mut ticks = interval(self.config.status_interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let cancel = self.cancel.clone();
        loop {
            let (dial, ban_ends) = (self.next_dial(), self.next_ban_end());
            // The arms take turns at random: with a fixed order, a busy publisher would keep the
            // network waiting.
            tokio::select! {
                () = cancel.cancelled() => break,
                Some(validated) = self.validations.next() => self.handle_validated(validated),
                Some(room) = self.room.next() => self.handle_room(room),
                Some(command) = self.commands.recv() => self.handle_command(command),
                Some(report) = self.reports.recv() => self.handle_report(report),
                () = until(dial) => self.dial_due(),
                () = until(ban_ends) => self.end_bans(),
                _ = ticks.tick() => self.handle_tick(),
                event = self.swarm.select_next_some() => self.handle_swarm_event(event),
            }
        }
        self.close().await;
    }

    /// Leaves every channel and hangs up.
    async fn close(mut self: Box<Self>) {
        self.commands.close();
        while self.commands.try_recv().is_ok() {}
        self.channels.clear();
        self.peers.clear();
        self.connected.send_replace(BTreeSet::new());
        let mut listening = 0;
        for listener in &self.listeners {
            listening += usize::from(self.swarm.remove_listener(*listener));
        }
        let connected: Vec<PeerId> = self.swarm.connected_peers().copied().collect();
        for peer in connected {
            // Err says that it hung up first.
            let _ = self.swarm.disconnect_peer_id(peer);
        }
        let closed = async {
            // What looks for nodes nearby is to hear that this one listens no longer.
            while self.swarm.network_info().num_peers() > 0 || listening > 0 {
                if let SwarmEvent::ListenerClosed { .. } = self.swarm.select_next_some().await {
                    listening -= 1;
                }
            }
        };
        if timeout(CLOSE_TIMEOUT, closed).await.is_err() {
            debug!("connections are dropped that did not close");
        }
    }

    fn handle_command(&mut self, command: Command) {
        match command {
            Command::Join { request, reply } => {
                let joined = self.join(request);
                if let Err(Ok((shared, _))) = reply.send(joined) {
                    // Whoever joined does not wait any more, so nobody will leave.
                    self.leave(shared.topic, shared.generation);
                }
            }
            Command::Leave {
                topic,
                generation,
                reply,
            } => {
                self.leave(topic, generation);
                let _ = reply.send(());
            }
            Command::Publish { block, reply } => {
                let _ = reply.send(self.publish(block));
            }
            Command::Open {
                peer,
                protocol,
                opened,
            } => {
                if self.peers.contains_key(&peer) {
                    self.swarm
                        .behaviour_mut()
                        .streams
                        .open(peer, protocol, opened);
                } else {
                    let _ = opened.send(Err(OpenError::NotConnected));
                }
            }
            Command::Look { topic } => self.look(topic),
            Command::Blame { peer, offence } => self.offends(peer, offence),
            Command::AddPeer { peer, address } => {
                if peer != *self.swarm.local_peer_id() {
                    self.wanted.insert(peer);
                    self.access.list(peer);
                    let connected = self.peers.contains_key(&peer);
                    self.dialer.add(peer, address, connected, Instant::now());
                }
            }
        }
    }

    fn handle_report(&mut self, report: Report) {
        match report {
            Report::Status { peer, message } => self.handle_status(peer, message),
            Report::Records { peer, records } => self.handle_records(peer, records),
            Report::Silent { peer } => self.handle_silence(peer),
            Report::Offence { peer, offence } => self.offends(peer, offence),
            Report::Tip {
                topic,
                generation,
                seen,
                tip,
            } => self.handle_tip(topic, generation, seen, tip),
        }
    }

    fn handle_tick(&mut self) {
        self.hang_up_on_the_dead();
        self.tell_scores();
        self.check_rights();
        self.bodies.sweep(Instant::now(), |topic| {
            let channel = self.channels.get(topic)?;
            Some(channel.request.reader.info().height)
        });
        self.keep_records();
        let topics: Vec<TopicId> = self.channels.keys().copied().collect();
        for topic in topics {
            self.look(topic);
        }
    }

    fn handle_swarm_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(event) => self.handle_behaviour_event(event),
            SwarmEvent::ConnectionEstablished {
                peer_id,
                connection_id,
                endpoint,
                ..
            } => {
                self.connected(peer_id, connection_id, endpoint.get_remote_address());
            }
            SwarmEvent::ConnectionClosed {
                peer_id,
                num_established: 0,
                cause,
                ..
            } => {
                let cause = cause.map(tracing::field::display);
                info!(peer = %peer_id, cause, "peer disconnected");
                self.disconnected(peer_id);
            }
            SwarmEvent::IncomingConnectionError { error, peer_id, .. } => {
                if let ListenError::Denied { .. } = error {
                    self.counters.connections_refused.increment();
                }
                debug!(peer = ?peer_id, %error, "incoming connection failed");
            }
            SwarmEvent::OutgoingConnectionError {
                peer_id: Some(peer),
                error,
                ..
            } => {
                if let DialError::Denied { .. } = error {
                    self.counters.connections_refused.increment();
                }
                debug!(%peer, %error, "dialling failed");
                self.dialer.failed(&peer, Instant::now());
                self.directory.failed(&peer, Instant::now());
            }
            SwarmEvent::NewListenAddr { address, .. } => {
                info!(%address, "listening");
                self.addresses
                    .send_modify(|addresses| addresses.push(address));
            }
            SwarmEvent::ExpiredListenAddr { address, .. } => {
                self.addresses
                    .send_modify(|addresses| addresses.retain(|known| *known != address));
            }
            SwarmEvent::ListenerClosed {
                addresses, reason, ..
            } => {
                let reason = reason.err().map(tracing::field::display);
                error!(?addresses, reason, "listener closed");
            }
            // What begins and has no result yet, and addresses that others claim.
            SwarmEvent::ConnectionClosed { .. }
            | SwarmEvent::IncomingConnection { .. }
            | SwarmEvent::OutgoingConnectionError { .. }
            | SwarmEvent::ListenerError { .. }
            | SwarmEvent::Dialing { .. }
            | SwarmEvent::NewExternalAddrCandidate { .. }
            | SwarmEvent::ExternalAddrConfirmed { .. }
            | SwarmEvent::ExternalAddrExpired { .. }
            | SwarmEvent::NewExternalAddrOfPeer { .. }
            | _ => {}
        }
    }

    fn dial_due(&mut self) {
        while let Some((peer, addresses)) = self.dialer.take_due(Instant::now()) {
            match self.standings.is_banned(&peer) {
                true => self.dialer.failed(&peer, Instant::now()),
                false => self.dial(peer, addresses),
            }
        }
        self.dial_learned();
    }

    /// When the next node is to be dialled.
    fn next_dial(&self) -> Option<Instant> {
        let learned = self.directory.next(self.peers.len());
        self.dialer.next().into_iter().chain(learned).min()
    }

    fn next_version(&mut self) -> u64 {
        self.version += 1;
        self.version
    }

    fn show_peers(&self) {
        self.connected
            .send_replace(self.peers.keys().map(node_id).collect());
    }
}

async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => pending().await,
    }
}
