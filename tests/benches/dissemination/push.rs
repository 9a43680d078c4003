// SPDX-License-Identifier: Apache-2.0
//! A node of the baseline: rust-libp2p's gossipsub alone, which pushes whole blocks over the same
//! transport, and passes them on once their data hash was checked.

use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use async_trait::async_trait;
use aws_lc_rs::digest::{SHA256, digest};
use block_api::Block;
use gossip_libp2p::Multiaddr;
use libp2p::{
    PeerId, Swarm, SwarmBuilder,
    gossipsub::{
        Behaviour, ConfigBuilder, Event, IdentTopic, MessageAcceptance, MessageAuthenticity,
        MessageId, ValidationMode,
    },
    identity::Keypair,
    multiaddr::Protocol,
    noise,
    swarm::SwarmEvent,
    tcp, yamux,
};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
};
use tokio_stream::StreamExt as _;

use crate::{
    child::{Node, Place},
    lines::{Stamp, Told, tell},
    ours::is_whole,
};

const TOPIC: &str = "blocks";

/// The longest RPC: the largest block that is pushed, and room.
const MAX_TRANSMIT: usize = 16 * 1024 * 1024;

/// How many orders may wait for the swarm: there is never more than one.
const COMMANDS: usize = 1;

pub(crate) struct Push {
    commands: mpsc::Sender<Command>,
    _running: JoinSet<()>,
}

enum Command {
    Connect(Vec<Multiaddr>),
    Publish(Vec<u8>, oneshot::Sender<Result<()>>),
}

/// A message that was judged.
struct Judged {
    id: MessageId,
    source: PeerId,
    acceptance: MessageAcceptance,
}

struct Loop {
    swarm: Swarm<Behaviour>,
    topic: IdentTopic,
    members: usize,
    others: usize,
    judging: JoinSet<Judged>,
}

impl Push {
    /// Starts a node, which tells where it listens.
    pub(crate) async fn start(place: Place) -> Result<Self> {
        let behaviour = behaviour()?;
        let mut swarm = SwarmBuilder::with_existing_identity(Keypair::ed25519_from_bytes(
            [place.index + 1; 32],
        )?)
        .with_tokio()
        .with_tcp(
            tcp::Config::new().nodelay(true),
            noise::Config::new,
            yamux::Config::default,
        )?
        .with_behaviour(|_| behaviour)?
        .with_swarm_config(|config| config.with_idle_connection_timeout(Duration::MAX))
        .build();
        let topic = IdentTopic::new(TOPIC);
        swarm.behaviour_mut().subscribe(&topic)?;
        swarm.listen_on("/ip4/127.0.0.1/tcp/0".parse()?)?;
        let address = loop {
            let event = swarm.next().await.context("a swarm does not end")?;
            if let SwarmEvent::NewListenAddr { address, .. } = event {
                break address;
            }
        };
        let own = *swarm.local_peer_id();
        tell(&Told::Listening(address.with(Protocol::P2p(own))));
        let (commands, received) = mpsc::channel(COMMANDS);
        let running = Loop {
            swarm,
            topic,
            members: 0,
            others: place.others(),
            judging: JoinSet::new(),
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(running.run(received));
        Ok(Self {
            commands,
            _running: tasks,
        })
    }

    async fn send(&self, command: Command) -> Result<()> {
        let sent = self.commands.send(command).await;
        sent.map_err(|_| anyhow!("the swarm ended"))
    }
}

#[async_trait]
impl Node for Push {
    async fn connect(&self, addresses: Vec<Multiaddr>) -> Result<()> {
        self.send(Command::Connect(addresses)).await
    }

    async fn publish(&self, block: Block) -> Result<()> {
        let (reply, published) = oneshot::channel();
        let message = block.relay().to_bytes().into();
        self.send(Command::Publish(message, reply)).await?;
        published.await?
    }
}

impl Loop {
    async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        loop {
            tokio::select! {
                Some(Ok(judged)) = self.judging.join_next(), if !self.judging.is_empty() => {
                    let Judged { id, source, acceptance } = judged;
                    let behaviour = self.swarm.behaviour_mut();
                    behaviour.report_message_validation_result(&id, &source, acceptance);
                }
                command = commands.recv() => match command {
                    Some(Command::Connect(addresses)) => {
                        for address in addresses {
                            // Whoever cannot be dialled is missed by the benchmark.
                            let _ = self.swarm.dial(address);
                        }
                    }
                    Some(Command::Publish(message, reply)) => {
                        let topic = self.topic.clone();
                        let published = self.swarm.behaviour_mut().publish(topic, message);
                        let _ = reply.send(published.map(drop).map_err(Into::into));
                    }
                    None => break,
                },
                Some(event) = self.swarm.next() => {
                    if let SwarmEvent::Behaviour(event) = event {
                        self.handle(event);
                    }
                }
            }
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            // The hash is taken beside the loop, as on the other side.
            Event::Message {
                propagation_source: source,
                message_id: id,
                message,
            } => drop(self.judging.spawn(async move {
                let block = Block::parse(message.data.into()).ok().filter(is_whole);
                if let Some(block) = &block {
                    tell(&Told::Held(block.number(), Stamp::now()));
                }
                Judged {
                    id,
                    source,
                    acceptance: match block {
                        Some(_) => MessageAcceptance::Accept,
                        None => MessageAcceptance::Reject,
                    },
                }
            })),
            Event::Subscribed { .. } => {
                self.members += 1;
                if self.members == self.others {
                    tell(&Told::Joined);
                }
            }
            Event::Unsubscribed { .. }
            | Event::GossipsubNotSupported { .. }
            | Event::SlowPeer { .. } => {}
        }
    }
}

/// gossipsub as those set it up who push blocks with it: anonymous messages named by their content,
/// forwarded once judged, a dozen heartbeats of history, and IDONTWANT.
fn behaviour() -> Result<Behaviour> {
    let config = ConfigBuilder::default()
        // Nobody signs messages or checks signatures: blocks prove themselves.
        .validation_mode(ValidationMode::Anonymous)
        .validate_messages()
        .message_id_fn(|message| MessageId::from(digest(&SHA256, &message.data).as_ref()))
        .max_transmit_size(MAX_TRANSMIT)
        .heartbeat_interval(Duration::from_millis(700))
        .heartbeat_initial_delay(Duration::from_millis(700))
        // The mesh that the other side has too, for the same topology.
        .mesh_n_low(4)
        .mesh_n(6)
        .mesh_n_high(12)
        // Networks with thousands of nodes leave it off; the other side does it too.
        .flood_publish(true)
        // Announcements of what has been seen go to the others, for twelve heartbeats at most.
        .history_length(12)
        .history_gossip(3)
        // From 1 kB on a node that has a message says that it wants no second copy.
        .idontwant_message_size_threshold(1000)
        .idontwant_on_publish(true)
        // A block of 10 MiB waits longer for its turn than the second that is the default: it would
        // be dropped.
        .publish_queue_duration(Duration::from_secs(60))
        .forward_queue_duration(Duration::from_secs(60))
        .iwant_followup_time(Duration::from_secs(60))
        .build()?;
    Behaviour::new(MessageAuthenticity::Anonymous, config).map_err(|error| anyhow!(error))
}
