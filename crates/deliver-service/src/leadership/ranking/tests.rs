// SPDX-License-Identifier: Apache-2.0
//! One node's decisions, and those of several nodes that hear each other.

mod liars;

use block_api::{HeaderHash, NodeId};
use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const SETTINGS: Settings = Settings {
    pullers: 1,
    takeover: Duration::from_secs(3),
    censorship: Duration::from_secs(30),
};

/// Places in their order.
fn ranks(count: usize) -> Vec<Rank> {
    let rank = |n: usize| {
        let name = format!("node-{n}");
        let channel = "ch".parse().unwrap();
        let node = NodeId::new(name.as_str());
        Rank::of(&channel, &HeaderHash::new([0; 32]), name.as_bytes(), &node)
    };
    let mut ranks: Vec<Rank> = (0..count).map(rank).collect();
    ranks.sort_unstable();
    ranks
}

fn seen(rank: &Rank, pulling: bool, height: u64) -> Seen {
    Seen {
        rank: rank.clone(),
        pulling,
        height: Height::new(height),
    }
}

/// The last of so many nodes, and those before it.
fn last(count: usize, settings: Settings) -> (Ranking, Vec<Rank>, Instant) {
    let mut ranks = ranks(count);
    let (own, now) = (ranks.pop().unwrap(), Instant::now());
    (
        Ranking::new(settings, own, Height::new(1), false, now),
        ranks,
        now,
    )
}

fn see(ranking: &mut Ranking, seen: Vec<Seen>, now: Instant) -> Decision {
    let own = ranking.own.clone();
    ranking.see(own, seen, now);
    ranking.decide(now)
}

/// Covers: ELE-01
#[tokio::test(start_paused = true)]
async fn a_node_that_is_alone_pulls_after_a_while() {
    let (mut ranking, _, start) = last(1, SETTINGS);
    let first = see(&mut ranking, vec![], start);
    let leadership = Leadership {
        role: Role::Waiting,
        rank: 0,
        candidates: 1,
    };
    assert_eq!(first.leadership, leadership);
    assert_eq!(first.wake, Some(start + SETTINGS.takeover));
    let then = ranking.decide(start + SETTINGS.takeover);
    assert_eq!((then.leadership.role, then.wake), (Role::Puller, None));
}

#[tokio::test(start_paused = true)]
async fn a_better_node_has_time_to_begin_and_is_then_replaced() {
    let (mut ranking, others, start) = last(2, SETTINGS);
    let role = |ranking: &mut Ranking, pulling, at| {
        let decision = see(ranking, vec![seen(&others[0], pulling, 1)], at);
        (decision.leadership.role, decision.wake)
    };
    let begin_by = start + SETTINGS.takeover * 2;
    assert_eq!(
        role(&mut ranking, false, start),
        (Role::Standby, Some(begin_by))
    );
    let at = begin_by - SECOND;
    assert_eq!(role(&mut ranking, true, at).0, Role::Standby);

    // Its stream is down.
    let down = start + SECOND * 20;
    let (before, after) = (down + SETTINGS.takeover - SECOND, down + SETTINGS.takeover);
    assert_eq!(
        role(&mut ranking, false, down),
        (Role::Standby, Some(after))
    );
    assert_eq!(role(&mut ranking, false, before).0, Role::Standby);
    assert_eq!(role(&mut ranking, false, after).0, Role::Puller);
    // It may try as long as it likes; once it has a stream it has the channel back.
    let long_after = after + SECOND * 1000;
    assert_eq!(role(&mut ranking, false, long_after).0, Role::Puller);
    assert_eq!(role(&mut ranking, true, long_after).0, Role::Puller);
    let lasted = long_after + SETTINGS.takeover;
    assert_eq!(role(&mut ranking, true, lasted).0, Role::Standby);
    assert_eq!(
        role(&mut ranking, false, lasted).0,
        Role::Standby,
        "the time begins anew"
    );
    // It is gone.
    let gone = see(&mut ranking, vec![], lasted);
    assert_eq!(gone.leadership.role, Role::Puller);
}

/// Covers: ELE-03
#[tokio::test(start_paused = true)]
async fn who_pulls_goes_on_until_a_better_one_has_a_stream() {
    let (mut ranking, others, start) = last(2, SETTINGS);
    let at = start + SETTINGS.takeover;
    assert_eq!(see(&mut ranking, vec![], at).leadership.role, Role::Puller);
    let came = see(&mut ranking, vec![seen(&others[0], false, 1)], at);
    assert_eq!(came.leadership.role, Role::Puller);
    assert_eq!((came.leadership.rank, came.leadership.candidates), (1, 2));
    let began = see(&mut ranking, vec![seen(&others[0], true, 1)], at);
    assert_eq!(began.leadership.role, Role::Standby);
}

/// As after a panic of the task that decides.
#[tokio::test(start_paused = true)]
async fn who_pulls_already_does_not_begin_with_a_pause() {
    let others = ranks(2);
    let (own, now) = (others[1].clone(), Instant::now());
    let mut ranking = Ranking::new(SETTINGS, own, Height::new(1), true, now);
    assert_eq!(ranking.decide(now).leadership.role, Role::Puller);
    let better = see(&mut ranking, vec![seen(&others[0], true, 1)], now);
    assert_eq!(better.leadership.role, Role::Standby);
}

#[tokio::test(start_paused = true)]
async fn worse_nodes_change_nothing() {
    let mut all = ranks(3);
    let own = all.remove(0);
    let start = Instant::now();
    let mut ranking = Ranking::new(SETTINGS, own, Height::new(1), false, start);
    let at = start + SETTINGS.takeover;
    let others: Vec<Seen> = all.iter().map(|rank| seen(rank, true, 900)).collect();
    let decision = see(&mut ranking, others, at);
    assert_eq!(decision.leadership.role, Role::Puller);
    assert_eq!(decision.leadership.candidates, 3);
}

#[tokio::test(start_paused = true)]
async fn every_standby_looks_in_its_turn_when_nothing_comes() {
    let (mut ranking, others, start) = last(9, SETTINGS);
    let patience = SETTINGS.censorship + SETTINGS.censorship / 4;
    // One that comes before it may say nothing at all: that costs time, and not the channel.
    for (standbys, turn) in [(0, 1), (1, 2), (2, 3), (3, 4), (4, 4), (7, 4)] {
        let silent = others[1..=standbys].iter().map(|rank| seen(rank, false, 1));
        let view = silent.chain([seen(&others[0], true, 1)]).collect();
        let wake = see(&mut ranking, view, start).wake.unwrap();
        assert!((start + SETTINGS.censorship * turn..=start + patience * turn).contains(&wake));
        assert!(!ranking.decide(wake - SECOND).probe);
        assert!(ranking.decide(wake).probe);
    }
    let alone = |pulling| vec![seen(&others[0], pulling, 1)];
    let at = start + patience * 100;
    ranking.probed(at);
    let wake = see(&mut ranking, alone(true), at).wake.unwrap();
    assert!((at + SETTINGS.censorship..=at + patience).contains(&wake));
    // Not even a stream that is down for a moment puts it off.
    assert!(!see(&mut ranking, alone(false), wake - SECOND).probe);
    assert!(see(&mut ranking, alone(false), wake).probe);
    assert!(see(&mut ranking, alone(true), wake).probe);
    ranking.probed(wake);
    assert!(!ranking.decide(wake).probe, "one in its time");
    assert!(ranking.decide(wake + patience).probe);
    // A block puts it off, whatever way it came.
    ranking.grew(Height::new(2), Height::new(1), wake + patience);
    assert!(!ranking.decide(wake + patience).probe);
    // Who pulls itself does not look.
    assert!(!see(&mut ranking, vec![], wake + patience * 3).probe);
}

#[tokio::test(start_paused = true)]
async fn who_found_a_withheld_block_pulls_beside_the_others() {
    let (mut ranking, others, start) = last(2, SETTINGS);
    let view = |height| vec![seen(&others[0], true, height)];
    assert_eq!(
        see(&mut ranking, view(1), start).leadership.role,
        Role::Standby
    );
    ranking.grew(Height::new(5), Height::new(1), start);
    ranking.found_withheld(start);
    let role = |ranking: &mut Ranking, height, at| see(ranking, view(height), at).leadership.role;
    assert_eq!(role(&mut ranking, 1, start), Role::Beside);
    // It does not follow: that takes as long as it takes.
    let late = start + SETTINGS.censorship * 3;
    assert_eq!(role(&mut ranking, 1, late), Role::Beside);
    assert_eq!(role(&mut ranking, 5, late), Role::Beside);
    let end = late + SETTINGS.censorship;
    assert_eq!(role(&mut ranking, 5, end - SECOND), Role::Beside);
    assert_eq!(role(&mut ranking, 5, end), Role::Standby);
    // The next time takes twice as long: what came meanwhile or comes soon after proves nothing.
    ranking.grew(Height::new(6), Height::new(6), end);
    ranking.found_withheld(end);
    let period = SETTINGS.censorship * 2;
    assert_eq!(role(&mut ranking, 6, end + period - SECOND), Role::Beside);
    assert_eq!(role(&mut ranking, 6, end + period), Role::Standby);
    // That ends when the others have brought blocks by themselves for long enough.
    let trusted = end + period + SETTINGS.censorship * 16;
    ranking.grew(Height::new(7), Height::new(7), trusted - SECOND);
    assert_eq!(ranking.withheld, 2);
    ranking.grew(Height::new(8), Height::new(7), trusted);
    assert_eq!(ranking.withheld, 2, "it brought that one itself");
    ranking.grew(Height::new(9), Height::new(9), trusted);
    assert_eq!(ranking.withheld, 0);
    // If it has to take over meanwhile, it just goes on, and a stream of a moment ends neither.
    ranking.found_withheld(trusted);
    let gone = see(&mut ranking, vec![], trusted);
    assert_eq!(gone.leadership.role, Role::Puller);
    assert_eq!(role(&mut ranking, 9, trusted), Role::Beside);
}

/// Something that happens to a node of a group.
#[derive(Debug, Clone, Copy)]
enum Event {
    Stops(usize),
    Starts(usize),
    /// It reaches no orderer.
    Fails(usize),
    Mends(usize),
    /// Two nodes do not hear each other, or do again.
    Cut(usize, usize),
    Heal(usize, usize),
}

/// Nodes that hear each other with a delay of one step.
struct Group {
    ranks: Vec<Rank>,
    settings: Settings,
    nodes: Vec<Option<Ranking>>,
    reaches: Vec<bool>,
    cut: Vec<(usize, usize)>,
    /// Since when each has a stream, and whether it said so by the last step.
    streams: Vec<Option<Instant>>,
    told: Vec<bool>,
    now: Instant,
}

const STEP: Duration = Duration::from_millis(250);

impl Group {
    fn new(count: usize, settings: Settings) -> Self {
        let now = Instant::now();
        let ranks = ranks(count);
        let node = |rank: &Rank| {
            Some(Ranking::new(
                settings,
                rank.clone(),
                Height::new(1),
                false,
                now,
            ))
        };
        Self {
            nodes: ranks.iter().map(node).collect(),
            ranks,
            settings,
            reaches: vec![true; count],
            cut: Vec::new(),
            streams: vec![None; count],
            told: vec![false; count],
            now,
        }
    }

    fn happens(&mut self, event: Event) {
        let count = self.ranks.len();
        let pair = |a: usize, b: usize| ((a % count).min(b % count), (a % count).max(b % count));
        match event {
            Event::Stops(node) => self.nodes[node % count] = None,
            Event::Starts(node) => {
                let node = node % count;
                let rank = self.ranks[node].clone();
                let fresh = || Ranking::new(self.settings, rank, Height::new(1), false, self.now);
                self.nodes[node].get_or_insert_with(fresh);
            }
            Event::Fails(node) => self.reaches[node % count] = false,
            Event::Mends(node) => self.reaches[node % count] = true,
            Event::Cut(a, b) => self.cut.push(pair(a, b)),
            Event::Heal(a, b) => self.cut.retain(|cut| *cut != pair(a, b)),
        }
    }

    /// Everybody decides by what was told at the step before.
    fn step(&mut self) {
        self.now += STEP;
        let told = self.told.clone();
        let alive: Vec<bool> = self.nodes.iter().map(Option::is_some).collect();
        for node in 0..self.ranks.len() {
            let hears = |other: &usize| {
                *other != node
                    && alive[*other]
                    && !self.cut.contains(&(node.min(*other), node.max(*other)))
            };
            let others = (0..self.ranks.len()).filter(hears);
            let view = others
                .map(|other| seen(&self.ranks[other], told[other], 1))
                .collect();
            let now = self.now;
            let role = self.nodes[node]
                .as_mut()
                .map(|ranking| see(ranking, view, now).leadership.role);
            let streams = role.is_some_and(Role::pulls) && self.reaches[node];
            self.streams[node] = streams.then(|| self.streams[node].unwrap_or(now));
            self.told[node] =
                self.streams[node].is_some_and(|since| now >= since + self.settings.takeover / 4);
        }
    }

    fn streaming(&self) -> Vec<usize> {
        (0..self.ranks.len())
            .filter(|node| self.streams[*node].is_some())
            .collect()
    }

    /// The nodes that should pull in the end, where all hear each other.
    fn best(&self) -> Vec<usize> {
        (0..self.ranks.len())
            .filter(|node| self.nodes[*node].is_some() && self.reaches[*node])
            .take(self.settings.pullers)
            .collect()
    }

    /// How long it may take until somebody has a stream who can: each node before it has its time.
    fn patience(&self) -> u32 {
        let takeovers = self.ranks.len() as u32 + 3;
        (self.settings.takeover * takeovers).div_duration_f64(STEP) as u32
    }

    fn settle(&mut self) {
        for _ in 0..self.patience() {
            self.step();
        }
    }
}

/// Covers: ELE-02, ELE-06
#[tokio::test(start_paused = true)]
async fn nodes_that_start_together_have_one_stream_at_any_time() {
    let mut group = Group::new(10, SETTINGS);
    for _ in 0..200 {
        group.step();
        assert!(group.streaming().is_empty() || group.streaming() == [0]);
    }
    assert_eq!(group.streaming(), [0]);
    // It stops: the next one has its stream at once, and nobody else ever has.
    group.happens(Event::Stops(0));
    group.step();
    assert_eq!(group.streaming(), [1]);
    for _ in 0..200 {
        group.step();
        assert_eq!(group.streaming(), [1]);
    }
    // It is back: at no time is nobody pulling.
    group.happens(Event::Starts(0));
    for _ in 0..200 {
        group.step();
        assert!(!group.streaming().is_empty());
    }
    assert_eq!(group.streaming(), [0]);
}

/// Covers: GSV-07
#[tokio::test(start_paused = true)]
async fn nodes_that_reach_no_orderer_all_try_and_do_not_take_turns() {
    let mut group = Group::new(3, SETTINGS);
    (0..3).for_each(|node| group.happens(Event::Fails(node)));
    group.settle();
    for _ in 0..400 {
        group.step();
        let roles = group.nodes.iter_mut().map(|node| {
            let node = node.as_mut().unwrap();
            node.decide(group.now).leadership.role
        });
        assert_eq!(roles.collect::<Vec<_>>(), [Role::Puller; 3]);
    }
    group.happens(Event::Mends(2));
    group.step();
    assert_eq!(group.streaming(), [2], "whoever can has a stream at once");
    group.happens(Event::Mends(0));
    group.settle();
    assert_eq!(group.streaming(), [0]);
}

/// Covers: ELE-05, ELE-10
#[tokio::test(start_paused = true)]
async fn each_part_of_a_divided_group_has_a_puller_and_the_whole_one_again() {
    let mut group = Group::new(4, SETTINGS);
    for (a, b) in [(0, 2), (0, 3), (1, 2), (1, 3)] {
        group.happens(Event::Cut(a, b));
    }
    group.settle();
    assert_eq!(group.streaming(), [0, 2]);
    group.cut.clear();
    group.settle();
    assert_eq!(group.streaming(), [0]);
}

fn event() -> impl Strategy<Value = Event> {
    let node = 0..6usize;
    prop_oneof![
        node.clone().prop_map(Event::Stops),
        node.clone().prop_map(Event::Starts),
        node.clone().prop_map(Event::Fails),
        node.clone().prop_map(Event::Mends),
        (node.clone(), node.clone()).prop_map(|(a, b)| Event::Cut(a, b)),
        (node.clone(), node).prop_map(|(a, b)| Event::Heal(a, b)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever happens, somebody who can pulls within a bounded time; and once all is heard by
    /// all, the first ones do and no others.
    #[test]
    fn somebody_always_pulls_and_in_the_end_the_first_ones(
        count in 1..6usize,
        pullers in 1..3usize,
        events in proptest::collection::vec((event(), 0..40u32), 0..30),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        let _entered = runtime.enter();
        let mut group = Group::new(count, Settings { pullers, ..SETTINGS });
        let mut quiet = 0;
        for (event, steps) in events {
            group.happens(event);
            for _ in 0..steps {
                group.step();
                let somebody_could = !group.best().is_empty();
                quiet = if somebody_could && group.streaming().is_empty() { quiet + 1 } else { 0 };
                // The event before may just have taken a puller away, so that the time runs anew.
                prop_assert!(quiet <= group.patience() + 40, "nobody pulled for {quiet} steps");
            }
            quiet = 0;
        }
        group.settle();
        prop_assert_eq!(group.streaming().is_empty(), group.best().is_empty());
        group.cut.clear();
        group.settle();
        let streaming = group.streaming();
        prop_assert_eq!(streaming, group.best());
        for _ in 0..100 {
            group.step();
            prop_assert_eq!(group.streaming(), group.best(), "it stays so");
        }
    }
}
