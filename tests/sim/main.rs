// SPDX-License-Identifier: Apache-2.0
//! The engine in a simulated network: virtual time, gRPC over simulated TCP, gossip in memory, and
//! faults that follow from a seed.
#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a simulation that cannot go on is meant to panic, and its indices are its own"
)]

mod node;
mod orderer;
mod run;
mod scene;
mod schedule;
mod source;
mod trace;
mod world;

use std::{
    env,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use crate::{
    run::{Broken, Failed, Report, run, run_broken},
    scene::{BLOCKS, FAULTS_END, ORDERERS, ORGANISATIONS, Scene},
    schedule::{Culprits, Misdeed, Schedule, Trouble, What},
};

/// How many seeds are run unless `BLOCKCAST_SIM_SEEDS` says otherwise.
const SEEDS: u64 = 100;

/// What was seen of all runs.
#[derive(Debug, Default)]
struct Seen {
    /// How long after the last fault the slowest run had everything everywhere, and its seed.
    slowest: (Duration, u64),
    /// How often a node dialled an orderer, refused a block, and could not store one.
    dials: usize,
    rejected: usize,
    not_stored: usize,
}

#[test]
fn faults_that_end_leave_every_node_at_the_tip() {
    let (runs, first) = (
        number("BLOCKCAST_SIM_SEEDS").unwrap_or(SEEDS),
        number("BLOCKCAST_SIM_FIRST").unwrap_or(1),
    );
    let (next, failed) = (AtomicU64::new(0), Mutex::new(Vec::<Box<Failed>>::new()));
    let seen = Mutex::new(Seen::default());
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= runs {
                        return;
                    }
                    let seed = first.wrapping_add(index);
                    match run(seed, &Schedule::of(seed)) {
                        Ok(report) => seen.lock().unwrap().note(&report, seed),
                        Err(failure) => failed.lock().unwrap().push(failure),
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    let seen = seen.into_inner().unwrap();
    println!("{runs} seeds from {first} on: {seen:?}");
    for failure in failed.iter().take(3) {
        println!("\n{failure}");
    }
    let seeds: Vec<u64> = failed.iter().map(|failure| failure.seed).collect();
    assert!(seeds.is_empty(), "these seeds failed: {seeds:?}");
    if runs >= SEEDS {
        let bites = seen.dials > 0 && seen.rejected > 0 && seen.not_stored > 0;
        assert!(bites, "the faults do nothing: {seen:?}");
    }
}

#[test]
fn two_runs_of_a_seed_give_the_same_trace() {
    for seed in 1..=3 {
        let schedule = Schedule::of(seed);
        let [one, other] = [(); 2].map(|()| match run(seed, &schedule) {
            Ok(report) => report.events,
            Err(failure) => panic!("{failure}"),
        });
        let both = one.iter().zip(&other);
        if let Some(at) = both.clone().position(|(one, other)| one != other) {
            println!("seed {seed} went two ways from its event {at} on:");
            for (one, other) in both.skip(at.saturating_sub(10)).take(30) {
                println!("  {:<60}  {other}", one.to_string());
            }
        }
        assert!(one == other, "seed {seed} went two ways");
        assert!(one.len() > BLOCKS, "seed {seed} did something");
    }
}

#[test]
fn without_faults_each_block_leaves_the_orderers_once_for_each_puller() {
    let report = match run(0, &Schedule::calm()) {
        Ok(report) => report,
        Err(failure) => panic!("{failure}"),
    };
    for (channel, sent) in report.sent.iter().enumerate() {
        let chain = &Scene::get().channels[channel];
        let (id, pullers) = (&chain.id, ORGANISATIONS as u64);
        // A standby that looks for itself, which is seldom, may be given a block that is on its way.
        let mut looks = 0;
        for (number, count) in sent {
            assert!(*count >= pullers, "block {number} of {id}");
            looks += count - pullers;
        }
        assert!(looks <= BLOCKS as u64 / 20, "{looks} blocks more of {id}");
        assert_eq!(sent.len(), BLOCKS - chain.configs.len());
    }
}

#[test]
fn a_schedule_follows_from_its_seed() {
    assert_eq!(Schedule::of(7), Schedule::of(7));
    assert_ne!(Schedule::of(7), Schedule::of(8));
    for seed in 0..200 {
        for trouble in Schedule::of(seed).0 {
            assert!(trouble.from < trouble.until && trouble.until <= FAULTS_END);
        }
    }
}

#[test]
fn whatever_is_broken_is_found_out() {
    let forgery = Schedule(vec![Trouble {
        from: Duration::from_secs(1),
        until: Duration::from_secs(6),
        what: What::Misbehave(Culprits::These((0..ORDERERS).collect()), 0, Misdeed::Forge),
    }]);
    let calm = Schedule::calm();
    let rows = [
        (
            Broken::Gullible,
            &forgery,
            "is another one than was ordered",
        ),
        (Broken::Forgetful, &calm, "fell from height"),
        (Broken::AsksAgain, &calm, "a stream begins at Oldest"),
        (Broken::AsksTwice, &calm, "was asked for"),
        (Broken::Panics, &calm, "tasks died"),
    ];
    for (broken, schedule, expected) in rows {
        let Err(failed) = run_broken(0, schedule, broken) else {
            panic!("{broken:?} was not found out");
        };
        let text = failed.to_string();
        assert!(text.contains(expected), "{broken:?}: {text}");
        assert!(text.ends_with("cargo xtask sim --seeds 1 --first-seed 0"));
    }
}

impl Seen {
    fn note(&mut self, report: &Report, seed: u64) {
        let after = report.done.saturating_sub(FAULTS_END);
        self.slowest = self.slowest.max((after, seed));
        self.dials += report.count("dials ");
        self.rejected += report.count("rejects ");
        self.not_stored += report.count("cannot store ");
    }
}

fn number(variable: &str) -> Option<u64> {
    let text = env::var(variable).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{variable}={text} is no number")),
    )
}
