// SPDX-License-Identifier: Apache-2.0
//! One run: its faults happen and end, and then everything has to be as it should.

use std::{
    collections::BTreeMap,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use block_api::{Block, BlockNumber, BlockReader as _, ChainInfo, ReadLimits};
use channel_config::ChainWalk;

use crate::{
    node::SAMPLE_EVERY,
    scene::{BLOCKS, CHANNELS, DEADLINE, FAULTS_END, ORGANISATIONS, Scene},
    schedule::Schedule,
    trace::{Event, Trace},
    world::World,
};

/// So long TCP goes on without an answer.
const TCP_PATIENCE: Duration = Duration::from_secs(15);
/// So many events are shown of a run that failed.
const TAIL: usize = 60;
/// So long a run with a broken part goes on, unless it is found out before.
const BROKEN_END: Duration = Duration::from_secs(6);

/// What a good run tells.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) events: Vec<Event>,
    /// When every node had everything.
    pub(crate) done: Duration,
    /// How often each block of each channel left the orderers.
    pub(crate) sent: Vec<BTreeMap<BlockNumber, u64>>,
}

/// What is wrong with the nodes themselves, to show that it is found out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broken {
    Nothing,
    /// The verifier accepts any block.
    Gullible,
    /// The store takes blocks and does not keep them.
    Forgetful,
    /// Streams of blocks begin at the beginning.
    AsksAgain,
    /// Each request is made twice.
    AsksTwice,
    /// The verifier panics at one block.
    Panics,
}

/// A run that was not as it should be.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) seed: u64,
    pub(crate) reasons: Vec<String>,
    pub(crate) schedule: Schedule,
    pub(crate) tail: String,
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Begin,
    Break,
    End,
}

impl Report {
    /// How many events begin with these words.
    pub(crate) fn count(&self, words: &str) -> usize {
        self.events.iter().filter(|event| event.is(words)).count()
    }
}

/// Runs a seed with these faults.
pub(crate) fn run(seed: u64, schedule: &Schedule) -> Result<Report, Box<Failed>> {
    run_broken(seed, schedule, Broken::Nothing)
}

/// Runs a seed with these faults, and something wrong with the nodes.
pub(crate) fn run_broken(
    seed: u64,
    schedule: &Schedule,
    broken: Broken,
) -> Result<Report, Box<Failed>> {
    let trace = Trace::default();
    let judged = catch_unwind(AssertUnwindSafe(|| judge(seed, schedule, &trace, broken)));
    let reasons = match judged {
        Ok(Ok(report)) => return Ok(report),
        Ok(Err(reasons)) => reasons,
        Err(panic) => {
            let message = match panic.downcast_ref::<String>() {
                Some(message) => message.as_str(),
                None => panic.downcast_ref::<&str>().copied().unwrap_or_default(),
            };
            vec![format!("the simulation panicked: {message}")]
        }
    };
    Err(Box::new(Failed {
        seed,
        reasons,
        schedule: schedule.clone(),
        tail: trace.tail(TAIL),
    }))
}

/// Plays a run, and looks at everything that is left of it.
fn judge(
    seed: u64,
    schedule: &Schedule,
    trace: &Trace,
    broken: Broken,
) -> Result<Report, Vec<String>> {
    let mut world = World::new(seed, trace.clone(), broken);
    let outcome = play(&mut world, schedule, broken);
    let mut reasons = world.trace.violations();
    let done = match outcome {
        Ok(done) => done,
        Err(reason) => {
            reasons.push(reason);
            Duration::ZERO
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.build().unwrap();
    reasons.extend(runtime.block_on(false_chains(&world)));
    let sent: Vec<_> = (0..CHANNELS).map(|channel| sent(&world, channel)).collect();
    for (channel, sent) in sent.iter().enumerate() {
        reasons.extend(too_much(&world, channel, sent, schedule));
    }
    if reasons.is_empty() {
        return Ok(Report {
            events: world.trace.events(),
            done,
            sent,
        });
    }
    Err(reasons)
}

/// Lets everything happen; says when every node had everything.
fn play(world: &mut World, schedule: &Schedule, broken: Broken) -> Result<Duration, String> {
    let mut steps = Vec::new();
    for (index, trouble) in schedule.0.iter().enumerate() {
        steps.push((trouble.from, index, Step::Begin));
        steps.push((trouble.until, index, Step::End));
        let gives_up = trouble.from + TCP_PATIENCE;
        if gives_up < trouble.until {
            steps.push((gives_up, index, Step::Break));
        }
    }
    steps.sort_by_key(|(at, index, _)| (*at, *index));
    let mut steps = steps.into_iter().peekable();
    let mut done = None;
    loop {
        while let Some((_, index, step)) = steps.next_if(|(at, ..)| *at <= world.now()) {
            let what = &schedule.0[index].what;
            match step {
                Step::Begin => world.begin(index, what),
                Step::Break => world.break_connections(what),
                Step::End => world.end(index, what),
            }
        }
        world.step()?;
        if world.trace.is_violated() {
            return Err("it was ended there".to_owned());
        }
        if broken != Broken::Nothing && world.now() >= BROKEN_END {
            return Ok(world.now());
        }
        if world.now() >= FAULTS_END && world.all_at_the_tip() {
            // What happened last is sampled, too.
            let done = *done.get_or_insert(world.now());
            if world.now() >= done + SAMPLE_EVERY * 2 {
                return Ok(done);
            }
        }
        if world.now() >= DEADLINE {
            return Err(format!("not every node is at the tip: {}", heights(world)));
        }
    }
}

fn heights(world: &World) -> String {
    let heights = Scene::get().channels.iter().enumerate();
    let heights = heights.map(|(channel, chain)| {
        let nodes = world.nodes.iter();
        let heights: Vec<u64> = nodes.map(|node| node.stores[channel].height()).collect();
        format!("{} {heights:?} of {BLOCKS}", chain.id)
    });
    heights.collect::<Vec<_>>().join(", ")
}

/// Goes through what every node has with a verifier of its own.
async fn false_chains(world: &World) -> Vec<String> {
    let mut wrong = Vec::new();
    for (index, node) in world.nodes.iter().enumerate() {
        for (channel, chain) in Scene::get().channels.iter().enumerate() {
            let store = node.stores[channel].clone();
            let all = ReadLimits::new(BLOCKS, usize::MAX);
            let blocks = store.read(BlockNumber::GENESIS, all).await.unwrap();
            let mut walk = ChainWalk::new(chain.verifier(), ChainInfo::EMPTY);
            for bytes in blocks {
                let taken = Block::parse(bytes).map(|block| walk.take(block).map(drop));
                if !matches!(taken, Ok(Ok(()))) {
                    let height = walk.chain().height;
                    wrong.push(format!(
                        "node{index} has in {} at height {height}: {taken:?}",
                        chain.id
                    ));
                    break;
                }
            }
        }
    }
    wrong
}

/// How often each block of a channel left the orderers with its data. Config blocks are left out:
/// they are whole in streams of headers, too.
fn sent(world: &World, channel: usize) -> BTreeMap<BlockNumber, u64> {
    let mut all = BTreeMap::new();
    for orderer in &world.orderers {
        for (number, count) in orderer.channels[channel].server.blocks_sent() {
            if !Scene::get().channels[channel]
                .configs
                .contains(&number.get())
            {
                *all.entry(number).or_default() += count;
            }
        }
    }
    all
}

/// What of a channel left the orderers too often.
///
/// Blocks that orderers sent stay at or below (k per organisation + changes of source) × chain. Here
/// k is 1, and a change of source is a stream that gave a block, beyond the first of each
/// organisation. And no block left them oftener than there were requests whose answer it may be in.
fn too_much(
    world: &World,
    channel: usize,
    sent: &BTreeMap<BlockNumber, u64>,
    schedule: &Schedule,
) -> Vec<String> {
    let id = &Scene::get().channels[channel].id;
    let servers = world.orderers.iter();
    let streams = servers.map(|orderer| orderer.channels[channel].server.streams_that_gave());
    let changes = streams.sum::<u64>().saturating_sub(ORGANISATIONS as u64);
    let (all, bound) = (
        sent.values().sum::<u64>(),
        (ORGANISATIONS as u64 + changes) * BLOCKS as u64,
    );
    let mut wrong = Vec::new();
    if all > bound {
        let what = format!("{changes} changes of source");
        wrong.push(format!(
            "orderers sent {all} blocks of {id}, more than {bound}: {what}"
        ));
    }
    for (number, sent) in sent {
        let asked = world.asked[channel].over(*number, schedule);
        if *sent > asked {
            wrong.push(format!(
                "block {number} of {id} was asked for {asked} times at most, and sent {sent} times"
            ));
        }
    }
    wrong
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {} failed:", self.seed)?;
        for reason in &self.reasons {
            writeln!(f, "  {reason}")?;
        }
        write!(f, "what went wrong by the schedule:\n{}", self.schedule)?;
        write!(f, "the last events:\n{}", self.tail)?;
        write!(
            f,
            "replay: cargo xtask sim --seeds 1 --first-seed {}",
            self.seed
        )
    }
}
