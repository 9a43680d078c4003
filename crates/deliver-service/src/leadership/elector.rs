// SPDX-License-Identifier: Apache-2.0
//! The election of one node without its tasks, for models of many nodes.

use block_api::{ChannelId, HeaderHash, Height, NodeId};
use tokio::time::Instant;

use super::{
    Leadership,
    rank::Rank,
    ranking::{Ranking, Seen, Settings},
};
use crate::Config;

/// The place of a node in the order of a channel.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place(Rank);

/// What one node decides about pulling a channel whose blocks come.
#[derive(Debug)]
pub struct Elector {
    place: Place,
    ranking: Ranking,
}

impl Place {
    /// The place of a node with this identity.
    pub fn of(channel: &ChannelId, genesis: &HeaderHash, identity: &[u8], node: &NodeId) -> Self {
        Self(Rank::of(channel, genesis, identity, node))
    }
}

impl Elector {
    /// A node that begins.
    pub fn new(config: &Config, place: Place, now: Instant) -> Self {
        let settings = Settings {
            pullers: config.pullers.get(),
            takeover: config.takeover,
            censorship: config.provider.censorship_timeout,
        };
        let ranking = Ranking::new(settings, place.0.clone(), Height::new(1), false, now);
        Self { place, ranking }
    }

    /// Takes the others of its organisation that it hears of, each with whether it says that it has
    /// a stream, and decides.
    pub fn decide(&mut self, others: &[(Place, bool)], now: Instant) -> Leadership {
        let seen = others.iter().map(|(Place(rank), pulling)| Seen {
            rank: rank.clone(),
            pulling: *pulling,
            height: Height::new(1),
        });
        self.ranking.see(self.place.0.clone(), seen.collect(), now);
        self.ranking.decide(now).leadership
    }
}

#[cfg(test)]
mod tests {
    use crate::Role;

    use super::*;

    fn place(node: &str) -> Place {
        let channel = "ch".parse().unwrap();
        let genesis = HeaderHash::new([1; 32]);
        Place::of(&channel, &genesis, node.as_bytes(), &NodeId::new(node))
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_place_pulls_and_the_next_one_stands_by() {
        let config = Config::default();
        let mut places = [place("a"), place("b")];
        places.sort_unstable();
        let [first, second] = places;
        let now = Instant::now();
        let mut leads = Elector::new(&config, first.clone(), now);
        let mut follows = Elector::new(&config, second.clone(), now);
        leads.decide(&[(second, false)], now);
        let now = now + config.takeover;
        assert_eq!(leads.decide(&[], now).role, Role::Puller);
        assert_eq!(follows.decide(&[(first, true)], now).role, Role::Standby);
    }
}
