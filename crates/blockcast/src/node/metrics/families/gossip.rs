// SPDX-License-Identifier: Apache-2.0
//! What is told of the network among nodes.

use super::{
    super::{
        Family,
        Kind::{Counter, Gauge},
        Samples, Scrape, Unit,
    },
    count,
};

pub(super) const FAMILIES: &[Family] = &[
    Family {
        name: "gossip_peers",
        help: "Nodes that are connected, whatever channels they have",
        unit: None,
        kind: Gauge,
        read: |scrape, samples| {
            if let Some(gossip) = &scrape.view.gossip {
                samples.put([], count(gossip.peers().borrow().len() as u64));
            }
        },
    },
    Family {
        name: "gossip_banned",
        help: "Nodes that are kept out for a time, because they broke the rules again and again",
        unit: None,
        kind: Gauge,
        read: |scrape, samples| {
            if let Some(gossip) = &scrape.view.gossip {
                samples.put([], count(gossip.bans().borrow().len() as u64));
            }
        },
    },
    Family {
        name: "gossip_bodies",
        help: "Bytes of bodies of announced blocks that came from other nodes, or were sent to them",
        unit: Some(Unit::Bytes),
        kind: Counter,
        read: |scrape, samples| {
            if let Some(stats) = &scrape.gossip {
                samples.put([("direction", "in")], count(stats.body_bytes_came));
                samples.put([("direction", "out")], count(stats.body_bytes_served));
            }
        },
    },
    Family {
        name: "gossip_events",
        help: "What the network among nodes counted",
        unit: None,
        kind: Counter,
        read: gossip_events,
    },
];

fn gossip_events(scrape: &Scrape<'_>, samples: &mut Samples) {
    let Some(stats) = &scrape.gossip else { return };
    for (event, number) in [
        ("published", stats.published),
        ("publish-dropped", stats.publish_dropped),
        ("candidate", stats.candidates),
        ("candidate-dropped", stats.candidates_dropped),
        ("accepted", stats.accepted),
        ("ignored", stats.ignored),
        ("rejected", stats.rejected),
        ("malformed", stats.malformed),
        ("status", stats.statuses),
        ("record", stats.records),
        ("record-refused", stats.records_refused),
        ("claim-refused", stats.claims_refused),
        ("connection-refused", stats.connections_refused),
        ("proof-refused", stats.proofs_refused),
        ("not-entitled", stats.not_entitled),
        ("request-served", stats.requests_served),
        ("request-refused", stats.requests_refused),
        ("block-served", stats.blocks_served),
        ("body-fetched", stats.bodies_fetched),
        ("message-limited", stats.messages_limited),
        ("stream-limited", stats.requests_limited),
        ("offence", stats.offences),
        ("ban", stats.bans),
    ] {
        samples.put([("event", event)], count(number));
    }
}
