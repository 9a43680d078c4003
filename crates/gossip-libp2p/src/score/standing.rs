// SPDX-License-Identifier: Apache-2.0
//! What is held against which peer: a state machine without a clock and without a network.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;

use super::Offence;

/// So much is held against a peer that is banned.
const BANNED: Points = Points::whole(100);
/// What being slow, how often ever, comes to at most: that alone bans nobody.
const SLOW_AT_MOST: Points = Points::whole(50);
/// Of how many peers something is remembered, and how many may be banned. A peer must have proven
/// who it is before anything is held against it, and there are not so many.
const PEERS: usize = 4096;

/// What is held against peers, by their node ids or by what else they are known, and who is banned.
#[derive(Debug)]
pub(crate) struct Standings<K> {
    ban_time: Duration,
    /// Those against whom something is held, connected or not: hanging up forgives nothing.
    peers: BTreeMap<K, Standing>,
    bans: BTreeMap<K, Banned>,
}

/// A ban, by the clock of the runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Banned {
    pub(crate) reason: Offence,
    pub(crate) since: Instant,
    pub(crate) until: Instant,
}

/// What is held against a peer. One point is forgiven in each second.
#[derive(Debug, Clone, Copy)]
struct Standing {
    for_deeds: Points,
    for_slowness: Points,
    at: Instant,
}

/// Thousandths of a point, so that one is forgiven in each millisecond.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Points(u64);

impl Offence {
    /// What it costs. The README says why.
    const fn costs(self) -> Points {
        match self {
            Self::Rejected | Self::Stalled => Points::whole(5),
            Self::Malformed => Points::whole(10),
            Self::Invalid | Self::WrongBody => Points::whole(20),
            Self::Flood => Points(20),
        }
    }
}

impl Points {
    const ZERO: Self = Self(0);

    const fn whole(points: u64) -> Self {
        Self(points * 1000)
    }

    fn plus(self, more: Self) -> Self {
        Self(self.0.saturating_add(more.0))
    }

    fn after(self, passed: Duration) -> Self {
        let passed = u64::try_from(passed.as_millis()).unwrap_or(u64::MAX);
        Self(self.0.saturating_sub(passed))
    }
}

impl Standing {
    fn new(now: Instant) -> Self {
        Self {
            for_deeds: Points::ZERO,
            for_slowness: Points::ZERO,
            at: now,
        }
    }

    fn at(self, now: Instant) -> Self {
        let passed = now.saturating_duration_since(self.at);
        Self {
            for_deeds: self.for_deeds.after(passed),
            for_slowness: self.for_slowness.after(passed),
            at: now,
        }
    }

    fn points(&self) -> Points {
        self.for_deeds.plus(self.for_slowness)
    }
}

impl<K: Ord + Copy> Standings<K> {
    pub(crate) fn new(ban_time: Duration) -> Self {
        Self {
            ban_time,
            peers: BTreeMap::new(),
            bans: BTreeMap::new(),
        }
    }

    /// Holds something against a peer; the ban, if that is one thing too many.
    pub(crate) fn holds_against(
        &mut self,
        peer: K,
        offence: Offence,
        now: Instant,
    ) -> Option<Banned> {
        if self.is_banned(&peer) {
            return None;
        }
        let before = self.peers.get(&peer).copied();
        let mut standing = before.unwrap_or(Standing::new(now)).at(now);
        if offence == Offence::Stalled {
            let slow = standing.for_slowness.plus(offence.costs());
            standing.for_slowness = slow.min(SLOW_AT_MOST);
        } else {
            standing.for_deeds = standing.for_deeds.plus(offence.costs());
        }
        // The last straw is a deed: who was slow before may go on being it.
        if standing.points() >= BANNED && offence != Offence::Stalled {
            self.peers.remove(&peer);
            return Some(self.ban(peer, offence, now));
        }
        self.peers.insert(peer, standing);
        self.forget(now);
        None
    }

    /// Bans a peer with another one that is the same, for as long; `false` when it is banned already.
    pub(crate) fn ban_too(&mut self, peer: K, ban: Banned) -> bool {
        if self.is_banned(&peer) {
            return false;
        }
        self.peers.remove(&peer);
        self.keep_ban(peer, ban, ban.since);
        true
    }

    /// How many points are held against a peer.
    pub(crate) fn points(&self, peer: &K, now: Instant) -> u32 {
        let points = self.peers.get(peer).map(|held| held.at(now).points());
        points.map_or(0, |points| {
            u32::try_from(points.0 / 1000).unwrap_or(u32::MAX)
        })
    }

    pub(crate) fn is_banned(&self, peer: &K) -> bool {
        self.bans.contains_key(peer)
    }

    /// When the next ban ends.
    pub(crate) fn next_end(&self) -> Option<Instant> {
        self.bans.values().map(|ban| ban.until).min()
    }

    /// Ends the bans that are over. Nothing is held against those peers any more.
    pub(crate) fn end_bans(&mut self, now: Instant) -> Vec<K> {
        let over = self.bans.extract_if(.., |_, ban| ban.until <= now);
        over.map(|(peer, _)| peer).collect()
    }

    fn ban(&mut self, peer: K, reason: Offence, now: Instant) -> Banned {
        let ban = Banned {
            reason,
            since: now,
            until: now + self.ban_time,
        };
        self.keep_ban(peer, ban, now);
        ban
    }

    fn keep_ban(&mut self, peer: K, ban: Banned, now: Instant) {
        // One more than there may be: that which ends first ends at once.
        if self.bans.len() >= PEERS
            && let Some(first) = self.bans.values_mut().min_by_key(|ban| ban.until)
        {
            first.until = now;
        }
        self.bans.insert(peer, ban);
    }

    fn forget(&mut self, now: Instant) {
        if self.peers.len() <= PEERS {
            return;
        }
        self.peers
            .retain(|_, standing| standing.at(now).points() > Points::ZERO);
        if self.peers.len() > PEERS {
            let least = self
                .peers
                .iter()
                .min_by_key(|(_, standing)| standing.at(now).points());
            if let Some(least) = least.map(|(peer, _)| *peer) {
                self.peers.remove(&least);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use libp2p::PeerId;
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const BAN: Duration = Duration::from_secs(600);
    const ALL: [Offence; 6] = [
        Offence::Rejected,
        Offence::Malformed,
        Offence::Invalid,
        Offence::WrongBody,
        Offence::Flood,
        Offence::Stalled,
    ];

    fn peer() -> PeerId {
        PeerId::random()
    }

    /// How many of an offence one after the other it takes.
    fn takes(offence: Offence, now: Instant) -> Option<usize> {
        let (mut standings, peer) = (Standings::new(BAN), peer());
        (1..100_000).find(|_| standings.holds_against(peer, offence, now).is_some())
    }

    #[tokio::test(start_paused = true)]
    async fn each_offence_has_its_weight_and_none_bans_at_once() {
        let now = Instant::now();
        let rows = [
            (Offence::Rejected, Some(20)),
            (Offence::Malformed, Some(10)),
            (Offence::Invalid, Some(5)),
            (Offence::WrongBody, Some(5)),
            (Offence::Flood, Some(5000)),
            (Offence::Stalled, None),
        ];
        for (offence, count) in rows {
            assert_eq!(takes(offence, now), count, "{offence:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_happens_seldom_is_forgiven() {
        let (mut standings, peer) = (Standings::new(BAN), peer());
        let mut now = Instant::now();
        for _ in 0..1000 {
            for offence in [Offence::Invalid, Offence::Malformed, Offence::Rejected] {
                assert_eq!(standings.holds_against(peer, offence, now), None);
            }
            assert_eq!(standings.points(&peer, now), 35);
            now += 35 * SECOND;
            assert_eq!(standings.points(&peer, now), 0);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn being_slow_bans_nobody_and_tips_the_scales_for_who_does_more() {
        let (mut standings, peer, now) = (Standings::new(BAN), peer(), Instant::now());
        for _ in 0..1000 {
            assert_eq!(standings.holds_against(peer, Offence::Stalled, now), None);
        }
        assert_eq!(standings.points(&peer, now), 50);
        assert_eq!(standings.holds_against(peer, Offence::Invalid, now), None);
        assert_eq!(standings.holds_against(peer, Offence::Invalid, now), None);
        let ban = standings.holds_against(peer, Offence::Malformed, now);
        assert_eq!(ban.map(|ban| ban.reason), Some(Offence::Malformed));
    }

    #[tokio::test(start_paused = true)]
    async fn a_ban_ends_by_itself_and_begins_anew() {
        let (mut standings, bad, now) = (Standings::new(BAN), peer(), Instant::now());
        let ban = |standings: &mut Standings<PeerId>, peer, now| {
            (0..5).find_map(|_| standings.holds_against(peer, Offence::Invalid, now))
        };
        let banned = ban(&mut standings, bad, now).unwrap();
        assert_eq!((banned.since, banned.until), (now, now + BAN));
        assert!(standings.is_banned(&bad) && !standings.is_banned(&peer()));
        // What comes while it is banned makes the ban no longer.
        assert_eq!(ban(&mut standings, bad, now + SECOND), None);
        assert_eq!(standings.next_end(), Some(now + BAN));
        assert_eq!(standings.end_bans(now + BAN - SECOND), []);
        assert_eq!(standings.end_bans(now + BAN), [bad]);
        assert!(!standings.is_banned(&bad) && standings.bans.is_empty());
        assert_eq!(
            (standings.points(&bad, now + BAN), standings.next_end()),
            (0, None)
        );
        assert!(ban(&mut standings, bad, now + BAN).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn many_peers_take_a_bounded_place() {
        let (mut standings, worst, now) = (Standings::new(BAN), peer(), Instant::now());
        for _ in 0..4 {
            standings.holds_against(worst, Offence::Invalid, now);
        }
        for _ in 0..PEERS + 100 {
            standings.holds_against(peer(), Offence::Flood, now);
        }
        assert_eq!(standings.peers.len(), PEERS);
        assert_eq!(standings.points(&worst, now), 80, "the worst are kept");
        for _ in 0..PEERS + 100 {
            let bad = peer();
            let banned = (0..5).find_map(|_| standings.holds_against(bad, Offence::Invalid, now));
            assert!(banned.is_some());
            standings.end_bans(now);
        }
        assert_eq!(standings.bans.len(), PEERS);
    }

    proptest! {
        /// In no order of events one offence bans, and who is banned was held enough against.
        #[test]
        fn a_ban_needs_many_deeds(events in proptest::collection::vec((0usize..6, 0u64..3000), 1..300)) {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .start_paused(true)
                .build()
                .unwrap();
            runtime.block_on(async {
                let (mut standings, peer, mut now) = (Standings::new(BAN), peer(), Instant::now());
                let mut costs = 0;
                for (count, (which, pause)) in events.into_iter().enumerate() {
                    now += Duration::from_millis(pause);
                    let offence = ALL[which];
                    costs += offence.costs().0;
                    if let Some(ban) = standings.holds_against(peer, offence, now) {
                        assert!(count >= 4 && costs >= BANNED.0 && ban.reason != Offence::Stalled);
                        return;
                    }
                    assert!(standings.points(&peer, now) <= 150);
                }
            });
        }
    }
}
