// SPDX-License-Identifier: Apache-2.0
//! A node of blockcast's backend with its default settings, used as the delivery service uses it:
//! candidates are judged beside the loop, bodies fetched, and each block published once it is kept.

use std::{collections::BTreeSet, sync::Arc};

use anyhow::{Context as _, Result};
use async_trait::async_trait;
use block_api::{
    Answer, Block, BlockNumber, Candidate, ChannelId, Gossip as _, GossipChannel, GossipEvent,
    JoinRequest, NodeId, Standing, VerifiedBlock,
    testing::{GullibleVerifier, OpenReaders, TestSigner},
};
use gossip_libp2p::{Admission, Config, Libp2pGossip, Multiaddr};
use tokio::{sync::mpsc, task::JoinSet};

use crate::{
    child::{Node, Place},
    lines::{Stamp, Told, tell},
    newest::Newest,
};

pub(crate) struct Ours {
    gossip: Libp2pGossip,
    member: Member,
    _listening: JoinSet<()>,
}

/// The part of this node in the channel.
#[derive(Clone)]
struct Member {
    channel: Arc<dyn GossipChannel>,
    store: Arc<Newest>,
}

impl Ours {
    /// Starts a node, which tells where it listens.
    pub(crate) async fn start(place: Place, name: ChannelId, genesis: &Block) -> Result<Self> {
        let admitted = place.keys().map(|key| key.node_id()).collect();
        let gossip = Libp2pGossip::start(Config {
            listen: vec!["/ip4/127.0.0.1/tcp/0".parse()?],
            admission: Admission::AllowList(admitted),
            ..Config::new(place.key(), Arc::new(TestSigner("node")))
        })
        .await?;
        let address = gossip.peer_addrs().into_iter().next();
        tell(&Told::Listening(address.context("an address")?));
        let store = Arc::new(Newest::default());
        store.keep(genesis);
        let joined = gossip
            .join(JoinRequest {
                channel: name,
                genesis: genesis.header_hash(),
                reader: store.clone(),
                readers: Arc::new(OpenReaders),
            })
            .await?;
        let member = Member {
            channel: joined.channel,
            store,
        };
        let mut listening = JoinSet::new();
        listening.spawn(member.clone().listen(joined.events, place.others()));
        Ok(Self {
            gossip,
            member,
            _listening: listening,
        })
    }
}

#[async_trait]
impl Node for Ours {
    async fn connect(&self, addresses: Vec<Multiaddr>) -> Result<()> {
        for address in addresses {
            self.gossip.add_peer(address).await?;
        }
        Ok(())
    }

    async fn publish(&self, block: Block) -> Result<()> {
        self.member.keep(block).await
    }
}

impl Member {
    /// Takes the events of the channel, and says when all others are in it.
    async fn listen(self, mut events: mpsc::Receiver<GossipEvent>, others: usize) {
        let mut members: BTreeSet<NodeId> = BTreeSet::new();
        let mut taken = BlockNumber::GENESIS;
        let mut at_work = JoinSet::new();
        loop {
            let event = tokio::select! {
                Some(_) = at_work.join_next(), if !at_work.is_empty() => continue,
                event = events.recv() => event,
            };
            match event {
                Some(GossipEvent::Candidate(candidate)) => {
                    let number = candidate.block().number();
                    if number > taken {
                        taken = number;
                        at_work.spawn(self.clone().take_in(candidate));
                    } else {
                        candidate.answer(Answer::Ignore);
                    }
                }
                Some(GossipEvent::Status { from, .. }) => {
                    if members.insert(from) && members.len() == others {
                        tell(&Told::Joined);
                    }
                }
                Some(GossipEvent::Left(_)) => {}
                None => break,
            }
        }
    }

    async fn take_in(self, candidate: Candidate) {
        let block = if !candidate.block().has_data() {
            let announcement = candidate.answer(Answer::Accept);
            match self.channel.fetch(&announcement).await {
                // Its data hash was checked there.
                Ok(block) => block,
                // The benchmark counts it as lost.
                Err(_) => return,
            }
        } else if is_whole(candidate.block()) {
            candidate.answer(Answer::Accept)
        } else {
            candidate.answer(Answer::Reject);
            return;
        };
        tell(&Told::Held(block.number(), Stamp::now()));
        // A node that stopped publishes nothing, and nobody waits for it.
        let _ = self.keep(block).await;
    }

    /// Keeps a block for others, and hands it to the network.
    async fn keep(&self, block: Block) -> Result<()> {
        // The hash was checked before, and nothing is signed here.
        let judge = GullibleVerifier::default();
        let block = VerifiedBlock::new(block, &judge, Standing::Linked)?;
        self.store.keep(block.block());
        Ok(self.channel.publish(&block).await?)
    }
}

/// Whether the data is the one that the header names.
pub(crate) fn is_whole(block: &Block) -> bool {
    block.has_data() && block.data_hash().as_ref() == block.header().data_hash
}
