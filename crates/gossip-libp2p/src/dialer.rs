// SPDX-License-Identifier: Apache-2.0
//! When to dial which static peer: a state machine without a clock and without a network.

use std::{collections::BTreeMap, time::Duration};

use libp2p::{Multiaddr, PeerId};
use rand::{RngExt, rngs::StdRng};
use tokio::time::Instant;

/// Keeps connections to the static peers: exponential back-off with full jitter, for ever.
#[derive(Debug)]
pub(crate) struct Dialer {
    base: Duration,
    cap: Duration,
    rng: StdRng,
    peers: BTreeMap<PeerId, Target>,
}

#[derive(Debug)]
struct Target {
    addresses: Vec<Multiaddr>,
    /// Attempts since a connection last held.
    attempts: u32,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting(Instant),
    Dialling,
    Connected(Instant),
}

impl Dialer {
    pub(crate) fn new(base: Duration, cap: Duration, rng: StdRng) -> Self {
        Self {
            base,
            cap,
            rng,
            peers: BTreeMap::new(),
        }
    }

    /// Adds an address of a peer, who is dialled at once unless that happens already.
    pub(crate) fn add(&mut self, peer: PeerId, address: Multiaddr, connected: bool, now: Instant) {
        let state = if connected {
            State::Connected(now)
        } else {
            State::Waiting(now)
        };
        let new = || Target {
            addresses: Vec::new(),
            attempts: 0,
            state,
        };
        let target = self.peers.entry(peer).or_insert_with(new);
        if !target.addresses.contains(&address) {
            target.addresses.push(address);
            if let State::Waiting(_) = target.state {
                target.state = State::Waiting(now);
            }
        }
    }

    /// Whether the peer is a static one.
    pub(crate) fn keeps(&self, peer: &PeerId) -> bool {
        self.peers.contains_key(peer)
    }

    /// When the next peer is due.
    pub(crate) fn next(&self) -> Option<Instant> {
        let due = |target: &Target| match target.state {
            State::Waiting(due) => Some(due),
            State::Dialling | State::Connected(_) => None,
        };
        self.peers.values().filter_map(due).min()
    }

    /// A peer that is due, with its addresses; it counts as being dialled from here on.
    pub(crate) fn take_due(&mut self, now: Instant) -> Option<(PeerId, Vec<Multiaddr>)> {
        let due = |target: &Target| matches!(target.state, State::Waiting(due) if due <= now);
        let (peer, target) = self.peers.iter_mut().find(|(_, target)| due(target))?;
        target.state = State::Dialling;
        Some((*peer, target.addresses.clone()))
    }

    /// A connection to the peer stands, whoever made it.
    pub(crate) fn connected(&mut self, peer: &PeerId, now: Instant) {
        if let Some(target) = self.peers.get_mut(peer) {
            target.state = State::Connected(now);
        }
    }

    /// The last connection to the peer is gone.
    pub(crate) fn disconnected(&mut self, peer: &PeerId, now: Instant) {
        let Some(target) = self.peers.get_mut(peer) else {
            return;
        };
        // A peer that hangs up at once, as one does that does not admit this node, is not asked
        // more often for having answered.
        if matches!(target.state, State::Connected(since) if now.duration_since(since) >= self.cap)
        {
            target.attempts = 0;
        }
        self.wait(peer, now);
    }

    /// Dialling the peer failed.
    pub(crate) fn failed(&mut self, peer: &PeerId, now: Instant) {
        // Of two that dial each other at once, one attempt fails while the connection stands.
        if self
            .peers
            .get(peer)
            .is_some_and(|target| target.state == State::Dialling)
        {
            self.wait(peer, now);
        }
    }

    fn wait(&mut self, peer: &PeerId, now: Instant) {
        let Some(target) = self.peers.get_mut(peer) else {
            return;
        };
        let doubled = self
            .base
            .saturating_mul(2u32.saturating_pow(target.attempts));
        target.attempts = target.attempts.saturating_add(1);
        let part = self.rng.random_range(0.0..=1.0);
        target.state = State::Waiting(now + doubled.min(self.cap).mul_f64(part));
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    const BASE: Duration = Duration::from_millis(200);
    const CAP: Duration = Duration::from_secs(10);

    fn dialer() -> (Dialer, PeerId, Instant) {
        let mut dialer = Dialer::new(BASE, CAP, StdRng::seed_from_u64(7));
        let (peer, now) = (crate::Keypair::from_seed([1; 32]).peer_id(), Instant::now());
        for address in [
            "/ip4/127.0.0.1/tcp/1",
            "/ip4/127.0.0.1/tcp/2",
            "/ip4/127.0.0.1/tcp/1",
        ] {
            dialer.add(peer, address.parse().unwrap(), false, now);
        }
        (dialer, peer, now)
    }

    fn delay(dialer: &Dialer, now: Instant) -> Duration {
        dialer.next().unwrap().duration_since(now)
    }

    #[test]
    fn a_new_peer_is_dialled_at_once_and_once() {
        let (mut dialer, peer, now) = dialer();
        let (due, addresses) = dialer.take_due(now).unwrap();
        assert_eq!((due, addresses.len()), (peer, 2));
        assert_eq!(dialer.take_due(now), None);
        assert_eq!(dialer.next(), None);
    }

    #[test]
    fn waits_grow_to_the_cap_and_are_random() {
        let (mut dialer, peer, now) = dialer();
        let mut waits = Vec::new();
        for attempt in 0..60 {
            dialer.take_due(now + CAP).unwrap();
            dialer.failed(&peer, now);
            let wait = delay(&dialer, now);
            assert!(
                wait <= CAP.min(BASE * 2u32.saturating_pow(attempt.min(20))),
                "{attempt}: {wait:?}"
            );
            waits.push(wait);
        }
        assert!(
            waits.iter().any(|wait| *wait > CAP / 2),
            "the cap is reached"
        );
        waits.dedup();
        assert!(waits.len() > 55, "waits differ");
    }

    #[test]
    fn only_a_connection_that_held_makes_the_next_wait_short() {
        let (mut dialer, peer, now) = dialer();
        for _ in 0..10 {
            dialer.take_due(now + CAP).unwrap();
            dialer.connected(&peer, now);
            assert_eq!(dialer.next(), None);
            dialer.disconnected(&peer, now);
        }
        let attempts = |dialer: &Dialer| dialer.peers.get(&peer).unwrap().attempts;
        assert_eq!(
            attempts(&dialer),
            10,
            "who hangs up at once is asked ever more rarely"
        );
        dialer.take_due(now + CAP).unwrap();
        dialer.connected(&peer, now);
        dialer.disconnected(&peer, now + CAP);
        assert_eq!(attempts(&dialer), 1);
        assert!(delay(&dialer, now + CAP) <= BASE);
    }

    #[test]
    fn an_attempt_that_fails_beside_a_connection_changes_nothing() {
        let (mut dialer, peer, now) = dialer();
        dialer.take_due(now).unwrap();
        dialer.connected(&peer, now);
        dialer.failed(&peer, now);
        assert_eq!(dialer.next(), None);
        dialer.connected(&PeerId::random(), now);
        dialer.disconnected(&PeerId::random(), now);
        assert_eq!(
            dialer.next(),
            None,
            "peers that are not static are none of its business"
        );
    }
}
