// SPDX-License-Identifier: Apache-2.0
//! What a node measures, read from the states of its channels when somebody asks: nothing is counted
//! twice, and nothing runs in between.
//!
//! No label takes values without bound: channels and orderers are those of the configuration, and
//! everything else is one of a list.

mod families;

use std::{collections::BTreeMap, fmt, sync::Arc};

use block_api::ChannelId;
use deliver_service::ChannelState;
use gossip_libp2p::Stats;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, NoLabelSet, text::encode},
    metrics::{MetricType, exemplar::Exemplar},
    registry::{self, Registry},
};

use super::view::{Seen, View};

/// What every name begins with.
const PREFIX: &str = "blockcast";

/// A metric: what it says, and where it is read.
struct Family {
    /// The name, without prefix, unit and the `_total` of counters.
    name: &'static str,
    help: &'static str,
    unit: Option<Unit>,
    kind: Kind,
    read: fn(&Scrape<'_>, &mut Samples),
}

/// What is counted; the name ends with it.
#[derive(Debug, Clone, Copy)]
enum Unit {
    Blocks,
    Bytes,
    Seconds,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// It only grows.
    Counter,
    Gauge,
}

/// What is read at one time.
struct Scrape<'a> {
    view: &'a View,
    channels: &'a BTreeMap<ChannelId, ChannelState>,
    gossip: Option<Stats>,
}

/// The values of a metric, each with its labels.
#[derive(Debug, Default)]
struct Samples(Vec<(Vec<(&'static str, String)>, f64)>);

/// Reads the metrics of a node.
#[derive(Debug)]
struct NodeMetrics(Arc<View>);

/// Has a registry tell the metrics of a node.
pub(super) fn register(registry: &mut Registry, view: Arc<View>) {
    registry
        .sub_registry_with_prefix(PREFIX)
        .register_collector(Box::new(NodeMetrics(view)));
}

/// What is in a registry, as OpenMetrics text.
pub(super) fn text(registry: &Registry) -> String {
    let mut text = String::new();
    // Writing into a string does not fail.
    let _ = encode(&mut text, registry);
    text
}

impl Collector for NodeMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let view = &*self.0;
        let scrape = Scrape {
            view,
            channels: &view.states(),
            gossip: view.gossip.as_ref().map(|gossip| gossip.stats()),
        };
        for family in families::all() {
            let mut samples = Samples::default();
            (family.read)(&scrape, &mut samples);
            let kind = match family.kind {
                Kind::Counter => MetricType::Counter,
                Kind::Gauge => MetricType::Gauge,
            };
            let unit = family.unit.map(registry::Unit::from);
            let mut metric =
                encoder.encode_descriptor(family.name, family.help, unit.as_ref(), kind)?;
            for (labels, value) in samples.0 {
                let labels = labels.as_slice();
                let mut sample = metric.encode_family(&labels)?;
                match family.kind {
                    Kind::Counter => {
                        sample.encode_counter(&value, None::<&Exemplar<NoLabelSet, f64>>)?;
                    }
                    Kind::Gauge => sample.encode_gauge(&value)?,
                }
            }
        }
        Ok(())
    }
}

impl From<Unit> for registry::Unit {
    fn from(unit: Unit) -> Self {
        match unit {
            Unit::Blocks => Self::Other("blocks".to_owned()),
            Unit::Bytes => Self::Bytes,
            Unit::Seconds => Self::Seconds,
        }
    }
}

impl Scrape<'_> {
    /// Reads one value of every channel.
    fn each(&self, samples: &mut Samples, value: fn(&ChannelState) -> f64) {
        for (channel, state) in self.channels {
            samples.add(channel, [], value(state));
        }
    }

    /// The channels, each with its state and its other parts.
    fn seen(&self) -> impl Iterator<Item = (&ChannelId, &Seen)> {
        let channels = self.view.channels.iter();
        channels.filter(|(channel, _)| self.channels.contains_key(*channel))
    }
}

impl Samples {
    fn add<const N: usize>(
        &mut self,
        channel: &ChannelId,
        labels: [(&'static str, &str); N],
        value: f64,
    ) {
        let channel = [("channel", channel.as_str())];
        self.put(channel.into_iter().chain(labels), value);
    }

    fn put<'a>(&mut self, labels: impl IntoIterator<Item = (&'static str, &'a str)>, value: f64) {
        let labels = labels.into_iter();
        let owned = labels.map(|(name, value)| (name, value.to_owned()));
        self.0.push((owned.collect(), value));
    }
}

#[cfg(test)]
mod tests {
    use block_api::{
        Gossip, SystemClock,
        testing::{
            MemoryStore, OpenReaders, ScriptedSource, TestChain, TestOrganisation, TestSigner,
            TestVerifier,
        },
    };
    use bytes::Bytes;
    use deliver_service::{ChannelParts, DeliverService};
    use gossip_memory::MemoryNetwork;

    use super::*;

    const TABLE: &str = include_str!("../../../../docs/operations.md");

    /// The name as it is on the page.
    fn full_name(family: &Family) -> String {
        let unit = family.unit.map(registry::Unit::from);
        let unit = unit.map(|unit| format!("_{}", unit.as_str()));
        let total = match family.kind {
            Kind::Counter => "_total",
            Kind::Gauge => "",
        };
        format!(
            "{PREFIX}_{}{}{total}",
            family.name,
            unit.unwrap_or_default()
        )
    }

    /// Covers: ELA-05
    #[tokio::test]
    async fn the_metric_follows_who_pulls() {
        let (chain, blocks) = TestChain::of_blocks("ch", 1, 10);
        let gossip: Arc<dyn Gossip> = Arc::new(MemoryNetwork::new(1).node("node"));
        let service = DeliverService::new(deliver_service::Config::default(), gossip).unwrap();
        let (channel, store) = (chain.channel(), Arc::new(MemoryStore::default()));
        let parts = ChannelParts {
            channel: channel.clone(),
            genesis: blocks[0].header_hash(),
            store: store.clone(),
            verifier: Arc::new(TestVerifier::default()),
            readers: Arc::new(OpenReaders),
            signer: Arc::new(TestSigner("node")),
            organisation: Arc::new(TestOrganisation("node")),
            source: Arc::new(ScriptedSource::new(&["orderer:7050"])),
        };
        service.join_channel(parts).await.unwrap();
        let mut registry = Registry::default();
        let view = View {
            service: service.clone(),
            channels: BTreeMap::new(),
            identity: Bytes::new(),
            clock: Arc::new(SystemClock),
            gossip: None,
            ready_lag: 0,
        };
        register(&mut registry, Arc::new(view));
        let pulls = |value: &str| {
            let line = format!("\nblockcast_channel_pulling{{channel=\"ch\"}} {value}\n");
            text(&registry).contains(&line)
        };
        assert!(pulls("0.0"), "{}", text(&registry));
        let started = service.start_deliver_for_channel(&channel, store);
        started.await.unwrap();
        assert!(pulls("1.0"));
        service.stop_deliver_for_channel(&channel).await.unwrap();
        assert!(pulls("0.0"));
        service.stop().await;
    }

    #[test]
    fn the_tables_have_every_state_and_reason() {
        let has = |name: &str| TABLE.contains(&format!("\n| `{name}` | "));
        for state in families::STATES {
            assert!(has(state), "{state}");
        }
        for reason in deliver_service::StuckReason::ALL {
            assert!(has(reason.as_str()), "{reason:?}");
        }
    }

    #[test]
    fn the_table_has_every_metric_and_no_other() {
        let rows = TABLE.lines().filter_map(|line| {
            let rest = line.strip_prefix("| `blockcast_")?;
            let (name, rest) = rest.split_once('`')?;
            let kind = rest.split('|').nth(1)?.trim();
            Some((format!("blockcast_{name}"), kind.to_owned()))
        });
        let families = families::all().map(|family| {
            let kind = match family.kind {
                Kind::Counter => "counter",
                Kind::Gauge => "gauge",
            };
            (full_name(family), kind.to_owned())
        });
        let (table, code): (Vec<_>, Vec<_>) = (rows.collect(), families.collect());
        assert_eq!(table, code, "docs/operations.md and families");
    }
}
