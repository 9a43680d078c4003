// SPDX-License-Identifier: Apache-2.0
//! `blockcast inspect`: shows what is in a block.

mod judge;
mod metadata;
mod report;
mod signers;
#[cfg(test)]
mod tests;
mod text;
mod time;
mod transactions;

use std::path::PathBuf;

use blockcast::config::DataHashRule;

use self::{judge::Judge, report::Report};
use crate::{commands::block_files, error::CommandError, output};

const JSON_HELP: &str = "\
With --json there is one object on standard output:
  number, channel, bytes, config_block
  header_hash, previous_hash, data_hash     hexadecimal
  data_hash_ok, actual_data_hash            whether the data has that hash (null without data), and
              the one that it has where it is another
  metadata    last_config, consenter ({\"type\": \"etcdraft\", \"raft_index\"} or {\"type\": \"BFT\", \"view\",
              \"sequence\"}), slots [{index, name, bytes, content}], problem
  judged_by   the configuration that the signers are judged by; null when they are not
  signers_problem   why they cannot be judged
  signers     [{index, by (\"certificate\" or \"consenter\"), consenter, msp_id, subject, valid, problem}]
  transactions  [{index, bytes, type, channel, tx_id, timestamp, creator {msp_id, subject}, problem}]
  config      {sequence, root: {name, version, mod_policy, values, policies, groups}} in a config block;
              values and policies are [{name, version, mod_policy, lines}]
  config_problem    why the configuration cannot be shown
What is not there is null. Text out of the block is escaped where a terminal could obey it, and cut
where it is long. signers_total and transactions_total say how many there are; the lists end at
256 and 10,000.";

/// What `inspect` is told.
#[derive(Debug, clap::Args)]
#[command(after_long_help = JSON_HELP)]
pub(crate) struct Args {
    /// The file with the block, as fetch writes it
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// A genesis block or other config block of the channel, by which the signers are judged
    ///
    /// Without it, the signers of a config block are judged by the configuration in the block
    /// itself, and those of other blocks are not.
    #[arg(long, value_name = "FILE", visible_alias = "config")]
    genesis: Option<PathBuf>,
    /// How the data hash of the channel's blocks is taken: fabric, or fabric-x
    #[arg(long, value_name = "RULE", default_value = "fabric")]
    data_hash: DataHashRule,
    /// Prints one JSON object
    #[arg(long)]
    json: bool,
}

/// Shows the block.
#[expect(clippy::unused_async, reason = "every command is awaited")]
pub(crate) async fn run(args: Args) -> Result<(), CommandError> {
    let block = block_files::read(&args.file)?;
    let judge = match &args.genesis {
        Some(path) => {
            let config = block_files::read(path)
                .map_err(|error| CommandError::from(error).during("--genesis"))?;
            Some(Judge::given(&config, path, &block)?)
        }
        None => Judge::itself(&block),
    };
    let report = Report::new(&block, judge.as_ref(), args.data_hash.hashing());
    output::result(&if args.json {
        serde_json::to_string(&report)?
    } else {
        text::render(&report)
    })
}
