// SPDX-License-Identifier: Apache-2.0
//! What came of the demo, as a table and as JSON.

use std::{fmt::Write as _, time::Duration};

use block_api::{ChainInfo, HeaderHash};
use serde::Serialize;
use tokio::time::Instant;

use super::{cluster::Cluster, latency::Latency, service::Service};
use crate::error::CommandError;

/// What came of it. The order of the fields is that of the JSON object.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Report {
    channel: String,
    height: u64,
    tip_hash: String,
    orderer_streams: u64,
    orderer_probes: u64,
    orderer_bytes_sent: u64,
    nodes: Vec<NodeReport>,
    elapsed_s: f64,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct NodeReport {
    name: String,
    height: u64,
    tip_hash: String,
    from_orderer: u64,
    /// Whole, on the topic.
    from_gossip: u64,
    /// Bodies of announced blocks, and ranges.
    from_pull: u64,
    #[serde(skip)]
    bytes: u64,
    latency_ms: Latency,
}

impl Report {
    /// Asks everybody how it ended.
    pub(super) async fn collect(
        service: &Service,
        cluster: &Cluster,
        stored: &[Vec<Instant>],
        elapsed: Duration,
    ) -> Result<Self, CommandError> {
        let (chain, counts) = (service.chain(), service.stats());
        let states = cluster.states().await?;
        let nodes = cluster
            .names()
            .zip(states)
            .zip(stored)
            .map(|((name, state), stored)| NodeReport {
                name: name.to_owned(),
                height: state.chain.height.get(),
                tip_hash: tip(&state.chain),
                from_orderer: state.stats.from_orderer,
                from_gossip: state.stats.from_topic,
                from_pull: state
                    .stats
                    .from_pull
                    .saturating_add(state.stats.from_catch_up),
                bytes: state.stats.bytes,
                latency_ms: Latency::of(stored, |number| service.ordered_at(number)),
            });
        Ok(Self {
            channel: service.channel().to_string(),
            height: chain.height.get(),
            tip_hash: tip(&chain),
            orderer_streams: counts.block_streams,
            orderer_probes: counts.probes,
            orderer_bytes_sent: counts.bytes_sent,
            nodes: nodes.collect(),
            elapsed_s: (elapsed.as_secs_f64() * 1000.0).round() / 1000.0,
        })
    }

    /// Whether every node has what the orderer has.
    pub(super) fn check(&self) -> Result<(), CommandError> {
        let differs =
            |node: &&NodeReport| (node.height, &node.tip_hash) != (self.height, &self.tip_hash);
        let differing: Vec<String> = self
            .nodes
            .iter()
            .filter(differs)
            .map(|node| {
                format!(
                    "{} has height {} and tip {}",
                    node.name, node.height, node.tip_hash
                )
            })
            .collect();
        if differing.is_empty() {
            return Ok(());
        }
        Err(CommandError::new(format!(
            "the nodes do not agree with the orderer, which has height {} and tip {}: {}",
            self.height,
            self.tip_hash,
            differing.join("; ")
        )))
    }

    pub(super) fn json(&self) -> Result<String, CommandError> {
        Ok(serde_json::to_string(self)?)
    }

    pub(super) fn table(&self) -> String {
        let mut out = String::new();
        // Writing to a string does not fail.
        let _ = writeln!(
            out,
            "channel {}: height {}, tip {}",
            self.channel, self.height, self.tip_hash
        );
        let _ = writeln!(
            out,
            "orderer: {} block stream(s), {} probe(s), {} sent",
            self.orderer_streams,
            self.orderer_probes,
            bytes(self.orderer_bytes_sent)
        );
        let _ = writeln!(
            out,
            "\n{:<9}{:>8}  {:<14}{:>9}{:>7}{:>7}{:>12}{:>9}{:>9}",
            "node", "height", "tip", "orderer", "topic", "pull", "stored", "p50 ms", "p99 ms"
        );
        for node in &self.nodes {
            let _ = writeln!(
                out,
                "{:<9}{:>8}  {:<14}{:>9}{:>7}{:>7}{:>12}{:>9}{:>9}",
                node.name,
                node.height,
                format!("{}…", node.tip_hash.chars().take(12).collect::<String>()),
                node.from_orderer,
                node.from_gossip,
                node.from_pull,
                bytes(node.bytes),
                milliseconds(node.latency_ms.p50),
                milliseconds(node.latency_ms.p99),
            );
        }
        let _ = write!(
            out,
            "\norderer, topic, pull: blocks by the way they came; ms: from ordering to store; {:.1} s in all",
            self.elapsed_s
        );
        out
    }
}

fn tip(chain: &ChainInfo) -> String {
    chain
        .tip_hash
        .as_ref()
        .map(HeaderHash::to_string)
        .unwrap_or_default()
}

fn milliseconds(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1}"))
}

fn bytes(count: u64) -> String {
    match count {
        0..1024 => format!("{count} B"),
        1024..1_048_576 => format!("{:.1} KiB", count as f64 / 1024.0),
        1_048_576.. => format!("{:.1} MiB", count as f64 / 1_048_576.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let node = |name: &str| NodeReport {
            name: name.to_owned(),
            height: 3,
            tip_hash: "ab".repeat(32),
            from_orderer: 2,
            from_gossip: 0,
            from_pull: 0,
            bytes: 3 << 20,
            latency_ms: Latency {
                p50: Some(1.25),
                p99: None,
            },
        };
        Report {
            channel: "demo".to_owned(),
            height: 3,
            tip_hash: "ab".repeat(32),
            orderer_streams: 1,
            orderer_probes: 0,
            orderer_bytes_sent: 2048,
            nodes: vec![node("node-1"), node("node-2")],
            elapsed_s: 0.5,
        }
    }

    #[test]
    fn the_json_object_has_these_keys_in_this_order() {
        let hash = "ab".repeat(32);
        let node = |name: &str| {
            format!(
                "{{\"name\":\"{name}\",\"height\":3,\"tip_hash\":\"{hash}\",\"from_orderer\":2,\"from_gossip\":0,\
                 \"from_pull\":0,\"latency_ms\":{{\"p50\":1.25,\"p99\":null}}}}"
            )
        };
        let expected = format!(
            "{{\"channel\":\"demo\",\"height\":3,\"tip_hash\":\"{hash}\",\"orderer_streams\":1,\"orderer_probes\":0,\
             \"orderer_bytes_sent\":2048,\"nodes\":[{},{}],\"elapsed_s\":0.5}}",
            node("node-1"),
            node("node-2")
        );
        assert_eq!(report().json().unwrap(), expected);
    }

    #[test]
    fn only_nodes_that_agree_with_the_orderer_are_good() {
        assert!(report().check().is_ok());
        let mut other_height = report();
        other_height.nodes[1].height = 2;
        let mut other_tip = report();
        other_tip.tip_hash = "cd".repeat(32);
        for (report, name) in [(other_height, "node-2"), (other_tip, "node-1")] {
            let error = report.check().unwrap_err().to_string();
            assert!(error.contains(name), "{error}");
        }
    }

    #[test]
    fn the_table_tells_what_the_object_tells() {
        let table = report().table();
        let row = table
            .lines()
            .find(|line| line.starts_with("node-2"))
            .unwrap();
        let cells: Vec<&str> = row.split_whitespace().collect();
        assert_eq!(
            cells,
            [
                "node-2",
                "3",
                "abababababab…",
                "2",
                "0",
                "0",
                "3.0",
                "MiB",
                "1.2",
                "-"
            ]
        );
        assert!(
            table.contains(&"ab".repeat(32)) && table.contains("1 block stream"),
            "{table}"
        );
    }
}
