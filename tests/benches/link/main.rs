// SPDX-License-Identifier: Apache-2.0
//! `link`: a chain from an ordering service into a durable store, verified, over a long fat link,
//! against what the link carries and what plain TCP makes of it; and what it takes to receive it.
//!
//! The two hosts are network namespaces. Between them are a token bucket for the rate and a forwarder
//! for the delay, which is this program again.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "the rows are what a benchmark is for, and its processes tell it what they measured"
)]

mod forwarder;
mod hosts;
mod network;
mod receive;
mod took;

use std::{env, path::PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use e2e_tests::bench::{self, Blocks, Role, Round, Row, Target, Usage};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::Child,
    time::Instant,
};

use crate::{
    network::{Host, MBIT_PER_S, Network},
    took::{Played, Took, note},
};

/// Verified and durable blocks, over what the link carries with all headers, connecting and slow
/// start included; and over plain TCP.
const TARGET: f64 = 0.80;

/// The client takes no more time of a core than a bare stub with the same TLS and windows.
const TARGET_RECEIVE: f64 = 1.0;

/// The bytes of a block's data.
const BLOCK_BYTES: usize = 100_000;

/// Where everything must run, what this machine lacks is a failure.
const REQUIRE_ALL: &str = "BLOCKCAST_REQUIRE_ALL";

#[derive(Debug, Parser)]
struct Args {
    #[command(flatten)]
    shared: bench::Args,
    /// Blocks of 101 KB.
    #[arg(long, default_value_t = 6000)]
    blocks: usize,
}

/// The orderer's process, and what it serves.
struct Rig<'a> {
    network: &'a Network,
    dir: tempfile::TempDir,
    blocks: usize,
    bytes: f64,
    orderer: Child,
}

#[tokio::main]
async fn main() -> Result<()> {
    if let Some(role) = Role::of_this_process() {
        return Box::pin(play(&role)).await;
    }
    let args = Args::parse();
    let network = match Network::make().await {
        Ok(network) => network,
        Err(reason) => return skipped(&reason, &args.shared),
    };
    let blocks = if args.shared.smoke { 20 } else { args.blocks };
    let rig = Rig::start(&network, blocks).await?;
    let (mut rows, of_link) = Box::pin(rig.link(args.shared.rounds_or(3))).await?;
    let (row, of_receiving) = Box::pin(rig.receive(args.shared.rounds())).await?;
    rows.push(row);
    let notes = [of_link, of_receiving].concat();
    bench::finish_with(&rows, &notes, &args.shared)
}

async fn play(role: &Role) -> Result<()> {
    let dir = || role.argument::<PathBuf>(0);
    match role.name.as_str() {
        forwarder::FORWARDER => {
            let devices = [role.argument(0)?, role.argument(1)?];
            forwarder::run(devices, role.argument(2)?)
        }
        hosts::ORDERER => {
            let blocks = Blocks {
                count: role.argument(1)?,
                data_bytes: BLOCK_BYTES,
            };
            hosts::orderer(&dir()?, blocks).await
        }
        hosts::NODE => hosts::node(&dir()?, role.argument(1)?).await,
        hosts::PLAIN => hosts::plain().await,
        receive::CLIENT => receive::client(&dir()?, role.argument(1)?).await,
        receive::STUB => receive::stub(&dir()?, role.argument(1)?).await,
        name => bail!("there is no role {name}"),
    }
}

/// Says that this machine cannot run the benchmark, which has no rows then.
fn skipped(reason: &anyhow::Error, args: &bench::Args) -> Result<()> {
    eprintln!("SKIPPED: {reason:#}");
    if args.json {
        println!("[]");
    }
    if env::var(REQUIRE_ALL).is_ok_and(|value| value == "1") {
        bail!("{REQUIRE_ALL} is set, so that this is a failure");
    }
    Ok(())
}

impl<'a> Rig<'a> {
    async fn start(network: &'a Network, blocks: usize) -> Result<Self> {
        let dir = bench::folder()?;
        let path = dir.path().to_str().context("a folder with a name")?;
        let arguments = [path, &blocks.to_string()];
        let mut orderer = network
            .command(Host::Orderer, hosts::ORDERER, &arguments)?
            .spawn()?;
        let mut said = BufReader::new(orderer.stdout.take().context("its output")?).lines();
        let ready = said.next_line().await?.context("the orderer ended")?;
        let bytes = ready
            .strip_prefix(hosts::READY)
            .context("what the orderer says")?
            .parse()?;
        Ok(Self {
            network,
            dir,
            blocks,
            bytes,
            orderer,
        })
    }

    /// Blocks over the link, beside what it carries and what plain TCP does.
    async fn link(&self, rounds: usize) -> Result<(Vec<Row>, [String; 2])> {
        let roles = [(Host::Node, hosts::NODE), (Host::Node, hosts::PLAIN)];
        let played = self.rounds(rounds, roles).await?;
        let rate = |played: &Played| self.bytes * 8.0 / 1e6 / played.took.elapsed_s;
        let over = |baseline: &dyn Fn(&Played) -> f64| -> Vec<Round> {
            let of = |[node, plain]: &[Played; 2]| Round {
                value: rate(node),
                baseline: baseline(plain),
            };
            played.iter().map(of).collect()
        };
        let row = |over: &str, rounds: &[Round]| {
            let case = format!("link rate=1Gbit delay=25ms over={over}");
            Row::new(case, "Mbit/s", Target::AtLeast(TARGET), rounds)
        };
        let rows = vec![
            row("link", &over(&|_| MBIT_PER_S)),
            row("tcp", &over(&rate)),
        ];
        let notes = self.notes(["node over the link", "plain TCP"], &played);
        Ok((rows, notes))
    }

    /// The time of a core for each block that is received and dropped, on the orderer's own host.
    async fn receive(&self, rounds: usize) -> Result<(Row, [String; 2])> {
        let roles = [receive::CLIENT, receive::STUB].map(|role| (Host::Orderer, role));
        let played = self.rounds(rounds, roles).await?;
        let core_us = |played: &Played| played.took.cpu_s * 1e6 / self.blocks as f64;
        let measured: Vec<Round> = played
            .iter()
            .map(|[client, bare]| Round {
                value: core_us(client),
                baseline: core_us(bare),
            })
            .collect();
        let target = Target::AtMost(TARGET_RECEIVE);
        let row = Row::new("receive size=101KB", "µs cpu", target, &measured);
        let notes = self.notes(["client that drops", "bare client"], &played);
        Ok((row, notes))
    }

    /// Plays two roles, of which one is the first in every other round.
    async fn rounds(&self, rounds: usize, [a, b]: [(Host, &str); 2]) -> Result<Vec<[Played; 2]>> {
        let mut played = Vec::new();
        for round in 0..rounds {
            played.push(match round.is_multiple_of(2) {
                true => [self.play(a).await?, self.play(b).await?],
                false => {
                    let second = self.play(b).await?;
                    [self.play(a).await?, second]
                }
            });
        }
        Ok(played)
    }

    /// What each of two roles took, for people.
    fn notes(&self, roles: [&str; 2], played: &[[Played; 2]]) -> [String; 2] {
        let [first, second] = roles;
        [
            note(first, played.iter().map(|[first, _]| first), self.blocks),
            note(second, played.iter().map(|[_, second]| second), self.blocks),
        ]
    }

    /// Plays a role on a host to its end, and looks what the orderer takes for that.
    async fn play(&self, role: (Host, &str)) -> Result<Played> {
        // The process that `ip` was is the orderer's.
        let orderer = self.orderer.id().context("the orderer ended")?;
        let (before, began) = (Usage::of(orderer)?, Instant::now());
        let took = self.told(role).await?;
        Ok(Played {
            took,
            orderer: Took::between(&before, &Usage::of(orderer)?, began),
        })
    }

    /// Plays a role on a host to its end; it says what it took.
    async fn told(&self, (host, role): (Host, &str)) -> Result<Took> {
        let dir = self.dir.path().to_str().context("a folder with a name")?;
        let blocks = self.blocks.to_string();
        let ended = self
            .network
            .command(host, role, &[dir, &blocks])?
            .spawn()?
            .wait_with_output()
            .await?;
        let said = String::from_utf8(ended.stdout)?;
        said.trim()
            .parse()
            .with_context(|| format!("{role} says {said:?}"))
    }
}
