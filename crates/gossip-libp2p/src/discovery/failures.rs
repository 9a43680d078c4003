// SPDX-License-Identifier: Apache-2.0
//! How often hosts did not answer that a peer told of: who tells of a victim under many names has it
//! knocked on a few times and no more.

use std::{collections::BTreeMap, time::Duration};

use libp2p::PeerId;
use tokio::time::Instant;

use super::address::Host;

/// How many attempts at addresses of one host may fail on the word of one peer, within [`WINDOW`].
const FAILURES: usize = 16;

/// How long failures are counted together.
pub(super) const WINDOW: Duration = Duration::from_secs(60);

/// Counted by who told and where it led. Others who tell of the same host are not held up by what
/// one of them said.
#[derive(Debug, Default)]
pub(super) struct Failures {
    counts: BTreeMap<(PeerId, Host), (Instant, usize)>,
}

impl Failures {
    /// An attempt failed.
    pub(super) fn note(&mut self, teller: PeerId, host: Host, now: Instant) {
        self.counts
            .retain(|_, (since, _)| now.duration_since(*since) < WINDOW);
        let (_, count) = self.counts.entry((teller, host)).or_insert((now, 0));
        *count += 1;
    }

    /// Whether one more attempt is allowed beside `others` that are made with it.
    pub(super) fn allow(&self, teller: PeerId, host: &Host, others: usize, now: Instant) -> bool {
        let failed = self
            .counts
            .get(&(teller, host.clone()))
            .filter(|(since, _)| now.duration_since(*since) < WINDOW)
            .map_or(0, |(_, count)| *count);
        failed.saturating_add(others) < FAILURES
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Keypair;

    #[test]
    fn a_host_is_left_alone_for_a_while_after_so_many_failures() {
        let [teller, other] = [1, 2].map(|seed| Keypair::from_seed([seed; 32]).peer_id());
        let host = Host::Name("victim.example.com".to_owned());
        let (mut failures, now) = (Failures::default(), Instant::now());
        for _ in 0..FAILURES {
            assert!(failures.allow(teller, &host, 0, now));
            failures.note(teller, host.clone(), now);
        }
        assert!(!failures.allow(teller, &host, 0, now));
        assert!(
            failures.allow(other, &host, 0, now),
            "of another peer's word"
        );
        let elsewhere = Host::Name("else".to_owned());
        assert!(failures.allow(teller, &elsewhere, FAILURES - 1, now));
        assert!(!failures.allow(teller, &elsewhere, FAILURES, now));
        assert!(failures.allow(teller, &host, 0, now + WINDOW));
        failures.note(teller, host.clone(), now + WINDOW);
        assert!(failures.allow(teller, &host, 0, now + WINDOW));
        assert_eq!(failures.counts.len(), 1);
    }
}
