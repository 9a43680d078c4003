// SPDX-License-Identifier: Apache-2.0
//! When the ordering service is asked for a range: only by a node that does not pull, for blocks that
//! exist, and when no peer gives them.

use std::{
    cmp::max,
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use block_api::{BlockNumber, Endpoint, NodeId};
use blocks_provider::{Head, jitter_by_share};
use tokio::time::Instant;

use super::plan::Known;
use crate::{Config, heads::Shown};

/// How asking the ordering service went.
#[derive(Debug)]
pub(super) struct Orderers {
    seed: u64,
    attempts: u32,
    failures: u32,
    ended: Option<Instant>,
    /// Whether the last range brought something: there is more where it came from.
    pub(super) gives: bool,
    brought: Option<Instant>,
}

/// What says that a block exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Proof {
    /// A header that proves its block.
    Proven,
    /// A signed header that may be made up, or nodes that say to have pruned the block and of whose
    /// tips nobody can tell yet who signed them. It is good for one attempt in a censorship timeout.
    Hint,
}

impl Orderers {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            seed,
            attempts: 0,
            failures: 0,
            ended: None,
            gives: false,
            brought: None,
        }
    }

    /// When the ordering service may be asked for what has been due since then.
    pub(super) fn may_ask_at(
        &self,
        still_since: Instant,
        proof: Proof,
        config: &Config,
    ) -> Instant {
        if self.gives {
            return still_since;
        }
        let patient = still_since + config.orderer_patience;
        let Some(ended) = self.ended else {
            return patient;
        };
        let pause = match proof {
            Proof::Proven => self.pause(config),
            Proof::Hint => max(self.pause(config), config.provider.censorship_timeout),
        };
        // Only the first attempt needs patience; a pause follows each one that failed.
        match self.failures {
            0 => max(patient, ended + pause),
            _ => ended + pause,
        }
    }

    /// The endpoint whose turn it is.
    pub(super) fn endpoint(&mut self, endpoints: Vec<Endpoint>) -> Option<Endpoint> {
        let count = u64::try_from(endpoints.len())
            .ok()
            .filter(|count| *count > 0)?;
        let turn = self
            .draw("endpoint", 0)
            .wrapping_add(u64::from(self.attempts))
            % count;
        endpoints.into_iter().nth(usize::try_from(turn).ok()?)
    }

    pub(super) fn ended(&mut self, brought: bool, now: Instant) {
        self.ended = Some(now);
        self.gives = brought;
        match brought {
            true => {
                self.failures = 0;
                self.brought = Some(now);
            }
            false => {
                self.failures = self.failures.saturating_add(1);
                self.attempts = self.attempts.wrapping_add(1);
            }
        }
    }

    /// Whether an attempt in vain tells as much as a standby that looks for itself. Not when ranges
    /// brought something lately: then those who pull may keep blocks back, and an attempt in vain
    /// after each one that is not would hide it.
    pub(super) fn is_a_look(&self, now: Instant, config: &Config) -> bool {
        let lately = config.provider.censorship_timeout * 2;
        self.brought.is_none_or(|brought| now - brought >= lately)
    }

    /// Full jitter below a bound that doubles, drawn from who this node is: it is another one on
    /// every node, and the same one in every run of a test.
    fn pause(&self, config: &Config) -> Duration {
        let provider = &config.provider;
        let Some(doubled) = self.failures.checked_sub(1) else {
            return Duration::ZERO;
        };
        let share = self.draw("pause", self.attempts) as f64 / u64::MAX as f64;
        let (first, longest) = (provider.first_back_off, provider.longest_back_off);
        jitter_by_share(first, longest, doubled, share)
    }

    fn draw(&self, what: &str, attempt: u32) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.seed, what, attempt).hash(&mut hasher);
        hasher.finish()
    }
}

/// Up to which block the chain is known to go, and by what; `None` when nothing says that the block
/// that is due exists. What a node claims without more is nothing.
pub(super) fn proof(
    due: BlockNumber,
    shown: &Shown,
    peers: &BTreeMap<NodeId, Known>,
) -> Option<(BlockNumber, Proof)> {
    let above = |head: &Option<Head>| {
        let number = head.as_ref().map(|head| head.number);
        number.filter(|number| *number >= due)
    };
    if let Some(proven) = above(&shown.proven) {
        return Some((proven, Proof::Proven));
    }
    let hinted = above(&shown.hint);
    // Who has a tip that was judged has shown it, or was refused: his word alone is nothing.
    let unjudged = peers.values().filter(|known| known.unjudged);
    let pruned = unjudged.filter_map(|known| known.first.previous());
    let pruned = pruned.filter(|number| *number >= due).min();
    let hinted = hinted.or(pruned)?;
    Some((hinted, Proof::Hint))
}

#[cfg(test)]
mod tests {
    use blocks_provider::Evidence;

    use super::*;

    #[test]
    fn the_pauses_have_a_cap_and_the_endpoints_take_turns() {
        let config = Config::default();
        let mut orderers = Orderers::new(7);
        let now = Instant::now();
        assert_eq!(
            orderers.may_ask_at(now, Proof::Hint, &config),
            now + config.orderer_patience
        );
        let endpoints = || {
            ["a:1", "b:1", "c:1"]
                .map(|text| text.parse().unwrap())
                .to_vec()
        };
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..30 {
            seen.insert(orderers.endpoint(endpoints()).unwrap());
            orderers.ended(false, now);
            let at = orderers.may_ask_at(now, Proof::Proven, &config);
            assert!(at <= now + config.provider.longest_back_off);
            let at = orderers.may_ask_at(now, Proof::Hint, &config);
            assert_eq!(at, now + config.provider.censorship_timeout);
        }
        assert_eq!(seen.len(), 3);
        assert_eq!(orderers.endpoint(Vec::new()), None);
        orderers.ended(true, now);
        assert_eq!(orderers.may_ask_at(now, Proof::Hint, &config), now);
    }

    #[test]
    fn what_is_only_claimed_is_no_proof() {
        let due = BlockNumber::new(5);
        let known = |first: u64, unjudged| Known {
            first: BlockNumber::new(first),
            height: block_api::Height::new(100),
            own: true,
            unjudged,
        };
        let head = |number: u64, evidence| Head {
            number: BlockNumber::new(number),
            hash: block_api::testing::TestChain::new("ch")
                .config()
                .header_hash(),
            evidence,
            from: Endpoint::of_node(&NodeId::new("node")),
        };
        let peers =
            |first, unjudged| BTreeMap::from([(NodeId::new("node"), known(first, unjudged))]);
        let shown = |proven: Option<u64>, hint: Option<u64>| Shown {
            proven: proven.map(|number| head(number, Evidence::Proven)),
            hint: hint.map(|number| head(number, Evidence::Hint)),
        };
        let nothing = Shown::default();
        assert_eq!(proof(due, &nothing, &peers(0, true)), None, "a claim");
        assert_eq!(proof(due, &nothing, &peers(7, false)), None, "a claim, too");
        let below = Some((BlockNumber::new(6), Proof::Hint));
        assert_eq!(proof(due, &nothing, &peers(7, true)), below);
        let nine = |proof| Some((BlockNumber::new(9), proof));
        let rows = [
            (shown(None, Some(9)), nine(Proof::Hint)),
            (shown(Some(9), None), nine(Proof::Proven)),
            (shown(Some(9), Some(1000)), nine(Proof::Proven)),
            (shown(Some(4), Some(9)), nine(Proof::Hint)),
            (shown(Some(4), Some(4)), None),
        ];
        for (shown, expected) in rows {
            assert_eq!(proof(due, &shown, &peers(0, false)), expected, "{shown:?}");
        }
    }
}
