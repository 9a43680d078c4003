// SPDX-License-Identifier: Apache-2.0
//! An enemy that does not prove who it is, and one that proves to be somebody who may not have a channel.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

use block_api::{
    Block, BlockStore, Gossip, GossipEvent, Height, JoinRequest, Membership, Readers,
    ReadersDenied,
    testing::{MemoryStore, TestChain, within},
};
use blockcast_gossip_libp2p::{Admission, Config, Keypair, Libp2pGossip};
use futures::{AsyncReadExt, AsyncWriteExt};
use tokio::{task::JoinSet, time::Instant};

use crate::{
    honest::{ENEMY, Field, support},
    raw::{Raw, contains, is_taken, is_taken_as, read_frame},
    rpc::{self, BLOCKS, MESH, STATUS},
};

/// What nobody outside may see.
const SECRET: &[u8] = b"what is sold to whom and at which price";
/// What anybody may see.
const PUBLIC: &[u8] = b"what everybody knows";

/// The identity of the insiders: of the MSP "insider", without a certificate.
const INSIDER: &[u8] = b"\x0a\x07insider";

/// Lets the insiders read, and counts how often it is asked.
#[derive(Debug, Default)]
struct Insiders(AtomicU64);

impl Readers for Insiders {
    fn may_read(
        &self,
        identity: &[u8],
        _: &[u8],
        signature: &[u8],
        _: SystemTime,
    ) -> Result<(), ReadersDenied> {
        self.0.fetch_add(1, Ordering::SeqCst);
        match identity == INSIDER && signature == identity {
            true => Ok(()),
            false => Err(ReadersDenied::new("it is none of them")),
        }
    }

    fn generation(&self) -> u64 {
        0
    }
}

/// The private channel of the honest nodes.
struct Private {
    chain: TestChain,
    topic: String,
    members: Vec<(Arc<MemoryStore>, Membership)>,
}

impl Private {
    async fn join(field: &Field) -> Self {
        let mut chain = TestChain::new("private");
        let genesis = chain.config();
        let mut members = Vec::new();
        for node in &field.nodes {
            let store = Arc::new(MemoryStore::with(vec![TestChain::verified(&genesis)]).await);
            let request = JoinRequest {
                channel: chain.channel(),
                genesis: genesis.header_hash(),
                reader: store.clone(),
                readers: Arc::new(Insiders::default()),
            };
            let membership = within("joining", node.gossip.join(request)).await.unwrap();
            members.push((store, membership));
        }
        let topic = rpc::topic(&chain.channel(), &genesis.header_hash());
        let mut private = Self {
            chain,
            topic,
            members,
        };
        for member in 0..2 {
            private
                .event(member, |event| matches!(event, GossipEvent::Status { .. }))
                .await;
        }
        private
    }

    async fn event(&mut self, member: usize, wanted: fn(&GossipEvent) -> bool) -> GossipEvent {
        let (_, membership) = &mut self.members[member];
        loop {
            let event = within("an event", membership.events.recv()).await.unwrap();
            if wanted(&event) {
                return event;
            }
        }
    }

    /// A block of the first node, which comes to the second one.
    async fn passes_on(&mut self) -> Block {
        let block = self.chain.entries(&[SECRET.to_vec()]);
        let verified = TestChain::verified(&block);
        let (store, membership) = &self.members[0];
        store.append(vec![verified.clone()]).await.unwrap();
        membership.channel.publish(&verified).await.unwrap();
        let came = self
            .event(1, |event| matches!(event, GossipEvent::Candidate(_)))
            .await;
        let GossipEvent::Candidate(candidate) = came else {
            unreachable!()
        };
        candidate.answer(block_api::Answer::Accept)
    }
}

/// Covers: GOS-08
#[tokio::test(flavor = "multi_thread")]
async fn who_proves_nothing_hears_nothing_and_is_hung_up_on() {
    let mut field = Field::start_with(|config| Config {
        prove_timeout: std::time::Duration::from_millis(500),
        ..config
    })
    .await;
    // With nothing but the connection, and with each protocol in the place of the proof.
    let protocols = ["/ipfs/id/1.0.0", "/ipfs/ping/1.0.0", MESH, STATUS, BLOCKS];
    for protocol in [None].into_iter().chain(protocols.map(Some)) {
        let (raw, _) = Raw::unproven(ENEMY, &field.address(), None).await.unwrap();
        let asking = async {
            let mut stream = raw.stream(protocol?).await?;
            let subscribed = rpc::rpc(&[rpc::subscribe(&field.topic), rpc::graft(&field.topic)]);
            stream.write_all(&subscribed).await.ok()?;
            let mut byte = [0];
            stream.read_exact(&mut byte).await.ok()
        };
        assert!(asking.await.is_none(), "{protocol:?} is spoken");
        raw.hung_up_on().await;
        assert!(raw.heard("").is_empty(), "{protocol:?}");
    }
    field.keeps_pace(4).await;
    field.ends(Height::new(5)).await;
}

/// It is let in for one channel, and wants the other one by every way that there is.
#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_have_a_channel_gets_nothing_of_it() {
    let field = Field::start().await;
    let mut private = Private::join(&field).await;
    let first = private.passes_on().await;
    let raw = Raw::connect(ENEMY, &field.address(), None).await;
    let mut mesh = raw.stream(MESH).await.unwrap();
    let bytes = rpc::announced(&first);
    for wish in [
        rpc::rpc(&[rpc::graft(&private.topic)]),
        rpc::rpc(&[rpc::subscribe(&private.topic), rpc::graft(&private.topic)]),
        rpc::rpc(&[rpc::iwant(&private.topic, &[bytes, rpc::whole(&first)])]),
        rpc::rpc(&[rpc::subscribe(&field.topic), rpc::graft(&field.topic)]),
    ] {
        mesh.write_all(&wish).await.unwrap();
    }
    mesh.flush().await.unwrap();
    let mut range = raw.stream(BLOCKS).await.unwrap();
    let request = rpc::request(&private.topic, 0, 1);
    range.write_all(&request).await.unwrap();
    range.flush().await.unwrap();
    let answer = within("the refusal", read_frame(&mut range)).await;
    let forbidden = vec![1, 8, 147, 3];
    assert_eq!(answer, Some((3, forbidden)), "the status is 403");

    let second = private.passes_on().await;
    // What it may have it gets, so that it would have got the rest as well.
    let public = field.chain.clone().entries(&[PUBLIC.to_vec()]);
    field.passes_on(&public, 0).await;
    let came = async {
        while !contains(&raw.heard("/meshsub/"), PUBLIC) {
            tokio::task::yield_now().await;
        }
    };
    within("the block that it may have", came).await;
    let heard = raw.heard("");
    for part in [SECRET, first.header().data_hash, second.header().data_hash] {
        assert!(!contains(&heard, part));
    }
    field.ends(Height::new(2)).await;
}

/// Strangers, each with a key of its own, whose proofs cost their verification: of so many from one
/// address the rest is hung up on, and whoever may come is let in when they are fewer.
#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_proofs_that_do_not_hold_is_not_verified() {
    const MANY: u64 = 100;
    let seed = |n: u64| {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&n.to_be_bytes());
        seed
    };
    let node = Libp2pGossip::start(Config {
        admission: Admission::Members,
        ..support::config(Keypair::generate(), &[])
    });
    let node = node.await.unwrap();
    let genesis = TestChain::new("private").config();
    let insiders = Arc::new(Insiders::default());
    let request = JoinRequest {
        channel: TestChain::new("private").channel(),
        genesis: genesis.header_hash(),
        reader: Arc::new(MemoryStore::with(vec![TestChain::verified(&genesis)]).await),
        readers: insiders.clone(),
    };
    let _membership = within("joining", node.join(request)).await.unwrap();
    let address = node.peer_addrs().remove(0);
    let began = Instant::now();
    let mut calling = JoinSet::new();
    for n in 0..MANY {
        let address = address.clone();
        calling.spawn(async move { is_taken(seed(n), &address).await });
        // A few at a time: those that are being judged count when they are.
        if n % 4 == 3 {
            while let Some(taken) = calling.join_next().await {
                assert!(!taken.unwrap(), "a stranger is let in");
            }
        }
    }
    let asked = insiders.0.load(Ordering::SeqCst);
    // Sixteen at once, four a second, and those that were being judged then.
    let most = 16 + 4 * (began.elapsed().as_secs() + 1) + 4;
    assert!((16..=most).contains(&asked), "{asked} proofs were verified");
    assert_eq!(node.stats().proofs_refused, MANY);
    let let_in = async {
        while !is_taken_as(seed(MANY), &address, INSIDER).await {
            tokio::task::yield_now().await;
        }
    };
    within("an insider is let in again", let_in).await;
    within("stopping", node.stop()).await;
}
