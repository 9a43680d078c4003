// SPDX-License-Identifier: Apache-2.0
//! The network among nodes: how it is reached, and who may have what in it.

use std::{collections::BTreeSet, num::NonZeroUsize, path::PathBuf, str::FromStr, sync::Arc};

use async_trait::async_trait;
use block_api::{NodeId, SignError, Signer};
use bytes::Bytes;
use channel_config::ReaderScope;
use gossip_libp2p::{Admission, Keypair, peer_id};
use serde::Deserialize;

use super::{
    ByteSize, ChannelSection, HumanDuration, InvalidConfig, NodeConfig,
    check::{out_of_range, size},
};

/// Which network among nodes is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum GossipBackend {
    /// libp2p, over TCP and, with the feature `quic`, over QUIC.
    #[default]
    Libp2p,
    /// None but this process: the node is alone, and has from the ordering service what it has.
    Memory,
}

/// Which nodes may connect. Each of them proves its identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum AdmissionRule {
    /// Those that may have the blocks of a channel of this node, and those of `peers`.
    #[default]
    Members,
    /// Those of `peers` and `allow` alone.
    List,
}

/// Who of the nodes that prove their identity may have a channel's blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ReaderRule {
    /// Whoever satisfies `/Channel/Readers`.
    #[default]
    Channel,
    /// Of those, whoever satisfies `/Channel/Application/Readers`.
    Application,
    /// Of those, who is of the organisation of this node and satisfies its policy `Readers`.
    OwnOrganisation,
}

/// `[gossip]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GossipSection {
    /// Which network. Default: `libp2p`.
    pub backend: GossipBackend,
    /// The name of the network, which all its nodes must give alike. Default: `blockcast`.
    pub network: String,
    /// The addresses to listen on, as multiaddresses; port 0 takes a free one. Default: none, so
    /// that the node only dials.
    pub listen: Vec<String>,
    /// The nodes to stay connected to, as multiaddresses that end with `/p2p/ID`. They are admitted.
    /// Default: none.
    pub peers: Vec<String>,
    /// Which nodes may connect. Default: `members`.
    pub admission: AdmissionRule,
    /// The ids of further nodes that are admitted, with the admission `list`. Default: none.
    pub allow: Vec<String>,
    /// Who may have the blocks of a channel, where its table does not say it. Default: `channel`.
    pub readers: ReaderRule,
    /// The file with the node's key, made at the first start. Default: `gossip.key` in
    /// `node.data_dir`.
    pub key_file: Option<PathBuf>,
    /// The addresses at which nodes of every organisation of a channel reach this one, as
    /// multiaddresses. Nodes tell them on. Default: none.
    pub external_addrs: Vec<String>,
    /// The addresses at which nodes of its own organisation reach it. They are told to no other.
    /// Default: none.
    pub internal_addrs: Vec<String>,
    /// While fewer nodes of other organisations than that are connected, ones are dialled that others
    /// told of; those of the own organisation are dialled beside them. 0 dials those of `peers` alone.
    /// Default: 16.
    pub target_peers: usize,
    /// Whether nodes in the local network are found by multicast DNS, for development. It takes the
    /// feature `mdns`. Default: `false`.
    pub mdns: bool,
    /// Blocks up to this size go on the topic whole; bigger ones are announced and pulled, but for
    /// config blocks of up to 1 MiB. Default: 64 KiB.
    pub inline_limit: ByteSize,
    /// The biggest block that is taken from a peer. Default: 104 MiB.
    pub max_block: ByteSize,
    /// How much memory the bodies of announced blocks may take that are being pulled, or kept for
    /// others until they are stored; more wait for room. Not below `max_block`. Default: 208 MiB.
    pub body_budget: ByteSize,
    /// How much of bodies may be promised to others and not sent yet; who asks for more is told to
    /// come back. Default: 256 MiB.
    pub serve_budget: ByteSize,
    /// How much of that may be for one node; 4 MiB at least. Default: 16 MiB.
    pub serve_budget_per_peer: ByteSize,
    /// How many nodes may be connected. Default: 256.
    pub max_peers: usize,
    /// How many of them may be of one organisation; those of `peers` and, with the admission `list`, of
    /// `allow` may be more. Default: half of `max_peers`.
    pub max_peers_per_org: Option<usize>,
    /// How many of them may prove themselves with one certificate; those of `peers` and, with the
    /// admission `list`, of `allow` may be more. Default: 4.
    pub max_peers_per_identity: usize,
    /// When the process uses so much memory, no connection is made or taken. Default: no limit.
    pub max_memory: Option<ByteSize>,
    /// How long a node is kept out that broke the rules again and again. Default: 10 min.
    pub ban_time: HumanDuration,
    /// How often nodes tell how high they are. Default: 1 s.
    pub status_interval: HumanDuration,
}

/// Stands for the signer of the node while settings are checked, when nobody signs.
#[derive(Debug)]
struct Unasked;

#[async_trait]
impl Signer for Unasked {
    fn identity(&self) -> Bytes {
        Bytes::new()
    }

    async fn sign(&self, _: &[u8]) -> Result<Bytes, SignError> {
        Err(SignError::new(
            "settings are checked, and nothing is signed",
        ))
    }
}

impl Default for GossipSection {
    fn default() -> Self {
        Self {
            backend: GossipBackend::default(),
            network: "blockcast".to_owned(),
            listen: Vec::new(),
            peers: Vec::new(),
            admission: AdmissionRule::default(),
            allow: Vec::new(),
            readers: ReaderRule::default(),
            key_file: None,
            external_addrs: Vec::new(),
            internal_addrs: Vec::new(),
            target_peers: 16,
            mdns: false,
            inline_limit: ByteSize::kib(64),
            max_block: ByteSize::mib(104),
            body_budget: ByteSize::mib(208),
            serve_budget: ByteSize::mib(256),
            serve_budget_per_peer: ByteSize::mib(16),
            max_peers: 256,
            max_peers_per_org: None,
            max_peers_per_identity: 4,
            max_memory: None,
            ban_time: HumanDuration::from_secs(600),
            status_interval: HumanDuration::from_secs(1),
        }
    }
}

impl GossipSection {
    /// What the network checks too, here in the words of the file.
    fn check_budgets(&self) -> Result<(), InvalidConfig> {
        let least = ByteSize::mib(4);
        let rows = [
            (
                "gossip.body_budget",
                self.body_budget,
                ("gossip.max_block", self.max_block),
            ),
            (
                "gossip.serve_budget",
                self.serve_budget,
                ("gossip.serve_budget_per_peer", self.serve_budget_per_peer),
            ),
            (
                "gossip.serve_budget_per_peer",
                self.serve_budget_per_peer,
                ("what one node is sent at a time", least),
            ),
        ];
        for (key, value, (bound, least)) in rows {
            if value < least {
                let reason = format!("it must not be below {bound}, which is {least}");
                return Err(out_of_range(key, value, &reason));
            }
        }
        Ok(())
    }

    /// Which nodes may connect, as the libp2p network has it.
    fn admission(&self) -> Result<Admission, InvalidConfig> {
        match self.admission {
            AdmissionRule::Members if self.allow.is_empty() => Ok(Admission::Members),
            AdmissionRule::Members => Err(InvalidConfig::NoEffect {
                key: "gossip.allow",
                because: "gossip.admission is \"members\", so that whoever may read a channel is admitted; set it to \
                          \"list\", or leave the key out",
            }),
            AdmissionRule::List => {
                let reason = "write the id of a node as it stands in its log, as in 12D3Koo…";
                let node = |id: &String| {
                    let node = NodeId::new(id.as_str());
                    match peer_id(&node) {
                        Some(_) => Ok(node),
                        None => Err(out_of_range("gossip.allow", id, reason)),
                    }
                };
                let listed: Result<BTreeSet<NodeId>, _> = self.allow.iter().map(node).collect();
                Ok(Admission::AllowList(listed?))
            }
        }
    }
}

impl ReaderRule {
    /// The rule as a channel judges by it, for a node with this identity.
    pub(crate) fn scope(self, identity: &[u8]) -> ReaderScope {
        match self {
            Self::Channel => ReaderScope::Channel,
            Self::Application => ReaderScope::Application,
            Self::OwnOrganisation => ReaderScope::organisation_of(identity),
        }
    }
}

impl NodeConfig {
    /// Who may have the blocks of a channel.
    pub(crate) fn readers(&self, section: &ChannelSection) -> ReaderRule {
        section.readers.unwrap_or(self.gossip.readers)
    }

    pub(super) fn check_gossip(&self) -> Result<(), InvalidConfig> {
        self.gossip.check_budgets()?;
        // Neither key nor signer matters to whether the settings hold together.
        let config = self.libp2p(Keypair::from_seed([0; 32]), Arc::new(Unasked))?;
        Ok(config.validate()?)
    }

    /// What the libp2p network is told.
    pub(crate) fn libp2p(
        &self,
        key: Keypair,
        signer: Arc<dyn Signer>,
    ) -> Result<gossip_libp2p::Config, InvalidConfig> {
        let gossip = &self.gossip;
        let mut config = gossip_libp2p::Config::new(key, signer);
        config.network.clone_from(&gossip.network);
        config.listen = addresses(
            "gossip.listen",
            &gossip.listen,
            "write a multiaddress, as in /ip4/0.0.0.0/tcp/7100",
        )?;
        config.peers = addresses(
            "gossip.peers",
            &gossip.peers,
            "write a multiaddress with the id of the peer, as in /ip4/192.0.2.7/tcp/7100/p2p/12D3Koo…",
        )?;
        config.admission = gossip.admission()?;
        let reason = "write a multiaddress without an id, as in /dns4/node1.example.com/tcp/7100";
        config.external_addrs = addresses("gossip.external_addrs", &gossip.external_addrs, reason)?;
        config.internal_addrs = addresses("gossip.internal_addrs", &gossip.internal_addrs, reason)?;
        config.target_peers = gossip.target_peers;
        config.mdns = gossip.mdns;
        let memory = gossip.max_memory;
        config.max_memory = memory
            .map(|memory| size("gossip.max_memory", memory))
            .transpose()?;
        config.inline_limit = size("gossip.inline_limit", gossip.inline_limit)?;
        config.max_block = size("gossip.max_block", gossip.max_block)?;
        config.max_body_bytes = size("gossip.body_budget", gossip.body_budget)?;
        config.serve_bytes = size("gossip.serve_budget", gossip.serve_budget)?;
        let per_peer = gossip.serve_budget_per_peer;
        config.serve_bytes_per_peer = size("gossip.serve_budget_per_peer", per_peer)?;
        config.max_peers = number("gossip.max_peers", gossip.max_peers)?;
        let per_org = gossip.max_peers_per_org;
        config.max_peers_per_org = per_org
            .map(|peers| number("gossip.max_peers_per_org", peers))
            .transpose()?;
        let per_identity = gossip.max_peers_per_identity;
        config.max_peers_per_identity = number("gossip.max_peers_per_identity", per_identity)?;
        config.ban_time = gossip.ban_time.get();
        config.status_interval = gossip.status_interval.get();
        config.silence_limit = self.delivery.takeover.get();
        Ok(config)
    }
}

/// Parses each of these addresses; `T` is a multiaddress.
fn addresses<T: FromStr>(
    key: &str,
    texts: &[String],
    reason: &str,
) -> Result<Vec<T>, InvalidConfig> {
    let parsed = texts.iter().map(|text| {
        let invalid = |_| out_of_range(key, text, reason);
        text.parse().map_err(invalid)
    });
    parsed.collect()
}

fn number(key: &str, value: usize) -> Result<NonZeroUsize, InvalidConfig> {
    NonZeroUsize::new(value).ok_or_else(|| out_of_range(key, value, "it must be 1 at least"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHANNELS: &str = "\
[node]
data_dir = \"data\"
[[channel]]
id = \"one\"
genesis = \"one.block\"
[[channel]]
id = \"two\"
genesis = \"two.block\"
readers = \"own-organisation\"
";

    fn config(gossip: &str) -> NodeConfig {
        let config = NodeConfig::from_toml(&format!("[gossip]\n{gossip}\n{CHANNELS}")).unwrap();
        config.validate().unwrap();
        config
    }

    /// What the network of a configuration is told.
    fn libp2p(gossip: &str) -> gossip_libp2p::Config {
        let key = Keypair::from_seed([7; 32]);
        config(gossip).libp2p(key, Arc::new(Unasked)).unwrap()
    }

    #[test]
    fn what_is_written_reaches_the_network() {
        let told = libp2p(
            "network = \"test\"
            external_addrs = [\"/dns4/node1.example.com/tcp/7100\"]
            internal_addrs = [\"/ip4/10.1.2.3/tcp/7100\", \"/ip4/10.1.2.3/udp/7100/quic-v1\"]
            target_peers = 0
            max_peers_per_org = 5
            max_peers_per_identity = 6
            max_memory = \"1GiB\"
            ban_time = \"3min\"
            body_budget = \"300MiB\"
            serve_budget = \"30MiB\"
            serve_budget_per_peer = \"5MiB\"",
        );
        assert_eq!(told.network, "test");
        assert_eq!(told.ban_time.as_secs(), 180);
        let addresses = (told.external_addrs.len(), told.internal_addrs.len());
        assert_eq!((addresses, told.target_peers), ((1, 2), 0));
        let limits = (told.max_peers_per_org, told.max_memory);
        assert_eq!(limits, (NonZeroUsize::new(5), NonZeroUsize::new(1 << 30)));
        assert_eq!(told.max_peers_per_identity.get(), 6);
        let budgets = [
            told.max_body_bytes,
            told.serve_bytes,
            told.serve_bytes_per_peer,
        ];
        assert_eq!(budgets.map(|bytes| bytes.get() >> 20), [300, 30, 5]);
        assert_eq!(told.admission, Admission::Members);

        let id = Keypair::from_seed([8; 32]).node_id();
        let told = libp2p(&format!("admission = \"list\"\nallow = [\"{id}\"]"));
        assert_eq!(told.admission, Admission::AllowList([id].into()));
        let told = libp2p("admission = \"list\"");
        assert_eq!(told.admission, Admission::AllowList(BTreeSet::new()));
    }

    /// What a build cannot do is an error, and no key without effect.
    #[test]
    fn mdns_is_on_where_it_was_built_in() {
        let text = format!("[gossip]\nmdns = true\n{CHANNELS}");
        let verdict = NodeConfig::from_toml(&text).unwrap().validate();
        assert_eq!(verdict.is_ok(), cfg!(feature = "mdns"));
        let error = verdict.err().map(|error| error.to_string());
        assert!(error.is_none_or(|error| error.contains("without the feature mdns")));
        assert!(!libp2p("").mdns);
    }

    #[test]
    fn each_channel_has_its_readers_or_those_of_all() {
        let identity = b"\x0a\x07Org1MSP\x12\x01x";
        let own = ReaderScope::Organisation {
            msp_id: "Org1MSP".into(),
        };
        let rows = [
            ("", ReaderScope::Channel),
            ("readers = \"channel\"", ReaderScope::Channel),
            ("readers = \"application\"", ReaderScope::Application),
            ("readers = \"own-organisation\"", own.clone()),
        ];
        for (text, expected) in rows {
            let config = config(text);
            let scopes = config.channels.iter();
            let scopes: Vec<_> = scopes
                .map(|section| config.readers(section).scope(identity))
                .collect();
            assert_eq!(scopes, [expected, own.clone()], "{text}");
        }
    }
}
