// SPDX-License-Identifier: Apache-2.0
//! The nodes that this one was told of, and when to dial which: a state machine without a clock and
//! without a network.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use libp2p::{Multiaddr, PeerId};
use rand::{RngExt, rngs::StdRng, seq::IteratorRandom};
use tokio::time::Instant;

use super::{
    address::{Host, Place, dialable},
    failures::{Failures, WINDOW},
    record::{Record, Scope},
};

/// How many nodes are known at most.
const MAX_KNOWN: usize = 1024;

/// How many of them on the word of one peer, itself not counted.
const MAX_TOLD: usize = 256;

/// How many of them are dialled at a time.
const MAX_DIALLING: usize = 4;

/// After so many attempts that failed a node is not dialled until it says that it is elsewhere.
const HOPELESS: u32 = 10;

/// How long a node that was just heard of may wait for its first dial. Many hear of it at once.
const FIRST_WAIT: Duration = Duration::from_millis(500);

/// How much longer the one with the greater id waits: of two that are told of each other at once,
/// the attempts would refuse each other.
const GIVE_WAY: Duration = Duration::from_millis(1000);

/// The nodes that others told of.
#[derive(Debug)]
pub(crate) struct Directory {
    own: PeerId,
    target: usize,
    base: Duration,
    cap: Duration,
    rng: StdRng,
    nodes: BTreeMap<PeerId, Known>,
    failures: Failures,
}

/// How a record came.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Told {
    pub(crate) teller: PeerId,
    /// Whether the teller is on this machine.
    pub(crate) here: bool,
    /// Whether the node that the record is about is connected.
    pub(crate) connected: bool,
}

/// What a record said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum News {
    /// Nothing new, or there is no room for it.
    None,
    /// Where a node is of whom there was no such record.
    First,
    /// That it is elsewhere, or still there.
    Newer,
}

#[derive(Debug)]
struct Known {
    /// Who told of it.
    teller: PeerId,
    records: BTreeMap<Scope, Record>,
    /// Where to dial it, and where each address leads.
    addresses: Vec<(Multiaddr, Option<Host>)>,
    state: State,
    /// Attempts since a connection last held.
    attempts: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting(Instant),
    Dialling,
    Connected(Instant),
    /// Nobody is where it is said to be.
    Hopeless,
}

impl Directory {
    /// Nodes are dialled while fewer than `target` are connected, the first time again after `base`,
    /// and after `cap` at most.
    pub(crate) fn new(
        own: PeerId,
        target: usize,
        base: Duration,
        cap: Duration,
        rng: StdRng,
    ) -> Self {
        Self {
            own,
            target,
            base,
            cap,
            rng,
            nodes: BTreeMap::new(),
            failures: Failures::default(),
        }
    }

    /// Takes a record.
    pub(crate) fn learn(&mut self, record: Record, told: Told, now: Instant, unix: u64) -> News {
        let Told {
            teller,
            here,
            connected,
        } = told;
        if record.node == self.own || !record.holds_at(unix) {
            return News::None;
        }
        let node = record.node;
        if let Some(known) = self.nodes.get_mut(&node) {
            if let Some(before) = known.records.get(&record.scope)
                && record.issued <= before.issued
            {
                if known.attempts > 0 {
                    // What failed on the word of the one is tried on that of the other.
                    known.teller = teller;
                }
                return News::None;
            }
        } else if !self.has_room(&node, teller) {
            return News::None;
        }
        let mut wait = FIRST_WAIT.mul_f64(self.rng.random_range(0.0..=1.0));
        if node < self.own {
            wait += GIVE_WAY;
        }
        let state = if connected {
            State::Connected(now)
        } else {
            State::Waiting(now + wait)
        };
        let known = self
            .nodes
            .entry(node)
            .or_insert_with(|| Known::new(teller, state));
        known.teller = teller;
        let before = known.records.insert(record.scope, record);
        known.place(here, now + wait);
        match before {
            None => News::First,
            Some(_) => News::Newer,
        }
    }

    /// A node was found on the local network.
    #[cfg(any(test, feature = "mdns"))]
    pub(crate) fn found(
        &mut self,
        node: PeerId,
        address: Multiaddr,
        connected: bool,
        now: Instant,
    ) {
        if node == self.own || (!self.nodes.contains_key(&node) && !self.has_room(&node, node)) {
            return;
        }
        let state = if connected {
            State::Connected(now)
        } else {
            State::Waiting(now)
        };
        let known = self
            .nodes
            .entry(node)
            .or_insert_with(|| Known::new(node, state));
        let new = !known.addresses.iter().any(|(there, _)| *there == address);
        if new && known.addresses.len() < 2 * super::MAX_ADDRESSES {
            known.addresses.push((address, None));
            known.revive(now);
        }
    }

    /// The record of a node, to tell it to others.
    pub(crate) fn record(&self, node: &PeerId, scope: Scope) -> Option<&Record> {
        self.nodes.get(node)?.records.get(&scope)
    }

    /// When the next node is due, where so many are connected.
    pub(crate) fn next(&self, connected: usize) -> Option<Instant> {
        if !self.wants_more(connected) {
            return None;
        }
        let due = |known: &Known| match known.state {
            State::Waiting(due) => Some(due),
            State::Dialling | State::Connected(_) | State::Hopeless => None,
        };
        self.nodes.values().filter_map(due).min()
    }

    /// A node that is due, with its addresses but those of `own`; it counts as being dialled from
    /// here on. Which one is left to chance, so that not all nodes dial the same.
    pub(crate) fn take_due(
        &mut self,
        connected: usize,
        own: &[Multiaddr],
        now: Instant,
        may_dial: impl Fn(&PeerId) -> bool,
    ) -> Option<(PeerId, Vec<Multiaddr>)> {
        let own: Vec<Place> = own.iter().filter_map(Place::of).collect();
        while self.wants_more(connected) {
            let due = |known: &Known| matches!(known.state, State::Waiting(due) if due <= now);
            let (node, known) = self
                .nodes
                .iter_mut()
                .filter(|(_, known)| due(known))
                .choose(&mut self.rng)?;
            let addresses: Vec<Multiaddr> = known
                .addresses
                .iter()
                .filter(|(address, host)| {
                    let place = Place::of(address);
                    !place.is_some_and(|place| own.iter().any(|own| own.same(&place)))
                        && host
                            .as_ref()
                            .is_none_or(|host| self.failures.allow(known.teller, host, now))
                })
                .map(|(address, _)| address.clone())
                .collect();
            if addresses.is_empty() || !may_dial(node) {
                known.state = State::Waiting(now + WINDOW);
                continue;
            }
            known.state = State::Dialling;
            return Some((*node, addresses));
        }
        None
    }

    /// A connection to a node stands, whoever made it.
    pub(crate) fn connected(&mut self, node: &PeerId, now: Instant) {
        if let Some(known) = self.nodes.get_mut(node) {
            known.state = State::Connected(now);
        }
    }

    /// The connection to a node is gone.
    pub(crate) fn disconnected(&mut self, node: &PeerId, now: Instant) {
        let Some(known) = self.nodes.get_mut(node) else {
            return;
        };
        // One that hangs up at once, as it does where it does not admit this node, is not asked more
        // often for having answered.
        if matches!(known.state, State::Connected(since) if now.duration_since(since) >= self.cap) {
            known.attempts = 0;
        }
        self.wait(node, now);
    }

    /// Dialling a node failed.
    pub(crate) fn failed(&mut self, node: &PeerId, now: Instant) {
        let Some(known) = self.nodes.get(node) else {
            return;
        };
        // Of two that dial each other at once, one attempt fails while the connection stands.
        if known.state != State::Dialling {
            return;
        }
        let hosts: BTreeSet<&Host> = known
            .addresses
            .iter()
            .filter_map(|(_, host)| host.as_ref())
            .collect();
        for host in hosts {
            self.failures.note(known.teller, host.clone(), now);
        }
        self.wait(node, now);
    }

    /// Forgets records that do not hold any more, and the nodes that had no other.
    pub(crate) fn expire(&mut self, unix: u64) {
        self.nodes.retain(|_, known| {
            let before = known.records.len();
            known.records.retain(|_, record| record.holds_at(unix));
            let lost = before > 0 && known.records.is_empty();
            !lost || matches!(known.state, State::Connected(_))
        });
    }

    fn wants_more(&self, connected: usize) -> bool {
        let dialling = self
            .nodes
            .values()
            .filter(|known| known.state == State::Dialling)
            .count();
        dialling < MAX_DIALLING && connected + dialling < self.target
    }

    /// Whether a node that was not known can be. One that tells of itself always can: of those that
    /// are not connected, one makes way for it.
    fn has_room(&mut self, node: &PeerId, teller: PeerId) -> bool {
        if *node != teller {
            let told = self
                .nodes
                .iter()
                .filter(|(node, known)| known.teller == teller && **node != teller);
            return self.nodes.len() < MAX_KNOWN && told.count() < MAX_TOLD;
        }
        if self.nodes.len() >= MAX_KNOWN {
            let absent = self
                .nodes
                .iter()
                .filter(|(_, known)| matches!(known.state, State::Waiting(_) | State::Hopeless))
                .map(|(node, _)| *node)
                .choose(&mut self.rng);
            return absent.is_some_and(|node| self.nodes.remove(&node).is_some());
        }
        true
    }

    fn wait(&mut self, node: &PeerId, now: Instant) {
        let Some(known) = self.nodes.get_mut(node) else {
            return;
        };
        let doubled = self
            .base
            .saturating_mul(2u32.saturating_pow(known.attempts));
        known.attempts = known.attempts.saturating_add(1);
        let part = self.rng.random_range(0.0..=1.0);
        known.state = if known.attempts >= HOPELESS {
            State::Hopeless
        } else {
            State::Waiting(now + doubled.min(self.cap).mul_f64(part))
        };
    }
}

impl Known {
    fn new(teller: PeerId, state: State) -> Self {
        Self {
            teller,
            records: BTreeMap::new(),
            addresses: Vec::new(),
            state,
            attempts: 0,
        }
    }

    /// Takes the addresses from the records. Where they changed, the node is dialled again that
    /// nobody was found at before.
    fn place(&mut self, here: bool, due: Instant) {
        let mut addresses = Vec::new();
        for record in self.records.values() {
            for address in &record.addresses {
                let host = dialable(address, &record.node, here);
                if host.is_some() && !addresses.iter().any(|(there, _)| there == address) {
                    addresses.push((address.clone(), host));
                }
            }
        }
        if addresses != self.addresses {
            self.addresses = addresses;
            self.revive(due);
        }
    }

    /// Where it is changed: it is dialled again if nobody was found before.
    fn revive(&mut self, due: Instant) {
        if self.state == State::Hopeless {
            // The pace stays what it was: who changes its mind often is not asked more often.
            self.attempts = HOPELESS - 1;
            self.state = State::Waiting(due);
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;
    use crate::{Keypair, discovery::record::LIFETIME};

    const UNIX: u64 = 1_700_000_000_000;
    const BASE: Duration = Duration::from_secs(1);
    const CAP: Duration = Duration::from_secs(300);
    const LONGEST: Duration = FIRST_WAIT.saturating_add(GIVE_WAY);

    fn key(seed: u16) -> Keypair {
        let mut bytes = [0; 32];
        bytes[..2].copy_from_slice(&seed.to_be_bytes());
        Keypair::from_seed(bytes)
    }

    fn directory(target: usize) -> Directory {
        Directory::new(
            key(0).peer_id(),
            target,
            BASE,
            CAP,
            StdRng::seed_from_u64(3),
        )
    }

    fn record(seed: u16, issued: u64, address: &str) -> Record {
        let addresses = vec![address.parse().unwrap()];
        Record::sign(&key(seed), Scope::External, issued, addresses).unwrap()
    }

    fn told(teller: u16) -> Told {
        Told {
            teller: key(teller).peer_id(),
            here: false,
            connected: false,
        }
    }

    fn address(seed: u16) -> String {
        format!("/ip4/10.0.{}.{}/tcp/7000", seed / 256, seed % 256)
    }

    fn take(directory: &mut Directory, connected: usize, now: Instant) -> Option<PeerId> {
        let taken = directory.take_due(connected, &[], now, |_| true);
        taken.map(|(node, _)| node)
    }

    #[test]
    fn a_node_that_was_told_of_is_dialled_soon_and_once() {
        let (mut directory, now) = (directory(16), Instant::now());
        let first = directory.learn(record(1, UNIX, &address(1)), told(2), now, UNIX);
        assert_eq!(first, News::First);
        assert_eq!(
            directory.learn(record(1, UNIX, &address(1)), told(3), now, UNIX),
            News::None
        );
        assert_eq!(
            directory.learn(record(1, UNIX - 1, &address(9)), told(3), now, UNIX),
            News::None
        );
        assert_eq!(
            directory.learn(record(0, UNIX, &address(1)), told(2), now, UNIX),
            News::None,
            "itself"
        );
        let due = directory.next(0).unwrap();
        assert!(due <= now + LONGEST);
        let gives_way = key(1).peer_id() < key(0).peer_id();
        assert_eq!(due > now + FIRST_WAIT, gives_way);
        let mut other = self::directory(16);
        other.own = key(1).peer_id();
        assert_ne!(
            other.learn(record(0, UNIX, &address(0)), told(2), now, UNIX),
            News::None
        );
        assert_eq!(other.next(0).unwrap() > now + FIRST_WAIT, !gives_way);
        let (node, addresses) = directory.take_due(0, &[], due, |_| true).unwrap();
        assert_eq!(node, key(1).peer_id());
        assert_eq!(addresses, [address(1).parse().unwrap()]);
        assert_eq!(
            (take(&mut directory, 0, due), directory.next(0)),
            (None, None)
        );
        directory.connected(&node, now);
        directory.failed(&node, now);
        assert_eq!(directory.next(0), None);
    }

    #[test]
    fn who_has_enough_peers_dials_no_more_and_few_at_a_time() {
        let (mut directory, now) = (directory(16), Instant::now());
        for seed in 1..=40 {
            assert_ne!(
                directory.learn(record(seed, UNIX, &address(seed)), told(99), now, UNIX),
                News::None
            );
        }
        let later = now + LONGEST;
        assert_eq!(take(&mut directory, 16, later), None);
        assert_eq!(directory.next(16), None);
        let first: Vec<PeerId> = std::iter::from_fn(|| take(&mut directory, 14, later)).collect();
        assert_eq!(first.len(), 2);
        let more = std::iter::from_fn(|| take(&mut directory, 0, later));
        assert_eq!(more.count(), MAX_DIALLING - 2);
        let mut other = self::directory(16);
        other.rng = StdRng::seed_from_u64(4);
        for seed in 1..=40 {
            other.learn(record(seed, UNIX, &address(seed)), told(99), now, UNIX);
        }
        let second: Vec<PeerId> = std::iter::from_fn(|| take(&mut other, 14, later)).collect();
        assert_ne!(first, second, "not all dial the same");
    }

    #[test]
    fn who_is_not_there_is_given_up_until_it_says_that_it_is_elsewhere() {
        let (mut directory, mut now) = (directory(16), Instant::now());
        directory.learn(record(1, UNIX, &address(1)), told(2), now, UNIX);
        let mut attempts = 0;
        while let Some(due) = directory.next(0) {
            assert!(due <= now + CAP);
            now = due;
            let node = take(&mut directory, 0, now).unwrap();
            directory.failed(&node, now);
            attempts += 1;
        }
        assert_eq!(attempts, HOPELESS);
        let newer = directory.learn(record(1, UNIX + 1, &address(1)), told(2), now, UNIX);
        assert_eq!(newer, News::Newer);
        assert_eq!(directory.next(0), None, "it is where it was");
        assert_ne!(
            directory.learn(record(1, UNIX + 4000, &address(2)), told(2), now, UNIX),
            News::None
        );
        let node = take(&mut directory, 0, now + LONGEST).unwrap();
        directory.failed(&node, now);
        assert_eq!(directory.next(0), None, "one attempt for each change");
        directory.connected(&node, now);
        directory.disconnected(&node, now + CAP);
        assert!(
            directory.next(0).is_some(),
            "a connection that held gives hope"
        );
    }

    #[test]
    fn many_ids_at_one_victim_make_few_dials() {
        let (mut directory, now) = (directory(16), Instant::now());
        for seed in 1..=200 {
            let victim = format!("/ip4/10.9.9.9/tcp/{}", 7000 + seed);
            assert_ne!(
                directory.learn(record(seed, UNIX, &victim), told(999), now, UNIX),
                News::None
            );
        }
        directory.learn(
            record(300, UNIX, "/ip4/10.9.9.9/tcp/7000"),
            told(998),
            now,
            UNIX,
        );
        let (later, mut dials) = (now + LONGEST, 0);
        let honest = key(300).peer_id();
        let mut reached = false;
        while let Some(node) = take(&mut directory, 0, later) {
            if node == honest {
                reached = true;
                directory.connected(&node, later);
            } else {
                directory.failed(&node, later);
                // Back-off alone would not do: each id is dialled for the first time.
                directory.nodes.remove(&node);
                dials += 1;
            }
        }
        assert_eq!(dials, 16);
        assert!(
            reached,
            "one that is there is not hidden by those that are not"
        );
    }

    #[test]
    fn one_teller_does_not_fill_the_directory_and_a_node_itself_finds_room() {
        let (mut directory, now) = (directory(16), Instant::now());
        let mut seed = 0;
        let mut fill = |directory: &mut Directory, teller: u16| {
            let before = directory.nodes.len();
            for _ in 0..=MAX_TOLD {
                seed += 1;
                directory.learn(record(seed, UNIX, &address(seed)), told(teller), now, UNIX);
            }
            directory.nodes.len() - before
        };
        for teller in 0..4 {
            assert_eq!(fill(&mut directory, 60000 + teller), MAX_TOLD);
        }
        assert_eq!(fill(&mut directory, 61000), 0);
        assert_ne!(
            directory.learn(record(61000, UNIX, &address(1)), told(61000), now, UNIX),
            News::None
        );
        assert_eq!(directory.nodes.len(), MAX_KNOWN);
    }

    #[test]
    fn nobody_is_dialled_at_ones_own_address_or_without_leave() {
        let (mut directory, now) = (directory(16), Instant::now());
        directory.learn(record(1, UNIX, &address(1)), told(2), now, UNIX);
        let own = [address(1).parse().unwrap()];
        let later = now + LONGEST;
        assert_eq!(directory.take_due(0, &own, later, |_| true), None);
        assert_eq!(directory.take_due(0, &[], later + WINDOW, |_| false), None);
        assert!(take(&mut directory, 0, later + 2 * WINDOW).is_some());
    }

    #[test]
    fn what_expired_is_forgotten_but_who_is_connected() {
        let (mut directory, now) = (directory(16), Instant::now());
        directory.learn(record(1, UNIX, &address(1)), told(2), now, UNIX);
        let connected = Told {
            connected: true,
            ..told(3)
        };
        directory.learn(record(3, UNIX, &address(3)), connected, now, UNIX);
        let late = UNIX + LIFETIME.as_millis() as u64 + 1;
        directory.expire(late - 1);
        assert_eq!(directory.nodes.len(), 2);
        directory.expire(late);
        assert_eq!(directory.nodes.len(), 1);
        assert_eq!(directory.record(&key(3).peer_id(), Scope::External), None);
        assert_eq!(
            directory.learn(record(1, UNIX, &address(1)), told(2), now, late),
            News::None
        );
    }

    #[test]
    fn a_node_on_the_local_network_is_dialled_as_it_was_found() {
        let (mut directory, now) = (directory(16), Instant::now());
        let there: Multiaddr = "/ip4/192.168.1.2/tcp/80".parse().unwrap();
        directory.found(key(0).peer_id(), there.clone(), false, now);
        directory.found(key(1).peer_id(), there.clone(), false, now);
        directory.found(key(1).peer_id(), there.clone(), false, now);
        let (node, addresses) = directory.take_due(0, &[], now, |_| true).unwrap();
        assert_eq!((node, addresses), (key(1).peer_id(), vec![there]));
        directory.expire(u64::MAX);
        assert_eq!(directory.nodes.len(), 1);
    }
}
