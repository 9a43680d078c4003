// SPDX-License-Identifier: Apache-2.0
//! Which orderers are asked for headers, and when: a state machine without a clock.

use std::{collections::BTreeMap, time::Duration};

use block_api::Endpoint;
use rand::{SeedableRng, rngs::StdRng, seq::SliceRandom};
use tokio::time::Instant;

use crate::{Config, back_off};

/// For so long an orderer that answered with whole blocks is not asked for a stream of headers.
const WHOLE_FOR: Duration = Duration::from_secs(3600);

/// What is known of the orderers as givers of headers. It outlives the streams of blocks, so that
/// one that fails is left alone for longer and longer, whoever the source is meanwhile.
#[derive(Debug)]
pub(crate) struct Plan {
    first: Duration,
    longest: Duration,
    streams: usize,
    rng: StdRng,
    known: BTreeMap<Endpoint, Known>,
    asked: u64,
}

#[derive(Debug, Default)]
struct Known {
    streaming: bool,
    failures: u32,
    rests_until: Option<Instant>,
    /// Until when it is taken to answer with whole blocks.
    whole_until: Option<Instant>,
    /// When it was asked for its newest header last, by the count of such questions.
    asked: u64,
}

impl Plan {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            first: config.first_back_off,
            longest: config.longest_back_off,
            streams: config.header_streams,
            rng: config
                .seed
                .map_or_else(rand::make_rng, StdRng::seed_from_u64),
            known: BTreeMap::new(),
            asked: 0,
        }
    }

    /// Forgets who is no endpoint, and takes note of who has become one.
    pub(crate) fn endpoints(&mut self, endpoints: &[Endpoint]) {
        self.known
            .retain(|endpoint, _| endpoints.contains(endpoint));
        for endpoint in endpoints {
            self.known.entry(endpoint.clone()).or_default();
        }
    }

    /// On whom streams of headers are to be opened by now; they count as open from here on.
    pub(crate) fn open_streams(&mut self, source: &Endpoint, now: Instant) -> Vec<Endpoint> {
        let room = self.room();
        let mut due: Vec<_> = self
            .candidates(source)
            .filter(|(_, known)| known.stream_due().is_none_or(|due| due <= now))
            .map(|(endpoint, known)| (known.failures, endpoint.clone()))
            .collect();
        due.shuffle(&mut self.rng);
        due.sort_by_key(|(failures, _)| *failures);
        let chosen: Vec<_> = due
            .into_iter()
            .map(|(_, endpoint)| endpoint)
            .take(room)
            .collect();
        for endpoint in &chosen {
            self.note(endpoint, |known| known.streaming = true);
        }
        chosen
    }

    /// When the next stream of headers is due.
    pub(crate) fn next_stream(&self, source: &Endpoint) -> Option<Instant> {
        if self.room() == 0 {
            return None;
        }
        self.candidates(source)
            .filter_map(|(_, known)| known.stream_due())
            .min()
    }

    /// Who is asked for the newest header now: of those that do not rest the one that was not
    /// asked for the longest time, who answers with whole blocks last.
    pub(crate) fn probe(&mut self, source: &Endpoint, now: Instant) -> Option<Endpoint> {
        let whole = |known: &Known| known.whole_until.is_some_and(|until| until > now);
        let chosen = self
            .known
            .iter()
            .filter(|(endpoint, known)| *endpoint != source && known.rested(now))
            .min_by_key(|(_, known)| (whole(known), known.asked))
            .map(|(endpoint, _)| endpoint.clone())?;
        self.asked += 1;
        let asked = self.asked;
        self.note(&chosen, |known| known.asked = asked);
        Some(chosen)
    }

    /// A header of this orderer was good.
    pub(crate) fn good(&mut self, endpoint: &Endpoint) {
        self.note(endpoint, |known| known.failures = 0);
    }

    /// It answers with whole blocks where headers are asked for.
    pub(crate) fn whole(&mut self, endpoint: &Endpoint, now: Instant) {
        let until = now + WHOLE_FOR;
        self.note(endpoint, |known| known.whole_until = Some(until));
    }

    /// It failed, or showed a header that breaks a rule.
    pub(crate) fn failed(&mut self, endpoint: &Endpoint, now: Instant) {
        let (first, longest) = (self.first, self.longest);
        if let Some(known) = self.known.get_mut(endpoint) {
            let pause = back_off::pause(first, longest, known.failures, &mut self.rng);
            known.failures = known.failures.saturating_add(1);
            known.rests_until = Some(now + pause);
        }
    }

    /// Its stream of headers is closed.
    pub(crate) fn closed(&mut self, endpoint: &Endpoint) {
        self.note(endpoint, |known| known.streaming = false);
    }

    fn room(&self) -> usize {
        let open = self.known.values().filter(|known| known.streaming).count();
        self.streams.saturating_sub(open)
    }

    fn candidates(&self, source: &Endpoint) -> impl Iterator<Item = (&Endpoint, &Known)> {
        self.known
            .iter()
            .filter(move |(endpoint, known)| *endpoint != source && !known.streaming)
    }

    fn note(&mut self, endpoint: &Endpoint, change: impl FnOnce(&mut Known)) {
        if let Some(known) = self.known.get_mut(endpoint) {
            change(known);
        }
    }
}

impl Known {
    fn rested(&self, now: Instant) -> bool {
        self.rests_until.is_none_or(|until| until <= now)
    }

    fn stream_due(&self) -> Option<Instant> {
        self.rests_until.max(self.whole_until)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn plan(streams: usize) -> (Plan, Vec<Endpoint>) {
        let endpoints: Vec<Endpoint> = (0..4)
            .map(|index| format!("orderer{index}:7050").parse().unwrap())
            .collect();
        let mut plan = Plan::new(&Config {
            header_streams: streams,
            seed: Some(1),
            ..Config::default()
        });
        plan.endpoints(&endpoints);
        (plan, endpoints)
    }

    /// Covers: MON-05
    #[test]
    fn headers_are_streamed_from_all_but_the_source_up_to_the_bound() {
        let now = Instant::now();
        let (mut all, endpoints) = plan(8);
        let mut opened = all.open_streams(&endpoints[1], now);
        opened.sort();
        assert_eq!(opened, [&endpoints[..1], &endpoints[2..]].concat());
        assert_eq!(all.open_streams(&endpoints[1], now), []);
        let (mut few, _) = plan(2);
        assert_eq!(few.open_streams(&endpoints[1], now).len(), 2);
        assert_eq!(few.next_stream(&endpoints[1]), None, "no room");
        let (mut none, _) = plan(0);
        assert_eq!(none.open_streams(&endpoints[1], now), []);
    }

    /// Covers: MON-12
    #[test]
    fn who_fails_rests_longer_and_longer_and_comes_back() {
        let (mut plan, endpoints) = plan(8);
        let mut now = Instant::now();
        let mut longest = Duration::ZERO;
        for _ in 0..30 {
            assert!(
                plan.open_streams(&endpoints[0], now)
                    .contains(&endpoints[3])
            );
            plan.failed(&endpoints[3], now);
            plan.closed(&endpoints[3]);
            let due = plan.next_stream(&endpoints[0]).unwrap();
            longest = longest.max(due - now);
            assert!(due <= now + Config::default().longest_back_off);
            now = due;
        }
        assert!(longest > Duration::from_secs(5), "{longest:?}");
        plan.good(&endpoints[3]);
        plan.failed(&endpoints[3], now);
        assert!(plan.next_stream(&endpoints[0]).unwrap() <= now + Config::default().first_back_off);
    }

    #[test]
    fn probes_go_round_and_whole_blocks_are_the_last_resort() {
        let (mut plan, endpoints) = plan(8);
        let now = Instant::now();
        let asked: Vec<_> = (0..6)
            .filter_map(|_| plan.probe(&endpoints[0], now))
            .collect();
        assert_eq!(asked, [&endpoints[1..], &endpoints[1..]].concat());
        plan.whole(&endpoints[1], now);
        plan.whole(&endpoints[2], now);
        for _ in 0..3 {
            assert_eq!(plan.probe(&endpoints[0], now).as_ref(), Some(&endpoints[3]));
        }
        assert_eq!(
            plan.open_streams(&endpoints[0], now),
            [endpoints[3].clone()]
        );
        assert_eq!(plan.next_stream(&endpoints[0]), Some(now + WHOLE_FOR));
        plan.endpoints(&endpoints[..1]);
        assert_eq!(plan.probe(&endpoints[0], now), None);
    }

    proptest! {
        #[test]
        fn the_source_is_never_asked_and_the_bound_holds(
            steps in proptest::collection::vec((0u8..6, 0usize..4, 0usize..4, 0u64..20), 1..200),
        ) {
            let (mut plan, endpoints) = plan(2);
            let mut now = Instant::now();
            for (step, source, other, seconds) in steps {
                let (source, other) = (&endpoints[source], &endpoints[other]);
                now += Duration::from_secs(seconds);
                match step {
                    0 => prop_assert!(!plan.open_streams(source, now).contains(source)),
                    1 => prop_assert!(plan.probe(source, now).as_ref() != Some(source)),
                    2 => plan.failed(other, now),
                    3 => plan.closed(other),
                    4 => plan.good(other),
                    _ => plan.whole(other, now),
                }
                prop_assert!(plan.known.values().filter(|known| known.streaming).count() <= 2);
            }
        }
    }
}
