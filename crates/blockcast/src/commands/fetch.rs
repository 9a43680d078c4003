// SPDX-License-Identifier: Apache-2.0
//! `blockcast fetch`: blocks from an ordering service into files.

mod error;
mod files;
mod progress;
mod range;
mod session;
#[cfg(test)]
mod tests;

use std::{path::PathBuf, sync::Arc};

use block_api::{ChannelId, Endpoint, SystemClock};

use self::{
    error::FetchError,
    files::BlockFiles,
    progress::{Fetched, Progress},
    range::{First, Last},
    session::Session,
};
use crate::{
    commands::printable::{counted, grouped},
    error::CommandError,
    output,
    signals::StopSignals,
};

/// What `fetch` is told.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("encryption").required(true).args(["tls_ca", "plaintext"]))]
pub(crate) struct Args {
    /// The orderer
    #[arg(long, value_name = "HOST:PORT")]
    orderer: Endpoint,
    /// The PEM file with the TLS roots of the orderer's organisation
    #[arg(long, value_name = "FILE")]
    tls_ca: Option<PathBuf>,
    /// Connects without TLS
    #[arg(long)]
    plaintext: bool,
    /// The client's TLS certificate, a PEM file; for orderers that ask for one
    #[arg(
        long,
        value_name = "FILE",
        requires = "client_key",
        conflicts_with = "plaintext"
    )]
    client_cert: Option<PathBuf>,
    /// The key of the client's TLS certificate, a PEM file
    #[arg(long, value_name = "FILE", requires = "client_cert")]
    client_key: Option<PathBuf>,
    /// The MSP folder of the identity that asks, with signcerts and keystore
    #[arg(long, value_name = "DIR")]
    msp_dir: PathBuf,
    /// The MSP id of its organisation, as in Org1MSP
    #[arg(long, value_name = "ID")]
    msp_id: String,
    /// The channel
    #[arg(long, value_name = "CHANNEL")]
    channel: ChannelId,
    /// The first block
    #[arg(long, value_name = "N|oldest|newest")]
    from: First,
    /// The last block; newest is the one that is the newest when the orderer is asked
    #[arg(long, value_name = "N|newest")]
    to: Last,
    /// The folder for the blocks, one file `block_<n>.pb` each; it is made if it is not there
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Replaces files that hold another block, or another copy of it
    #[arg(long)]
    overwrite: bool,
}

/// Fetches the blocks.
///
/// They are not verified: `blockcast verify` does that.
pub(crate) async fn run(args: Args) -> Result<(), CommandError> {
    let mut signals = StopSignals::listen()?;
    let mut progress = Progress::new(range::count(args.from, args.to));
    let ended = tokio::select! {
        biased;
        _ = signals.wait() => None,
        ended = Box::pin(fetch(&args, &mut progress)) => Some(ended),
    };
    let fetched = progress.finish();
    let failure = match ended {
        Some(Ok(())) => {
            return output::result(&format!(
                "{} from {} in {}",
                summary(&fetched),
                args.orderer,
                args.out.display()
            ));
        }
        Some(Err(error)) => error.into_command_error(),
        None => CommandError::interrupted(),
    };
    if fetched.blocks > 0 {
        output::note(&format!(
            "{} are in {}",
            summary(&fetched),
            args.out.display()
        ));
    }
    Err(failure)
}

async fn fetch(args: &Args, progress: &mut Progress) -> Result<(), FetchError> {
    range::check(args.from, args.to)?;
    let session = Session::new(args, Arc::new(SystemClock))?;
    let files = BlockFiles::create(&args.out, args.overwrite)?;
    session.fetch(&files, progress).await
}

fn summary(fetched: &Fetched) -> String {
    let blocks = counted(
        usize::try_from(fetched.blocks).unwrap_or(usize::MAX),
        "block",
        "blocks",
    );
    let (first, last) = (fetched.first, fetched.last);
    let bytes = grouped(fetched.bytes);
    let unchanged = match fetched.unchanged {
        0 => String::new(),
        all if all == fetched.blocks => ", all there before".to_owned(),
        some => format!(", {} of them there before", grouped(some)),
    };
    format!("{blocks} ({first}..{last}, {bytes} bytes{unchanged})")
}
