// SPDX-License-Identifier: Apache-2.0
//! What benchmark and nodes say to each other, a line each.

use std::{
    fmt,
    str::FromStr,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Error, Result, bail};
use block_api::{BlockNumber, Clock as _, SystemClock};
use gossip_libp2p::Multiaddr;

/// What a node is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Order {
    /// Dial these nodes.
    Connect(Vec<Multiaddr>),
    /// Make the next block, with so many bytes of data.
    Prepare(usize),
    /// Publish it.
    Publish,
}

/// What a node tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Told {
    /// It listens here.
    Listening(Multiaddr),
    /// All others are in the channel, as it sees it.
    Joined,
    /// The next block is made.
    Prepared,
    /// It began to publish this block.
    Published(BlockNumber, Stamp),
    /// It has the whole of this block, and the data hash agrees.
    Held(BlockNumber, Stamp),
}

/// A moment by the clock of the machine, which all nodes read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp(Duration);

impl Stamp {
    pub(crate) fn now() -> Self {
        let now = SystemClock.now().duration_since(SystemTime::UNIX_EPOCH);
        Self(now.unwrap_or_default())
    }

    pub(crate) fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

/// Says it on standard output.
#[expect(
    clippy::print_stdout,
    reason = "a node tells its benchmark how far it is"
)]
pub(crate) fn tell(told: &Told) {
    println!("{told}");
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(addresses) => {
                f.write_str("connect")?;
                addresses
                    .iter()
                    .try_for_each(|address| write!(f, " {address}"))
            }
            Self::Prepare(bytes) => write!(f, "prepare {bytes}"),
            Self::Publish => f.write_str("publish"),
        }
    }
}

impl FromStr for Order {
    type Err = Error;

    fn from_str(line: &str) -> Result<Self> {
        let mut words = line.split_whitespace();
        Ok(match words.next() {
            Some("connect") => Self::Connect(words.map(str::parse).collect::<Result<_, _>>()?),
            Some("prepare") => Self::Prepare(words.next().context("a size")?.parse()?),
            Some("publish") => Self::Publish,
            _ => bail!("a node does not know what {line:?} means"),
        })
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Listening(address) => write!(f, "listening {address}"),
            Self::Joined => f.write_str("joined"),
            Self::Prepared => f.write_str("prepared"),
            Self::Published(number, at) => write!(f, "published {number} {}", at.0.as_nanos()),
            Self::Held(number, at) => write!(f, "held {number} {}", at.0.as_nanos()),
        }
    }
}

impl FromStr for Told {
    type Err = Error;

    fn from_str(line: &str) -> Result<Self> {
        let mut words = line.split_whitespace();
        let kind = words.next();
        let mut word = || words.next().with_context(|| format!("more than {line:?}"));
        Ok(match kind {
            Some("listening") => Self::Listening(word()?.parse()?),
            Some("joined") => Self::Joined,
            Some("prepared") => Self::Prepared,
            Some(kind @ ("published" | "held")) => {
                let number = BlockNumber::new(word()?.parse()?);
                let at = Stamp(Duration::from_nanos(word()?.parse()?));
                match kind {
                    "held" => Self::Held(number, at),
                    _ => Self::Published(number, at),
                }
            }
            _ => bail!("a node said {line:?}"),
        })
    }
}
