// SPDX-License-Identifier: Apache-2.0
//! The nodes that this one was told of, and when to dial which: a state machine without a clock and
//! without a network.
//!
//! Nodes that claim to be of the own organisation come first, so that few of it have to pull. A claim
//! is a reason to dial and nothing else: what a node proved when it is connected is what counts.

mod known;
mod room;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use libp2p::{Multiaddr, PeerId};
use rand::{RngExt, rngs::StdRng, seq::IteratorRandom};
use tokio::time::Instant;

use self::known::{HOPELESS, Known, State};
use super::{
    address::Place,
    failures::{Failures, WINDOW},
    record::{Record, Scope},
};

/// How many nodes are dialled at a time.
const MAX_DIALLING: usize = 4;

/// How many of those for what they claim, so that false claims leave room for others.
const MAX_DIALLING_MATES: usize = 3;

/// How many of those on the word of one peer, so that nobody who answers to nothing holds them all.
const MAX_DIALLING_TOLD: usize = 2;

/// How long a node that was just heard of may wait for its first dial. Many hear of it at once.
const FIRST_WAIT: Duration = Duration::from_millis(500);

/// How much longer the one with the greater id waits: of two that are told of each other at once,
/// the attempts would refuse each other.
const GIVE_WAY: Duration = Duration::from_millis(1000);

/// The nodes that others told of.
#[derive(Debug)]
pub(crate) struct Directory {
    own: PeerId,
    wanted: Wanted,
    base: Duration,
    cap: Duration,
    rng: StdRng,
    nodes: BTreeMap<PeerId, Known>,
    /// The connected nodes that proved to be of the own organisation.
    mates: BTreeSet<PeerId>,
    failures: Failures,
}

/// How many nodes are looked for.
#[derive(Debug)]
pub(crate) struct Wanted {
    /// So many that are not of the own organisation; with 0, none at all.
    pub(crate) others: usize,
    /// The MSP id of the own organisation, if there is one.
    pub(crate) organisation: Option<String>,
    /// How many nodes of one organisation may be connected.
    pub(crate) per_organisation: usize,
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

/// What is going on with the nodes that are known.
#[derive(Debug, Default)]
struct Tally {
    /// Those that are dialled as others, and for what they claim.
    dialling: usize,
    dialling_mates: usize,
    /// Those that wait for their turn.
    waiting: usize,
    waiting_mates: usize,
    /// Those that claim to be of the own organisation: all that there is hope for, and the connected
    /// ones.
    mates: usize,
    connected_mates: usize,
}

/// Which nodes may be dialled.
#[derive(Debug, Clone, Copy)]
struct Open {
    others: bool,
    mates: bool,
}

impl Directory {
    /// Nodes are dialled while fewer than those wanted are connected, the first time again after
    /// `base`, and after `cap` at most.
    pub(crate) fn new(
        own: PeerId,
        wanted: Wanted,
        base: Duration,
        cap: Duration,
        rng: StdRng,
    ) -> Self {
        Self {
            own,
            wanted,
            base,
            cap,
            rng,
            nodes: BTreeMap::new(),
            mates: BTreeSet::new(),
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
        let organisation = self.wanted.organisation.as_deref();
        let is_mate = organisation.is_some() && record.organisation.as_deref() == organisation;
        if self.nodes.contains_key(&node) {
            self.retell(&node, teller);
        } else if !self.make_room(&node, teller, is_mate) {
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
        known.note_claim(self.wanted.organisation.as_deref());
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
        if node == self.own
            || (!self.nodes.contains_key(&node) && !self.make_room(&node, node, false))
        {
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
        let open = self.open(connected)?;
        let busy = self.busy();
        let due = |known: &Known| match known.state {
            State::Waiting(due) if open.lets(known) && !busy.contains(&known.teller) => Some(due),
            State::Waiting(_) | State::Dialling | State::Connected(_) | State::Hopeless => None,
        };
        self.nodes.values().filter_map(due).min()
    }

    /// A node that is due, with its addresses but those of `own`; it counts as being dialled from
    /// here on. Those come first that claim to be of the own organisation. Which one is left to
    /// chance, so that not all nodes dial the same: first who told of it, so that whoever tells of
    /// many does not come up more often, then which one of these.
    pub(crate) fn take_due(
        &mut self,
        connected: usize,
        own: &[Multiaddr],
        now: Instant,
        may_dial: impl Fn(&PeerId) -> bool,
    ) -> Option<(PeerId, Vec<Multiaddr>)> {
        let own: Vec<Place> = own.iter().filter_map(Place::of).collect();
        while let Some(open) = self.open(connected) {
            let busy = self.busy();
            let due = |known: &Known| {
                matches!(known.state, State::Waiting(due) if due <= now)
                    && open.lets(known)
                    && !busy.contains(&known.teller)
            };
            let first = self
                .nodes
                .values()
                .any(|known| due(known) && known.is_mate());
            let due = |known: &Known| due(known) && known.is_mate() == first;
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
            known.as_mate = first;
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

    /// A connected node, one of so many, proved of which organisation it is. `true` for one that is
    /// there for a false claim alone: there are enough others.
    pub(crate) fn proved(&mut self, node: &PeerId, organisation: &str, connected: usize) -> bool {
        let is_mate = self.wanted.organisation.as_deref() == Some(organisation);
        match is_mate {
            true => self.mates.insert(*node),
            false => self.mates.remove(node),
        };
        let others = connected.saturating_sub(self.mates.len());
        let Some(known) = self.nodes.get_mut(node) else {
            return false;
        };
        known.disproved = !is_mate;
        !is_mate && known.as_mate && others > self.wanted.others
    }

    /// The connection to a node is gone.
    pub(crate) fn disconnected(&mut self, node: &PeerId, now: Instant) {
        self.mates.remove(node);
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

    /// Which nodes may be dialled, where so many are connected; `None` where there is nobody to dial.
    fn open(&self, connected: usize) -> Option<Open> {
        let tally = self.tally();
        if self.wanted.others == 0 || tally.dialling + tally.dialling_mates >= MAX_DIALLING {
            return None;
        }
        let others = connected.saturating_sub(self.mates.len()) + tally.dialling;
        // Who claims it and proved nothing yet takes a place, too.
        let mates = self.mates.len().max(tally.connected_mates) + tally.dialling_mates;
        let open = Open {
            others: tally.waiting > 0 && others < self.wanted.others,
            mates: tally.waiting_mates > 0
                && tally.dialling_mates < MAX_DIALLING_MATES
                && mates < self.enough_mates(&tally),
        };
        (open.others || open.mates).then_some(open)
    }

    /// How many nodes of the own organisation are looked for: all, with an eighth of the places left
    /// for those that come by themselves. Where they are more than that, each takes as many places of
    /// others as it has left for them, so that a node that comes late finds some.
    fn enough_mates(&self, tally: &Tally) -> usize {
        let places = self.wanted.per_organisation;
        let all = places - places / 8;
        match tally.mates <= all {
            true => all,
            false => places.div_ceil(2),
        }
    }

    fn tally(&self) -> Tally {
        let mut tally = Tally::default();
        for known in self.nodes.values() {
            let is_mate = known.is_mate();
            let count = match (known.state, is_mate) {
                (State::Waiting(_), false) => &mut tally.waiting,
                (State::Waiting(_), true) => &mut tally.waiting_mates,
                (State::Dialling, _) if known.as_mate => &mut tally.dialling_mates,
                (State::Dialling, _) => &mut tally.dialling,
                (State::Connected(_), true) => &mut tally.connected_mates,
                (State::Connected(_), false) | (State::Hopeless, _) => continue,
            };
            *count += 1;
            tally.mates += usize::from(is_mate);
        }
        tally
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

    fn wait(&mut self, node: &PeerId, now: Instant) {
        let Some(known) = self.nodes.get_mut(node) else {
            return;
        };
        let doubled = self
            .base
            .saturating_mul(2u32.saturating_pow(known.attempts));
        known.attempts = known.attempts.saturating_add(1);
        known.as_mate = false;
        let part = self.rng.random_range(0.0..=1.0);
        known.state = if known.attempts >= HOPELESS {
            State::Hopeless
        } else {
            State::Waiting(now + doubled.min(self.cap).mul_f64(part))
        };
    }
}

impl Open {
    /// Whether a node may be dialled.
    fn lets(self, known: &Known) -> bool {
        match known.is_mate() {
            true => self.mates,
            false => self.others,
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::{
        room::{MAX_KNOWN, MAX_TOLD},
        *,
    };
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

    const OWN: &str = "Org1MSP";

    fn directory(target: usize) -> Directory {
        Directory::new(
            key(0).peer_id(),
            Wanted {
                others: target,
                organisation: Some(OWN.to_owned()),
                per_organisation: 16,
            },
            BASE,
            CAP,
            StdRng::seed_from_u64(3),
        )
    }

    fn record(seed: u16, issued: u64, address: &str) -> Record {
        of("Org2MSP", seed, issued, address)
    }

    fn of(organisation: &str, seed: u16, issued: u64, address: &str) -> Record {
        let (key, addresses) = (key(seed), vec![address.parse().unwrap()]);
        Record::sign(&key, Scope::External, issued, addresses, Some(organisation)).unwrap()
    }

    /// One that says that it is of the own organisation.
    fn mate(seed: u16) -> Record {
        of(OWN, seed, UNIX, &address(seed))
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
            let scan = Record::sign(&key(seed), Scope::External, UNIX, ports.collect(), None);
            directory.learn(scan.unwrap(), told(999), now, UNIX);
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

    /// What is taken until nobody is left, each connected with this proof as soon as it is dialled.
    fn meet(
        directory: &mut Directory,
        connected: &mut usize,
        now: Instant,
        organisation: impl Fn(&PeerId) -> &'static str,
    ) -> Vec<PeerId> {
        let mut met = Vec::new();
        while let Some(node) = take(directory, *connected, now) {
            *connected += 1;
            directory.connected(&node, now);
            if directory.proved(&node, organisation(&node), *connected) {
                *connected -= 1;
                directory.disconnected(&node, now);
            }
            met.push(node);
        }
        met
    }

    #[test]
    fn mates_come_first_and_do_not_take_the_places_of_others() {
        let (mut directory, now) = (directory(3), Instant::now());
        for seed in 1..=8 {
            directory.learn(record(seed, UNIX, &address(seed)), told(99), now, UNIX);
            directory.learn(mate(100 + seed), told(99), now, UNIX);
        }
        let mates: BTreeSet<PeerId> = (101..=108).map(|seed| key(seed).peer_id()).collect();
        let of = |node: &PeerId| if mates.contains(node) { OWN } else { "Org2MSP" };
        // As many others as wanted are there already.
        let mut connected = 3;
        assert!(directory.next(connected).is_some());
        let met = meet(&mut directory, &mut connected, now + LONGEST, of);
        assert_eq!(met.iter().copied().collect::<BTreeSet<_>>(), mates);
        assert_eq!(directory.next(connected), None, "no other is wanted");
        // The mates are no reason to look for fewer others.
        let met = meet(&mut directory, &mut (connected - 2), now + LONGEST, of);
        assert_eq!(met.len(), 2);
        assert!(met.iter().all(|node| !mates.contains(node)));
    }

    #[test]
    fn who_dials_nobody_that_it_was_told_of_dials_no_mates_either() {
        let (mut directory, now) = (directory(0), Instant::now());
        directory.learn(mate(1), told(99), now, UNIX);
        assert_eq!(directory.next(0), None);
        assert_eq!(take(&mut directory, 0, now + LONGEST), None);
        let mut nobody = self::directory(1);
        nobody.wanted.organisation = None;
        nobody.learn(mate(1), told(99), now, UNIX);
        assert_eq!(take(&mut nobody, 1, now + LONGEST), None, "it has no mates");
    }

    #[test]
    fn claims_do_not_hold_all_places() {
        let (mut directory, now) = (directory(16), Instant::now());
        for seed in 1..=10 {
            directory.learn(mate(seed), told(97 + seed % 3), now, UNIX);
        }
        let honest = record(50, UNIX, &address(50));
        directory.learn(honest, told(90), now, UNIX);
        let later = now + LONGEST;
        let taken: Vec<PeerId> = std::iter::from_fn(|| take(&mut directory, 0, later)).collect();
        assert_eq!(taken.len(), MAX_DIALLING);
        assert_eq!(taken.last(), Some(&key(50).peer_id()));
    }

    #[test]
    fn a_false_claim_is_good_for_one_dial() {
        let (mut directory, now) = (directory(2), Instant::now());
        let (liar, mut connected) = (key(1).peer_id(), 2);
        directory.learn(mate(1), told(99), now, UNIX);
        let later = now + LONGEST;
        assert_eq!(take(&mut directory, connected, later), Some(liar));
        connected += 1;
        directory.connected(&liar, later);
        assert!(directory.proved(&liar, "Org2MSP", connected), "hung up on");
        directory.disconnected(&liar, later);
        connected -= 1;
        let newer = of(OWN, 1, UNIX + 1, &address(2));
        assert_eq!(directory.learn(newer, told(99), later, UNIX), News::Newer);
        assert_eq!(directory.next(connected), None, "it is no mate");
        // It may be one of the others, where these are wanted.
        connected -= 1;
        assert_eq!(take(&mut directory, connected, later + CAP), Some(liar));
        directory.connected(&liar, later);
        assert!(!directory.proved(&liar, "Org2MSP", connected + 1));
        // And it is a mate once it proves to be one.
        directory.disconnected(&liar, later);
        directory.connected(&liar, later);
        assert!(!directory.proved(&liar, OWN, connected + 1));
        directory.disconnected(&liar, later);
        assert_eq!(take(&mut directory, 2, later + CAP), Some(liar));
    }

    #[test]
    fn an_organisation_is_connected_throughout_while_there_are_places() {
        // Of 16 places two are left for those that come by themselves.
        for (count, dialled) in [(14, 14), (15, 8), (100, 8)] {
            let (mut directory, now) = (directory(2), Instant::now());
            for seed in 1..=count {
                directory.learn(mate(seed), told(999), now, UNIX);
            }
            let met = meet(&mut directory, &mut 2, now + LONGEST, |_| OWN);
            assert_eq!(met.len(), dialled, "of {count}");
        }
        // Who proves nothing takes no more places than that.
        let (mut directory, now) = (directory(2), Instant::now());
        for seed in 1..=14 {
            directory.learn(mate(seed), told(999), now, UNIX);
        }
        directory.wanted.per_organisation = 8;
        let mut connected = 2;
        while let Some(node) = take(&mut directory, connected, now + LONGEST) {
            directory.connected(&node, now);
            connected += 1;
        }
        assert_eq!(connected, 2 + 4);
    }

    #[test]
    fn mates_find_room_among_others_and_leave_them_half_of_it() {
        let (mut directory, now) = (directory(16), Instant::now());
        let mut seed = 0;
        for teller in 0..4 {
            for _ in 0..MAX_TOLD {
                seed += 1;
                let other = record(seed, UNIX, &address(seed));
                directory.learn(other, told(60000 + teller), now, UNIX);
            }
        }
        assert_eq!(directory.nodes.len(), MAX_KNOWN);
        let mut learned = 0;
        for seed in 2000..4000 {
            let told = told(60000 + seed % 4);
            learned += usize::from(directory.learn(mate(seed), told, now, UNIX) == News::First);
        }
        assert_eq!((learned, directory.nodes.len()), (MAX_KNOWN / 2, MAX_KNOWN));
    }
}
