// SPDX-License-Identifier: Apache-2.0
//! How much of a chain is kept, as people write it.

use std::{fmt, num::NonZeroU64, str::FromStr};

use super::ByteSize;

/// How much of a chain is kept: `all`, so many of the newest blocks as in `100000 blocks`, or
/// segments with so many of the newest bytes as in `50GiB`. Config blocks are kept in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Keep {
    /// All of it.
    #[default]
    All,
    /// So many blocks at least.
    Blocks(NonZeroU64),
    /// So many bytes at least, and at most a segment more.
    Bytes(NonZeroU64),
}

/// A text that does not say how much is kept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} does not say how much of a chain is kept: write \"all\", a number of blocks as in \"100000 blocks\", or a \
     size as in \"50GiB\""
)]
pub struct InvalidKeep {
    text: String,
}

impl FromStr for Keep {
    type Err = InvalidKeep;

    fn from_str(text: &str) -> Result<Self, InvalidKeep> {
        let invalid = || InvalidKeep {
            text: text.to_owned(),
        };
        if text == "all" {
            return Ok(Self::All);
        }
        let kept = match text.strip_suffix("blocks").or(text.strip_suffix("block")) {
            Some(blocks) => blocks.trim_end().parse().ok().map(Self::Blocks),
            None => {
                let size: Option<ByteSize> = text.parse().ok();
                size.and_then(|size| NonZeroU64::new(size.get()))
                    .map(Self::Bytes)
            }
        };
        kept.ok_or_else(invalid)
    }
}

impl fmt::Display for Keep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Blocks(blocks) => write!(f, "{blocks} blocks"),
            Self::Bytes(bytes) => ByteSize::new(bytes.get()).fmt(f),
        }
    }
}

impl From<Keep> for block_store::Retention {
    fn from(keep: Keep) -> Self {
        match keep {
            Keep::All => Self::All,
            Keep::Blocks(blocks) => Self::Blocks(blocks),
            Keep::Bytes(bytes) => Self::Bytes(bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_all_or_blocks_or_bytes() {
        let number = |number| NonZeroU64::new(number).unwrap();
        let rows = [
            ("all", Keep::All),
            ("100000 blocks", Keep::Blocks(number(100_000))),
            ("1block", Keep::Blocks(number(1))),
            ("50GiB", Keep::Bytes(number(50 << 30))),
            ("17B", Keep::Bytes(number(17))),
        ];
        for (text, expected) in rows {
            assert_eq!(text.parse(), Ok(expected), "{text}");
            assert_eq!(expected.to_string().parse(), Ok(expected), "{text}");
        }
        for text in [
            "",
            "none",
            "0 blocks",
            "0B",
            "-1 blocks",
            "blocks",
            "1.5GiB",
            "5 weeks",
        ] {
            let error = text.parse::<Keep>().unwrap_err().to_string();
            assert!(error.contains("100000 blocks"), "{error}");
        }
    }
}
