// SPDX-License-Identifier: Apache-2.0
//! What an enemy answers when it is asked for what it promised.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use block_api::{Block, Height};
use blockcast_gossip_libp2p::{Config, Offence};
use futures::AsyncWriteExt;
use libp2p::core::muxing::SubstreamBox;

use crate::{
    honest::{ENEMY, Field},
    memory::Memory,
    raw::{Raw, Script},
    rpc::{self, BLOCKS, BODIES, MESH, STATUS},
    topics::{enemy, made_up},
};

/// Kinds of frames.
const BLOCK: u8 = 2;
const END: u8 = 3;
const OFFER: u8 = 12;
const PIECE: u8 = 14;

/// The status for success.
const SUCCESS: [u8; 4] = [1, 8, 200, 1];

/// Pauses, and what comes after each.
type Answer = Vec<(Duration, Vec<u8>)>;

/// One that announces true blocks before anybody else has them.
struct Liar {
    raw: Raw,
    mesh: SubstreamBox,
    announced: Arc<Mutex<Option<Block>>>,
}

impl Liar {
    /// Connects; asked for a body, it answers so.
    async fn connect(
        field: &Field,
        answer: impl Fn(&Block) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let announced: Arc<Mutex<Option<Block>>> = Arc::default();
        let of = announced.clone();
        let script: Script = Arc::new(move |_| {
            let block = of.lock().unwrap().clone();
            block.map(|block| answer(&block)).unwrap_or_default()
        });
        let raw = Raw::connect(ENEMY, &field.address(), Some((BODIES, script))).await;
        let mut mesh = raw.stream(MESH).await.unwrap();
        let subscribed = rpc::rpc(&[rpc::subscribe(&field.topic)]);
        mesh.write_all(&subscribed).await.unwrap();
        mesh.flush().await.unwrap();
        Self {
            raw,
            mesh,
            announced,
        }
    }

    async fn announce(&mut self, field: &Field, block: &Block) {
        *self.announced.lock().unwrap() = Some(block.clone());
        let announcement = rpc::publish(&field.topic, &rpc::announced(block));
        // It may be banned by now.
        let _ = self.mesh.write_all(&rpc::rpc(&[announcement])).await;
        let _ = self.mesh.flush().await;
    }
}

/// The data of a block as it stands in it.
fn body(block: &Block) -> Vec<u8> {
    block
        .data()
        .flat_map(|entry| rpc::field(1, entry))
        .collect()
}

/// That all of a body is here, which has so many bytes.
fn offer(size: usize) -> Vec<u8> {
    let fields = [vec![1], rpc::number(1, size as u64), rpc::number(6, 1)];
    rpc::frame(OFFER, &fields.concat())
}

fn piece(at: usize, bytes: &[u8]) -> Vec<u8> {
    rpc::frame(PIECE, &[&(at as u32).to_be_bytes(), bytes].concat())
}

fn at_once(frames: &[Vec<u8>]) -> Answer {
    vec![(Duration::ZERO, frames.concat())]
}

/// Data that is not the block's.
fn false_body(block: &Block) -> Answer {
    let mut body = body(block);
    if let Some(last) = body.last_mut() {
        *last ^= 1;
    }
    at_once(&[
        offer(body.len()),
        piece(0, &body),
        rpc::frame(END, &SUCCESS),
    ])
}

/// True data, cut into entries elsewhere: the data hash does not tell the difference.
fn cut_elsewhere(block: &Block) -> Answer {
    let joined: Vec<u8> = block.data().flatten().copied().collect();
    let (first, second) = joined.split_at(joined.len() / 2);
    let body = [rpc::field(1, first), rpc::field(1, second)].concat();
    at_once(&[
        offer(body.len()),
        piece(0, &body),
        rpc::frame(END, &SUCCESS),
    ])
}

/// The second half before the first one.
fn out_of_order(block: &Block) -> Answer {
    let body = body(block);
    let (first, second) = body.split_at(body.len() / 2);
    let pieces = [piece(first.len(), second), piece(0, first)];
    at_once(&[offer(body.len()), pieces.concat()])
}

/// Less than was offered, and that it was all.
fn too_short(block: &Block) -> Answer {
    let body = body(block);
    let half = &body[..body.len() / 2];
    at_once(&[offer(body.len()), piece(0, half), rpc::frame(END, &SUCCESS)])
}

/// More than was offered.
fn too_long(block: &Block) -> Answer {
    let body = body(block);
    let longer = [body.as_slice(), &[0; 1000]].concat();
    at_once(&[offer(body.len()), piece(0, &longer)])
}

/// Frames that no release writes.
fn nonsense(_: &Block) -> Answer {
    at_once(&[rpc::frame(OFFER, &[1, 255, 255, 255]), vec![PIECE; 100]])
}

/// Covers: NEW-11, GCH-16
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_the_body_of_a_true_header_is_not_stored_and_bans_who_gives_it() {
    let false_ones: [fn(&Block) -> Answer; 5] =
        [false_body, cut_elsewhere, out_of_order, too_short, too_long];
    let false_ones = false_ones.map(|answer| (answer, Offence::WrongBody));
    let answers = false_ones
        .into_iter()
        .chain([(nonsense as fn(&Block) -> Answer, Offence::Malformed)]);
    for (which, (answer, offence)) in answers.enumerate() {
        let mut field = Field::start().await;
        let mut liar = Liar::connect(&field, answer).await;
        let bans = field.nodes[0].gossip.bans();
        let mut blocks = 0;
        while bans.borrow().is_empty() {
            assert!(blocks < 30, "answer {which} bans nobody");
            let block = field.chain.data(100_000);
            let offences = field.stats().offences;
            liar.announce(&field, &block).await;
            field
                .until("the offence", |stats| stats.offences > offences)
                .await;
            // One who has it gives it in the end.
            field.passes_on(&block, 1).await;
            blocks += 1;
        }
        assert!(blocks >= 5, "answer {which}: one slip is none");
        let reason = bans.borrow().get(&enemy()).map(|ban| ban.reason);
        assert_eq!(reason, Some(offence), "answer {which}");
        liar.raw.hung_up_on().await;
        field.keeps_pace(2).await;
        field.ends(Height::new(1 + blocks + 2)).await;
    }
}

/// What takes for ever: a body that trickles, one that never begins, and one of four GiB.
#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_does_not_come_holds_nobody_up_and_bans_nobody() {
    let trickle = |block: &Block| {
        let body = body(block);
        let slowly = piece(0, &body).into_iter().map(|byte| vec![byte]);
        let slowly = slowly.map(|byte| (Duration::from_millis(50), byte));
        [(Duration::ZERO, offer(body.len()))]
            .into_iter()
            .chain(slowly)
            .collect()
    };
    let silent = |_: &Block| vec![(Duration::from_secs(600), Vec::new())];
    let huge = |_: &Block| at_once(&[offer(u32::MAX as usize)]);
    let answers: [fn(&Block) -> Answer; 3] = [trickle, silent, huge];
    for answer in answers {
        let mut field = Field::start_with(|config| Config {
            idle_timeout: Duration::from_millis(300),
            ..config
        })
        .await;
        let mut liar = Liar::connect(&field, answer).await;
        let memory = Memory::now();
        for _ in 0..4 {
            let block = field.chain.data(100_000);
            liar.announce(&field, &block).await;
            field.passes_on(&block, 1).await;
        }
        memory.was_enough();
        assert_eq!(field.stats().bans, 0);
        assert!(!liar.raw.is_gone());
        field.keeps_pace(2).await;
        field.ends(Height::new(7)).await;
    }
}

/// It says to have a long chain, and gives blocks out of order, or ones that nobody signed.
///
/// Covers: GCH-16
#[tokio::test(flavor = "multi_thread")]
async fn a_range_that_breaks_a_rule_is_not_stored_and_bans_who_gives_it() {
    let out_of_order = rpc::frame(BLOCK, &made_up(7).relay().to_bytes());
    let unsigned = rpc::frame(BLOCK, &made_up(1).relay().to_bytes());
    let no_block = rpc::frame(BLOCK, b"no block at all");
    for answer in [out_of_order, unsigned, no_block] {
        let mut field = Field::start().await;
        let script: Script = Arc::new(move |_| vec![(Duration::ZERO, answer.clone())]);
        let raw = Raw::connect(ENEMY, &field.address(), Some((BLOCKS, script))).await;
        let mut mesh = raw.stream(MESH).await.unwrap();
        let subscribed = rpc::rpc(&[rpc::subscribe(&field.topic)]);
        mesh.write_all(&subscribed).await.unwrap();
        mesh.flush().await.unwrap();
        let mut status = raw.stream(STATUS).await.unwrap();
        let claiming = async {
            for height in 100.. {
                let claim = rpc::status(&field.topic, height);
                if status.write_all(&claim).await.is_err() || status.flush().await.is_err() {
                    break;
                }
            }
            raw.hung_up_on().await;
        };
        claiming.await;
        let bans = field.nodes[0].gossip.bans();
        let reason = bans.borrow().get(&enemy()).map(|ban| ban.reason);
        assert_eq!(reason, Some(Offence::Invalid));
        field.keeps_pace(2).await;
        field.ends(Height::new(3)).await;
    }
}
