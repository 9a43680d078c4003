// SPDX-License-Identifier: Apache-2.0
//! Which endpoint next, and after what pause: a state machine without a clock.

use std::{cmp::Reverse, collections::BTreeMap, time::Duration};

use block_api::Endpoint;
use rand::{SeedableRng, rngs::StdRng, seq::SliceRandom};

use crate::{Config, back_off};

/// Goes through the endpoints in rounds of random order. Within a round the next endpoint is tried
/// at once; when a round is over, and nothing was accepted in it, there is a pause that grows from
/// round to round. An endpoint that fails after it gave blocks begins a round in which the others
/// are tried. Endpoints that withheld blocks are tried after the others.
///
/// A round in which all that were tried said SERVICE_UNAVAILABLE is followed by a short pause,
/// whatever went before: a cluster without a leader has one again soon (H27). The pauses grow from
/// there, should it not.
#[derive(Debug)]
pub(crate) struct Choice {
    first: Duration,
    longest: Duration,
    rng: StdRng,
    /// The endpoints that the round has still to try, the next one last.
    left: Vec<Endpoint>,
    /// The endpoint that failed last: the next round does not begin with it.
    last_failed: Option<Endpoint>,
    /// Whether a block was accepted, or nothing tried at all, since the last round began.
    fresh: bool,
    /// Whether any attempt of this round has failed.
    round_failed: bool,
    /// Rounds that ended without an accepted block.
    failed_rounds: u32,
    /// Rounds since then in which all that were tried said that they cannot serve at the moment.
    unavailable_rounds: u32,
    /// Whether an attempt of this round failed in another way.
    otherwise_failed: bool,
    /// How often each endpoint was left because it withheld blocks.
    withheld: BTreeMap<Endpoint, u32>,
    /// Whether the next pause is the longest one, whatever the count.
    longest_next: bool,
}

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Next {
    /// Try this endpoint.
    Try(Endpoint),
    /// Pause, then ask again.
    Pause(Duration),
}

impl Choice {
    pub(crate) fn new(config: &Config) -> Self {
        let rng = config
            .seed
            .map_or_else(rand::make_rng, StdRng::seed_from_u64);
        Self {
            first: config.first_back_off,
            longest: config.longest_back_off,
            rng,
            left: Vec::new(),
            last_failed: None,
            fresh: true,
            round_failed: false,
            failed_rounds: 0,
            unavailable_rounds: 0,
            otherwise_failed: false,
            withheld: BTreeMap::new(),
            longest_next: false,
        }
    }

    /// The next endpoint among those that there are now.
    pub(crate) fn next(&mut self, endpoints: &[Endpoint]) -> Next {
        self.left.retain(|endpoint| endpoints.contains(endpoint));
        self.withheld
            .retain(|endpoint, _| endpoints.contains(endpoint));
        if self.left.is_empty() && (self.fresh || !self.round_failed) {
            self.left = endpoints.to_vec();
            self.left.shuffle(&mut self.rng);
            // The last is tried first.
            let withheld = &self.withheld;
            self.left
                .sort_by_key(|endpoint| Reverse(withheld.get(endpoint).copied()));
            if self.fresh && self.round_failed {
                self.left
                    .retain(|endpoint| Some(endpoint) != self.last_failed.as_ref());
            } else if let [first, .., last] = self.left.as_mut_slice()
                && Some(&*last) == self.last_failed.as_ref()
            {
                std::mem::swap(first, last);
            }
            self.fresh = false;
        }
        if let Some(endpoint) = self.left.pop() {
            return Next::Try(endpoint);
        }
        Next::Pause(self.pause())
    }

    /// An attempt failed: another endpoint is next.
    pub(crate) fn failed(&mut self, endpoint: &Endpoint) {
        self.unavailable(endpoint);
        self.otherwise_failed = true;
    }

    /// An endpoint said that it cannot serve at the moment: another one is next.
    pub(crate) fn unavailable(&mut self, endpoint: &Endpoint) {
        self.round_failed = true;
        self.last_failed = Some(endpoint.clone());
    }

    /// An endpoint was left because it withheld blocks: another one is next, and it comes last from
    /// here on.
    pub(crate) fn withheld(&mut self, endpoint: &Endpoint) {
        self.failed(endpoint);
        let times = self.withheld.entry(endpoint.clone()).or_default();
        *times = times.saturating_add(1);
    }

    /// The endpoints became others: they are tried anew, at once.
    pub(crate) fn refreshed(&mut self) {
        self.accepted();
        self.last_failed = None;
    }

    /// An attempt failed in a way that no other endpoint would mend: the longest pause is next.
    pub(crate) fn failed_everywhere(&mut self, endpoint: &Endpoint) {
        self.failed(endpoint);
        self.left.clear();
        self.fresh = false;
        self.longest_next = true;
    }

    /// A block was accepted: all is forgiven but who fails next.
    pub(crate) fn accepted(&mut self) {
        self.failed_rounds = 0;
        self.unavailable_rounds = 0;
        self.round_failed = false;
        self.otherwise_failed = false;
        self.fresh = true;
        self.left.clear();
    }

    /// The pause after a round.
    fn pause(&mut self) -> Duration {
        let failed = std::mem::take(&mut self.round_failed);
        let otherwise = std::mem::take(&mut self.otherwise_failed);
        if std::mem::take(&mut self.longest_next) {
            return self.longest;
        }
        let rounds = match failed && !otherwise {
            true => &mut self.unavailable_rounds,
            false => &mut self.failed_rounds,
        };
        let pause = back_off::pause(self.first, self.longest, *rounds, &mut self.rng);
        *rounds = rounds.saturating_add(1);
        pause
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn choice(seed: u64) -> Choice {
        Choice::new(&Config {
            seed: Some(seed),
            ..Config::default()
        })
    }

    fn endpoints(count: usize) -> Vec<Endpoint> {
        (0..count)
            .map(|index| format!("orderer{index}:7050").parse().unwrap())
            .collect()
    }

    /// One round in which everything fails: who was tried, and the pause after it.
    fn failed_round(choice: &mut Choice, endpoints: &[Endpoint]) -> (Vec<Endpoint>, Duration) {
        let mut tried = Vec::new();
        loop {
            match choice.next(endpoints) {
                Next::Try(endpoint) => {
                    choice.failed(&endpoint);
                    tried.push(endpoint);
                }
                Next::Pause(pause) => return (tried, pause),
            }
        }
    }

    /// Covers: BFT-07, CFT-06, SRC-04
    #[test]
    fn a_round_tries_every_endpoint_once_and_never_the_failed_one_first_again() {
        let endpoints = endpoints(4);
        let mut choice = choice(1);
        let mut orders = BTreeSet::new();
        let mut last = None;
        for _ in 0..20 {
            let (tried, _) = failed_round(&mut choice, &endpoints);
            assert_eq!(
                tried.iter().collect::<BTreeSet<_>>().len(),
                4,
                "each once: {tried:?}"
            );
            assert_ne!(tried.first().cloned(), last);
            last = tried.last().cloned();
            orders.insert(tried);
        }
        assert!(orders.len() > 5, "the order is drawn by lot");
    }

    /// Covers: BFT-07, BFT-12, BKO-01, BKO-02, NEW-13
    #[test]
    fn pauses_grow_by_rounds_up_to_the_cap_with_full_jitter() {
        let endpoints = endpoints(3);
        let mut longest = vec![Duration::ZERO; 12];
        let mut shortest = vec![Duration::MAX; 12];
        for seed in 0..300 {
            let mut choice = choice(seed);
            for (longest, shortest) in longest.iter_mut().zip(&mut shortest) {
                let (_, pause) = failed_round(&mut choice, &endpoints);
                *longest = (*longest).max(pause);
                *shortest = (*shortest).min(pause);
            }
        }
        for (round, (longest, shortest)) in longest.into_iter().zip(shortest).enumerate() {
            let bound = Duration::from_millis(100 << round).min(Duration::from_secs(10));
            assert!(
                longest <= bound && longest > bound / 2,
                "round {round}: {longest:?} of {bound:?}"
            );
            assert!(
                shortest < bound / 5,
                "round {round}: jitter goes down to {shortest:?}"
            );
        }
        let mut far = choice(1);
        far.failed_rounds = u32::MAX - 1;
        assert!(failed_round(&mut far, &endpoints).1 <= Duration::from_secs(10));
    }

    /// Covers: CFT-17, CFT-22, BFT-17
    #[test]
    fn an_accepted_block_starts_the_back_off_anew() {
        let endpoints = endpoints(1);
        let mut choice = choice(3);
        for _ in 0..10 {
            failed_round(&mut choice, &endpoints);
        }
        assert_eq!(choice.next(&endpoints), Next::Try(endpoints[0].clone()));
        choice.accepted();
        choice.failed(&endpoints[0]);
        assert!(failed_round(&mut choice, &endpoints).1 <= Duration::from_millis(100));
    }

    /// Covers: BFT-15
    #[test]
    fn who_fails_after_giving_blocks_is_left_for_the_others_at_once() {
        let endpoints = endpoints(3);
        let mut choice = choice(5);
        let Next::Try(first) = choice.next(&endpoints) else {
            panic!("there are endpoints")
        };
        choice.accepted();
        choice.failed(&first);
        let (tried, _) = failed_round(&mut choice, &endpoints);
        assert_eq!(tried.len(), 2, "the other two, before any pause: {tried:?}");
        assert!(!tried.contains(&first));
        assert_eq!(
            failed_round(&mut choice, &endpoints).0.len(),
            3,
            "then everyone again"
        );
    }

    /// Covers: CFT-07, BFT-05
    #[test]
    fn without_endpoints_there_are_only_pauses() {
        let mut choice = choice(1);
        for _ in 0..5 {
            assert!(matches!(choice.next(&[]), Next::Pause(_)));
        }
        assert!(
            matches!(choice.next(&endpoints(1)), Next::Try(_)),
            "an endpoint that appears is tried"
        );
    }

    #[test]
    fn what_no_endpoint_mends_waits_for_the_cap() {
        let endpoints = endpoints(3);
        let mut choice = choice(1);
        let Next::Try(first) = choice.next(&endpoints) else {
            panic!("there are endpoints")
        };
        choice.failed_everywhere(&first);
        assert_eq!(
            choice.next(&endpoints),
            Next::Pause(Duration::from_secs(10))
        );
        let (_, ordinary) = failed_round(&mut choice, &endpoints);
        assert!(
            ordinary <= Duration::from_millis(200),
            "an ordinary failure afterwards is paused as ever: {ordinary:?}"
        );
    }

    /// A cluster without a leader (hazard H27).
    #[test]
    fn a_round_that_cannot_be_served_at_the_moment_has_a_short_pause() {
        let endpoints = endpoints(3);
        let mut choice = choice(1);
        for _ in 0..12 {
            failed_round(&mut choice, &endpoints);
        }
        let mut pauses = Vec::new();
        let mut tried = 0;
        while pauses.len() < 12 {
            match choice.next(&endpoints) {
                Next::Try(endpoint) => {
                    choice.unavailable(&endpoint);
                    tried += 1;
                }
                Next::Pause(pause) => pauses.push(pause),
            }
        }
        assert_eq!(tried, 12 * 3, "each once before a pause");
        for (round, pause) in pauses.iter().take(5).enumerate() {
            assert!(*pause <= Duration::from_millis(100 << round), "{pauses:?}");
        }
        assert!(
            pauses.iter().max() > Some(&Duration::from_secs(1)),
            "and no storm: {pauses:?}"
        );
        choice.next(&endpoints);
        choice.failed(&endpoints[0]);
        choice.next(&endpoints);
        choice.unavailable(&endpoints[1]);
        choice.next(&endpoints);
        assert_eq!(choice.failed_rounds, 12);
        assert!(matches!(choice.next(&endpoints), Next::Pause(_)));
        assert_eq!(choice.failed_rounds, 13, "not all of them said so");
    }

    #[test]
    fn who_withheld_blocks_is_tried_after_the_others() {
        let endpoints = endpoints(4);
        for seed in 0..20 {
            let mut choice = choice(seed);
            choice.withheld(&endpoints[1]);
            choice.withheld(&endpoints[3]);
            choice.withheld(&endpoints[3]);
            choice.accepted();
            let (tried, _) = failed_round(&mut choice, &endpoints);
            assert_eq!(tried[2..], [endpoints[1].clone(), endpoints[3].clone()]);
        }
    }

    #[test]
    fn other_endpoints_are_tried_at_once() {
        let old = endpoints(1);
        let mut choice = choice(1);
        for _ in 0..10 {
            failed_round(&mut choice, &old);
        }
        choice.refreshed();
        let all = endpoints(2);
        assert_eq!(failed_round(&mut choice, &all).0.len(), 2);
        assert!(failed_round(&mut choice, &all).1 <= Duration::from_millis(200));
    }

    proptest! {
        #[test]
        fn every_choice_is_an_endpoint_that_is_there(
            seed in any::<u64>(),
            steps in proptest::collection::vec((0usize..5, any::<bool>()), 1..100),
        ) {
            let mut choice = choice(seed);
            for (count, accepted) in steps {
                let endpoints = endpoints(count);
                match choice.next(&endpoints) {
                    Next::Try(endpoint) => {
                        prop_assert!(endpoints.contains(&endpoint));
                        if accepted { choice.accepted() } else { choice.failed(&endpoint) }
                    }
                    Next::Pause(pause) => prop_assert!(pause <= Duration::from_secs(10)),
                }
            }
        }
    }
}
