// SPDX-License-Identifier: Apache-2.0
//! Nodes of several organisations on one network, with channels that not all of them may have.

use std::{path::Path, sync::Arc, time::Duration};

use block_api::{Height, Signer, SystemClock};
use blockcast::{
    Node, NodeConfig,
    config::{ChannelSection, HumanDuration, Pull, ReaderRule},
};
use dev_orderer::{Config, DevOrderer, OrganizationSpec, Pace};
use protos::common::ConfigGroup;
use tempfile::TempDir;
use tokio::time::{interval, timeout};

use crate::process::DEADLINE;

/// How often it is looked at what no event tells of.
const LOOK: Duration = Duration::from_millis(20);

/// What a node is started with, beside its folder.
struct Plan<'a> {
    name: &'a str,
    signer: Arc<dyn Signer>,
    listen: &'a str,
    peers: &'a [&'a Node],
    channels: &'a [(&'a DevOrderer, Pull)],
    readers: ReaderRule,
}

impl<'a> Plan<'a> {
    fn new(name: &'a str, signer: Arc<dyn Signer>, channels: &'a [(&'a DevOrderer, Pull)]) -> Self {
        Self {
            name,
            signer,
            listen: "/ip4/127.0.0.1/tcp/0",
            peers: &[],
            channels,
            readers: ReaderRule::Channel,
        }
    }

    async fn start(self, dir: &Path) -> Node {
        let mut config = NodeConfig::new(dir.join(self.name));
        config.node.name = self.name.to_owned();
        config.gossip.listen = vec![self.listen.to_owned()];
        let peers = self.peers.iter().flat_map(|peer| peer.addresses());
        config.gossip.peers = peers.cloned().collect();
        config.gossip.readers = self.readers;
        config.gossip.status_interval = HumanDuration::from_millis(100);
        for (orderer, pull) in self.channels {
            let genesis = dir.join(format!("{}.block", orderer.channel()));
            std::fs::write(&genesis, orderer.genesis().raw()).unwrap();
            config.channels.push(ChannelSection {
                pull: *pull,
                ..ChannelSection::new(orderer.channel().clone(), genesis)
            });
        }
        let builder = Node::builder(config).signer(self.signer);
        builder.start().await.unwrap()
    }
}

async fn orderer(channel: &str, organisations: &[&str]) -> DevOrderer {
    let mut config = Config::new(channel.parse().unwrap(), Arc::new(SystemClock));
    let specs = organisations.iter().copied();
    config.network.applications = specs.map(OrganizationSpec::application).collect();
    DevOrderer::start(config).await.unwrap()
}

/// The peer of an organisation of this place.
fn peer(orderer: &DevOrderer, organisation: usize) -> Arc<dyn Signer> {
    member(orderer, organisation, "peer0")
}

fn member(orderer: &DevOrderer, organisation: usize, name: &str) -> Arc<dyn Signer> {
    let organisation = &orderer.network().unwrap().applications()[organisation];
    organisation.member(name).unwrap().signer()
}

/// Orders blocks of both kinds: those that go whole, and those that are announced.
async fn order(orderer: &DevOrderer) {
    orderer.generate(3, 2000, Pace::AllAtOnce).await.unwrap();
    orderer.generate(2, 200_000, Pace::AllAtOnce).await.unwrap();
}

/// An organisation as it stands in the configuration of a channel.
async fn organisation(orderer: &DevOrderer, name: &str) -> ConfigGroup {
    let mut found = None;
    let read = |tree: &mut ConfigGroup| found = Some(applications(tree).groups[name].clone());
    orderer.reconfigure(read).await.unwrap();
    found.unwrap()
}

fn applications(tree: &mut ConfigGroup) -> &mut ConfigGroup {
    tree.groups.get_mut("Application").unwrap()
}

async fn add(orderer: &DevOrderer, name: &str, organisation: ConfigGroup) {
    let name = name.to_owned();
    let add = |tree: &mut ConfigGroup| drop(applications(tree).groups.insert(name, organisation));
    orderer.reconfigure(add).await.unwrap();
}

/// Takes an organisation out, and gives the height up to the block that does.
async fn remove(orderer: &DevOrderer, name: &str) -> Height {
    let remove = |tree: &mut ConfigGroup| drop(applications(tree).groups.remove(name));
    orderer.reconfigure(remove).await.unwrap().height()
}

/// Waits until a node has all of a channel.
async fn has_all(node: &Node, orderer: &DevOrderer) {
    let height = orderer.nodes()[0].reader().info().height;
    let reached = timeout(DEADLINE, node.wait_for_height(orderer.channel(), height)).await;
    let state = node.channel_state(orderer.channel());
    assert_eq!(reached, Ok(true), "{} at {height}: {state:?}", node.name());
}

/// Checks that a node has nothing of a channel but its genesis block, heard of nobody in it, and was
/// sent nothing that it had to judge.
fn has_nothing(node: &Node, orderer: &DevOrderer) {
    let state = node.channel_state(orderer.channel()).unwrap();
    let name = node.name();
    assert_eq!(state.chain.height, Height::new(1), "{name}: {state:?}");
    assert!(state.peers.is_empty(), "{name}: {:?}", state.peers);
    let stats = &state.stats;
    let came = (stats.rejected, stats.ignored, stats.unlinked);
    assert_eq!(came, (0, 0, 0), "{name}: {stats:?}");
    assert!(state.missing.is_none(), "{name}: {state:?}");
}

/// The value of a metric, by its name and labels.
fn metric(node: &Node, name: &str) -> String {
    let metrics = node.metrics();
    let value = |line: &str| Some(line.strip_prefix(name)?.trim().to_owned());
    let value = metrics.lines().find_map(value);
    value.unwrap_or_else(|| panic!("{name} is not in {metrics}"))
}

/// Looks until it is so.
async fn until(what: &str, is_so: impl Fn() -> bool) {
    let look = async {
        let mut looks = interval(LOOK);
        while !is_so() {
            looks.tick().await;
        }
    };
    let looked = timeout(DEADLINE, look).await;
    looked.unwrap_or_else(|_| panic!("{what} takes too long"));
}

async fn stop<const N: usize, const M: usize>(nodes: [Node; N], orderers: [DevOrderer; M]) {
    for node in nodes {
        timeout(DEADLINE, node.stop()).await.unwrap();
    }
    for orderer in orderers {
        orderer.stop().await;
    }
}

/// Three nodes are connected, each to each, and have joined both channels: two of them are in
/// `alpha`, and one in `beta`. The one in between comes into `beta` by a config block, and is taken
/// out by another one.
///
/// Covers: GOS-09, GOS-13, GCH-09, GCH-10, GCH-21, GCH-23, STA-13
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn channels_of_different_organisations_are_kept_apart() {
    let dir = TempDir::new().unwrap();
    let alpha = orderer("alpha", &["Org1", "Org2"]).await;
    let beta = orderer("beta", &["Org3"]).await;
    let channels = |pulls_alpha, pulls_beta| [(&alpha, pulls_alpha), (&beta, pulls_beta)];
    let pulled = channels(Pull::Always, Pull::Never);
    let first = Plan::new("first", peer(&alpha, 0), &pulled);
    let first = first.start(dir.path()).await;
    let pulled = channels(Pull::Never, Pull::Always);
    let third = Plan {
        listen: match cfg!(feature = "quic") {
            true => "/ip4/127.0.0.1/udp/0/quic-v1",
            false => "/ip4/127.0.0.1/tcp/0",
        },
        peers: &[&first],
        ..Plan::new("third", peer(&beta, 0), &pulled)
    };
    let third = third.start(dir.path()).await;
    let pulled = channels(Pull::Never, Pull::Never);
    let second = Plan {
        peers: &[&first, &third],
        ..Plan::new("second", peer(&alpha, 1), &pulled)
    };
    let second = second.start(dir.path()).await;

    order(&alpha).await;
    order(&beta).await;
    for (node, orderer) in [(&first, &alpha), (&second, &alpha), (&third, &beta)] {
        has_all(node, orderer).await;
    }
    for (node, orderer) in [(&first, &beta), (&second, &beta), (&third, &alpha)] {
        has_nothing(node, orderer);
    }

    // Nobody is started anew.
    let organisation = organisation(&alpha, "Org2").await;
    add(&beta, "Org2", organisation).await;
    has_all(&second, &beta).await;
    order(&beta).await;
    order(&alpha).await;
    for node in [&first, &second] {
        has_all(node, &alpha).await;
    }
    for node in [&second, &third] {
        has_all(node, &beta).await;
    }
    has_nothing(&first, &beta);
    has_nothing(&third, &alpha);
    for (node, channel, others) in [
        (&first, "alpha", "1.0"),
        (&first, "beta", "0.0"),
        (&second, "alpha", "1.0"),
        (&second, "beta", "1.0"),
        (&third, "beta", "1.0"),
    ] {
        let name = format!("blockcast_channel_peers{{channel=\"{channel}\"}}");
        assert_eq!(metric(node, &name), others, "{} {name}", node.name());
        assert_eq!(metric(node, "blockcast_gossip_peers{}"), "2.0");
    }

    let last = remove(&beta, "Org2").await;
    has_all(&third, &beta).await;
    let nobody = || {
        let state = third.channel_state(beta.channel()).unwrap();
        state.peers.is_empty()
    };
    until("the end of the second one's part", nobody).await;
    order(&beta).await;
    order(&alpha).await;
    has_all(&third, &beta).await;
    has_all(&second, &alpha).await;
    let kept = second.channel_state(beta.channel()).unwrap().chain.height;
    assert!(kept <= last, "{kept} of {last}");
    stop([first, second, third], [alpha, beta]).await;
}

/// Who may read no channel of a node is refused by it, until a config block says otherwise.
///
/// Covers: GCH-12, GOS-09
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_config_block_opens_and_shuts_the_door() {
    let dir = TempDir::new().unwrap();
    let other = orderer("other", &["Org2"]).await;
    let channel = orderer("channel", &["Org3"]).await;
    let pulled = [(&channel, Pull::Always)];
    let member = Plan::new("member", peer(&channel, 0), &pulled);
    let member = member.start(dir.path()).await;
    let awaited = [(&channel, Pull::Never)];
    let stranger = Plan {
        peers: &[&member],
        ..Plan::new("stranger", peer(&other, 0), &awaited)
    };
    let stranger = stranger.start(dir.path()).await;
    order(&channel).await;
    has_all(&member, &channel).await;
    let refused = "blockcast_gossip_events_total{event=\"proof-refused\"}";
    until("a proof that is refused", || {
        metric(&member, refused) != "0.0"
    })
    .await;
    has_nothing(&stranger, &channel);

    let organisation = organisation(&other, "Org2").await;
    add(&channel, "Org2", organisation).await;
    order(&channel).await;
    has_all(&stranger, &channel).await;
    let peers = || metric(&member, "blockcast_gossip_peers{}");
    assert_eq!(peers(), "1.0");

    let last = remove(&channel, "Org2").await;
    until("the end of the connection", || peers() == "0.0").await;
    order(&channel).await;
    has_all(&member, &channel).await;
    let kept = stranger.channel_state(channel.channel()).unwrap();
    assert!(kept.chain.height <= last, "{kept:?}");
    stop([member, stranger], [other, channel]).await;
}

/// A node that keeps its blocks for its own organisation gives them to no other reader of the channel.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn blocks_may_be_for_the_own_organisation_alone() {
    let dir = TempDir::new().unwrap();
    let channel = orderer("channel", &["Org1", "Org2"]).await;
    let pulled = [(&channel, Pull::Always)];
    let giver = Plan {
        readers: ReaderRule::OwnOrganisation,
        ..Plan::new("giver", peer(&channel, 0), &pulled)
    };
    let giver = giver.start(dir.path()).await;
    let awaited = [(&channel, Pull::Never)];
    let other = Plan {
        peers: &[&giver],
        ..Plan::new("other", peer(&channel, 1), &awaited)
    };
    let other = other.start(dir.path()).await;
    let own = Plan {
        peers: &[&giver],
        ..Plan::new("own", member(&channel, 0, "user1"), &awaited)
    };
    let own = own.start(dir.path()).await;
    order(&channel).await;
    has_all(&own, &channel).await;
    has_nothing(&other, &channel);
    // It may have the blocks, from who gives them.
    let orderers = Plan {
        peers: &[&other],
        ..Plan::new("open", peer(&channel, 1), &pulled)
    };
    let open = orderers.start(dir.path()).await;
    has_all(&other, &channel).await;
    stop([giver, other, own, open], [channel]).await;
}
