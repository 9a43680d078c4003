// SPDX-License-Identifier: Apache-2.0
//! What a node is started with.

mod check;

use std::{collections::BTreeSet, num::NonZeroUsize, sync::Arc, time::Duration};

use block_api::{Clock, NodeId, Signer, SystemClock};
use libp2p::{Multiaddr, PeerId};

use crate::{access::Others, error::ConfigError, identity::Keypair, topic};

/// The settings of a node. [`Config::new`] gives every field its default.
#[derive(Debug, Clone)]
pub struct Config {
    /// The key of this node.
    pub identity: Keypair,
    /// What this node proves to others with who it is: the key of its MSP identity.
    pub signer: Arc<dyn Signer>,
    /// Tells the time by which the identities of others are judged. Default: the machine's.
    pub clock: Arc<dyn Clock>,
    /// Where it listens; port 0 takes any free one. Default: nowhere, so that it only dials.
    pub listen: Vec<Multiaddr>,
    /// Nodes that it keeps a connection to, each address with `/p2p/ID` at its end. Several
    /// addresses of one node are tried one after the other; its own address is skipped. Default: none.
    pub peers: Vec<Multiaddr>,
    /// Whom it talks to. Default: the static peers, and who may read a channel that it joined.
    pub admission: Admission,
    /// Addresses of this node that every node is told of that shares a channel with it. Port 0 stands
    /// for the port that it listens on. Others dial none below 1024. Default: none; where this node
    /// listens is not told by itself.
    pub external_addrs: Vec<Multiaddr>,
    /// Addresses that only nodes of the own organisation are told of. Default: none.
    pub internal_addrs: Vec<Multiaddr>,
    /// While fewer nodes than that are connected that did not prove to be of the own organisation, ones
    /// are dialled that others told of. Those of the own organisation are dialled beside them: all, as
    /// long as they are not more than seven eighths of `max_peers_per_org`, and otherwise half of that
    /// limit. 0 dials the static peers alone. Default: 16.
    pub target_peers: usize,
    /// Whether nodes are looked for on the local network, by multicast DNS, and told there where this
    /// one listens. For development: anybody on the network can answer, and what looks for nodes ends
    /// with the runtime, not with the node. It takes the feature `mdns`. Default: false.
    pub mdns: bool,
    /// With more bytes of memory in use by the process, no connection is made or taken. Default:
    /// no limit.
    pub max_memory: Option<NonZeroUsize>,

    /// How many nodes may be connected. Default: 256.
    pub max_peers: NonZeroUsize,
    /// How many of them may be of one organisation; static peers count and are never refused for it.
    /// Default: half of `max_peers`.
    pub max_peers_per_org: Option<NonZeroUsize>,
    /// How many of them may prove themselves with one certificate; static peers count and are never
    /// refused for it. Nodes have one each, and one that came back may be there twice for a while.
    /// Default: 4.
    pub max_peers_per_identity: NonZeroUsize,
    /// The name of the network. Nodes of another one are hung up on. At most 255 bytes.
    /// Default: `blockcast`.
    pub network: String,
    /// How long the signer may take to prove who this node is, and how long the other node may be
    /// silent while both do. A proof that takes longer fails its connection only. Default: 5 s.
    pub prove_timeout: Duration,
    /// How many channels this node may join, and how many any other may name. Nodes of one network
    /// should agree: the subscriptions of a node that names more are not heard. Default: 4096.
    pub max_topics: NonZeroUsize,

    /// A block whose relay form has at most so many bytes goes on the topic whole; of a longer one
    /// only header and signatures do, and its data is pulled. A config block of up to 1 MiB always
    /// goes whole. Default: 64 KiB.
    pub inline_limit: NonZeroUsize,
    /// The longest block that is taken from a peer, in bytes of its relay form. Default: 104 MiB,
    /// which is Fabric's limit for a message and some room.
    pub max_block: NonZeroUsize,
    /// The rhythm of gossipsub. Default: 700 ms.
    pub heartbeat: Duration,
    /// How many links gossipsub keeps per topic. Default: see [`MeshSize`].
    pub mesh: MeshSize,
    /// How long a candidate may wait for its answer; then it counts as ignored. The message is
    /// kept for that long. Default: 5 s.
    pub validation_timeout: Duration,
    /// How many candidates may wait for an answer, over all channels; more are ignored.
    /// Default: 1024.
    pub max_validations: NonZeroUsize,
    /// How many bytes their messages may have together; what is more is ignored. Default: 128 MiB.
    pub max_validation_bytes: NonZeroUsize,
    /// How many messages may wait to be sent to one peer; more are dropped, and the peer learns of
    /// them by status. Default: 512.
    pub peer_queue: NonZeroUsize,
    /// How many events of a channel may wait to be read; what happens then is said at
    /// [`Membership::events`](block_api::Membership::events). Default: 64.
    pub event_queue: NonZeroUsize,
    /// How many calls of handles may wait for the event loop; more wait for room. Default: 64.
    pub command_queue: NonZeroUsize,

    /// How often the status of a channel is looked at; it is told when it changed. Default: 1 s.
    pub status_interval: Duration,
    /// How long a node may be silent before its channels hear that it left. Nodes of one channel give
    /// a sign of life three times in that time, and each second at least. Default: 3 s.
    pub silence_limit: Duration,
    /// How often a peer is pinged. Default: 2 s.
    pub ping_interval: Duration,
    /// How long an answer to a ping may take. A connection on which none came for two intervals
    /// and this long is closed. Default: 5 s.
    pub ping_timeout: Duration,
    /// How long a connection may take to be made, handshakes included. Default: 10 s.
    pub connect_timeout: Duration,
    /// How long a stream may take to be opened. Default: 5 s.
    pub open_timeout: Duration,
    /// How long the first answer to a request for blocks may take. Default: 10 s.
    pub initial_timeout: Duration,
    /// How long the stream may be silent after that. Default: 10 s.
    pub idle_timeout: Duration,
    /// How long a requester may leave what it was sent untaken before it is given up.
    /// Default: 30 s.
    pub serve_timeout: Duration,

    /// How long a peer is banned that did too much wrong; the README says what that is.
    /// Default: 10 min.
    pub ban_time: Duration,
    /// How many messages a second of one peer are looked at that turn out not to be good, and ten more
    /// for each channel; four times as many at once. More are ignored, and held against it.
    /// Default: 1000.
    pub max_messages_per_second: NonZeroUsize,
    /// How many streams a second one peer may open; four times as many at once. Further ones are
    /// closed, and held against it. Default: 200.
    pub max_requests_per_second: NonZeroUsize,

    /// How many requests for blocks are served at a time; more are told to come back.
    /// Default: 32.
    pub max_serving: NonZeroUsize,
    /// How many of them may be of one peer. Default: 8.
    pub max_serving_per_peer: NonZeroUsize,

    /// How many bytes bodies of announced blocks may take that are in the making or kept for others;
    /// what comes on top waits for room. Blocks of the store that are served may take a quarter as much
    /// on top, or one of them, and those read for one peer half of that. Default: 208 MiB, two blocks
    /// of the longest kind.
    pub max_body_bytes: NonZeroUsize,
    /// How many bytes of bodies may be promised to one peer and not yet sent; who asks for more is
    /// told to come back. Default: 16 MiB.
    pub serve_bytes_per_peer: NonZeroUsize,
    /// The same for all peers together. Default: 256 MiB.
    pub serve_bytes: NonZeroUsize,
    /// How many bodies one peer may be pulling at a time; more are told to come back. Default: 64.
    pub max_body_streams_per_peer: NonZeroUsize,

    /// The longest wait before the first attempt to dial a static peer again; it doubles with each
    /// attempt, and the wait is a random part of it. Default: 200 ms.
    pub redial_base: Duration,
    /// What the wait never exceeds. Default: 10 s.
    pub redial_cap: Duration,
    /// How long stopping may take before it is forced. Default: 5 s.
    pub stop_timeout: Duration,
}

/// Which nodes this one talks to. Both prove their identities before any protocol is spoken, and
/// others are refused there.
///
/// To be connected gives no right to any block: what a node may have is for the
/// [`JoinRequest::readers`](block_api::JoinRequest) of each channel to say (semantics §4.7).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// The static peers, and each node that may read a channel that this one joined.
    Members,
    /// These nodes, and the static peers.
    AllowList(BTreeSet<NodeId>),
    /// Whoever comes. For tests.
    Anyone,
}

/// How many peers of a topic gossipsub keeps in its mesh. A network of fewer nodes is fully meshed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MeshSize {
    /// Below it, links are added. Default: 4.
    pub low: usize,
    /// What it aims at. Default: 6.
    pub target: usize,
    /// Above it, links are cut. Default: 12.
    pub high: usize,
}

/// A configuration that holds together.
#[derive(Debug, Clone)]
pub(crate) struct ValidConfig {
    pub(crate) config: Config,
    pub(crate) peers: Vec<(PeerId, Multiaddr)>,
    /// Who is let in by its id, static peers among them, and who beside those.
    pub(crate) listed: BTreeSet<PeerId>,
    pub(crate) others: Others,
    pub(crate) limits: WireLimits,
}

/// Sizes that follow from the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WireLimits {
    /// The longest message on a topic.
    pub(crate) message: usize,
    /// All control messages and subscriptions of one RPC.
    pub(crate) control: usize,
    /// How many message ids one IHAVE or IWANT may name.
    pub(crate) ids: usize,
    /// The longest RPC.
    pub(crate) rpc: usize,
    /// How many heartbeats a message is kept.
    pub(crate) history: usize,
}

/// Signs of life are not further apart, whatever the limit on silence: that of others may be shorter.
const LONGEST_BEAT: Duration = Duration::from_secs(1);

/// A config block up to this size goes on the topic whole, whatever the inline limit: a channel of
/// a hundred organisations has about half of it. A bigger one is announced like any other block.
pub(crate) const INLINE_CONFIG: usize = 1024 * 1024;

/// What the signatures of a block may need beside its inline part. A signature with its signer's
/// certificate takes about 1 KiB; large ordering services have some tens.
const SIGNATURES_ROOM: usize = 64 * 1024;

/// One subscription in an RPC: the name of the topic, and some twelve bytes around it.
const SUBSCRIPTION: usize = topic::NAME_LENGTH + 16;

/// One message id in an RPC: 32 bytes, and two around them.
const MESSAGE_ID: usize = 40;

/// gossipsub's default for all control messages of an RPC; never less than that.
const CONTROL_ROOM: usize = 16 * 1024;

/// gossipsub 0.50 holds the size limit of an RPC against all that its reader has buffered, which
/// is up to 8 KiB more than the RPC. Twice that leaves room for the framing too.
const READ_AHEAD: usize = 16 * 1024;

impl Config {
    /// The defaults, for a node with this key and this MSP identity.
    pub fn new(identity: Keypair, signer: Arc<dyn Signer>) -> Self {
        let size = |n| NonZeroUsize::new(n).unwrap_or(NonZeroUsize::MIN);
        Self {
            identity,
            signer,
            clock: Arc::new(SystemClock),
            listen: Vec::new(),
            peers: Vec::new(),
            admission: Admission::Members,
            external_addrs: Vec::new(),
            internal_addrs: Vec::new(),
            target_peers: 16,
            mdns: false,
            max_memory: None,

            max_peers: size(256),
            max_peers_per_org: None,
            max_peers_per_identity: size(4),
            network: "blockcast".to_owned(),
            prove_timeout: Duration::from_secs(5),
            max_topics: size(4096),
            inline_limit: size(64 * 1024),
            max_block: size(104 * 1024 * 1024),
            heartbeat: Duration::from_millis(700),
            mesh: MeshSize::default(),
            validation_timeout: Duration::from_secs(5),
            max_validations: size(1024),
            max_validation_bytes: size(128 * 1024 * 1024),
            peer_queue: size(512),
            event_queue: size(64),
            command_queue: size(64),
            status_interval: Duration::from_secs(1),
            silence_limit: Duration::from_secs(3),
            ping_interval: Duration::from_secs(2),
            ping_timeout: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(10),
            open_timeout: Duration::from_secs(5),
            initial_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(10),
            serve_timeout: Duration::from_secs(30),
            ban_time: Duration::from_secs(600),
            max_messages_per_second: size(1000),
            max_requests_per_second: size(200),
            max_serving: size(32),
            max_serving_per_peer: size(8),
            max_body_bytes: size(208 * 1024 * 1024),
            serve_bytes_per_peer: size(16 * 1024 * 1024),
            serve_bytes: size(256 * 1024 * 1024),
            max_body_streams_per_peer: size(64),
            redial_base: Duration::from_millis(200),
            redial_cap: Duration::from_secs(10),
            stop_timeout: Duration::from_secs(5),
        }
    }

    /// Checks that the values hold together.
    ///
    /// # Errors
    ///
    /// The first field that does not, with the reason.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.clone().into_valid().map(drop)
    }

    /// How often this node gives a sign of life.
    pub(crate) fn beat(&self) -> Duration {
        (self.silence_limit / 3).min(LONGEST_BEAT)
    }

    /// How many nodes of one organisation may be connected.
    pub(crate) fn peers_per_org(&self) -> NonZeroUsize {
        let half = NonZeroUsize::new(self.max_peers.get().div_ceil(2));
        self.max_peers_per_org.or(half).unwrap_or(self.max_peers)
    }

    /// How many requests, and how many bytes of bodies, are served to who has one certificate: a
    /// quarter, or what one peer may have.
    pub(crate) fn share(&self) -> [usize; 2] {
        let share = |all: NonZeroUsize, one: NonZeroUsize| one.get().max(all.get() / 4);
        [
            share(self.max_serving, self.max_serving_per_peer),
            share(self.serve_bytes, self.serve_bytes_per_peer),
        ]
    }

    pub(crate) fn wire_limits(&self) -> WireLimits {
        WireLimits::of(self)
    }
}

impl Default for MeshSize {
    fn default() -> Self {
        Self {
            low: 4,
            target: 6,
            high: 12,
        }
    }
}

impl MeshSize {
    /// How many links of a node must be ones that it dialled itself, within gossipsub's rules.
    pub(crate) fn outbound(&self) -> usize {
        (self.target / 2).min(self.low).min(2)
    }
}

impl WireLimits {
    fn of(config: &Config) -> Self {
        let message = config.inline_limit.get().max(INLINE_CONFIG) + SIGNATURES_ROOM;
        // A node names all its topics in one RPC to a new peer.
        let control = CONTROL_ROOM + config.max_topics.get() * SUBSCRIPTION;
        let heartbeats = config
            .validation_timeout
            .as_nanos()
            .div_ceil(config.heartbeat.as_nanos().max(1));
        Self {
            message,
            control,
            ids: (control / 2 / MESSAGE_ID).min(5000),
            rpc: message.max(control) + READ_AHEAD,
            // One more, for the heartbeat that falls into the wait: a message that is gone cannot
            // be forwarded any more.
            history: usize::try_from(heartbeats)
                .unwrap_or(usize::MAX)
                .saturating_add(2)
                .max(5),
        }
    }
}

#[cfg(test)]
mod tests {
    use block_api::testing::TestSigner;

    use super::*;

    fn config() -> Config {
        Config::new(Keypair::from_seed([1; 32]), Arc::new(TestSigner("node")))
    }

    fn size(n: usize) -> NonZeroUsize {
        NonZeroUsize::new(n).unwrap()
    }

    #[test]
    fn the_defaults_hold_together() {
        let valid = config().into_valid().unwrap();
        let limits = valid.limits;
        assert_eq!(limits.message, (1024 + 64) * 1024);
        assert_eq!(limits.control, (16 + 320) * 1024);
        assert_eq!(limits.ids, 4300);
        assert!(limits.rpc >= limits.message + 8192 && limits.rpc >= limits.control + 8192);
        assert!(valid.config.heartbeat * limits.history as u32 > valid.config.validation_timeout);
        assert_eq!(
            (valid.listed, valid.others),
            (BTreeSet::new(), Others::Members)
        );
        assert_eq!(valid.config.peers_per_org().get(), 128);
        assert_eq!(MeshSize::default().outbound(), 2);
        assert_eq!(
            MeshSize {
                low: 1,
                target: 1,
                high: 1
            }
            .outbound(),
            0
        );
    }

    #[test]
    fn the_defaults_are_what_the_documentation_says() {
        let printed = format!("{:?}", config());
        let (_, settings) = printed.split_once("listen: ").unwrap();
        assert_eq!(
            settings,
            "[], peers: [], admission: Members, \
             external_addrs: [], internal_addrs: [], target_peers: 16, mdns: false, max_memory: None, \
             max_peers: 256, max_peers_per_org: None, max_peers_per_identity: 4, network: \"blockcast\", prove_timeout: 5s, \
             max_topics: 4096, \
             inline_limit: 65536, max_block: 109051904, heartbeat: 700ms, \
             mesh: MeshSize { low: 4, target: 6, high: 12 }, validation_timeout: 5s, \
             max_validations: 1024, max_validation_bytes: 134217728, peer_queue: 512, event_queue: 64, command_queue: 64, \
             status_interval: 1s, silence_limit: 3s, ping_interval: 2s, ping_timeout: 5s, connect_timeout: 10s, \
             open_timeout: 5s, initial_timeout: 10s, idle_timeout: 10s, serve_timeout: 30s, \
             ban_time: 600s, max_messages_per_second: 1000, max_requests_per_second: 200, \
             max_serving: 32, max_serving_per_peer: 8, max_body_bytes: 218103808, \
             serve_bytes_per_peer: 16777216, serve_bytes: 268435456, max_body_streams_per_peer: 64, redial_base: 200ms, redial_cap: 10s, \
             stop_timeout: 5s }"
        );
    }

    #[test]
    fn few_topics_make_small_control_messages() {
        let limits = Config {
            max_topics: size(1),
            ..config()
        }
        .into_valid()
        .unwrap()
        .limits;
        assert!(limits.control < 17 * 1024);
        assert!(limits.ids * MESSAGE_ID < limits.control);
    }

    #[test]
    fn static_peers_are_admitted_and_oneself_is_skipped() {
        let other = Keypair::from_seed([2; 32]).peer_id();
        let third = Keypair::from_seed([3; 32]);
        let own = config().identity.peer_id();
        let address = |peer| {
            format!("/ip4/127.0.0.1/tcp/1/p2p/{peer}")
                .parse::<Multiaddr>()
                .unwrap()
        };
        let valid = Config {
            peers: vec![address(other), address(own)],
            admission: Admission::AllowList([third.node_id()].into()),
            ..config()
        };
        let valid = valid.into_valid().unwrap();
        assert_eq!(valid.peers, vec![(other, address(other))]);
        assert_eq!(valid.listed, [other, third.peer_id()].into());
        assert_eq!(valid.others, Others::None);
    }

    #[test]
    fn what_this_build_cannot_do_is_said_at_once() {
        let peer = Keypair::from_seed([2; 32]).peer_id();
        let quic = format!("/ip4/127.0.0.1/udp/1/quic-v1/p2p/{peer}");
        let peers = Config {
            peers: vec![quic.parse().unwrap()],
            ..config()
        };
        let listen = Config {
            listen: vec!["/ip4/127.0.0.1/udp/0/quic-v1".parse().unwrap()],
            ..config()
        };
        let mdns = Config {
            mdns: true,
            ..config()
        };
        for (config, built_in, named) in [
            (peers, cfg!(feature = "quic"), "feature quic"),
            (listen, cfg!(feature = "quic"), "feature quic"),
            (mdns, cfg!(feature = "mdns"), "feature mdns"),
        ] {
            let verdict = config.validate();
            assert_eq!(verdict.is_ok(), built_in, "{named}");
            assert!(
                verdict
                    .err()
                    .is_none_or(|error| error.to_string().contains(named))
            );
        }
    }

    #[test]
    fn what_does_not_hold_together_is_named() {
        let rows = [
            (
                Config {
                    mesh: MeshSize {
                        low: 5,
                        target: 4,
                        high: 6,
                    },
                    ..config()
                },
                "mesh",
            ),
            (
                Config {
                    mesh: MeshSize {
                        low: 0,
                        target: 4,
                        high: 6,
                    },
                    ..config()
                },
                "mesh",
            ),
            (
                Config {
                    heartbeat: Duration::ZERO,
                    ..config()
                },
                "heartbeat",
            ),
            (
                Config {
                    redial_cap: Duration::from_millis(1),
                    ..config()
                },
                "redial_cap",
            ),
            (
                Config {
                    max_block: size(100),
                    ..config()
                },
                "max_block",
            ),
            (
                Config {
                    max_block: size(1 << 33),
                    ..config()
                },
                "max_block",
            ),
            (
                Config {
                    inline_limit: size(1 << 25),
                    ..config()
                },
                "inline_limit",
            ),
            (
                Config {
                    max_topics: size(1 << 20),
                    ..config()
                },
                "max_topics",
            ),
            (
                Config {
                    external_addrs: vec!["/ip4/10.0.0.1/tcp/80".parse().unwrap()],
                    ..config()
                },
                "external_addrs",
            ),
            (
                Config {
                    internal_addrs: vec!["/ip4/10.0.0.1/tcp/7000".parse().unwrap(); 9],
                    ..config()
                },
                "internal_addrs",
            ),
            (
                Config {
                    peers: vec!["/ip4/127.0.0.1/tcp/1".parse().unwrap()],
                    ..config()
                },
                "/ip4/127.0.0.1/tcp/1",
            ),
            (
                Config {
                    network: "n".repeat(256),
                    ..config()
                },
                "network",
            ),
            (
                Config {
                    prove_timeout: Duration::ZERO,
                    ..config()
                },
                "prove_timeout",
            ),
            (
                Config {
                    admission: Admission::AllowList([NodeId::new("nobody")].into()),
                    ..config()
                },
                "nobody",
            ),
        ];
        for (config, name) in rows {
            let error = config.validate().unwrap_err().to_string();
            assert!(error.contains(name), "{name}: {error}");
        }
    }
}
