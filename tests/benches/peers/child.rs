// SPDX-License-Identifier: Apache-2.0
//! What a process of this benchmark is for, and what it tells.

use std::{fmt, path::PathBuf, str::FromStr, time::Duration};

use anyhow::{Error, Result, bail};
use block_api::Height;
use e2e_tests::bench::{Role, Words};
use gossip_libp2p::Multiaddr;

use crate::{bare, node};

/// The roles: a node that has the chain and one that wants it, and the two ends of bare streams.
pub(crate) const GIVE: &str = "give";
pub(crate) const TAKE: &str = "take";
pub(crate) const GIVE_BARE: &str = "give-bare";
pub(crate) const TAKE_BARE: &str = "take-bare";

/// What one who takes says when there is nothing left to do but that.
pub(crate) const READY: &str = "ready";

/// What one who took a chain tells.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Took {
    pub(crate) bytes: u64,
    pub(crate) elapsed: Duration,
    /// How many appends its store made: none for one that stores nothing.
    pub(crate) appends: u64,
}

pub(crate) async fn run(role: &Role) -> Result<()> {
    let dir: PathBuf = role.argument(0)?;
    match role.name.as_str() {
        GIVE => Box::pin(node::give(&dir, role.argument(1)?)).await,
        TAKE => {
            let height = Height::new(role.argument::<u64>(2)? + 1);
            Box::pin(node::take(&dir, role.argument(1)?, height, peers(role)?)).await
        }
        GIVE_BARE => bare::give(role.argument(1)?).await,
        TAKE_BARE => bare::take(role.argument(1)?, role.argument(2)?, peers(role)?).await,
        name => bail!("there is no role {name}"),
    }
}

/// Those who give.
fn peers(role: &Role) -> Result<Vec<Multiaddr>> {
    let peers = role.arguments.iter().skip(3);
    Ok(peers.map(|peer| peer.parse()).collect::<Result<_, _>>()?)
}

impl fmt::Display for Took {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { bytes, appends, .. } = self;
        write!(f, "{bytes} {} {appends}", self.elapsed.as_nanos())
    }
}

impl FromStr for Took {
    type Err = Error;

    fn from_str(line: &str) -> Result<Self> {
        let mut words = Words::of(line);
        Ok(Self {
            bytes: words.take()?,
            elapsed: Duration::from_nanos(words.take()?),
            appends: words.take()?,
        })
    }
}
