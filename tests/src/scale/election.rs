// SPDX-License-Identifier: Apache-2.0
//! Who pulls a channel, as the election of `deliver-service` decides it in each node.

use std::time::Duration;

use block_api::{ChannelId, HeaderHash, NodeId};
use deliver_service::{Config, Elector, Place, Role};
use tokio::time::Instant;

use super::Graph;

/// How much time passes between two looks at what the others say.
const STEP: Duration = Duration::from_secs(1);

/// When nothing changed for so many of them, all that a node may wait for is over.
const QUIET: usize = 8;

/// An election that goes on for longer than this many steps is taken as it is.
const STEPS: usize = 60;

/// The MSP identity of a node.
pub fn identity(graph: &Graph, node: usize) -> String {
    format!("org{}.node{node}", graph.organisation[node])
}

/// Which of these nodes pull a channel once nothing changes any more. A node hears what those say
/// that it is connected to, a step after they decided it.
pub fn pullers(
    graph: &Graph,
    (channel, genesis): (&ChannelId, &HeaderHash),
    is_in: impl Fn(usize) -> bool,
) -> Vec<usize> {
    let (config, begin) = (Config::default(), Instant::now());
    let place = |node: usize| {
        let name = identity(graph, node);
        Place::of(
            channel,
            genesis,
            name.as_bytes(),
            &NodeId::new(name.as_str()),
        )
    };
    let members: Vec<usize> = (0..graph.nodes()).filter(|node| is_in(*node)).collect();
    let mut index = vec![None; graph.nodes()];
    for (at, member) in members.iter().enumerate() {
        index[*member] = Some(at);
    }
    let places: Vec<Place> = members.iter().map(|member| place(*member)).collect();
    // Those of the same organisation that each is connected to, by their place in `members`.
    let mates = |member: &usize| -> Vec<usize> {
        let own = graph.organisation[*member];
        let neighbours = graph.neighbours[*member].iter();
        neighbours
            .filter(|other| graph.organisation[**other as usize] == own)
            .filter_map(|other| index[*other as usize])
            .collect()
    };
    let mates: Vec<Vec<usize>> = members.iter().map(mates).collect();
    let mut electors: Vec<Elector> = places
        .iter()
        .map(|place| Elector::new(&config, place.clone(), begin))
        .collect();
    let (mut pulling, mut quiet) = (vec![false; members.len()], 0);
    for step in 0..STEPS as u32 {
        let now = begin + STEP * step;
        let mut next = Vec::with_capacity(pulling.len());
        for (elector, mates) in electors.iter_mut().zip(&mates) {
            let others: Vec<(Place, bool)> = mates
                .iter()
                .map(|mate| (places[*mate].clone(), pulling[*mate]))
                .collect();
            let role: Role = elector.decide(&others, now).role;
            next.push(role.pulls());
        }
        quiet = if next == pulling { quiet + 1 } else { 0 };
        pulling = next;
        if quiet >= QUIET {
            break;
        }
    }
    let pulling = members.into_iter().zip(pulling);
    pulling
        .filter_map(|(node, pulls)| pulls.then_some(node))
        .collect()
}
