// SPDX-License-Identifier: Apache-2.0
//! What is remembered of peers that are connected no longer: hanging up refills nothing, nor does
//! another key.

use std::collections::BTreeMap;

use libp2p::PeerId;
use tokio::time::Instant;

use super::Allowance;
use crate::credential::Credential;

/// Of how many it is remembered; of more, the one that went first is forgotten.
const GONE: usize = 4096;

/// Those that are gone.
#[derive(Debug, Default)]
pub(crate) struct Gone {
    peers: BTreeMap<PeerId, Left>,
}

/// What one left behind.
#[derive(Debug)]
struct Left {
    at: Instant,
    credential: Option<Credential>,
    allowances: [Allowance; 2],
}

impl Gone {
    /// A peer is gone, with so much in hand.
    pub(crate) fn leaves(
        &mut self,
        peer: PeerId,
        credential: Option<Credential>,
        allowances: [Allowance; 2],
        now: Instant,
    ) {
        let left = Left {
            at: now,
            credential,
            allowances,
        };
        self.peers.insert(peer, left);
        if self.peers.len() > GONE {
            let first = self.peers.iter().min_by_key(|(_, left)| left.at);
            if let Some(first) = first.map(|(peer, _)| *peer) {
                self.peers.remove(&first);
            }
        }
    }

    /// What a peer has in hand that comes, maybe again: no more than when it went, under whatever node
    /// id, but for what it gained since.
    pub(crate) fn comes(
        &self,
        peer: &PeerId,
        credential: Option<Credential>,
        now: Instant,
    ) -> [Allowance; 2] {
        let is_it = |(id, left): &(&PeerId, &Left)| {
            *id == peer || credential.is_some() && left.credential == credential
        };
        let left = self.peers.iter().filter(is_it);
        left.fold(
            [Allowance::new(now); 2],
            |[messages, requests], (_, left)| {
                let [one, other] = left.allowances;
                [messages.least(one), requests.least(other)]
            },
        )
    }

    /// The credential of a peer that is gone.
    pub(crate) fn credential(&self, peer: &PeerId) -> Option<Credential> {
        self.peers.get(peer).and_then(|left| left.credential)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const RATE: usize = 100;

    fn in_hand(mut allowance: Allowance, now: Instant) -> usize {
        (0..10_000).filter(|_| allowance.take(RATE, now)).count()
    }

    #[tokio::test(start_paused = true)]
    async fn coming_back_refills_nothing_nor_does_another_key() {
        let (mut gone, now) = (Gone::default(), Instant::now());
        let [bad, other, honest] = [(); 3].map(|()| PeerId::random());
        let certificate = Some(Credential::of(b"its certificate"));
        let mut used = Allowance::new(now);
        while used.take(RATE, now) {}
        gone.leaves(bad, certificate, [used, Allowance::new(now)], now);
        for peer in [bad, other] {
            let [messages, requests] = gone.comes(&peer, certificate, now);
            assert_eq!((in_hand(messages, now), in_hand(requests, now)), (0, 400));
        }
        let later = now + Duration::from_secs(1);
        let [messages, _] = gone.comes(&other, certificate, later);
        assert_eq!(in_hand(messages, later), 100, "what it gained since");
        for credential in [None, Some(Credential::of(b"another one"))] {
            let [messages, _] = gone.comes(&honest, credential, now);
            assert_eq!(in_hand(messages, now), 400);
        }
        assert_eq!(gone.credential(&bad), certificate);
        for _ in 0..GONE + 10 {
            gone.leaves(PeerId::random(), None, [used; 2], later);
        }
        assert_eq!(gone.peers.len(), GONE);
    }
}
