// SPDX-License-Identifier: Apache-2.0
//! Who is turned away before anything of a proof is looked at: who is banned, and who calls from where
//! many failed to prove who they are.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};
use tokio::time::Instant;

use super::Allowance;

/// How many proofs a second may fail that come from one address, and four times as many at
/// once. Many nodes may stand behind one, and those whose proofs hold count nothing.
const REFUSED: usize = 4;
/// Of how many addresses it is remembered.
const ADDRESSES: usize = 4096;
/// How many nodes that were let in last may come from such an address.
const ADMITTED: usize = 1024;
/// How many warnings a second there are about callers, and four times as many at once.
const WARNINGS: usize = 1;

/// Those who are turned away. Cloning gives another handle of the same list.
#[derive(Debug, Clone, Default)]
pub(crate) struct Callers {
    list: Arc<Mutex<List>>,
}

/// Nothing is asked of a caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TurnedAway {
    #[error("node {0} is banned")]
    Banned(PeerId),
    #[error("too many proofs from {0} failed of late")]
    Refused(IpAddr),
}

/// A caller that is heard. It is held against its address unless it is let in, however that ends.
#[derive(Debug)]
pub(crate) struct Hearing {
    callers: Callers,
    peer: PeerId,
    address: Option<IpAddr>,
    counts: bool,
}

#[derive(Debug, Default)]
struct List {
    banned: BTreeSet<PeerId>,
    refused: BTreeMap<IpAddr, Allowance>,
    /// The nodes that were let in last, the newest at the end.
    admitted: VecDeque<PeerId>,
    warnings: Option<Allowance>,
}

impl Callers {
    /// Whether a caller may prove who it is. Who was let in lately may, though others that call from
    /// the same address fail.
    ///
    /// # Errors
    ///
    /// Why not.
    pub(crate) fn hear(
        &self,
        peer: PeerId,
        address: &Multiaddr,
        now: Instant,
    ) -> Result<Hearing, TurnedAway> {
        let list = self.list();
        if list.banned.contains(&peer) {
            return Err(TurnedAway::Banned(peer));
        }
        let address = block_of(address);
        let refused = address.and_then(|ip| Some((ip, list.refused.get(&ip)?)));
        if let Some((ip, refused)) = refused
            && !refused.has(REFUSED, now)
            && !list.admitted.contains(&peer)
        {
            return Err(TurnedAway::Refused(ip));
        }
        Ok(Hearing {
            callers: self.clone(),
            peer,
            address,
            counts: true,
        })
    }

    /// Whether a warning about a caller may be written: the log is not theirs to fill.
    pub(crate) fn may_warn(&self, now: Instant) -> bool {
        let mut list = self.list();
        let warnings = list.warnings.get_or_insert_with(|| Allowance::new(now));
        warnings.take(WARNINGS, now)
    }

    pub(crate) fn ban(&self, peer: PeerId) {
        self.list().banned.insert(peer);
    }

    pub(crate) fn end_ban(&self, peer: &PeerId) {
        self.list().banned.remove(peer);
    }

    fn list(&self) -> MutexGuard<'_, List> {
        // Whatever a panic left behind is a list.
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hearing {
    /// The caller is let in.
    pub(crate) fn admitted(mut self) {
        self.counts = false;
        let mut list = self.callers.list();
        list.admitted.retain(|peer| *peer != self.peer);
        list.admitted.push_back(self.peer);
        if list.admitted.len() > ADMITTED {
            list.admitted.pop_front();
        }
    }

    /// Nobody can be let in as yet, which is no fault of the caller.
    pub(crate) fn forgiven(mut self) -> Self {
        self.counts = false;
        self
    }
}

impl Drop for Hearing {
    fn drop(&mut self) {
        if self.counts {
            self.callers
                .list()
                .owe(self.peer, self.address, Instant::now());
        }
    }
}

impl List {
    /// A caller from an address was not let in.
    fn owe(&mut self, peer: PeerId, address: Option<IpAddr>, now: Instant) {
        // Having been let in is good for one failure.
        self.admitted.retain(|admitted| *admitted != peer);
        let Some(address) = address else { return };
        let refused = self
            .refused
            .entry(address)
            .or_insert_with(|| Allowance::new(now));
        refused.owe(REFUSED, now);
        if self.refused.len() > ADDRESSES {
            self.refused.retain(|_, refused| !refused.is_whole(now));
        }
        if self.refused.len() > ADDRESSES {
            // Any of them: whoever has so many addresses has one more.
            self.refused.pop_first();
        }
    }
}

/// What stands for the host of an address: of IPv6 the network, as whoever has one address there has
/// them all.
pub(crate) fn block_of(address: &Multiaddr) -> Option<IpAddr> {
    const NETWORK: u128 = !0 << 64;
    address.iter().find_map(|part| {
        if let Protocol::Ip4(ip) = part {
            Some(ip.into())
        } else if let Protocol::Ip6(ip) = part {
            Some(match ip.to_ipv4_mapped() {
                Some(ip) => ip.into(),
                None => Ipv6Addr::from_bits(ip.to_bits() & NETWORK).into(),
            })
        } else {
            None
        }
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::advance;

    use super::*;

    fn hears(callers: &Callers, address: &Multiaddr) -> bool {
        let heard = callers.hear(PeerId::random(), address, Instant::now());
        heard.map(Hearing::forgiven).is_ok()
    }

    /// So many callers from there are refused.
    fn refuse(callers: &Callers, address: &Multiaddr, times: usize) {
        for _ in 0..times {
            drop(
                callers
                    .hear(PeerId::random(), address, Instant::now())
                    .unwrap(),
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_has_so_many_failures_and_others_have_their_own() {
        let callers = Callers::default();
        let (bad, good): (Multiaddr, Multiaddr) = (
            "/ip4/192.0.2.1/tcp/1".parse().unwrap(),
            "/ip6/::1/udp/1/quic-v1".parse().unwrap(),
        );
        refuse(&callers, &bad, 15);
        let judged = [0, 1].map(|_| callers.hear(PeerId::random(), &bad, Instant::now()));
        assert!(
            hears(&callers, &bad),
            "who is heard and forgiven counts nothing"
        );
        drop(judged);
        assert!(!hears(&callers, &bad) && hears(&callers, &good));
        // Those that were being judged when the last one was refused are owed as well.
        let each = Duration::from_secs(1) / REFUSED as u32;
        advance(each).await;
        assert!(!hears(&callers, &bad));
        advance(each).await;
        assert!(hears(&callers, &bad));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_has_a_network_of_ipv6_has_one_allowance() {
        let callers = Callers::default();
        let there = |ip: &str| format!("/ip6/{ip}/tcp/1").parse::<Multiaddr>().unwrap();
        for n in 0..16 {
            refuse(&callers, &there(&format!("2001:db8:0:1:{n}::1")), 1);
        }
        assert!(!hears(&callers, &there("2001:db8:0:1:ffff::2")));
        assert!(hears(&callers, &there("2001:db8:0:2::1")));
        refuse(&callers, &there("::ffff:192.0.2.1"), 16);
        assert!(!hears(&callers, &"/ip4/192.0.2.1/tcp/1".parse().unwrap()));
        assert!(hears(&callers, &there("::ffff:192.0.2.2")));
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_let_in_lately_is_heard_wherever_others_fail() {
        let (callers, peer) = (Callers::default(), PeerId::random());
        let here = "/ip4/192.0.2.1/tcp/1".parse().unwrap();
        let hear = || callers.hear(peer, &here, Instant::now());
        hear().unwrap().admitted();
        refuse(&callers, &here, 16);
        assert!(!hears(&callers, &here));
        hear().unwrap().admitted();
        drop(hear().unwrap());
        assert!(hear().is_err(), "until it fails itself");
        advance(Duration::from_secs(60)).await;
        for _ in 0..=ADMITTED {
            let heard = callers.hear(PeerId::random(), &here, Instant::now());
            heard.unwrap().admitted();
        }
        assert_eq!(callers.list().admitted.len(), ADMITTED);
    }

    #[tokio::test(start_paused = true)]
    async fn warnings_about_callers_have_their_pace() {
        let callers = Callers::default();
        let warned = || {
            (0..100)
                .filter(|_| callers.may_warn(Instant::now()))
                .count()
        };
        assert_eq!((warned(), warned()), (4, 0));
        advance(Duration::from_secs(2)).await;
        assert_eq!(warned(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn a_banned_node_is_turned_away_from_everywhere_until_the_ban_ends() {
        let (callers, peer) = (Callers::default(), PeerId::random());
        let here = "/memory/7".parse().unwrap();
        callers.ban(peer);
        let heard = callers.hear(peer, &here, Instant::now());
        assert_eq!(heard.err(), Some(TurnedAway::Banned(peer)));
        callers.end_ban(&peer);
        drop(callers.hear(peer, &here, Instant::now()).unwrap());
        assert!(callers.hear(peer, &here, Instant::now()).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn many_addresses_take_a_bounded_place() {
        let callers = Callers::default();
        let address = |n: u32| -> Multiaddr {
            let ip = std::net::Ipv4Addr::from(n);
            format!("/ip4/{ip}/tcp/1").parse().unwrap()
        };
        for n in 0..ADDRESSES as u32 + 100 {
            refuse(&callers, &address(n), 1);
        }
        assert_eq!(callers.list().refused.len(), ADDRESSES);
        advance(Duration::from_secs(60)).await;
        refuse(&callers, &address(u32::MAX), 1);
        assert_eq!(callers.list().refused.len(), 1);
    }
}
