// SPDX-License-Identifier: Apache-2.0
//! Who is asked for what.

use super::*;

fn number(number: u64) -> BlockNumber {
    BlockNumber::new(number)
}

fn hole(first: u64, last: u64) -> RangeInclusive<BlockNumber> {
    number(first)..=number(last)
}

fn known(first: u64, height: u64, own: bool) -> Known {
    Known {
        first: number(first),
        height: Height::new(height),
        own,
        unjudged: false,
    }
}

fn peers<const N: usize>(peers: [(&str, Known); N]) -> BTreeMap<NodeId, Known> {
    peers
        .into_iter()
        .map(|(node, known)| (NodeId::new(node), known))
        .collect()
}

/// A scheduler of which the blocks weigh so little that ranges are as long as they may be.
fn plan() -> Plan {
    let mut plan = Plan::new(3);
    for _ in 0..20 {
        plan.gave(&Giver::Orderers, number(0), 10, 100, Duration::ZERO);
    }
    plan
}

fn config(range_blocks: usize) -> Config {
    let default = Config::default();
    Config {
        range_blocks: range_blocks.try_into().unwrap(),
        ..default
    }
}

struct Scene {
    plan: Plan,
    config: Config,
    peers: BTreeMap<NodeId, Known>,
    holes: Vec<RangeInclusive<BlockNumber>>,
    now: Instant,
    still_since: Instant,
    room: usize,
}

impl Scene {
    fn new(peers: BTreeMap<NodeId, Known>, holes: &[RangeInclusive<BlockNumber>]) -> Self {
        let now = Instant::now();
        Self {
            plan: plan(),
            config: config(10),
            peers,
            holes: holes.to_vec(),
            now,
            still_since: now,
            room: 1 << 20,
        }
    }

    fn view(&self) -> View<'_> {
        View {
            now: self.now,
            due: *self.holes[0].start(),
            still_since: self.still_since,
            holes: &self.holes,
            peers: &self.peers,
            room: self.room,
        }
    }

    /// The ranges that are asked for at one time, with their peers.
    fn ask(&mut self) -> Vec<(String, u64, u64)> {
        let mut asked = Vec::new();
        while let Some(order) = self.plan.next(&self.view(), &self.config) {
            let flight = Flight {
                giver: Giver::Peer(order.peer.clone()),
                first: order.first,
                last: order.last,
                since: self.now,
            };
            if let Some(given_up) = order.instead_of {
                let given_up = self.plan.flights.remove(&given_up).unwrap();
                let (peer, until) = (given_up.giver.node(), self.now + self.config.peer_rest);
                self.plan.failed(peer.unwrap(), until);
            }
            let newest = self.plan.flights.last_key_value();
            let id = newest.map_or(100, |(id, _)| id + 1);
            self.plan.flights.insert(id, flight);
            let peer = order.peer.as_str().to_owned();
            asked.push((peer, order.first.get(), order.last.get()));
        }
        asked
    }

    fn first(&mut self) -> Option<(String, u64, u64)> {
        self.ask().into_iter().next()
    }
}

fn order(peer: &str, first: u64, last: u64) -> (String, u64, u64) {
    (peer.to_owned(), first, last)
}

/// Covers: STA-15
#[test]
fn a_gap_is_split_into_ranges_of_different_peers() {
    let all = peers([("a", known(0, 16, false)), ("b", known(0, 16, false))]);
    let mut scene = Scene::new(all, &[hole(1, 15)]);
    let asked = scene.ask();
    let ranges: Vec<_> = asked
        .iter()
        .map(|(_, first, last)| (*first, *last))
        .collect();
    assert_eq!(ranges, [(1, 10), (11, 15)]);
    assert_ne!(asked[0].0, asked[1].0);
    assert_eq!(scene.ask(), [], "each is busy, and everything is asked for");
}

/// Who is at the last block that is wanted does not have it (H18).
///
/// Covers: STA-12
#[test]
fn only_who_has_the_block_is_asked() {
    for (who, peers, expected) in [
        ("nobody", peers([]), None),
        ("who is at it", peers([("a", known(0, 5, false))]), None),
        ("who pruned it", peers([("a", known(6, 90, false))]), None),
        (
            "who is above it",
            peers([("a", known(0, 6, false))]),
            Some(order("a", 5, 5)),
        ),
        (
            "who has not pruned it",
            peers([("a", known(5, 90, false)), ("b", known(6, 90, true))]),
            Some(order("a", 5, 14)),
        ),
    ] {
        let mut scene = Scene::new(peers, &[hole(5, 40)]);
        assert_eq!(scene.first(), expected, "{who}");
    }
}

#[test]
fn the_own_organisation_comes_first_then_the_nearest_that_has_it_all() {
    let all = peers([
        ("far", known(0, 1000, false)),
        ("near", known(0, 30, false)),
        ("short", known(0, 7, false)),
    ]);
    let mut scene = Scene::new(all.clone(), &[hole(1, 900)]);
    let asked = scene.ask();
    assert_eq!(asked[0], order("near", 1, 10));
    assert_eq!(asked[1], order("far", 11, 20));
    let mut own = all;
    own.insert(NodeId::new("own"), known(0, 5, true));
    let mut scene = Scene::new(own, &[hole(1, 900)]);
    assert_eq!(scene.first(), Some(order("own", 1, 4)));
}

#[test]
fn who_failed_rests_and_comes_last_until_what_it_gave_is_stored() {
    let all = peers([("a", known(0, 500, false)), ("b", known(0, 600, false))]);
    let mut scene = Scene::new(all, &[hole(1, 10)]);
    let (a, rest) = (NodeId::new("a"), Duration::from_secs(5));
    scene.plan.failed(&a, scene.now + rest);
    assert_eq!(scene.first(), Some(order("b", 1, 10)));
    scene.plan.flights.clear();
    scene.now += rest * 2;
    let (now, peers) = (scene.now, scene.peers.clone());
    scene.plan.settle(number(1), now, &peers);
    assert_eq!(scene.first(), Some(order("b", 1, 10)), "a failed once");
    scene.plan.flights.clear();
    let giver = Giver::Peer(a.clone());
    scene.plan.gave(&giver, number(10), 10, 100, rest);
    scene.plan.settle(number(10), now, &peers);
    assert_eq!(scene.first(), Some(order("b", 1, 10)), "not stored yet");
    scene.plan.flights.clear();
    scene.plan.settle(number(11), now, &peers);
    assert_eq!(scene.first(), Some(order("a", 1, 10)), "it is the nearest");
    // Who goes and comes back rests on.
    scene.plan.flights.clear();
    scene.plan.failed(&a, scene.now + rest);
    scene.plan.settle(number(11), now, &BTreeMap::new());
    scene.plan.settle(number(11), now, &peers);
    assert_eq!(scene.first(), Some(order("b", 1, 10)));
}

#[test]
fn what_is_due_is_asked_of_another_one_when_it_does_not_come() {
    let all = peers([("a", known(0, 50, false)), ("b", known(0, 60, false))]);
    let mut scene = Scene::new(all, &[hole(1, 10)]);
    assert_eq!(scene.ask(), [order("a", 1, 10)]);
    let patience = scene.config.range_patience;
    assert_eq!(
        scene.plan.wake(&scene.view(), &scene.config),
        Some(scene.now + patience)
    );
    // As long as blocks come, it is left alone.
    scene.now += patience;
    scene.still_since = scene.now;
    scene.holes = vec![hole(4, 10)];
    assert_eq!(scene.ask(), []);
    scene.now += patience;
    assert_eq!(scene.ask(), [order("b", 4, 10)]);
    scene.now += patience * 3;
    assert_eq!(scene.ask(), [], "there is nobody else");
}

/// However many say to have what is due and give nothing, two of them are waited for at a time, and
/// whoever else there is gets its turn as soon as if all of them were.
#[test]
fn silent_peers_are_waited_for_by_twos_and_keep_nobody_from_being_asked() {
    let silent = (0..10).map(|peer| (NodeId::new(format!("silent-{peer}")), known(0, 50, true)));
    let stranger = (NodeId::new("stranger"), known(0, 50, false));
    let mut scene = Scene::new(silent.chain([stranger]).collect(), &[hole(1, 10)]);
    let (began, patience) = (scene.now, scene.config.range_patience);
    let (mut asked, mut longest) = (scene.ask(), Duration::ZERO);
    while asked.last().unwrap().0 != "stranger" {
        scene.now += patience;
        let (now, timeout) = (scene.now, scene.config.fetch_timeout);
        let flights = &mut scene.plan.flights;
        let over = flights.extract_if(.., |_, flight| now >= flight.since + timeout);
        for (_, flight) in over.collect::<Vec<_>>() {
            let peer = flight.giver.node().unwrap();
            scene.plan.failed(peer, now + scene.config.peer_rest);
            longest = max(longest, now - flight.since);
        }
        asked.extend(scene.ask());
        assert!(scene.plan.flights.len() <= AT_ONCE, "{:?}", scene.plan);
        assert_eq!(scene.now, began + patience * (asked.len() as u32 - 1));
    }
    assert_eq!(asked.len(), 11, "{asked:?}");
    assert_eq!(longest, scene.config.fetch_timeout, "one has all its time");
}

/// A third peer takes the place of the second one, whose time is short, or of the first one once that
/// had as long as a block may take. Who failed before has longer, but not at the cost of who did not.
#[test]
fn a_third_peer_takes_the_place_of_one_of_two() {
    let all = ["a", "b", "c", "d"].map(|node| (node, known(0, 50, false)));
    let mut scene = Scene::new(peers(all), &[hole(1, 10)]);
    let (began, patience) = (scene.now, scene.config.range_patience);
    let asks = |scene: &mut Scene, at: Duration| {
        scene.now = began + at;
        scene.first().map(|(peer, ..)| NodeId::new(peer))
    };
    let awaited = |scene: &Scene| -> Vec<NodeId> {
        let givers = scene.plan.flights.values().map(|flight| &flight.giver);
        givers.filter_map(|giver| giver.node().cloned()).collect()
    };
    let turns = [0, 1, 2, 3].map(|turn| asks(&mut scene, patience * turn).unwrap());
    assert_eq!(BTreeSet::from(turns.clone()).len(), 4);
    let [first, second, third, fourth] = turns;
    assert_eq!(awaited(&scene), [first, fourth]);
    let again = asks(&mut scene, patience * 4);
    assert_eq!(again.as_ref(), Some(&second), "its rest is over");
    let soon = patience * 5 - Duration::from_millis(1);
    assert_eq!(asks(&mut scene, soon), None);
    let timeout = scene.config.fetch_timeout;
    let again = asks(&mut scene, timeout);
    assert_eq!(again.as_ref(), Some(&third));
    assert_eq!(
        awaited(&scene),
        [second.clone(), third],
        "the first is over"
    );
    let rested = timeout + scene.config.peer_rest;
    assert_eq!(asks(&mut scene, rested), None, "these have longer");
    let next = scene.plan.wake(&scene.view(), &scene.config).unwrap() - began;
    assert_eq!(next, timeout + patience * 2);
    let new = NodeId::new("new");
    scene.peers.insert(new.clone(), known(0, 50, false));
    assert_eq!(asks(&mut scene, rested).as_ref(), Some(&new));
    assert_eq!(awaited(&scene), [second, new]);
}

#[test]
fn what_is_ahead_is_bounded_in_places_and_bytes() {
    let all = ["a", "b", "c", "d", "e", "f"].map(|node| (node, known(0, 1000, false)));
    let mut scene = Scene::new(peers(all), &[hole(1, 900)]);
    assert_eq!(scene.ask().len(), 4, "so many peers at one time");
    // Everyone is at work ahead when what is due gets lost: it does not wait for them.
    scene
        .plan
        .flights
        .retain(|_, flight| flight.first > number(1));
    scene.config.catch_up_peers = 3.try_into().unwrap();
    assert_eq!(scene.ask().len(), 1);

    let all = ["a", "b", "c", "d", "e", "f"].map(|node| (node, known(0, 1000, false)));
    let mut scene = Scene::new(peers(all), &[hole(1, 900)]);
    scene.room = 0;
    let asked = scene.ask();
    assert_eq!(asked.len(), 1, "what is due needs no room");
    assert_eq!((asked[0].1, asked[0].2), (1, 10));
    scene.plan = Plan::new(1);
    scene.room = 1 << 30;
    scene.config.range_blocks = 1000.try_into().unwrap();
    let (_, first, last) = scene.first().unwrap();
    let guessed = (scene.config.range_bytes.get() / FIRST_GUESS) as u64;
    assert_eq!(last - first + 1, guessed, "the first range is small");
}

#[test]
fn nodes_differ_in_whom_they_ask_first() {
    let all = ["a", "b", "c", "d"].map(|node| (node, known(0, 100, false)));
    let asked: BTreeSet<_> = (0..40)
        .map(|seed| {
            let mut scene = Scene::new(peers(all), &[hole(1, 5)]);
            scene.plan.seed = seed;
            scene.first().unwrap().0
        })
        .collect();
    assert_eq!(asked.len(), 4);
}
