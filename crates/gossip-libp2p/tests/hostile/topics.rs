// SPDX-License-Identifier: Apache-2.0
//! What an enemy puts on a topic.

use block_api::{Block, BlockNumber, Height, NodeId};
use blockcast_gossip_libp2p::{Keypair, Offence};
use futures::AsyncWriteExt;
use libp2p::core::muxing::SubstreamBox;
use tokio::time::Instant;

use crate::{
    honest::{ENEMY, Field},
    memory::Memory,
    raw::{Raw, is_taken},
    rpc::{self, MESH},
};

pub(crate) fn enemy() -> NodeId {
    Keypair::from_seed(ENEMY).node_id()
}

/// A stream of gossipsub on which the topic was subscribed to.
async fn subscribed(raw: &Raw, topic: &str) -> SubstreamBox {
    let mut stream = raw.stream(MESH).await.unwrap();
    send(&mut stream, &rpc::rpc(&[rpc::subscribe(topic)])).await;
    stream
}

/// `false` when the node takes no more.
async fn send(stream: &mut SubstreamBox, bytes: &[u8]) -> bool {
    stream.write_all(bytes).await.is_ok() && stream.flush().await.is_ok()
}

/// A block of this number that nobody signed.
pub(crate) fn made_up(number: u64) -> Block {
    Block::assemble(
        BlockNumber::new(number),
        &[7; 32],
        &[b"made up"],
        &[b"nobody's"],
    )
}

/// A block with a true header, true signatures and data that is not its.
fn with_other_data(block: &Block) -> Vec<u8> {
    let mut bytes = block.relay().to_bytes().to_vec();
    let entry = block.data().next().unwrap().to_vec();
    let place = bytes
        .windows(entry.len())
        .position(|window| window == entry)
        .unwrap();
    bytes[place + entry.len() - 1] ^= 1;
    bytes
}

/// The same block with ten thousand signatures, each well formed and none of them true.
fn signed_by_many(block: &Block) -> Block {
    let signature = [rpc::field(1, b"a header"), rpc::field(2, &[7; 64])].concat();
    let slot = rpc::field(2, &signature).repeat(10_000);
    let header = block.header();
    let entries: Vec<&[u8]> = block.data().collect();
    let signed = Block::assemble(header.number, header.previous_hash, &entries, &[slot]);
    assert_eq!(signed.header_hash(), block.header_hash());
    signed
}

/// Covers: NEW-11, GCH-15
#[tokio::test(flavor = "multi_thread")]
async fn what_is_false_is_neither_stored_nor_passed_on_and_the_true_block_comes() {
    let mut field = Field::start().await;
    let raw = Raw::connect(ENEMY, &field.address(), None).await;
    let mut stream = subscribed(&raw, &field.topic).await;
    let next = field.chain.clone().data(500);
    let number = next.number().get();
    let signed_by_many = signed_by_many(&next);
    let rejected = [
        rpc::message(1, &with_other_data(&next)),
        rpc::whole(&made_up(number)),
        rpc::announced(&made_up(number)),
        rpc::whole(&signed_by_many),
    ];
    let malformed = [
        rpc::announced(&signed_by_many),
        rpc::message(2, &[0; 70_000]),
        rpc::message(1, b"no block at all"),
    ];
    for message in rejected.iter().chain(&malformed) {
        let sent = rpc::rpc(&[rpc::publish(&field.topic, message)]);
        assert!(send(&mut stream, &sent).await);
    }
    let (of_rejected, of_malformed) = (rejected.len() as u64, malformed.len() as u64);
    field
        .until("the verdicts", |stats| {
            stats.rejected >= of_rejected && stats.malformed >= of_malformed
        })
        .await;
    assert_eq!(field.judged(), of_rejected, "each is judged once");
    // The true block of that number comes, and others after it.
    field.passes_on(&field.chain.clone().data(500), 1).await;
    field.chain.data(500);
    field.keeps_pace(6).await;
    let beside = field.nodes[1].gossip.stats();
    assert_eq!(
        (beside.rejected, beside.malformed, beside.ignored),
        (0, 0, 0),
        "nothing of it was passed on"
    );
    let bans = field.nodes[0].gossip.bans();
    assert!(bans.borrow().is_empty(), "that was not enough for a ban");
    field.ends(Height::new(number + 7)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_announcements_to_come_costs_no_verification_and_ends_in_a_ban() {
    const MANY: u64 = 100_000;
    const FIRST: u64 = 1_000_000;
    let mut field = Field::start().await;
    let raw = Raw::connect(ENEMY, &field.address(), None).await;
    let mut stream = subscribed(&raw, &field.topic).await;
    let topic = field.topic.clone();
    let memory = Memory::now();
    let began = Instant::now();
    let flooding = async {
        let mut sent = 0;
        while sent < MANY {
            let batch = (sent..sent + 50).map(|number| {
                let announcement = rpc::announced(&made_up(FIRST + number));
                rpc::publish(&topic, &announcement)
            });
            if !send(&mut stream, &rpc::rpc(&batch.collect::<Vec<_>>())).await {
                break;
            }
            sent += 50;
        }
        raw.hung_up_on().await;
    };
    let ((), ()) = tokio::join!(flooding, field.keeps_pace(8));
    let seconds = began.elapsed().as_secs() + 1;
    let stats = field.stats();
    let bans = field.nodes[0].gossip.bans();
    let ban = bans.borrow().get(&enemy()).copied().unwrap();
    assert_eq!((ban.reason, stats.bans), (Offence::Flood, 1));
    assert_eq!(ban.until.duration_since(ban.since).unwrap().as_secs(), 600);
    // Of the flood, what the allowance and the way to a ban let in was noted, and nothing verified: a
    // thousand a second while it lasted, which is long where the machine is busy, and four seconds' worth
    // in hand.
    let looked_at = stats.candidates + stats.candidates_dropped;
    assert!(looked_at < 1000 * (seconds + 4) + 1000, "{stats:?}");
    assert!(stats.messages_limited < 10_000, "{stats:?}");
    assert!(field.judged() <= 8, "no more than the honest blocks");
    memory.was_enough();
    assert_eq!(field.nodes[1].gossip.stats().bans, 0);
    assert!(
        !is_taken(ENEMY, &field.address()).await,
        "who is banned is not let in"
    );
    field.keeps_pace(4).await;
    field.ends(Height::new(13)).await;
}

/// An RPC of gossipsub with more messages in it than any node puts into one, grafting in channels that
/// nobody has, and without subscribing.
#[tokio::test(flavor = "multi_thread")]
async fn malformed_control_and_crowded_messages_change_nothing() {
    let mut field = Field::start().await;
    let raw = Raw::connect(ENEMY, &field.address(), None).await;
    let before = field.stats().candidates;
    let mut crowded = raw.stream(MESH).await.unwrap();
    let messages = (0..500).map(|number| {
        let announcement = rpc::announced(&made_up(1000 + number));
        rpc::publish(&field.topic, &announcement)
    });
    send(&mut crowded, &rpc::rpc(&messages.collect::<Vec<_>>())).await;
    let mut grafting = raw.stream(MESH).await;
    if let Some(stream) = &mut grafting {
        for name in 0..200u32 {
            let topic = hex::encode([name.to_be_bytes(); 8].concat());
            send(stream, &rpc::rpc(&[rpc::graft(&topic)])).await;
        }
        send(stream, &rpc::rpc(&[rpc::graft(&field.topic)])).await;
    }
    field.keeps_pace(8).await;
    let stats = field.stats();
    assert!(
        stats.candidates - before <= 4,
        "only what the other honest node published: {stats:?}"
    );
    assert_eq!(field.judged(), 4);
    assert_eq!(stats.bans, 0);
    assert!(!raw.is_gone());
    field.ends(Height::new(9)).await;
}
