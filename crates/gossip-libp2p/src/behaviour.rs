// SPDX-License-Identifier: Apache-2.0
//! The libp2p protocols of a node, set up for blocks among nodes that know each other.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use block_api::BoxError;
#[cfg(feature = "mdns")]
use libp2p::mdns;
use libp2p::{
    Swarm,
    allow_block_list::{self, BlockedPeers},
    connection_limits::{self, ConnectionLimits},
    core::upgrade,
    gossipsub, identify, memory_connection_limits,
    metrics::Registry,
    ping,
    swarm::{self, NetworkBehaviour, behaviour::toggle::Toggle},
};
use tokio_util::task::TaskTracker;

#[cfg(feature = "mdns")]
use crate::Config;
use crate::{
    access::Access,
    config::{ValidConfig, WireLimits},
    door,
    error::StartError,
    gate,
    membership::Member,
    score::{self, Callers},
    stats::Counters,
    streams,
    topic::{TopicId, id_of},
    transport::transport,
};

/// How many messages one RPC of a peer may have; with more it is malformed.
const MESSAGES_PER_RPC: usize = 64;

/// What gossipsub is called with here.
pub(crate) type Gossipsub = gossipsub::Behaviour<
    gossipsub::IdentityTransform,
    gossipsub::MaxCountSubscriptionFilter<OwnNames>,
>;

/// The protocols of a node. Who may not connect is refused by the transport and by the first four,
/// before the others hear of the connection: gossipsub would keep what it notes of a connection that
/// is refused after it.
#[derive(NetworkBehaviour)]
pub(crate) struct Behaviour {
    pub(crate) bans: allow_block_list::Behaviour<BlockedPeers>,
    pub(crate) door: door::Behaviour,
    pub(crate) limits: connection_limits::Behaviour,
    pub(crate) memory: Toggle<memory_connection_limits::Behaviour>,
    #[cfg(feature = "mdns")]
    pub(crate) mdns: Toggle<mdns::tokio::Behaviour>,
    pub(crate) gossipsub: gate::Behaviour,
    pub(crate) streams: streams::Behaviour,
    pub(crate) identify: identify::Behaviour,
    pub(crate) ping: ping::Behaviour,
}

/// Lets only topics be named whose names are hashes, so that their number bounds their size.
///
/// Who may subscribe to which of them was seen to at the gate.
#[derive(Debug, Clone, Default)]
pub(crate) struct OwnNames;

/// Spawns the tasks of libp2p where they are joined on stop.
struct Tasks(TaskTracker);

impl gossipsub::TopicSubscriptionFilter for OwnNames {
    fn can_subscribe(&mut self, topic: &gossipsub::TopicHash) -> bool {
        TopicId::from_name(topic.as_str()).is_some()
    }
}

impl swarm::Executor for Tasks {
    fn exec(&self, future: Pin<Box<dyn Future<Output = ()> + Send>>) {
        // It ends with the connection that it drives; the tracker waits for that.
        drop(self.0.spawn(future));
    }
}

/// A swarm that does not listen yet. Its tasks run on `tasks`, its metrics go to `registry`.
pub(crate) fn swarm(
    valid: &ValidConfig,
    access: &Access,
    callers: Callers,
    counters: &Arc<Counters>,
    tasks: TaskTracker,
    registry: Option<&mut Registry>,
) -> Result<Swarm<Behaviour>, StartError> {
    let setup = |part| move |source: BoxError| StartError::Setup { part, source };
    let config = &valid.config;
    let member = Member {
        network: config.network.clone(),
        peer: config.identity.peer_id(),
        signer: config.signer.clone(),
        access: access.clone(),
        patience: config.prove_timeout,
    };
    let transport = transport(config, member, callers, counters.clone())?;
    let behaviour = behaviour(valid, access, counters, registry).map_err(setup("a protocol"))?;
    let settings = swarm::Config::with_executor(Tasks(tasks))
        // A connection is kept however quiet it is; ping finds out when it is dead.
        .with_idle_connection_timeout(Duration::MAX)
        // What is asked goes with the proposal of the protocol, which saves each stream a round trip.
        .with_substream_upgrade_protocol_override(upgrade::Version::V1Lazy);
    let peer = config.identity.peer_id();
    Ok(Swarm::new(transport, behaviour, peer, settings))
}

fn behaviour(
    valid: &ValidConfig,
    access: &Access,
    counters: &Arc<Counters>,
    registry: Option<&mut Registry>,
) -> Result<Behaviour, BoxError> {
    let config = &valid.config;
    let max_peers = u32::try_from(config.max_peers.get()).unwrap_or(u32::MAX);
    let max_pending = u32::try_from(door::max_pending(config.max_peers)).unwrap_or(u32::MAX);
    // gossipsub sends its subscriptions on the first connection to a peer only, so a second one
    // that outlives the first would stay silent.
    let limits = ConnectionLimits::default()
        .with_max_established_per_peer(Some(1))
        .with_max_established(Some(max_peers))
        .with_max_pending_incoming(Some(max_pending));
    let about = identify::Config::new("/blockcast/1".to_owned(), config.identity.inner().public())
        .with_agent_version(concat!("blockcast/", env!("CARGO_PKG_VERSION")).to_owned())
        // Addresses are no business of whoever is connected.
        .with_hide_listen_addrs(true);
    let pinging = ping::Config::new()
        .with_interval(config.ping_interval)
        .with_timeout(config.ping_timeout);
    let gossipsub = match registry {
        Some(registry) => measured(gossipsub_behaviour(valid)?, valid, registry),
        None => gossipsub_behaviour(valid)?,
    };
    let max_topics = config.max_topics.get();
    Ok(Behaviour {
        bans: allow_block_list::Behaviour::default(),
        door: door::Behaviour::new(access.clone(), config.peers_per_org(), config.max_peers),
        limits: connection_limits::Behaviour::new(limits),
        memory: config
            .max_memory
            .map(|limit| memory_connection_limits::Behaviour::with_max_bytes(limit.get()))
            .into(),
        #[cfg(feature = "mdns")]
        mdns: nearby(config)?.into(),
        gossipsub: gate::Behaviour::new(gossipsub, access.clone(), counters.clone(), max_topics),
        streams: streams::Behaviour::new(config.open_timeout),
        identify: identify::Behaviour::new(about),
        ping: ping::Behaviour::new(pinging),
    })
}

/// Looks for nodes on the local network, where the configuration wants it.
#[cfg(feature = "mdns")]
fn nearby(config: &Config) -> Result<Option<mdns::tokio::Behaviour>, BoxError> {
    if !config.mdns {
        return Ok(None);
    }
    let looking = mdns::tokio::Behaviour::new(mdns::Config::default(), config.identity.peer_id())?;
    Ok(Some(looking))
}

/// Has gossipsub measure itself. Its metrics alone are bounded: those of identify, which the library
/// has as well, are labelled with what other nodes say of themselves.
fn measured(gossipsub: Gossipsub, valid: &ValidConfig, registry: &mut Registry) -> Gossipsub {
    let registry = registry.sub_registry_with_prefix("libp2p");
    let settings = gossipsub::MetricsConfig {
        max_topics: valid.config.max_topics.get(),
        // A topic that only others name is no label here.
        max_never_subscribed_topics: 0,
        ..gossipsub::MetricsConfig::default()
    };
    gossipsub.with_metrics(registry.sub_registry_with_prefix("gossipsub"), settings)
}

fn gossipsub_behaviour(valid: &ValidConfig) -> Result<Gossipsub, BoxError> {
    let config = &valid.config;
    let WireLimits {
        control,
        ids,
        rpc,
        history,
        ..
    } = valid.limits;
    let max_topics = config.max_topics.get();
    let settings = gossipsub::ConfigBuilder::default()
        // Blocks prove themselves; an author would be one more thing to forge.
        .validation_mode(gossipsub::ValidationMode::Anonymous)
        .validate_messages()
        .message_id_fn(id_of)
        .max_transmit_size(rpc)
        // Nodes put one message into each; whoever puts in thousands would have them noted at once.
        .max_publish_messages(MESSAGES_PER_RPC)
        .max_control_message_size(control)
        .max_control_messages_sent(ids)
        // There is one IHAVE per topic, and the default hears ten of them per heartbeat.
        .max_ihave_messages_heartbeat(max_topics.max(10))
        .heartbeat_interval(config.heartbeat)
        .heartbeat_initial_delay(config.heartbeat)
        // A message is kept until it was judged, else it could not be forwarded.
        .history_length(history)
        .history_gossip(3)
        .duplicate_cache_time(
            config
                .validation_timeout
                .saturating_mul(4)
                .max(Duration::from_secs(120)),
        )
        .mesh_n_low(config.mesh.low)
        .mesh_n(config.mesh.target)
        .mesh_n_high(config.mesh.high)
        .mesh_outbound_min(config.mesh.outbound())
        .retain_scores(config.mesh.target.min(4))
        .flood_publish(true)
        // A channel that is left and joined again is back in the mesh soon.
        .unsubscribe_backoff(Duration::from_secs(1))
        .connection_handler_queue_len(config.peer_queue.get())
        .publish_queue_duration(config.validation_timeout)
        .forward_queue_duration(config.validation_timeout)
        .build()?;
    let filter = gossipsub::MaxCountSubscriptionFilter {
        filter: OwnNames,
        max_subscribed_topics: max_topics,
        max_subscriptions_per_request: max_topics,
    };
    let mut gossipsub = Gossipsub::new_with_subscription_filter(
        gossipsub::MessageAuthenticity::Anonymous,
        settings,
        filter,
    )?;
    gossipsub.with_peer_score(score::params(config.ban_time), score::thresholds())?;
    Ok(gossipsub)
}

#[cfg(test)]
mod tests {
    use libp2p::gossipsub::{TopicHash, TopicSubscriptionFilter};

    use super::*;

    #[test]
    fn only_hashes_can_be_subscribed_to() {
        let name = |text: &str| TopicHash::from_raw(text);
        assert!(OwnNames.can_subscribe(&name(&"ab".repeat(32))));
        assert!(!OwnNames.can_subscribe(&name("my-channel")));
        assert!(!OwnNames.can_subscribe(&name(&"a".repeat(1 << 16))));
    }
}
