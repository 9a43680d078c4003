// SPDX-License-Identifier: Apache-2.0
//! The metrics of a node, in the order of the table in `docs/operations.md`.

mod gossip;

use block_api::Height;
use blocks_provider::PullState;
use deliver_service::{Health, Missing, Role};

use super::{
    Family,
    Kind::{Counter, Gauge},
    Unit,
};

/// The states of a channel's health.
pub(super) const STATES: [&str; 4] = ["at-tip", "connecting", "catching-up", "stuck"];

/// What a node may do in an election.
const ROLES: [(Role, &str); 4] = [
    (Role::Waiting, "waiting"),
    (Role::Puller, "puller"),
    (Role::Standby, "standby"),
    (Role::Beside, "beside"),
];

const OF_CHANNELS: &[Family] = &[
    Family {
        name: "build",
        help: "1, with the version as a label",
        unit: None,
        kind: Gauge,
        read: |_, samples| samples.put([("version", env!("CARGO_PKG_VERSION"))], 1.0),
    },
    Family {
        name: "channel_height",
        help: "Height of the chain that is stored",
        unit: Some(Unit::Blocks),
        kind: Gauge,
        read: |scrape, samples| scrape.each(samples, |state| count(state.chain.height.get())),
    },
    Family {
        name: "channel_lag",
        help: "Blocks that are proven to be there and not stored",
        unit: Some(Unit::Blocks),
        kind: Gauge,
        read: |scrape, samples| {
            scrape.each(samples, |state| {
                let beyond = |missing: Missing| missing.highest.height();
                lead(state.missing.map(beyond), state.chain.height)
            });
        },
    },
    Family {
        name: "channel_lag",
        help: "For how long the first of those blocks is known to be there",
        unit: Some(Unit::Seconds),
        kind: Gauge,
        read: |scrape, samples| {
            scrape.each(samples, |state| {
                let since = state.missing.map(|missing| missing.since.elapsed());
                since.unwrap_or_default().as_secs_f64()
            });
        },
    },
    Family {
        name: "channel_claimed_lag",
        help: "Blocks that the highest node says to have and that are not stored; nothing proves them",
        unit: Some(Unit::Blocks),
        kind: Gauge,
        read: |scrape, samples| {
            scrape.each(samples, |state| {
                let claimed = state.peers.values().map(|status| status.height).max();
                lead(claimed, state.chain.height)
            });
        },
    },
    Family {
        name: "channel_health",
        help: "1 for the state that the channel is in, 0 for the others",
        unit: None,
        kind: Gauge,
        read: |scrape, samples| {
            for (channel, state) in scrape.channels {
                for name in STATES {
                    let value = flag(state.health.as_str() == name);
                    samples.add(channel, [("state", name)], value);
                }
            }
        },
    },
    Family {
        name: "channel_stuck",
        help: "1 while the channel is stuck, with the reason",
        unit: None,
        kind: Gauge,
        read: |scrape, samples| {
            for (channel, state) in scrape.channels {
                if let Health::Stuck { reason, .. } = &state.health {
                    samples.add(channel, [("reason", reason.as_str())], 1.0);
                }
            }
        },
    },
    Family {
        name: "channel_pulling",
        help: "1 while this node pulls from the ordering service",
        unit: None,
        kind: Gauge,
        read: |scrape, samples| scrape.each(samples, |state| flag(state.pull.is_some())),
    },
    Family {
        name: "channel_role",
        help: "1 for what the node does in the election of those who pull, 0 for the others",
        unit: None,
        kind: Gauge,
        read: |scrape, samples| {
            for (channel, state) in scrape.channels {
                let Some(leadership) = &state.leadership else {
                    continue;
                };
                for (role, name) in ROLES {
                    let value = flag(leadership.role == role);
                    samples.add(channel, [("role", name)], value);
                }
            }
        },
    },
    Family {
        name: "channel_rank",
        help: "How many nodes come before this one in that election",
        unit: None,
        kind: Gauge,
        read: |scrape, samples| {
            for (channel, state) in scrape.channels {
                if let Some(leadership) = &state.leadership {
                    samples.add(channel, [], count(leadership.rank as u64));
                }
            }
        },
    },
    Family {
        name: "channel_source",
        help: "1, with the orderer whose stream is open",
        unit: None,
        kind: Gauge,
        read: |scrape, samples| {
            for (channel, state) in scrape.channels {
                if let Some(PullState::Streaming(endpoint)) = &state.pull {
                    samples.add(channel, [("endpoint", endpoint.as_str())], 1.0);
                }
            }
        },
    },
    Family {
        name: "channel_failing_orderers",
        help: "Orderers whose last stream was given up and that gave no block since, by the reason",
        unit: None,
        kind: Gauge,
        read: |scrape, samples| {
            for (channel, state) in scrape.channels {
                let failing = state
                    .pull_report
                    .iter()
                    .flat_map(|report| report.failing.values());
                let mut reasons = std::collections::BTreeMap::new();
                for reason in failing {
                    *reasons.entry(*reason).or_insert(0.0) += 1.0;
                }
                for (reason, orderers) in reasons {
                    samples.add(channel, [("reason", reason.as_str())], orderers);
                }
            }
        },
    },
    Family {
        name: "channel_peers",
        help: "Nodes of the channel that this one hears of",
        unit: None,
        kind: Gauge,
        read: |scrape, samples| scrape.each(samples, |state| count(state.peers.len() as u64)),
    },
    Family {
        name: "channel_pulling_peers",
        help: "Those of them that say that they pull from the ordering service",
        unit: None,
        kind: Gauge,
        read: |scrape, samples| {
            scrape.each(samples, |state| {
                let pulling = state.peers.values().filter(|status| status.pulling);
                count(pulling.count() as u64)
            });
        },
    },
    Family {
        name: "channel_stored",
        help: "Blocks that were stored, by the way that they came",
        unit: Some(Unit::Blocks),
        kind: Counter,
        read: |scrape, samples| {
            for (channel, state) in scrape.channels {
                let stats = &state.stats;
                for (origin, stored) in [
                    ("orderer", stats.from_orderer),
                    ("topic", stats.from_topic),
                    ("pull", stats.from_pull),
                    ("catch-up", stats.from_catch_up),
                ] {
                    samples.add(channel, [("origin", origin)], count(stored));
                }
            }
        },
    },
    Family {
        name: "channel_stored",
        help: "Bytes of blocks that were stored",
        unit: Some(Unit::Bytes),
        kind: Counter,
        read: |scrape, samples| scrape.each(samples, |state| count(state.stats.bytes)),
    },
    Family {
        name: "channel_verdicts",
        help: "What became of blocks and announcements",
        unit: None,
        kind: Counter,
        read: |scrape, samples| {
            for (channel, state) in scrape.channels {
                let stats = &state.stats;
                let stored = [
                    stats.from_orderer,
                    stats.from_topic,
                    stats.from_pull,
                    stats.from_catch_up,
                ];
                for (verdict, number) in [
                    ("stored", stored.into_iter().sum()),
                    ("rejected", stats.rejected),
                    ("ignored", stats.ignored),
                    ("limited", stats.limited),
                    ("unlinked", stats.unlinked),
                ] {
                    samples.add(channel, [("verdict", verdict)], count(number));
                }
            }
        },
    },
    Family {
        name: "channel_equivocations",
        help: "Pairs of blocks of one number that orderers signed",
        unit: None,
        kind: Counter,
        read: |scrape, samples| scrape.each(samples, |state| count(state.stats.equivocations)),
    },
    Family {
        name: "channel_evicted",
        help: "Blocks that waited and made room for lower ones, to be fetched again",
        unit: Some(Unit::Blocks),
        kind: Counter,
        read: |scrape, samples| scrape.each(samples, |state| count(state.stats.evicted)),
    },
    Family {
        name: "channel_unpublished",
        help: "Blocks from the ordering service that were to be published and were not",
        unit: Some(Unit::Blocks),
        kind: Counter,
        read: |scrape, samples| scrape.each(samples, |state| count(state.stats.unpublished)),
    },
    Family {
        name: "channel_appends",
        help: "Appends to the store that went well, each of one batch of blocks",
        unit: None,
        kind: Counter,
        read: |scrape, samples| scrape.each(samples, |state| count(state.stats.appends)),
    },
    Family {
        name: "channel_append_time",
        help: "How long those took, all together",
        unit: Some(Unit::Seconds),
        kind: Counter,
        read: |scrape, samples| {
            scrape.each(samples, |state| state.stats.append_time.as_secs_f64());
        },
    },
    Family {
        name: "channel_append_failures",
        help: "Appends that failed and were tried again",
        unit: None,
        kind: Counter,
        read: |scrape, samples| scrape.each(samples, |state| count(state.stats.failed_appends)),
    },
    Family {
        name: "channel_buffer",
        help: "Bytes of blocks that wait to be stored",
        unit: Some(Unit::Bytes),
        kind: Gauge,
        read: |scrape, samples| {
            scrape.each(samples, |state| count(state.buffered_bytes as u64));
        },
    },
    Family {
        name: "channel_store",
        help: "Bytes of the store's segments",
        unit: Some(Unit::Bytes),
        kind: Gauge,
        read: |scrape, samples| {
            for (channel, seen) in scrape.seen() {
                samples.add(channel, [], count(seen.store.bytes()));
            }
        },
    },
    Family {
        name: "channel_stream_attempts",
        help: "Attempts to open a stream of blocks on an orderer",
        unit: None,
        kind: Counter,
        read: |scrape, samples| scrape.each(samples, |state| count(state.pull_stats.attempts)),
    },
    Family {
        name: "channel_stream_restarts",
        help: "Streams of orderers that were given up, by the reason",
        unit: None,
        kind: Counter,
        read: |scrape, samples| {
            for (channel, state) in scrape.channels {
                for (reason, restarts) in &state.pull_stats.restarts {
                    samples.add(channel, [("reason", reason.as_str())], count(*restarts));
                }
            }
        },
    },
    Family {
        name: "channel_suspicions",
        help: "Suspicions that an orderer withholds blocks, by what became of them",
        unit: None,
        kind: Counter,
        read: |scrape, samples| {
            for (channel, state) in scrape.channels {
                let stats = &state.pull_stats;
                for (outcome, suspicions) in [
                    ("raised", stats.suspicions_raised),
                    ("cleared", stats.suspicions_cleared),
                    ("confirmed", stats.suspicions_confirmed),
                ] {
                    samples.add(channel, [("outcome", outcome)], count(suspicions));
                }
            }
        },
    },
    Family {
        name: "channel_probes",
        help: "Times that another orderer was asked for its newest header",
        unit: None,
        kind: Counter,
        read: |scrape, samples| scrape.each(samples, |state| count(state.pull_stats.probes)),
    },
    Family {
        name: "channel_header_streams",
        help: "Streams of headers that were opened on other orderers",
        unit: None,
        kind: Counter,
        read: |scrape, samples| {
            scrape.each(samples, |state| count(state.pull_stats.header_streams));
        },
    },
    Family {
        name: "channel_task_deaths",
        help: "Tasks of the channel that died and were started again",
        unit: None,
        kind: Counter,
        read: |scrape, samples| {
            for (channel, state) in scrape.channels {
                for (task, deaths) in &state.deaths {
                    samples.add(channel, [("task", task.as_str())], count(*deaths));
                }
            }
        },
    },
];

pub(super) fn all() -> impl Iterator<Item = &'static Family> {
    OF_CHANNELS.iter().chain(gossip::FAMILIES)
}

/// By how many blocks one height is above another.
fn lead(height: Option<Height>, of: Height) -> f64 {
    let height = height.map_or(0, Height::get);
    count(height.saturating_sub(of.get()))
}

fn flag(is_so: bool) -> f64 {
    f64::from(u8::from(is_so))
}

/// A number as OpenMetrics has it. Above 2^53 it is rounded, which no count here reaches.
fn count(number: u64) -> f64 {
    number as f64
}
