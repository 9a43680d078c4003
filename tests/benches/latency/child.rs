// SPDX-License-Identifier: Apache-2.0
//! What a process of this benchmark is for, and what it tells.

use std::{
    fmt,
    path::PathBuf,
    str::FromStr,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Error, Result, bail, ensure};
use block_api::{BlockReader as _, Clock as _, SystemClock};
use e2e_tests::{
    bench::{Orders, Role, Words, tell},
    node::Node,
};
use gossip_libp2p::Multiaddr;

use crate::bare;

/// The roles: a node, a client of the orderer, and the two ends of a libp2p hop.
pub(crate) const NODE: &str = "node";
pub(crate) const CLIENT: &str = "client";
pub(crate) const SENDER: &str = "sender";
pub(crate) const TAKER: &str = "taker";

/// What a node says when it is connected with all others, and what it is told then.
pub(crate) const MET: &str = "met";
pub(crate) const PULL: &str = "pull";

/// What it says of each block, before its number and the time.
const CAME: &str = "came ";

/// A moment by the clock of the machine, which all processes read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Stamp(pub(crate) Duration);

/// That a block, or a message, has come to where it was to come.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Came {
    pub(crate) number: u64,
    pub(crate) at: Stamp,
}

pub(crate) async fn run(role: &Role) -> Result<()> {
    match role.name.as_str() {
        NODE => Box::pin(node(role)).await,
        CLIENT => {
            let (dir, endpoint): (PathBuf, String) = (role.argument(0)?, role.argument(1)?);
            Box::pin(bare::client(&dir, &endpoint)).await
        }
        SENDER => bare::sender(role.argument(0)?, role.argument(1)?).await,
        TAKER => bare::taker(role.argument(0)?, role.argument(1)?).await,
        name => bail!("there is no role {name}"),
    }
}

/// Is a node of the product, which tells of each block that is durable.
async fn node(role: &Role) -> Result<()> {
    let (dir, index): (PathBuf, usize) = (role.argument(0)?, role.argument(1)?);
    let (others, orderer): (usize, String) = (role.argument(2)?, role.argument(3)?);
    let peers = role.arguments.iter().skip(4).map(|peer| peer.parse());
    let peers: Vec<Multiaddr> = peers.collect::<Result<_, _>>()?;
    let node = Node::start(&dir, index, &orderer, peers).await?;
    tell(node.address()?);
    let mut met = node.gossip.peers();
    met.wait_for(|peers| peers.len() >= others).await?;
    tell(MET);
    let telling = async {
        let mut next = node.store.info().height;
        loop {
            let height = node
                .store
                .wait_for(next.next_block().height())
                .await?
                .height;
            let at = Stamp::now();
            while next < height {
                let number = next.next_block();
                tell(Came {
                    number: number.get(),
                    at,
                });
                next = number.height();
            }
        }
    };
    let ordered = async {
        let mut orders = Orders::default();
        while let Some(order) = orders.next().await? {
            ensure!(order == PULL, "a node does not know what {order:?} means");
            node.pull().await?;
        }
        Ok(())
    };
    let ended: Result<()> = tokio::select! {
        ended = ordered => ended,
        failed = telling => failed,
    };
    node.stop().await;
    ended
}

impl Stamp {
    pub(crate) fn now() -> Self {
        let now = SystemClock.now().duration_since(SystemTime::UNIX_EPOCH);
        Self(now.unwrap_or_default())
    }

    pub(crate) fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Came {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{CAME}{} {}", self.number, self.at.0.as_nanos())
    }
}

impl FromStr for Came {
    type Err = Error;

    fn from_str(line: &str) -> Result<Self> {
        let mut words = Words::of(line.strip_prefix(CAME).context("when a block came")?);
        Ok(Self {
            number: words.take()?,
            at: Stamp(Duration::from_nanos(words.take()?)),
        })
    }
}
