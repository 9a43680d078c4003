// SPDX-License-Identifier: Apache-2.0
//! A body among nodes that are quick, slow, silent, late or false, by a clock of the test's own.

use std::collections::BTreeSet;

use proptest::{collection::vec, prelude::*};

use super::*;
use crate::{Keypair, bodies::Hints};

/// The step of the clock.
const STEP: Duration = Duration::from_millis(10);

/// What a node is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// It has all of it, and sends a chunk (or a quarter of a short body) each so many steps.
    Gives { steps: u32 },
    /// It says nothing at all.
    Silent,
    /// It says that it will give, and gives nothing.
    Stalls,
    /// It has it only from this step on.
    Late { from: u32 },
    /// Its hints are false.
    False,
}

/// The nodes, and what is on its way.
struct World {
    scheduler: Scheduler,
    hedges: Arc<Hedges>,
    manners: Vec<Manner>,
    peers: Vec<PeerId>,
    now: Instant,
    steps: u32,
    chunks: u32,
    has_manifest: bool,
    /// Of each node with a stream: what it is to send, and when it sends next.
    streams: BTreeMap<PeerId, (Vec<u32>, u32)>,
    asked: BTreeMap<PeerId, bool>,
    done: BTreeSet<u32>,
    received: usize,
    twice: usize,
    following: Option<HintsId>,
    stalled: Vec<PeerId>,
    most_open: usize,
    most_promised: usize,
}

fn hints(n: u32) -> HintsId {
    Hints {
        size: n,
        manifest: None,
    }
    .id()
}

impl World {
    fn new(manners: Vec<Manner>, chunks: u32, has_manifest: bool) -> Self {
        let now = Instant::now();
        let hedges = Arc::<Hedges>::default();
        // So that hedging is possible at all.
        hedges.came(20 * 2 * CHUNK_SIZE);
        let mut peers: Vec<PeerId> = (1..=manners.len())
            .map(|n| Keypair::from_seed([n as u8; 32]).peer_id())
            .collect();
        peers.sort_unstable();
        let mut scheduler = Scheduler::new(7, hedges.clone(), now);
        scheduler.nodes(&peers, now);
        Self {
            scheduler,
            hedges,
            manners,
            peers,
            now,
            steps: 0,
            chunks,
            has_manifest,
            streams: BTreeMap::new(),
            asked: BTreeMap::new(),
            done: BTreeSet::new(),
            received: 0,
            twice: 0,
            following: None,
            stalled: Vec::new(),
            most_open: 0,
            most_promised: 0,
        }
    }

    fn manner(&self, peer: &PeerId) -> Manner {
        let place = self.peers.iter().position(|known| known == peer).unwrap();
        self.manners[place]
    }

    fn hints_of(&self, peer: &PeerId) -> HintsId {
        match self.manner(peer) {
            Manner::False => hints(2),
            Manner::Gives { .. } | Manner::Silent | Manner::Stalls | Manner::Late { .. } => {
                hints(1)
            }
        }
    }

    fn act(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Open { peer, eager } => {
                    assert!(!self.streams.contains_key(&peer), "opened twice");
                    self.asked.insert(peer, eager);
                    self.scheduler.opened(&peer, self.now);
                }
                Action::Want { peer, chunks } => {
                    let (promised, _) = self.streams.get_mut(&peer).expect("an open stream");
                    promised.extend(chunks);
                    assert!(promised.len() <= WINDOW, "{promised:?}");
                }
                Action::WantAll { peer } => {
                    let count = self.chunks;
                    let stream = self.streams.get_mut(&peer).expect("an open stream");
                    stream.0 = (0..count).collect();
                }
                Action::Begin { peer } => {
                    assert!(self.following.is_none(), "begun twice");
                    self.following = Some(self.hints_of(&peer));
                }
                Action::Abandon => self.abandon(),
                Action::Close { peer } => self.close(&peer),
                Action::Stalled { peer } => self.stalled.push(peer),
            }
        }
        self.most_open = self.most_open.max(self.streams.len() + self.asked.len());
    }

    fn abandon(&mut self) {
        self.following = None;
        self.done.clear();
    }

    fn close(&mut self, peer: &PeerId) {
        self.asked.remove(peer);
        self.streams.remove(peer);
    }

    /// One step of the clock; `true` when all of it is there.
    fn step(&mut self) -> bool {
        let actions = self.scheduler.next(self.now);
        self.act(actions);
        self.now += STEP;
        self.steps += 1;
        for (peer, eager) in self.asked.clone() {
            match self.manner(&peer) {
                Manner::Silent => {}
                Manner::Late { from } if self.steps < from => {
                    self.close(&peer);
                    let actions = self.scheduler.ended(&peer, Ended::Later, self.now);
                    self.act(actions);
                }
                Manner::Gives { .. } | Manner::Stalls | Manner::Late { .. } | Manner::False => {
                    let have = Bits::all(self.chunks);
                    let first = match (eager, self.has_manifest) {
                        (false, _) => Vec::new(),
                        (true, true) => eager_chunks(7, &have).collect(),
                        (true, false) => (0..self.chunks).collect(),
                    };
                    let hints = self.hints_of(&peer);
                    self.scheduler
                        .offered(&peer, hints, self.has_manifest, have, self.now);
                    self.asked.remove(&peer);
                    self.streams.insert(peer, (first, self.steps));
                }
            }
        }
        let mut came = Vec::new();
        for (peer, (promised, since)) in &mut self.streams {
            let place = self.peers.iter().position(|known| known == peer).unwrap();
            let wait = match self.manners[place] {
                Manner::Gives { steps } => steps,
                Manner::Late { .. } | Manner::False => 1,
                Manner::Silent | Manner::Stalls => continue,
            };
            self.most_promised = self.most_promised.max(promised.len());
            if promised.is_empty() {
                *since = self.steps;
            } else if self.steps >= *since + wait {
                *since = self.steps;
                came.push((*peer, promised.remove(0)));
            }
        }
        for (peer, chunk) in came {
            self.received += CHUNK_SIZE;
            self.hedges.came(CHUNK_SIZE);
            if self.following != Some(self.hints_of(&peer)) {
                continue;
            }
            if !self.has_manifest && self.scheduler.source() != Some(peer) {
                continue;
            }
            if !self.done.insert(chunk) {
                self.twice += CHUNK_SIZE;
            }
            self.scheduler.came(&peer, chunk, CHUNK_SIZE, self.now);
        }
        if self.done.len() < self.chunks as usize {
            return false;
        }
        if self.following == Some(hints(1)) {
            return true;
        }
        // All of it came, and is not the body.
        let actions = match self.scheduler.source() {
            Some(peer) => {
                self.close(&peer);
                self.scheduler.ended(&peer, Ended::ForGood, self.now)
            }
            None => {
                for place in 0..self.manners.len() {
                    if self.manners[place] == Manner::False {
                        // What is known to be false is refused from here on.
                        self.manners[place] = Manner::Late { from: u32::MAX };
                    }
                }
                self.scheduler.disproved(self.now)
            }
        };
        self.abandon();
        self.act(actions);
        false
    }

    fn run(&mut self, limit: Duration) -> Duration {
        let began = self.now;
        while !self.step() {
            assert!(self.now - began < limit, "not done in {limit:?}");
        }
        self.now - began
    }
}

const CHUNK_SIZE: usize = super::super::hints::CHUNK;
const SECOND: Duration = Duration::from_secs(1);

#[test]
fn several_nodes_give_at_the_same_time() {
    let gives = Manner::Gives { steps: 10 };
    let alone = World::new(vec![gives], 40, true).run(60 * SECOND);
    let mut many = World::new(vec![gives; 8], 40, true);
    let together = many.run(60 * SECOND);
    assert!(
        together < alone / 3,
        "{together:?} with four, {alone:?} with one"
    );
    assert_eq!((many.most_open, many.twice), (GIVERS, 0));
    assert_eq!(many.most_promised, WINDOW);
}

#[test]
fn a_short_body_comes_from_one_node_and_once() {
    let mut world = World::new(vec![Manner::Gives { steps: 1 }; 6], 4, false);
    world.run(SECOND);
    assert_eq!(world.received, 4 * CHUNK_SIZE);
}

#[test]
fn who_is_silent_or_stalls_holds_nothing_up_and_is_told_of() {
    for bad in [Manner::Silent, Manner::Stalls] {
        for has_manifest in [true, false] {
            let manners = vec![bad, bad, Manner::Gives { steps: 1 }];
            let mut world = World::new(manners, 4, has_manifest);
            let took = world.run(10 * SECOND);
            assert!(took < 4 * SECOND, "{bad:?}: {took:?}");
        }
    }
    let mut alone = World::new(vec![Manner::Stalls], 8, true);
    while alone.now < alone.scheduler.began + GIVE_UP + SECOND {
        assert!(!alone.step());
    }
    assert_eq!(alone.stalled, alone.peers);
}

#[test]
fn a_slow_node_is_borne_with_when_there_is_no_other() {
    // A chunk each three seconds, which is longer than one is patient where there are others.
    let mut world = World::new(vec![Manner::Gives { steps: 300 }], 6, true);
    world.run(60 * SECOND);
    assert!(world.stalled.is_empty());
    let both = vec![Manner::Gives { steps: 300 }; 2];
    World::new(both.clone(), 6, true).run(120 * SECOND);
    World::new(both, 4, false).run(120 * SECOND);
}

#[test]
fn false_hints_are_followed_once_and_others_then() {
    for has_manifest in [true, false] {
        let manners = vec![Manner::False, Manner::Gives { steps: 1 }];
        let mut world = World::new(manners, 4, has_manifest);
        world.run(10 * SECOND);
        assert_eq!(world.following, Some(hints(1)));
    }
    // Of hints by which nobody gives anything, the others are tried.
    let manners = vec![Manner::Stalls, Manner::False];
    let mut world = World::new(manners, 4, true);
    for _ in 0..500 {
        if world.following == Some(hints(2)) {
            return;
        }
        world.step();
    }
    panic!("{:?}", world.scheduler);
}

#[test]
fn what_this_node_waits_for_itself_is_held_against_nobody() {
    let ([a, b], now) = (two(), Instant::now());
    let stalled = |actions: &[Action]| actions.contains(&Action::Stalled { peer: a });
    // No stream to it could be opened.
    let mut scheduler = asked(&[a], now);
    let later = now + HINTS_WITHIN;
    let actions = scheduler.next(later);
    assert!(actions.contains(&Action::Close { peer: a }) && !stalled(&actions));
    // One was, after a while.
    let mut scheduler = asked(&[a], now);
    scheduler.opened(&a, now + SECOND);
    assert!(scheduler.next(later).is_empty());
    assert!(stalled(&scheduler.next(later + SECOND)));
    // There was no room for what the one offers, while the other one was asked.
    let mut scheduler = asked(&[a, b], now);
    scheduler.opened(&a, now);
    scheduler.next(now + STAGGER);
    scheduler.opened(&b, now + STAGGER);
    scheduler.offered(&b, hints(1), true, Bits::all(6), now + STAGGER);
    let begun = scheduler.next(now + STAGGER);
    assert!(begun.contains(&Action::Begin { peer: b }), "{begun:?}");
    let much_later = now + 60 * SECOND;
    scheduler.start_over(much_later);
    let again = scheduler.next(much_later);
    assert_eq!(
        again,
        [Action::Open {
            peer: b,
            eager: true
        }]
    );
}

#[test]
fn who_trickles_is_as_slow_as_who_is_silent() {
    for (bytes, is_left) in [(ENOUGH / 20, true), (ENOUGH / 5, false)] {
        let ([a, b], mut now) = (two(), Instant::now());
        let mut scheduler = asked(&[a, b], now);
        scheduler.offered(&a, hints(1), false, Bits::all(3), now);
        let begun = scheduler.next(now);
        assert!(begun.contains(&Action::Begin { peer: a }), "{begun:?}");
        let mut actions = Vec::new();
        for _ in 0..20 {
            now += SECOND / 10;
            scheduler.came(&a, 0, bytes, now);
            actions.extend(scheduler.next(now));
        }
        assert_eq!(actions.contains(&Action::Abandon), is_left, "{actions:?}");
        let close = Action::Close { peer: a };
        assert_eq!(actions.contains(&close), is_left, "{actions:?}");
    }
}

#[test]
fn of_a_long_body_that_nobody_gives_nothing_is_kept() {
    let ([a, _], now) = (two(), Instant::now());
    let mut scheduler = asked(&[a], now);
    scheduler.offered(&a, hints(1), true, Bits::none(6), now);
    scheduler.next(now);
    assert!(scheduler.body.is_some());
    scheduler.ended(&a, Ended::ForGood, now);
    let later = scheduler.next(now + SLOW * 3);
    assert_eq!(later, [Action::Abandon]);
}

#[test]
fn who_has_it_is_not_kept_out_by_those_that_have_nothing_yet() {
    let now = Instant::now();
    let peers: Vec<PeerId> = (1..=12)
        .map(|n| Keypair::from_seed([n; 32]).peer_id())
        .collect();
    let (holder, others) = peers.split_last().unwrap();
    // It stopped once in the middle.
    let mut scheduler = asked(&[*holder], now);
    scheduler.offered(holder, hints(1), false, Bits::all(3), now);
    scheduler.next(now);
    scheduler.nodes(&[others, &[*holder]].concat(), now);
    let mut now = now + SLOW;
    let actions = scheduler.next(now);
    assert!(actions.contains(&Action::Abandon), "{actions:?}");
    // From here on four of the others keep this node waiting at any time.
    let (mut opened, mut begun) = (None, None);
    for _ in 0..200 {
        now += STEP;
        for action in scheduler.next(now) {
            match action {
                Action::Open { peer, .. } if peer == *holder => {
                    opened = opened.or(Some(now));
                    scheduler.offered(holder, hints(1), false, Bits::all(3), now);
                }
                Action::Begin { .. } => begun = begun.or(Some(now)),
                Action::Open { .. }
                | Action::Want { .. }
                | Action::WantAll { .. }
                | Action::Abandon
                | Action::Close { .. }
                | Action::Stalled { .. } => {}
            }
        }
        let asked = scheduler.nodes.iter().filter(|(_, node)| {
            let late = now - SECOND * 4 / 5;
            matches!(node.state, State::Asked { since, .. } if since <= late)
        });
        let not_yet: Vec<PeerId> = asked.map(|(peer, _)| *peer).collect();
        for peer in not_yet {
            scheduler.ended(&peer, Ended::Later, now);
        }
    }
    let (opened, begun) = (opened.unwrap(), begun.unwrap());
    assert!(begun - opened <= COMES_FIRST + STEP, "{:?}", begun - opened);
}

#[test]
fn who_has_no_room_is_left_alone_for_longer() {
    let ([a, _], now) = (two(), Instant::now());
    for (why, rest) in [(Ended::Later, SHORTEST_REST), (Ended::Busy, LONGEST_REST)] {
        let mut scheduler = asked(&[a], now);
        scheduler.ended(&a, why, now);
        assert!(scheduler.next(now + rest - STEP / 10).is_empty());
        assert_eq!(scheduler.next(now + rest).len(), 1);
    }
}

/// A scheduler that asked these nodes.
fn asked(peers: &[PeerId], now: Instant) -> Scheduler {
    let mut scheduler = Scheduler::new(0, Arc::default(), now);
    scheduler.nodes(peers, now);
    scheduler.next(now);
    scheduler
}

fn two() -> [PeerId; 2] {
    [1, 2].map(|n| Keypair::from_seed([n; 32]).peer_id())
}

#[test]
fn what_was_dropped_is_asked_for_again() {
    let ([a, b], now) = (two(), Instant::now());
    let mut scheduler = asked(&[a, b], now);
    // Hints of another node are followed before the first one, which sends at once, says its own.
    let later = now + STAGGER;
    scheduler.next(later);
    scheduler.offered(&b, hints(2), true, Bits::all(6), later);
    let begun = scheduler.next(later);
    assert!(begun.contains(&Action::Begin { peer: b }), "{begun:?}");
    scheduler.offered(&a, hints(1), true, Bits::all(6), later);
    for chunk in 0..3 {
        assert!(scheduler.dropped(&a, chunk, later));
    }
    // One that it was not asked for, so that one cannot know what else it sends.
    assert!(!scheduler.dropped(&a, 3, later));
    scheduler.disproved(later);
    let actions = scheduler.next(later);
    assert!(actions.contains(&Action::Begin { peer: a }), "{actions:?}");
    let chunks = vec![0, 1, 2];
    assert!(
        actions.contains(&Action::Want { peer: a, chunks }),
        "{actions:?}"
    );
    // Of a body without manifest one piece is the beginning of all.
    let mut short = asked(&[a], now);
    short.offered(&a, hints(1), false, Bits::all(3), now);
    assert!(!short.dropped(&a, 0, now));
}

#[test]
fn who_kept_this_node_waiting_is_not_to_send_at_once() {
    let ([a, b], now) = (two(), Instant::now());
    let mut scheduler = asked(&[a], now);
    let later = now + HINTS_WITHIN;
    scheduler.next(later);
    scheduler.nodes(&[a, b], later);
    let opened = scheduler.next(later + LONGEST_REST);
    assert!(opened.contains(&Action::Open {
        peer: b,
        eager: true
    }));
    assert!(opened.contains(&Action::Open {
        peer: a,
        eager: false
    }));
}

#[test]
fn who_tells_false_hints_twice_is_not_asked_again() {
    let ([a, _], mut now) = (two(), Instant::now());
    let mut scheduler = asked(&[a], now);
    for time in 1..=MISLED {
        scheduler.offered(&a, hints(time), true, Bits::all(6), now);
        let begun = scheduler.next(now);
        assert!(begun.contains(&Action::Begin { peer: a }), "{begun:?}");
        assert!(!scheduler.is_out(&a));
        let actions = scheduler.disproved(now);
        assert_eq!(actions, [Action::Abandon, Action::Close { peer: a }]);
        now += SECOND;
        scheduler.next(now);
    }
    assert!(scheduler.is_out(&a));
}

#[test]
fn who_has_nothing_yet_is_asked_again_and_who_left_is_not() {
    let mut world = World::new(vec![Manner::Late { from: 100 }; 3], 3, true);
    let took = world.run(2 * SECOND);
    assert!(took < STEP * 100 + SECOND / 2, "{took:?}");
    let mut left = World::new(vec![Manner::Silent; 2], 3, true);
    left.step();
    let stays = left.peers.split_off(1);
    left.asked.clear();
    left.scheduler.nodes(&stays, left.now);
    assert!(left.scheduler.nodes.keys().eq(&stays));
    assert!(!left.scheduler.is_hopeless());
    left.scheduler.ended(&stays[0], Ended::ForGood, left.now);
    assert!(left.scheduler.is_hopeless());
}

fn manner() -> impl Strategy<Value = Manner> {
    prop_oneof![
        (1u32..200).prop_map(|steps| Manner::Gives { steps }),
        Just(Manner::Silent),
        Just(Manner::Stalls),
        (1u32..300).prop_map(|from| Manner::Late { from }),
        Just(Manner::False),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_others_do_one_good_node_is_enough(
        mut manners in vec(manner(), 0..7), good in 1u32..40, chunks in 1u32..20, has_manifest in any::<bool>(),
    ) {
        manners.push(Manner::Gives { steps: good });
        let before = 20 * 2 * CHUNK_SIZE;
        let mut world = World::new(manners, chunks, has_manifest);
        world.run(300 * SECOND);
        // What came twice is within the share of all that came, and a short body is never hedged.
        let most = if has_manifest { (before + world.received) / 20 } else { 0 };
        prop_assert!(world.twice <= most, "{} of {}", world.twice, world.received);
    }
}
