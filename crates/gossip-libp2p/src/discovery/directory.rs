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

/// How many of those on the word of one peer, so that nobody who answers to nothing holds them all.
const MAX_DIALLING_TOLD: usize = 2;

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
    /// Where the addresses lead that were dialled last, each as often as it was.
    dialled: Vec<Host>,
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
        if self.nodes.contains_key(&node) {
            self.retell(&node, teller);
        } else if !self.make_room(&node, teller) {
            return News::None;
        }
        let before = self
            .nodes
            .get(&node)
            .and_then(|known| known.records.get(&record.scope));
        if before.is_some_and(|before| record.issued <= before.issued) {
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
        if node == self.own || (!self.nodes.contains_key(&node) && !self.make_room(&node, node)) {
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
        let busy = self.busy();
        let due = |known: &Known| match known.state {
            State::Waiting(due) if !busy.contains(&known.teller) => Some(due),
            State::Waiting(_) | State::Dialling | State::Connected(_) | State::Hopeless => None,
        };
        self.nodes.values().filter_map(due).min()
    }

    /// A node that is due, with its addresses but those of `own`; it counts as being dialled from
    /// here on. Which one is left to chance, so that not all nodes dial the same: first who told of
    /// it, so that whoever tells of many does not come up more often, then which one of these.
    pub(crate) fn take_due(
        &mut self,
        connected: usize,
        own: &[Multiaddr],
        now: Instant,
        may_dial: impl Fn(&PeerId) -> bool,
    ) -> Option<(PeerId, Vec<Multiaddr>)> {
        let own: Vec<Place> = own.iter().filter_map(Place::of).collect();
        while self.wants_more(connected) {
            let busy = self.busy();
            let due = |known: &Known| {
                matches!(known.state, State::Waiting(due) if due <= now)
                    && !busy.contains(&known.teller)
            };
            let tellers: BTreeSet<PeerId> = self
                .nodes
                .values()
                .filter(|known| due(known))
                .map(|known| known.teller)
                .collect();
            let teller = tellers.into_iter().choose(&mut self.rng)?;
            let (node, known) = self
                .nodes
                .iter_mut()
                .filter(|(_, known)| known.teller == teller && due(known))
                .choose(&mut self.rng)?;
            let (mut addresses, mut dialled) = (Vec::new(), Vec::new());
            for (address, host) in &known.addresses {
                let place = Place::of(address);
                if place.is_some_and(|place| own.iter().any(|own| own.same(&place))) {
                    continue;
                }
                if let Some(host) = host {
                    let more = dialled.iter().filter(|other| *other == host).count();
                    if !self.failures.allow(teller, host, more, now) {
                        continue;
                    }
                    dialled.push(host.clone());
                }
                addresses.push(address.clone());
            }
            if addresses.is_empty() || !may_dial(node) {
                known.state = State::Waiting(now + WINDOW);
                continue;
            }
            known.state = State::Dialling;
            known.dialled = dialled;
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
        let Some(known) = self.nodes.get_mut(node) else {
            return;
        };
        // Of two that dial each other at once, one attempt fails while the connection stands.
        if known.state != State::Dialling {
            return;
        }
        // Each address counts: many ports of one host are not tried for the price of one.
        for host in known.dialled.drain(..) {
            self.failures.note(known.teller, host, now);
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

    /// On whose word no more nodes are dialled now.
    fn busy(&self) -> BTreeSet<PeerId> {
        let mut dialling: BTreeMap<PeerId, usize> = BTreeMap::new();
        for known in self.nodes.values() {
            if known.state == State::Dialling {
                *dialling.entry(known.teller).or_default() += 1;
            }
        }
        dialling.retain(|_, count| *count >= MAX_DIALLING_TOLD);
        dialling.into_keys().collect()
    }

    /// How many nodes are known on the word of a peer, itself not counted.
    fn told_by(&self, teller: &PeerId) -> usize {
        let told = |(node, known): &(&PeerId, &Known)| known.teller == *teller && *node != teller;
        self.nodes.iter().filter(told).count()
    }

    /// One more tells of a node: it is known on the word of who tells of fewer, so that nobody hides
    /// it among many, and of itself best of all. What failed on the word of the one is tried on that
    /// of another who tells of as many.
    fn retell(&mut self, node: &PeerId, teller: PeerId) {
        let Some(known) = self.nodes.get(node) else {
            return;
        };
        let (before, failed) = (known.teller, known.attempts > 0);
        if before == teller {
            return;
        }
        let (new, old) = (self.told_by(&teller), self.told_by(&before));
        let fewer = new < old || (failed && new == old);
        if (*node == teller || (*node != before && fewer))
            && let Some(known) = self.nodes.get_mut(node)
        {
            known.teller = teller;
        }
    }

    /// Makes room for a node that was not known, if there can be any. Where all places are taken, one
    /// of a node that is not connected is given up, of the peer on whose word most are known: any for
    /// a node that tells of itself or is told of by a peer who has fewer, and otherwise one that was
    /// dialled in vain.
    fn make_room(&mut self, node: &PeerId, teller: PeerId) -> bool {
        let own = self.told_by(&teller);
        if *node != teller && own >= MAX_TOLD {
            return self.give_up(teller, 1);
        }
        if self.nodes.len() < MAX_KNOWN {
            return true;
        }
        let mut absent: BTreeMap<PeerId, usize> = BTreeMap::new();
        for known in self.nodes.values().filter(|known| known.is_absent()) {
            *absent.entry(known.teller).or_default() += 1;
        }
        let Some((greatest, most)) = absent.into_iter().max_by_key(|(_, count)| *count) else {
            return false;
        };
        let has_fewer = *node == teller || own + 1 < most;
        self.give_up(greatest, u32::from(!has_fewer))
    }

    /// Forgets the node that failed most often, and so many times at least, of those that are known
    /// on the word of a peer and are not connected.
    fn give_up(&mut self, teller: PeerId, failures: u32) -> bool {
        let worst = self
            .nodes
            .iter()
            .filter(|(_, known)| {
                known.teller == teller && known.is_absent() && known.attempts >= failures
            })
            .max_by_key(|(_, known)| (known.state == State::Hopeless, known.attempts))
            .map(|(node, _)| *node);
        worst.is_some_and(|node| self.nodes.remove(&node).is_some())
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
            dialled: Vec::new(),
            attempts: 0,
        }
    }

    /// Whether it is neither connected nor being dialled.
    fn is_absent(&self) -> bool {
        matches!(self.state, State::Waiting(_) | State::Hopeless)
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
        let teller = |seed: u16| told(97 + seed % 3);
        for seed in 1..=40 {
            assert_ne!(
                directory.learn(record(seed, UNIX, &address(seed)), teller(seed), now, UNIX),
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
            other.learn(record(seed, UNIX, &address(seed)), teller(seed), now, UNIX);
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
    fn made_up_nodes_of_a_few_hide_nobody_that_another_tells_of() {
        let (mut directory, mut now) = (directory(16), Instant::now());
        // The honest nodes are told of by one who does it with many others, too.
        let honest: Vec<PeerId> = (1..=20).map(|seed| key(seed).peer_id()).collect();
        for seed in 1..=10 {
            directory.learn(record(seed, UNIX, &address(seed)), told(60000), now, UNIX);
        }
        let mut seed = 1000;
        for teller in 0..5 {
            for _ in 0..MAX_TOLD {
                seed += 1;
                let made_up = record(seed, UNIX, &address(seed));
                directory.learn(made_up, told(60000 + teller), now, UNIX);
            }
        }
        assert_eq!(directory.nodes.len(), MAX_KNOWN);
        for seed in 1..=20 {
            directory.learn(record(seed, UNIX, &address(seed)), told(61000), now, UNIX);
        }
        assert!(honest.iter().all(|node| directory.nodes.contains_key(node)));
        assert_eq!(directory.nodes.len(), MAX_KNOWN);

        // Who is made up never answers, and is given up after a while.
        let (mut dialling, mut met) = (Vec::new(), 0);
        for _ in 0..100 {
            now += LONGEST;
            while let Some(node) = take(&mut directory, 0, now) {
                match honest.contains(&node) {
                    true => {
                        directory.connected(&node, now);
                        met += 1;
                    }
                    false => dialling.push(node),
                }
            }
            let one = dialling.remove(0);
            directory.failed(&one, now);
        }
        assert_eq!(met, honest.len());
    }

    #[test]
    fn who_tells_of_nobody_holds_two_places_at_most() {
        let (mut directory, now) = (directory(16), Instant::now());
        for seed in 1..=40 {
            directory.learn(record(seed, UNIX, &address(seed)), told(99), now, UNIX);
        }
        let later = now + LONGEST;
        let taken = std::iter::from_fn(|| take(&mut directory, 0, later));
        assert_eq!(taken.count(), MAX_DIALLING_TOLD);
        assert_eq!(directory.next(0), None, "until one of them has failed");
        directory.learn(record(50, UNIX, &address(50)), told(98), now, UNIX);
        assert!(directory.next(0).is_some());
        let honest = key(50).peer_id();
        assert_eq!(take(&mut directory, 0, later), Some(honest));
    }

    #[test]
    fn what_failed_makes_way_where_all_places_of_a_peer_are_taken() {
        let (mut directory, now) = (directory(16), Instant::now());
        for seed in 1..=MAX_TOLD as u16 {
            directory.learn(record(seed, UNIX, &address(seed)), told(999), now, UNIX);
        }
        let more = || record(900, UNIX, &address(900));
        assert_eq!(directory.learn(more(), told(999), now, UNIX), News::None);
        let failed = take(&mut directory, 0, now + LONGEST).unwrap();
        directory.failed(&failed, now);
        assert_eq!(directory.learn(more(), told(999), now, UNIX), News::First);
        assert!(!directory.nodes.contains_key(&failed));
        assert_eq!(directory.nodes.len(), MAX_TOLD);
    }

    #[test]
    fn each_address_of_an_attempt_counts_as_one() {
        let (mut directory, now) = (directory(16), Instant::now());
        for seed in 1..=20 {
            let ports = (0..8).map(|port| {
                let port = 7000 + 8 * seed + port;
                format!("/ip4/10.9.9.9/tcp/{port}").parse().unwrap()
            });
            let scan = Record::sign(&key(seed), Scope::External, UNIX, ports.collect()).unwrap();
            directory.learn(scan, told(999), now, UNIX);
        }
        let (later, mut knocks) = (now + LONGEST, 0);
        while let Some((node, addresses)) = directory.take_due(0, &[], later, |_| true) {
            knocks += addresses.len();
            directory.failed(&node, later);
        }
        assert_eq!(knocks, 16);
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
