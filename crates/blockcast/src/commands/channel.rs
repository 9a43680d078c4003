// SPDX-License-Identifier: Apache-2.0
//! `blockcast channel`: how a channel is configured at a block, and what changed between two.

mod chain;
mod report;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use block_api::{BlockNumber, ChannelId};
use blockcast::NodeConfig;

use self::{
    chain::{Chain, ChainError},
    report::{ConfigAt, DiffBetween},
};
use crate::{error::CommandError, output};

const CONFIG_HELP: &str = "\
The configuration in force after a block is that of the newest config block with its number or a
lower one: the block itself, where it is a config block. The next block is judged by it.

The blocks of a store are those that the node verified before it kept them; the store is read as it
stands, also while the node runs. The blocks of a folder are not verified here: `blockcast verify`
does that.

With --json there is one object on standard output:
  channel, block    the block that was asked for
  config_block      the config block whose configuration it is
  holds_to          the last block after which it is known to be in force
  replaced_by       the config block that changes it; null when there is none up to the tip
  tip, source       the newest block, and where they are from: \"store\" or \"folder\"
  config      {sequence, root: {name, version, mod_policy, values, policies, groups}}, as in the
              JSON of inspect
Text out of the blocks is escaped where a terminal could obey it, and cut where it is long.";

const DIFF_HELP: &str = "\
A line that begins with + is a group, value or policy that was added, one with - was removed, one with
~ is another one; below it are the lines of its content that came and went. A certificate is told by its
subject and serial number. What has no line, such as a client certificate of a consenter, is said to
differ without being shown.

The blocks of a store are those that the node verified before it kept them; the store is read as it
stands, also while the node runs. The blocks of a folder are not verified here: `blockcast verify`
does that.

With --json there is one object on standard output:
  channel, source   where the blocks are from: \"store\" or \"folder\"
  from, to    {block, config_block, sequence}
  same        whether the configuration of one config block is in force after both
  changes     [{item (\"group\", \"value\" or \"policy\"), path, change (\"added\", \"removed\" or \"changed\"),
              from, to, removed, added, unshown}]; from and to are {version, mod_policy}, or null for
              what is not there; removed and added are lines, unshown is whether the content differs
              although the lines do not
Text out of the blocks is escaped where a terminal could obey it, and cut where it is long.";

/// What `channel` is told.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Shows the configuration in force after a block
    #[command(after_long_help = CONFIG_HELP)]
    Config(ConfigArgs),
    /// Shows what differs between the configurations in force after two blocks
    #[command(after_long_help = DIFF_HELP)]
    Diff(DiffArgs),
}

#[derive(Debug, clap::Args)]
struct ConfigArgs {
    /// The block; the newest one unless it is given
    #[arg(long, value_name = "N")]
    at: Option<u64>,
    #[command(flatten)]
    source: Source,
    /// Prints one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct DiffArgs {
    /// The one block
    #[arg(value_name = "N")]
    from: u64,
    /// The other block
    #[arg(value_name = "M")]
    to: u64,
    #[command(flatten)]
    source: Source,
    /// Prints one JSON object
    #[arg(long)]
    json: bool,
}

/// Where the blocks are.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("blocks").required(true).args(["config", "dir"]))]
struct Source {
    /// The configuration of a node, whose store has the blocks; the node may be running
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The channel; may be left out where the node has one alone
    #[arg(
        long,
        value_name = "CHANNEL",
        requires = "config",
        conflicts_with = "dir"
    )]
    channel: Option<ChannelId>,
    /// A folder with blocks, one file `block_<n>.pb` each, or the directory of a channel's store
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Shows the configuration, or the difference.
pub(crate) async fn run(args: Args) -> Result<(), CommandError> {
    match args.command {
        Command::Config(args) => {
            let chain = args.source.open()?;
            let shown = config(&chain, args.at.map(BlockNumber::new)).await?;
            output::result(&if args.json {
                serde_json::to_string(&shown)?
            } else {
                shown.text()
            })
        }
        Command::Diff(args) => {
            let chain = args.source.open()?;
            let [from, to] = [args.from, args.to].map(BlockNumber::new);
            let shown = diff(&chain, from, to).await?;
            output::result(&if args.json {
                serde_json::to_string(&shown)?
            } else {
                shown.text()
            })
        }
    }
}

async fn config(chain: &Chain, at: Option<BlockNumber>) -> Result<ConfigAt, ChainError> {
    let at = at.unwrap_or(chain.tip());
    let found = chain.config_at(at).await?;
    let held = chain.held(&found, at)?;
    Ok(ConfigAt::new(chain, at, &found, held))
}

async fn diff(
    chain: &Chain,
    from: BlockNumber,
    to: BlockNumber,
) -> Result<DiffBetween, ChainError> {
    let (one, other) = (chain.config_at(from).await?, chain.config_at(to).await?);
    let (first, second) = (one.config.channel(), other.config.channel());
    if first != second {
        return Err(ChainError::TwoChannels {
            one: one.number,
            first: first.clone(),
            other: other.number,
            second: second.clone(),
        });
    }
    Ok(DiffBetween::new(chain, (from, &one), (to, &other)))
}

impl Source {
    fn open(&self) -> Result<Chain, CommandError> {
        match (&self.config, &self.dir) {
            (Some(config), _) => self.of_node(config),
            (None, Some(dir)) => Ok(Chain::in_dir(dir)?),
            (None, None) => Err(CommandError::new("neither --config nor --dir is given")),
        }
    }

    fn of_node(&self, file: &Path) -> Result<Chain, CommandError> {
        let config = NodeConfig::load(file).map_err(CommandError::config)?;
        let ids: Vec<_> = config.channels.iter().map(|channel| &channel.id).collect();
        let names = || {
            let names: Vec<_> = ids.iter().map(|id| id.as_str()).collect();
            names.join(", ")
        };
        let channel = match (&self.channel, ids.as_slice()) {
            (Some(channel), ids) if ids.contains(&channel) => channel,
            (None, [channel]) => channel,
            (Some(channel), _) => {
                return Err(CommandError::new(format!(
                    "{} has no channel {channel}, but {}",
                    file.display(),
                    names()
                )));
            }
            (None, _) => {
                return Err(CommandError::new(format!(
                    "{} has several channels: {}",
                    file.display(),
                    names()
                ))
                .hint("say which one with --channel"));
            }
        };
        let dir = config.channel_dir(channel);
        Chain::of_store(&dir, channel).map_err(|error| {
            let is_absent = error.is_absent();
            let error = CommandError::from(error);
            match is_absent {
                true => error.hint("a node makes its stores when it is first run"),
                false => error,
            }
        })
    }
}
