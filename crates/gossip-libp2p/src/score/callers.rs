// SPDX-License-Identifier: Apache-2.0
//! Who is turned away before anything of a proof is looked at: who is banned, and who calls from where
//! many proofs were refused.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};
use tokio::time::Instant;

use super::Allowance;

/// How many proofs a second may be refused that come from one address, and four times as many at
/// once. Many nodes may stand behind one, and those whose proofs hold count nothing.
const REFUSED: usize = 4;
/// Of how many addresses it is remembered.
const ADDRESSES: usize = 4096;

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
    #[error("too many proofs from {0} were refused of late")]
    Refused(IpAddr),
}

#[derive(Debug, Default)]
struct List {
    banned: BTreeSet<PeerId>,
    refused: BTreeMap<IpAddr, Allowance>,
}

impl Callers {
    /// Whether a caller may prove who it is.
    ///
    /// # Errors
    ///
    /// Why not.
    pub(crate) fn hear(
        &self,
        peer: PeerId,
        address: &Multiaddr,
        now: Instant,
    ) -> Result<(), TurnedAway> {
        let list = self.list();
        if list.banned.contains(&peer) {
            return Err(TurnedAway::Banned(peer));
        }
        match ip(address).and_then(|ip| Some((ip, list.refused.get(&ip)?))) {
            Some((ip, refused)) if !refused.has(REFUSED, now) => Err(TurnedAway::Refused(ip)),
            Some(_) | None => Ok(()),
        }
    }

    /// A proof from an address was refused.
    pub(crate) fn refused(&self, address: &Multiaddr, now: Instant) {
        let Some(ip) = ip(address) else { return };
        let mut list = self.list();
        let refused = list
            .refused
            .entry(ip)
            .or_insert_with(|| Allowance::new(now));
        refused.owe(REFUSED, now);
        if list.refused.len() > ADDRESSES {
            list.refused.retain(|_, refused| !refused.is_whole(now));
        }
        if list.refused.len() > ADDRESSES {
            // Any of them: whoever has so many addresses has one more.
            list.refused.pop_first();
        }
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

fn ip(address: &Multiaddr) -> Option<IpAddr> {
    address.iter().find_map(|part| {
        if let Protocol::Ip4(ip) = part {
            Some(ip.into())
        } else if let Protocol::Ip6(ip) = part {
            Some(ip.into())
        } else {
            None
        }
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_address_has_so_many_refusals_and_others_have_their_own() {
        let (callers, now) = (Callers::default(), Instant::now());
        let (bad, good): (Multiaddr, Multiaddr) = (
            "/ip4/192.0.2.1/tcp/1".parse().unwrap(),
            "/ip6/::1/udp/1/quic-v1".parse().unwrap(),
        );
        let hears = |address, now| callers.hear(PeerId::random(), address, now).is_ok();
        for _ in 0..16 {
            assert!(hears(&bad, now));
            callers.refused(&bad, now);
        }
        assert!(!hears(&bad, now) && hears(&good, now));
        // Those that were being judged when the last one was refused are owed as well.
        callers.refused(&bad, now);
        let each = Duration::from_secs(1) / REFUSED as u32;
        assert!(!hears(&bad, now + each));
        assert!(hears(&bad, now + 2 * each));
    }

    #[tokio::test(start_paused = true)]
    async fn a_banned_node_is_turned_away_from_everywhere_until_the_ban_ends() {
        let (callers, now, peer) = (Callers::default(), Instant::now(), PeerId::random());
        let here = "/memory/7".parse().unwrap();
        callers.ban(peer);
        assert_eq!(
            callers.hear(peer, &here, now),
            Err(TurnedAway::Banned(peer))
        );
        callers.refused(&here, now);
        callers.end_ban(&peer);
        assert_eq!(callers.hear(peer, &here, now), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn many_addresses_take_a_bounded_place() {
        let (callers, now) = (Callers::default(), Instant::now());
        let address = |n: u32| -> Multiaddr {
            let ip = std::net::Ipv4Addr::from(n);
            format!("/ip4/{ip}/tcp/1").parse().unwrap()
        };
        for n in 0..ADDRESSES as u32 + 100 {
            callers.refused(&address(n), now);
        }
        assert_eq!(callers.list().refused.len(), ADDRESSES);
        let later = now + Duration::from_secs(60);
        callers.refused(&address(u32::MAX), later);
        assert_eq!(callers.list().refused.len(), 1);
    }
}
