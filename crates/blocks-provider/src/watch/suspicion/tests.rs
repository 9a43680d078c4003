// SPDX-License-Identifier: Apache-2.0
//! The decision, event by event, without a clock.

use proptest::prelude::*;

use super::*;

const TIMEOUT: Duration = Duration::from_secs(30);
const IDLE: Duration = Duration::from_secs(20);

/// A machine, a stream and a time that the test moves.
struct Rig {
    machine: Withholding,
    view: SourceView,
    now: Instant,
}

impl Rig {
    /// A stream that was opened at this height.
    fn at(height: u64) -> Self {
        let now = Instant::now();
        let mut rig = Self {
            machine: Withholding::new(TIMEOUT, IDLE),
            view: SourceView {
                attempt: 0,
                endpoint: None,
                height: Height::new(height),
                at: now,
                busy: Duration::ZERO,
                handing_off: false,
            },
            now,
        };
        rig.open();
        rig
    }

    fn open(&mut self) {
        self.view.attempt += 1;
        self.view.endpoint = Some("source:7050".parse().unwrap());
        self.view.at = self.now;
        self.view.handing_off = false;
        self.machine.source(&self.view);
    }

    fn close(&mut self) {
        self.view.endpoint = None;
        self.view.handing_off = false;
        self.machine.source(&self.view);
    }

    fn delivers(&mut self, blocks: u64) {
        self.view.height = Height::new(self.view.height.get() + blocks);
        self.view.at = self.now;
        self.machine.source(&self.view);
    }

    fn shown(&mut self, number: u64, evidence: Evidence) {
        let by = "other:7050".parse().unwrap();
        self.machine
            .head(BlockNumber::new(number), evidence, &by, self.now);
    }

    fn suspected(&self) -> Option<u64> {
        self.machine.suspicion().map(|shown| shown.number.get())
    }

    /// Lets time pass; says for which block the stream is left, if it is, and how often somebody is
    /// asked.
    fn pass(&mut self, seconds: u64) -> (Option<Why>, usize) {
        let end = self.now + Duration::from_secs(seconds);
        let (mut left, mut probes) = (None, 0);
        loop {
            while let Some(order) = self.machine.poll(self.now) {
                match order {
                    Order::Leave { attempt, why } => {
                        assert_eq!(attempt, self.view.attempt);
                        assert!(left.replace(why).is_none(), "it is left once");
                    }
                    Order::Probe => probes += 1,
                }
            }
            match self.machine.next_wake().filter(|wake| *wake <= end) {
                Some(wake) => {
                    assert!(wake > self.now, "nothing is due any more");
                    self.now = wake;
                }
                None => break,
            }
        }
        self.now = end;
        (left, probes)
    }

    fn settled(&self) -> bool {
        let Tally {
            raised,
            cleared,
            confirmed,
        } = self.machine.tally;
        raised == cleared + confirmed + u64::from(self.machine.suspicion().is_some())
    }
}

/// Covers: MON-08
#[test]
fn a_block_that_is_proven_and_does_not_come_is_withheld() {
    let mut rig = Rig::at(8);
    rig.pass(5);
    rig.shown(8, Evidence::Proven);
    assert_eq!(rig.suspected(), Some(8));
    assert_eq!(rig.pass(29).0, None);
    let (left, _) = rig.pass(1);
    let left = left.unwrap();
    assert_eq!(
        (left.number.get(), left.evidence, left.after),
        (8, Evidence::Proven, TIMEOUT)
    );
    assert_eq!(rig.suspected(), None);
    assert_eq!(rig.pass(1000), (None, 0), "it was left once");
    assert_eq!(rig.machine.tally.confirmed, 1);
}

/// Covers: MON-09
#[test]
fn a_suspicion_moves_on_to_what_is_missing_next() {
    let mut rig = Rig::at(8);
    for number in [8, 9, 10] {
        rig.shown(number, Evidence::Proven);
        assert_eq!(rig.suspected(), Some(8), "it stays with the first");
        rig.pass(2);
    }
    rig.delivers(1);
    assert_eq!(rig.suspected(), Some(10));
    rig.delivers(1);
    assert_eq!(rig.suspected(), Some(10));
    // Block 10 was shown 4 s after block 8, and 2 s ago.
    assert_eq!(rig.pass(27).0, None);
    let left = rig.pass(60).0;
    // The source came nearer within the first timeout, and not within the second.
    assert_eq!(left.map(|why| why.number.get()), Some(10));
    assert!(rig.settled());
}

/// Covers: MON-10
#[test]
fn what_comes_in_time_clears_the_suspicion() {
    let mut rig = Rig::at(8);
    for number in 8..15 {
        rig.shown(number, Evidence::Proven);
        assert_eq!(rig.suspected(), Some(number));
        assert_eq!(rig.pass(29), (None, 0));
        rig.delivers(1);
        assert_eq!(rig.suspected(), None);
    }
    assert_eq!(rig.machine.tally.cleared, 7);
    rig.shown(14, Evidence::Proven);
    assert_eq!(rig.suspected(), None, "it has that one");
}

#[test]
fn the_next_source_gets_a_timeout_of_its_own() {
    let mut rig = Rig::at(8);
    rig.shown(8, Evidence::Proven);
    assert!(rig.pass(30).0.is_some());
    rig.pass(20);
    rig.open();
    assert_eq!(rig.suspected(), Some(8), "the proof has not gone");
    assert_eq!(rig.pass(29).0, None);
    assert!(rig.pass(1).0.is_some());
    // A suspicion that no source had the time to clear begins anew, too.
    rig.open();
    rig.pass(20);
    rig.close();
    rig.pass(100);
    rig.open();
    assert_eq!(rig.pass(29).0, None);
    rig.delivers(1);
    assert_eq!(rig.suspected(), None);
    assert!(rig.settled());
}

#[test]
fn a_slow_source_that_catches_up_is_kept() {
    let mut rig = Rig::at(0);
    rig.shown(99_999, Evidence::Proven);
    for second in 0..100 {
        assert_eq!(rig.pass(1).0, None, "after {second} s");
        rig.delivers(999);
    }
    assert_eq!(rig.suspected(), Some(99_999));
    rig.delivers(100);
    assert_eq!(rig.suspected(), None);
}

#[test]
fn a_source_that_drips_falls_behind_and_is_left() {
    let mut rig = Rig::at(8);
    let mut left = None;
    let mut seconds = 0;
    while left.is_none() {
        seconds += 1;
        rig.shown(8 + seconds, Evidence::Proven);
        if seconds % 29 == 0 {
            rig.delivers(1);
        }
        left = rig.pass(1).0;
        assert!(
            seconds < 100,
            "a block each second, of which it gave one in 29"
        );
    }
}

#[test]
fn time_that_the_handler_takes_is_not_the_sources() {
    let mut rig = Rig::at(8);
    rig.shown(9, Evidence::Proven);
    rig.view.handing_off = true;
    rig.machine.source(&rig.view);
    assert_eq!(rig.pass(100), (None, 0));
    rig.view.handing_off = false;
    rig.view.busy += Duration::from_secs(100);
    rig.delivers(1);
    assert_eq!(rig.pass(29).0, None);
    assert!(rig.pass(31).0.is_some());
}

#[test]
fn a_hint_is_nothing_against_a_source_that_gives_blocks() {
    let mut rig = Rig::at(8);
    for _ in 0..20 {
        rig.shown(u64::MAX, Evidence::Hint);
        assert_eq!(rig.suspected(), Some(u64::MAX));
        assert_eq!(rig.pass(29).0, None);
        rig.delivers(1);
        assert_eq!(rig.suspected(), None);
    }
    // Against one that is silent it is worth one change, and is used up with that.
    rig.shown(u64::MAX, Evidence::Hint);
    assert!(rig.pass(30).0.is_some());
    rig.open();
    assert_eq!(rig.suspected(), None);
    assert_eq!(rig.pass(1000).0, None);
    assert!(rig.settled());
}

#[test]
fn a_proof_takes_the_place_of_a_hint() {
    let mut rig = Rig::at(8);
    rig.shown(100, Evidence::Hint);
    rig.pass(10);
    rig.shown(9, Evidence::Proven);
    assert_eq!(rig.suspected(), Some(9));
    rig.shown(200, Evidence::Hint);
    assert_eq!(rig.suspected(), Some(9));
    assert_eq!(rig.pass(29).0, None);
    assert_eq!(
        rig.pass(1).0.map(|why| why.evidence),
        Some(Evidence::Proven)
    );
    assert!(rig.settled());
}

#[test]
fn what_the_chain_has_the_source_should_have() {
    let mut rig = Rig::at(8);
    rig.machine.chain(Height::new(8), rig.now);
    assert_eq!(rig.suspected(), None);
    rig.shown(8, Evidence::Proven);
    rig.machine.chain(Height::new(9), rig.now);
    assert_eq!(rig.suspected(), Some(8), "the source still lacks it");
    let left = rig.pass(30).0.unwrap();
    assert_eq!(left.evidence, Evidence::Stored);
    // It was left; the next one begins where the chain is.
    rig.view.height = Height::new(9);
    rig.open();
    assert_eq!(rig.suspected(), None);
}

#[test]
fn a_silent_source_is_compared_once_in_a_while() {
    let mut rig = Rig::at(8);
    assert_eq!(rig.pass(3600), (None, 180));
    rig.delivers(1);
    assert_eq!(rig.pass(19), (None, 0));
    assert_eq!(rig.pass(1), (None, 1));
    rig.shown(9, Evidence::Proven);
    assert_eq!(rig.pass(29), (None, 0), "nobody is asked what is known");
    rig.close();
    assert_eq!(rig.pass(1000), (None, 0), "nor without a stream");
}

proptest! {
    /// Whatever happens in whatever order: a change of source because of what others show comes once
    /// in a timeout at most, every suspicion ends, and questions are few.
    #[test]
    fn any_order_of_events_is_survived(
        events in proptest::collection::vec((0u8..9, 0u64..40, 0u64..50), 1..300),
    ) {
        let mut rig = Rig::at(5);
        let mut last_left: Option<Instant> = None;
        let began = rig.now;
        let mut asked = 0;
        for (event, number, seconds) in events {
            match event {
                0 => rig.open(),
                1 => rig.close(),
                2 => rig.delivers(number % 4),
                3 => rig.shown(number, Evidence::Proven),
                4 => rig.shown(if number == 0 { u64::MAX } else { number }, Evidence::Hint),
                5 => rig.machine.chain(Height::new(number), rig.now),
                6 if rig.view.endpoint.is_some() => {
                    rig.view.handing_off = !rig.view.handing_off;
                    rig.machine.source(&rig.view);
                }
                _ => {
                    let before = rig.now;
                    let (left, probes) = rig.pass(seconds);
                    asked += probes;
                    if left.is_some() {
                        prop_assert!(last_left.is_none_or(|last| before + Duration::from_secs(seconds) >= last + TIMEOUT));
                        last_left = Some(before);
                    }
                }
            }
            prop_assert!(rig.settled());
        }
        prop_assert!(asked as u64 <= (rig.now - began).as_secs() / IDLE.as_secs() + 1);
        // A source that goes silent for good clears nothing: what is suspected is confirmed.
        rig.open();
        let suspected = rig.suspected();
        let (left, _) = rig.pass(31);
        prop_assert_eq!(left.map(|why| why.number.get()), suspected);
        prop_assert_eq!(rig.suspected(), None);
        prop_assert!(rig.settled());
    }
}
