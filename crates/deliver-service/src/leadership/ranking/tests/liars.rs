// SPDX-License-Identifier: Apache-2.0
//! Nodes that come first in the order, say what they like, and bring nothing.

use super::*;

/// How long a stream has to be open until blocks come on it.
const OPENING: Duration = SECOND;

/// What a liar says for a while; `None` where it is not there.
#[derive(Debug, Clone, Copy)]
struct Claim {
    pulling: Option<bool>,
    steps: u32,
}

/// Honest nodes behind a liar and some that are there and do nothing. The ordering service always has a newer block.
struct Siege {
    ranks: Vec<Rank>,
    mutes: usize,
    /// The honest ones, who come last.
    nodes: Vec<Ranking>,
    streams: Vec<Option<Instant>>,
    told: Vec<bool>,
    height: u64,
    now: Instant,
    /// When a block came last.
    fed_at: Instant,
}

impl Siege {
    fn new(mutes: usize, honest: usize) -> Self {
        let now = Instant::now();
        let ranks = ranks(1 + mutes + honest);
        let node = |rank: &Rank| Ranking::new(SETTINGS, rank.clone(), Height::new(1), false, now);
        Self {
            nodes: ranks[1 + mutes..].iter().map(node).collect(),
            ranks,
            mutes,
            streams: vec![None; honest],
            told: vec![false; honest],
            height: 1,
            now,
            fed_at: now,
        }
    }

    /// Everybody decides by what was told at the step before. What a node brings, all have.
    fn step(&mut self, liar: Option<bool>) {
        self.now += STEP;
        let (now, told) = (self.now, self.told.clone());
        let mut bringing = None;
        for (node, ranking) in self.nodes.iter_mut().enumerate() {
            let liar = liar.map(|pulling| seen(&self.ranks[0], pulling, self.height));
            let (mutes, honest) = self.ranks[1..].split_at(self.mutes);
            let mutes = mutes.iter().map(|mute| seen(mute, false, self.height));
            let others = (0..told.len())
                .filter(|other| *other != node)
                .map(|other| seen(&honest[other], told[other], self.height));
            let view = liar.into_iter().chain(mutes).chain(others);
            let decision = see(ranking, view.collect(), now);
            if decision.probe {
                ranking.probed(now);
                ranking.found_withheld(now);
                bringing = Some(node);
            }
            let pulls = ranking.decide(now).leadership.role.pulls();
            self.streams[node] = pulls.then(|| self.streams[node].unwrap_or(now));
            let open_for = self.streams[node].map(|since| now - since);
            self.told[node] = open_for >= Some(SETTINGS.takeover / 4);
            if open_for >= Some(OPENING) {
                bringing = Some(node);
            }
        }
        if let Some(bringing) = bringing {
            self.height += 1;
            self.fed_at = now;
            let height = Height::new(self.height);
            for (node, ranking) in self.nodes.iter_mut().enumerate() {
                let fed = if node == bringing {
                    ranking.fed
                } else {
                    height
                };
                ranking.grew(height, fed, now);
            }
        }
    }

    fn still(&self) -> Duration {
        self.now - self.fed_at
    }
}

fn claims() -> impl Strategy<Value = Vec<Claim>> {
    let pulling = prop_oneof![3 => Just(Some(true)), 3 => Just(Some(false)), 1 => Just(None)];
    let steps = prop_oneof![1..4u32, 1..20u32, 1..200u32];
    let claim = (pulling, steps).prop_map(|(pulling, steps)| Claim { pulling, steps });
    proptest::collection::vec(claim, 1..8)
}

/// Streams that come and go faster than the takeover time do not give it anew.
#[tokio::test(start_paused = true)]
async fn streams_that_come_and_go_hold_nobody_back() {
    for rhythm in [1, 2, 4, 8] {
        let mut siege = Siege::new(0, 2);
        let limit = SETTINGS.takeover * 3 + OPENING;
        for step in 0..2000 {
            siege.step(Some(step / rhythm % 2 == 0));
            let still = siege.still();
            assert!(still <= limit, "{still:?} at a rhythm of {rhythm} steps");
        }
    }
}

/// Short streams on which blocks come are no reason to replace a node (CFT-15).
#[tokio::test(start_paused = true)]
async fn streams_that_come_and_go_but_bring_blocks_are_enough() {
    let (mut ranking, others, start) = last(2, SETTINGS);
    let role = |ranking: &mut Ranking, pulling, now| {
        let decision = see(ranking, vec![seen(&others[0], pulling, 1)], now);
        decision.leadership.role
    };
    for round in 1..20 {
        let began = start + SECOND * 4 * round;
        assert_eq!(role(&mut ranking, true, began), Role::Standby);
        let height = Height::new(u64::from(round) + 1);
        ranking.grew(height, height, began + SECOND);
        assert_eq!(role(&mut ranking, true, began + SECOND), Role::Standby);
        let down = began + SECOND * 2;
        assert_eq!(role(&mut ranking, false, down), Role::Standby);
        assert_eq!(role(&mut ranking, false, down + SECOND), Role::Standby);
    }
}

/// A node that was replaced has the channel back once its stream lasts.
#[tokio::test(start_paused = true)]
async fn who_was_replaced_shows_a_lasting_stream_first() {
    let (mut ranking, others, start) = last(2, SETTINGS);
    let mut role = |pulling, at| {
        let decision = see(&mut ranking, vec![seen(&others[0], pulling, 1)], at);
        (decision.leadership.role, decision.wake)
    };
    role(true, start);
    let down = start + SECOND * 20;
    role(true, down);
    role(false, down);
    let back = down + SETTINGS.takeover;
    assert_eq!(role(false, back).0, Role::Puller);
    let lasted = back + SETTINGS.takeover;
    assert_eq!(role(true, back), (Role::Puller, Some(lasted)));
    assert_eq!(role(true, lasted - STEP).0, Role::Puller);
    assert_eq!(role(true, lasted).0, Role::Standby);
}

/// What its standby brings and passes on does not clear who withholds.
#[tokio::test(start_paused = true)]
async fn a_channel_stands_ever_less_behind_one_who_withholds() {
    for honest in [1, 3] {
        let mut siege = Siege::new(0, honest);
        let mut stood = 0;
        for _ in 0..4 * 3600 {
            siege.step(Some(true));
            stood += u32::from(siege.still() > SECOND * 2);
        }
        let stood = STEP * stood;
        assert!(stood < SECOND * 500, "{stood:?} of an hour");
    }
}

/// Blocks that come put a look at the ones who bring them off, but not for ever.
#[tokio::test(start_paused = true)]
async fn who_passes_a_block_on_now_and_then_is_looked_after_too() {
    let (mut ranking, others, start) = last(2, SETTINGS);
    let mut looked = Vec::new();
    for second in 1..1000 {
        let now = start + SECOND * second;
        let height = Height::new(u64::from(second / 29) + 1);
        ranking.grew(height, height, now);
        if see(&mut ranking, vec![seen(&others[0], true, 1)], now).probe {
            ranking.probed(now);
            looked.push(second);
        }
    }
    assert!((6..=8).contains(&looked.len()), "{looked:?}");
    // One that kept a block back is looked after each time.
    let now = start + SECOND * 1000;
    ranking.withheld = 1;
    ranking.probed(now);
    let soon = now + SETTINGS.censorship * 5 / 4;
    ranking.grew(Height::new(99), Height::new(99), soon - SECOND);
    ranking.withheld = 1;
    assert!(ranking.decide(soon).probe);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// Whatever a liar says in whatever rhythm, blocks come again within a bounded time.
    #[test]
    fn no_rhythm_of_claims_stops_a_channel(
        mutes in 0..6usize,
        honest in 1..4usize,
        claims in claims(),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        let _entered = runtime.enter();
        let mut siege = Siege::new(mutes, honest);
        let turn = MOST_PATIENCE.min(mutes as u32 + 1);
        let takeovers = mutes as u32 + 3;
        let limit = SETTINGS.censorship * 5 / 4 * turn + SETTINGS.takeover * takeovers;
        let claims = claims.iter().cycle();
        let said = claims.flat_map(|claim| (0..claim.steps).map(|_| claim.pulling));
        for pulling in said.take(4 * 1200) {
            siege.step(pulling);
            let still = siege.still();
            prop_assert!(still <= limit, "nothing came for {still:?}");
        }
    }
}
