// SPDX-License-Identifier: Apache-2.0
//! `serve`: `orderer-server` over a store, against a bare tonic server that sends prepared bytes.
//!
//! Both servers are processes of their own, with the same TLS and the same HTTP/2 settings, and so
//! are the readers: this program again. The readers are the same for both: they receive and count,
//! no more. Rounds are interleaved, and who goes first alternates.

mod bare;
mod files;
mod ours;
mod readers;
mod round;

use anyhow::{Result, bail};
use clap::Parser;
use e2e_tests::bench::{self, Role};
use tokio::io::AsyncReadExt as _;

use self::round::CASES;

#[derive(Debug, Parser)]
struct Args {
    #[command(flatten)]
    shared: bench::Args,
    /// The cases to run, by a part of their names; all by default.
    #[arg(long)]
    case: Option<String>,
}

#[tokio::main]
async fn main() -> Result<()> {
    if let Some(role) = Role::of_this_process() {
        return match role.name.as_str() {
            ours::ROLE => Box::pin(ours::run(&role)).await,
            bare::ROLE => Box::pin(bare::run(&role)).await,
            readers::ROLE => Box::pin(readers::run(&role)).await,
            name => bail!("there is no role {name}"),
        };
    }
    let Args { shared, case } = Args::parse();
    let is_wanted = |name: &str| case.as_ref().is_none_or(|part| name.contains(part));
    let (mut rows, mut notes) = (Vec::new(), Vec::new());
    for case in CASES.iter().filter(|case| is_wanted(&case.name())) {
        let case = if shared.smoke { case.smoke() } else { *case };
        let (row, note) = Box::pin(case.run(shared.rounds())).await?;
        rows.push(row);
        notes.extend(note);
    }
    bench::finish_with(&rows, &notes, &shared)
}

/// Waits until the benchmark wants no more of this process.
async fn until_told() {
    // An input that cannot be read is at its end, too.
    let _ = tokio::io::stdin().read_to_end(&mut Vec::new()).await;
}

/// Tells the benchmark something.
#[expect(
    clippy::print_stdout,
    reason = "a child tells its benchmark how far it is on standard output"
)]
fn tell(line: impl std::fmt::Display) {
    println!("{line}");
}
