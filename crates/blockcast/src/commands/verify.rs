// SPDX-License-Identifier: Apache-2.0
//! `blockcast verify`: a folder of blocks is judged by the rules of its channel.

mod folder;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use blockcast::config::DataHashRule;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use tokio::task::yield_now;

use self::folder::{FolderVerifier, VerifiedChain, VerifyFolderError};
use crate::{
    commands::printable::{counted, grouped},
    error::CommandError,
    output,
    signals::StopSignals,
};

/// What `verify` is told.
#[derive(Debug, clap::Args)]
#[command(after_long_help = JSON_HELP)]
pub(crate) struct Args {
    /// The file with the channel's genesis block, which is trusted
    ///
    /// Every block is judged by the configuration in force at its height, beginning with this one.
    #[arg(long, value_name = "FILE")]
    genesis: PathBuf,
    /// The folder with the blocks, one file `block_<n>.pb` each
    ///
    /// They go from 0 or 1 up, without a gap. Files of other names do not count. Metadata slots
    /// that no orderer signs (all but the first) are not judged.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// How the data hash of the channel's blocks is taken: fabric, or fabric-x
    #[arg(long, value_name = "RULE", default_value = "fabric")]
    data_hash: DataHashRule,
    /// Prints the result as one JSON object
    #[arg(long)]
    json: bool,
}

const JSON_HELP: &str = "\
With --json there is one object on standard output, also when a block breaks a rule:
  {\"ok\": true, \"channel\": \"ch\", \"first\": 0, \"last\": 65, \"blocks\": 66, \"config_blocks\": 5,
   \"bytes\": 3141592, \"tip_hash\": \"<hex>\"}
  {\"ok\": false, \"block\": 12, \"file\": \"blocks/block_12.pb\", \"rule\": \"data-hash\", \"reason\": \"...\"}
Where no block is at fault (a file that cannot be read, a gap) block, file and rule are null.";

/// The result as JSON.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Outcome<'a> {
    Verified {
        ok: bool,
        channel: &'a str,
        first: u64,
        last: u64,
        blocks: u64,
        config_blocks: u64,
        bytes: u64,
        tip_hash: String,
    },
    Failed {
        ok: bool,
        block: Option<u64>,
        file: Option<String>,
        rule: Option<&'a str>,
        reason: String,
    },
}

/// Verifies the blocks and says where the chain stands.
pub(crate) async fn run(args: Args) -> Result<(), CommandError> {
    let mut signals = StopSignals::listen()?;
    let verified = tokio::select! {
        biased;
        _ = signals.wait() => return Err(CommandError::interrupted()),
        verified = verify(&args) => verified,
    };
    match verified {
        Ok(chain) if args.json => output::result(&Outcome::of_chain(&chain).json()?),
        Ok(chain) => output::result(&summary(&chain)),
        Err(error) => {
            if args.json {
                output::result(&Outcome::of_error(&error).json()?)?;
            }
            Err(error.into())
        }
    }
}

async fn verify(args: &Args) -> Result<VerifiedChain, VerifyFolderError> {
    let mut folder = FolderVerifier::open(&args.genesis, &args.dir, args.data_hash.hashing())?;
    // It shows itself on a terminal alone.
    let bar = ProgressBar::new(folder.remaining()).with_style(
        ProgressStyle::with_template("{bar:40} {pos}/{len} blocks, {eta} left")
            .unwrap_or_else(|_| ProgressStyle::default_bar()),
    );
    while folder.verify_next()? {
        bar.inc(1);
        // So that ctrl-c is heard between two blocks.
        yield_now().await;
    }
    bar.finish_and_clear();
    Ok(folder.finish())
}

fn summary(chain: &VerifiedChain) -> String {
    format!(
        "ok: channel {}, blocks {}..{}, tip {}\n    {}, {} of them, {} bytes",
        chain.channel,
        chain.first,
        chain.last,
        chain.tip_hash,
        counted_u64(chain.blocks, "block", "blocks"),
        counted_u64(chain.config_blocks, "config block", "config blocks"),
        grouped(chain.bytes),
    )
}

fn counted_u64(number: u64, one: &str, many: &str) -> String {
    counted(usize::try_from(number).unwrap_or(usize::MAX), one, many)
}

impl<'a> Outcome<'a> {
    fn of_chain(chain: &'a VerifiedChain) -> Self {
        Self::Verified {
            ok: true,
            channel: chain.channel.as_str(),
            first: chain.first.get(),
            last: chain.last.get(),
            blocks: chain.blocks,
            config_blocks: chain.config_blocks,
            bytes: chain.bytes,
            tip_hash: chain.tip_hash.to_string(),
        }
    }

    fn of_error(error: &'a VerifyFolderError) -> Self {
        let VerifyFolderError::Broken(broken) = error else {
            return Self::Failed {
                ok: false,
                block: None,
                file: None,
                rule: None,
                reason: error.to_string(),
            };
        };
        Self::Failed {
            ok: false,
            block: Some(broken.number.get()),
            file: Some(broken.file.display().to_string()),
            rule: Some(broken.rule),
            reason: broken.reason.clone(),
        }
    }

    fn json(&self) -> Result<String, CommandError> {
        Ok(serde_json::to_string(self)?)
    }
}
