// SPDX-License-Identifier: Apache-2.0
//! What goes wrong in a run, and when: it follows from the seed alone.

use std::{fmt, time::Duration};

use block_api::BlockNumber;
use dev_orderer::{Fault, Mutation};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};

use crate::scene::{BLOCK_EVERY, CHANNELS, FAULTS_END, NODES, ORDERERS};

/// The statuses with which an orderer may end a stream, and one that is none.
const STATUSES: [i32; 10] = [0, 200, 400, 403, 404, 413, 500, 501, 503, 599];

/// The faults of a run, in the order in which they begin.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Schedule(pub(crate) Vec<Trouble>);

/// One thing that goes wrong for a while.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Trouble {
    pub(crate) from: Duration,
    pub(crate) until: Duration,
    pub(crate) what: What,
}

/// What goes wrong. Nodes, orderers and channels are told by their index.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum What {
    /// Nothing passes between two nodes.
    CutNodes(usize, usize),
    /// Nothing passes from one node to another, and neither notices.
    CutNodesOneWay(usize, usize),
    /// A share of the gossip messages between two nodes is lost.
    LossyNodes(usize, usize, f64),
    /// Messages between two nodes are late.
    SlowNodes(usize, usize, Duration),
    /// The nodes below this one and the others do not reach each other.
    SplitNodes(usize),
    /// A node reaches nobody.
    Isolate(usize),
    /// Nothing passes between a node and an orderer.
    CutOrderer(usize, usize),
    /// Nothing passes from a node to an orderer.
    DeafOrderer(usize, usize),
    /// Nothing passes from an orderer to a node.
    MuteOrderer(usize, usize),
    /// Messages between a node and an orderer are late.
    SlowOrderer(usize, usize, Duration),
    /// A node is killed, and started again at the end.
    CrashNode(usize),
    /// An orderer is killed, and started again at the end.
    CrashOrderer(usize),
    /// So many appends of a node's store fail.
    StoreFails(usize, usize, usize),
    /// Orderers misbehave on a channel, all of them in one way.
    Misbehave(Culprits, usize, Misdeed),
    /// An orderer has no leader on a channel.
    NoLeader(usize, usize),
    /// An orderer gets no new blocks of a channel.
    FallBehind(usize, usize),
}

/// Which orderers do something.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Culprits {
    /// These ones. They are all of one organisation.
    These(Vec<usize>),
    /// The one at which most streams of the channel are open when it begins.
    Used,
}

/// What orderers do.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Misdeed {
    /// Something that the script of a stream has.
    Fault(Fault),
    /// They hand out blocks that strangers signed.
    Forge,
}

impl Schedule {
    /// A run in which nothing goes wrong.
    pub(crate) fn calm() -> Self {
        Self(Vec::new())
    }

    /// What a seed has in store.
    pub(crate) fn of(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let count = rng.random_range(4..=14);
        let mut troubles: Vec<Trouble> = (0..count)
            .map(|_| {
                let end = FAULTS_END.as_millis() as u64;
                let from = rng.random_range(500..end - 2_000);
                let until = end.min(from + rng.random_range(500..30_000));
                Trouble {
                    from: Duration::from_millis(from),
                    until: Duration::from_millis(until),
                    what: draw(&mut rng, from),
                }
            })
            .collect();
        for _ in 0..rng.random_range(1..=3) {
            troubles.push(aimed(&mut rng));
        }
        if rng.random_bool(0.5) {
            troubles.push(withholding(&mut rng));
        }
        troubles.sort_by_key(|trouble| (trouble.from, trouble.until));
        Self(troubles)
    }

    /// Whether something happens to the link of a node and an orderer, or to the node.
    pub(crate) fn disturbs(&self, node: usize, orderer: usize) -> bool {
        self.0.iter().any(|trouble| match &trouble.what {
            What::Isolate(other) | What::CrashNode(other) => *other == node,
            What::CutOrderer(a, b)
            | What::DeafOrderer(a, b)
            | What::MuteOrderer(a, b)
            | What::SlowOrderer(a, b, _) => (*a, *b) == (node, orderer),
            What::CutNodes(..)
            | What::CutNodesOneWay(..)
            | What::LossyNodes(..)
            | What::SlowNodes(..)
            | What::SplitNodes(_)
            | What::CrashOrderer(_)
            | What::StoreFails(..)
            | What::Misbehave(..)
            | What::NoLeader(..)
            | What::FallBehind(..) => false,
        })
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Trouble { from, until, what } in &self.0 {
            writeln!(
                f,
                "  {:>6} ms to {:>6} ms  {what:?}",
                from.as_millis(),
                until.as_millis()
            )?;
        }
        Ok(())
    }
}

/// What orderers do for a few seconds: the one that is used, several, or all.
fn aimed(rng: &mut StdRng) -> Trouble {
    let from = rng.random_range(2_000..FAULTS_END.as_millis() as u64 - 8_000);
    let culprits = match rng.random_range(0..4) {
        0 => Culprits::These(several(rng)),
        _ => Culprits::Used,
    };
    let misdeed = match rng.random_range(0..3) {
        0 => misdeed(rng, from),
        1 => Misdeed::Forge,
        _ => Misdeed::Fault(Fault::CorruptAll {
            mutation: *mutations().choose(rng).unwrap(),
        }),
    };
    Trouble {
        from: Duration::from_millis(from),
        until: Duration::from_millis(from + rng.random_range(2_000..8_000)),
        what: What::Misbehave(culprits, rng.random_range(0..CHANNELS), misdeed),
    }
}

/// Blocks are withheld for longer than a node has patience with.
fn withholding(rng: &mut StdRng) -> Trouble {
    let from = rng.random_range(2_000..20_000);
    let culprits = match rng.random_range(0..3) {
        0 => Culprits::These(several(rng)),
        _ => Culprits::Used,
    };
    let after = near(rng, from);
    Trouble {
        from: Duration::from_millis(from),
        until: Duration::from_millis(from + rng.random_range(14_000..24_000)),
        what: What::Misbehave(
            culprits,
            rng.random_range(0..CHANNELS),
            Misdeed::Fault(Fault::Withhold { after }),
        ),
    }
}

/// Two orderers or more, up to all.
fn several(rng: &mut StdRng) -> Vec<usize> {
    let first = rng.random_range(0..ORDERERS);
    let count = rng.random_range(2..=ORDERERS);
    (first..first + count)
        .map(|orderer| orderer % ORDERERS)
        .collect()
}

/// A block that is ordered about then.
fn near(rng: &mut StdRng, at: u64) -> BlockNumber {
    let number = at / BLOCK_EVERY.as_millis() as u64 + rng.random_range(0..6);
    number.max(1).into()
}

fn draw(rng: &mut StdRng, from: u64) -> What {
    let (node, orderer, channel) = (
        rng.random_range(0..NODES),
        rng.random_range(0..ORDERERS),
        rng.random_range(0..CHANNELS),
    );
    let other = (node + rng.random_range(1..NODES)) % NODES;
    let late = Duration::from_millis(rng.random_range(100..3_000));
    match rng.random_range(0..20) {
        0 => What::CutNodes(node, other),
        1 => What::CutNodesOneWay(node, other),
        2 => What::LossyNodes(node, other, rng.random_range(0.1..1.0)),
        3 => What::SlowNodes(node, other, late),
        4 => What::SplitNodes(rng.random_range(1..NODES)),
        5 => What::Isolate(node),
        6 => What::CutOrderer(node, orderer),
        7 => What::DeafOrderer(node, orderer),
        8 => What::MuteOrderer(node, orderer),
        9 => What::SlowOrderer(node, orderer, late),
        10 | 11 => What::CrashNode(node),
        12 => What::CrashOrderer(orderer),
        13 => What::StoreFails(node, channel, rng.random_range(1..4)),
        14 => What::NoLeader(orderer, channel),
        15 => What::FallBehind(orderer, channel),
        _ => What::Misbehave(Culprits::These(vec![orderer]), channel, misdeed(rng, from)),
    }
}

fn misdeed(rng: &mut StdRng, from: u64) -> Misdeed {
    let after = rng.random_range(0..6);
    Misdeed::Fault(match rng.random_range(0..12) {
        0 => Fault::Withhold {
            after: near(rng, from),
        },
        1 => Fault::Stall { after },
        2 => [
            Fault::Repeat { after: after + 1 },
            Fault::Replay { after: after + 1 },
        ]
        .choose(rng)
        .cloned()
        .unwrap(),
        3..=5 => Fault::CorruptAll {
            mutation: *mutations().choose(rng).unwrap(),
        },
        6 => Fault::Corrupt {
            block: near(rng, from),
            mutation: *mutations().choose(rng).unwrap(),
        },
        7 => Fault::Status {
            after,
            status: *STATUSES.choose(rng).unwrap(),
        },
        8 => Fault::Refuse {
            status: *STATUSES.choose(rng).unwrap(),
        },
        9 => [Fault::Hang, Fault::RefuseConnection, Fault::Unset { after }]
            .choose(rng)
            .cloned()
            .unwrap(),
        10 => Fault::Cut { after },
        _ => Fault::Delay {
            by: Duration::from_millis(rng.random_range(100..4_000)),
        },
    })
}

fn mutations() -> [Mutation; 11] {
    [
        Mutation::FlipData,
        Mutation::FlipDataHash,
        Mutation::FlipPreviousHash,
        Mutation::FlipSignature,
        Mutation::NoSignatures,
        Mutation::DuplicateSigner,
        Mutation::JoinedEnvelopes,
        Mutation::NoHeader,
        Mutation::NoData,
        Mutation::Truncated,
        Mutation::Number(7.into()),
    ]
}
