// SPDX-License-Identifier: Apache-2.0
//! Organisations that a configuration adds and removes, with the identities of real MSPs.

use std::{fs, path::Path, sync::Arc};

use block_api::{Height, Signer, SystemClock, testing::within};
use blockcast::{
    Node, NodeConfig,
    config::{ChannelSection, Pull},
};
use dev_orderer::{Change, Config, DevOrderer, OrganizationSpec, Pace, Role};
use gossip_libp2p::{Config as GossipConfig, Keypair, Libp2pGossip};

/// A node that is embedded, and its network, which lets in who may read.
struct Member {
    gossip: Libp2pGossip,
    node: Node,
}

impl Member {
    async fn start(
        orderer: &DevOrderer,
        (dir, name): (&Path, &str),
        signer: Arc<dyn Signer>,
        peers: &[&Self],
    ) -> Self {
        let mut gossip = GossipConfig::new(Keypair::generate(), signer.clone());
        gossip.listen = vec!["/ip4/127.0.0.1/tcp/0".parse().unwrap()];
        let peers = peers.iter().flat_map(|peer| peer.gossip.peer_addrs());
        gossip.peers = peers.collect();
        let pull = match gossip.peers.is_empty() {
            true => Pull::Always,
            false => Pull::Never,
        };
        let gossip = Libp2pGossip::start(gossip).await.unwrap();
        let genesis = dir.join("genesis.block");
        fs::write(&genesis, orderer.genesis().raw()).unwrap();
        let mut section = ChannelSection::new(orderer.channel().clone(), genesis);
        section.pull = pull;
        let mut config = NodeConfig::new(dir.join(name));
        config.channels.push(section);
        let builder = Node::builder(config).signer(signer);
        let node = builder.gossip(Arc::new(gossip.clone())).start();
        Self {
            gossip,
            node: within("the start", node).await.unwrap(),
        }
    }

    async fn reaches(&self, orderer: &DevOrderer, height: u64) {
        let channel = orderer.channel().clone();
        let reached = self.node.wait_for_height(&channel, Height::new(height));
        assert!(within(&format!("height {height}"), reached).await);
    }

    fn height(&self, orderer: &DevOrderer) -> u64 {
        let reader = self.node.reader(orderer.channel()).unwrap();
        reader.info().height.get()
    }

    /// Waits until one more node was refused.
    async fn refuses(&self) {
        let before = self.gossip.stats().proofs_refused;
        let refused = async {
            while self.gossip.stats().proofs_refused <= before {
                tokio::task::yield_now().await;
            }
        };
        within("refusing a node", refused).await;
    }
}

/// Covers: STA-13, GOS-12, GCH-21, GCH-22
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_organisation_has_blocks_from_when_it_comes_until_it_goes() {
    let clock = Arc::new(SystemClock);
    let mut config = Config::new("rights".parse().unwrap(), clock.clone());
    config.network.applications = vec![OrganizationSpec::application("Org1")];
    let mut orderer = DevOrderer::start(config).await.unwrap();
    // A network of the same names has keys of its own.
    let mut others = Config::new("rights".parse().unwrap(), clock);
    others.network.applications = vec![OrganizationSpec::application("Org1")];
    let others = DevOrderer::start(others).await.unwrap();
    let member_of = |orderer: &DevOrderer, organization: &str, name: &str| {
        let network = orderer.network().unwrap();
        let mut applications = network.applications().iter();
        let organization = applications.find(|known| known.name() == organization);
        let member = organization.unwrap().issue(name, Role::Peer);
        member.unwrap().signer()
    };

    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    let insider = member_of(&orderer, "Org1", "insider");
    let first = Member::start(&orderer, (dir, "first"), insider, &[]).await;
    orderer.generate(5, 1000, Pace::AllAtOnce).await.unwrap();
    first.reaches(&orderer, 6).await;
    let forger = member_of(&others, "Org1", "forger");
    let forger = Member::start(&orderer, (dir, "forger"), forger, &[&first]).await;
    first.refuses().await;

    let organization = OrganizationSpec::application("Org2");
    orderer
        .change(&[Change::AddApplication { organization }])
        .await
        .unwrap();
    first.reaches(&orderer, 7).await;
    let newcomer = member_of(&orderer, "Org2", "newcomer");
    let second = Member::start(&orderer, (dir, "second"), newcomer, &[&first]).await;
    second.reaches(&orderer, 7).await;
    orderer.generate(5, 1000, Pace::AllAtOnce).await.unwrap();
    second.reaches(&orderer, 12).await;

    let organization = "Org2".to_owned();
    orderer
        .change(&[Change::RemoveApplication { organization }])
        .await
        .unwrap();
    orderer.generate(5, 1000, Pace::AllAtOnce).await.unwrap();
    first.reaches(&orderer, 18).await;
    let mut peers = first.gossip.peers();
    within("the cut", peers.wait_for(|peers| peers.is_empty()))
        .await
        .unwrap();
    first.refuses().await;
    assert!(second.height(&orderer) <= 13, "nothing behind the removal");
    assert_eq!(
        forger.height(&orderer),
        1,
        "a stranger stays at the beginning"
    );
    for member in [forger, second, first] {
        within("the stop of a node", member.node.stop()).await;
    }
    orderer.stop().await;
    others.stop().await;
}
