// SPDX-License-Identifier: Apache-2.0
//! How the event loop comes to be: everything is set up, and every address is listened on.

use std::{
    collections::BTreeMap,
    net::{IpAddr, TcpListener},
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt, stream::FuturesUnordered};
use libp2p::{
    Multiaddr, TransportError, metrics::Registry, multiaddr::Protocol, swarm::SwarmEvent,
};
use rand::{
    SeedableRng,
    rngs::{StdRng, SysRng},
};
use tokio::{
    sync::{Semaphore, mpsc, watch},
    time::{Instant, timeout_at},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Command, EventLoop, Views, early};
use crate::{
    access::{Access, msp_id},
    behaviour::swarm,
    bodies::Bodies,
    config::ValidConfig,
    dialer::Dialer,
    discovery::{Directory, Own, Wanted},
    error::StartError,
    handle::Opener,
    score::{Callers, Gone, Standings},
    seen::Seen,
    stats::Counters,
};

/// How many messages are remembered by id.
const SEEN: usize = 16 * 1024;

/// How many reports of tasks may wait; a task whose report does not fit waits with it.
const REPORTS: usize = 256;

/// How long listening may take to begin.
const LISTEN_TIMEOUT: Duration = Duration::from_secs(10);

/// How many times longer nodes that others told of wait than static peers, for the first time
/// and at most: nobody said that they are wanted.
const LEARNED_BASE: u32 = 5;
const LEARNED_CAP: u32 = 30;

impl EventLoop {
    pub(crate) fn new(
        valid: ValidConfig,
        commands: mpsc::Receiver<Command>,
        opener: Opener,
        tasks: TaskTracker,
        cancel: CancellationToken,
        registry: Option<&mut Registry>,
    ) -> Result<(Self, Views), StartError> {
        let counters = Arc::new(Counters::default());
        let access = Access::new(
            valid.listed.clone(),
            valid.others,
            valid.config.clock.clone(),
        );
        let callers = Callers::default();
        let swarm = swarm(
            &valid,
            &access,
            callers.clone(),
            &counters,
            tasks.clone(),
            registry,
        )?;
        let config = Arc::new(valid.config);
        let mut dialer = Dialer::new(config.redial_base, config.redial_cap, seeded()?);
        let wanted = valid.peers.iter().map(|(peer, _)| *peer).collect();
        for (peer, address) in valid.peers {
            dialer.add(peer, address, false, Instant::now());
        }
        let organisation = msp_id(&config.signer.identity());
        let looked_for = Wanted {
            others: config.target_peers,
            organisation: organisation.clone(),
            per_organisation: config.peers_per_org().get(),
        };
        let (base, cap) = (
            config.redial_base * LEARNED_BASE,
            config.redial_cap * LEARNED_CAP,
        );
        let directory = Directory::new(config.identity.peer_id(), looked_for, base, cap, seeded()?);
        let (external, internal) = (&config.external_addrs, &config.internal_addrs);
        let own = Own::new(external.clone(), internal.clone(), organisation);
        let (reporting, reports) = mpsc::channel(REPORTS);
        let (connected, addresses) = (watch::Sender::default(), watch::Sender::default());
        let bans = watch::Sender::default();
        let bodies = Bodies::new(config.identity.clone(), config.max_body_bytes.get());
        let views = Views {
            bodies: bodies.clone(),
            peers: connected.subscribe(),
            addresses: addresses.subscribe(),
            bans: bans.subscribe(),
            counters: counters.clone(),
        };
        let event_loop = Self {
            swarm,
            listeners: Vec::new(),
            commands,
            opener,
            reports,
            reporting,
            tasks,
            cancel,
            counters,
            dialer,
            directory,
            own,
            peers: BTreeMap::new(),
            connected,
            addresses,
            channels: BTreeMap::new(),
            library: watch::Sender::default(),
            access,
            seen: Seen::new(SEEN),
            standings: Standings::new(config.ban_time),
            credentials: Standings::new(config.ban_time),
            gone: Gone::default(),
            shares: BTreeMap::new(),
            callers,
            bans,
            wanted,
            validations: FuturesUnordered::new(),
            validation_bytes: 0,
            room: FuturesUnordered::new(),
            serving: Arc::new(Semaphore::new(config.max_serving.get())),
            refusing: Arc::new(Semaphore::new(config.max_serving.get())),
            early_tips: Arc::new(Semaphore::new(early::TIPS)),
            bodies,
            serving_bytes: Arc::new(Semaphore::new(config.serve_bytes.get() / 1024)),
            version: 0,
            config,
        };
        Ok((event_loop, views))
    }

    /// Listens on every address of the configuration, and returns when all of them are ready.
    pub(crate) async fn listen(&mut self) -> Result<(), StartError> {
        let mut starting = Vec::new();
        for address in self.config.listen.clone() {
            let failed = |source: TransportError<_>| StartError::Listen {
                address: address.clone(),
                source: source.into(),
            };
            refuse_taken(&address)?;
            let listener = self.swarm.listen_on(address.clone()).map_err(failed)?;
            self.listeners.push(listener);
            starting.push((listener, address));
        }
        let deadline = Instant::now() + LISTEN_TIMEOUT;
        while let Some((_, address)) = starting.first() {
            let timed_out = || StartError::ListenTimedOut {
                address: address.clone(),
                after: LISTEN_TIMEOUT,
            };
            let event = timeout_at(deadline, self.swarm.select_next_some())
                .await
                .map_err(|_| timed_out())?;
            if let SwarmEvent::NewListenAddr { listener_id, .. } = &event {
                starting.retain(|(id, _)| id != listener_id);
            }
            let mut place = None;
            if let SwarmEvent::ListenerClosed {
                listener_id: failed,
                ..
            }
            | SwarmEvent::ListenerError {
                listener_id: failed,
                ..
            } = &event
            {
                place = starting.iter().position(|(id, _)| id == failed);
            }
            if let Some(place) = place
                && let SwarmEvent::ListenerClosed {
                    reason: Err(source),
                    ..
                }
                | SwarmEvent::ListenerError { error: source, .. } = event
            {
                let (_, address) = starting.swap_remove(place);
                return Err(StartError::Listen {
                    address,
                    source: source.into(),
                });
            }
            self.handle_swarm_event(event);
        }
        self.keep_records();
        Ok(())
    }
}

fn seeded() -> Result<StdRng, StartError> {
    StdRng::try_from_rng(&mut SysRng).map_err(|error| StartError::Setup {
        part: "the random generator",
        source: error.into(),
    })
}

/// libp2p shares a TCP port with whoever listens on it already, and each then gets a part of the
/// connections. Two nodes with one port are a mistake, so it is looked for.
fn refuse_taken(address: &Multiaddr) -> Result<(), StartError> {
    let mut parts = address.iter();
    let ip: IpAddr = match parts.next() {
        Some(Protocol::Ip4(ip)) => ip.into(),
        Some(Protocol::Ip6(ip)) => ip.into(),
        _ => return Ok(()),
    };
    match parts.next() {
        Some(Protocol::Tcp(port)) if port != 0 => match TcpListener::bind((ip, port)) {
            Ok(_) => Ok(()),
            Err(source) => Err(StartError::Listen {
                address: address.clone(),
                source: source.into(),
            }),
        },
        _ => Ok(()),
    }
}
