// SPDX-License-Identifier: Apache-2.0
//! The name of a channel.

use std::{fmt, str::FromStr, sync::Arc};

/// The longest channel id that Fabric accepts, in bytes.
const MAX_LENGTH: usize = 249;

/// The id of a channel: a lower-case letter, then lower-case letters, digits, dots and dashes,
/// 249 bytes at most (CTX-01, semantics §2.8). Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelId(Arc<str>);

/// Why a text is no channel id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidChannelId {
    /// The text is empty.
    #[error("a channel id must not be empty")]
    Empty,
    /// The text is longer than Fabric allows.
    #[error("a channel id has at most {MAX_LENGTH} bytes, this one has {length}")]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// A character is not allowed where it stands.
    #[error(
        "channel id {id:?} has the character {character:?} at byte {position}: it must start with a lower-case \
         letter and go on with lower-case letters, digits, dots and dashes"
    )]
    IllegalCharacter {
        /// The text.
        id: String,
        /// The first character that is not allowed.
        character: char,
        /// Where it stands, in bytes.
        position: usize,
    },
}

impl ChannelId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ChannelId {
    type Err = InvalidChannelId;

    fn from_str(id: &str) -> Result<Self, InvalidChannelId> {
        if id.is_empty() {
            return Err(InvalidChannelId::Empty);
        }
        if id.len() > MAX_LENGTH {
            return Err(InvalidChannelId::TooLong { length: id.len() });
        }
        let illegal = id.char_indices().find(|&(position, character)| {
            let inner = position > 0 && matches!(character, '0'..='9' | '.' | '-');
            !(inner || character.is_ascii_lowercase())
        });
        match illegal {
            Some((position, character)) => Err(InvalidChannelId::IllegalCharacter {
                id: id.to_owned(),
                character,
                position,
            }),
            None => Ok(Self(id.into())),
        }
    }
}

impl fmt::Display for ChannelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ChannelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ChannelId({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Covers: CTX-01
    #[test]
    fn accepts_what_fabric_accepts_and_names_what_it_refuses() {
        for good in ["a", "ch-raft", "my.channel.0", &"a".repeat(249)] {
            assert_eq!(good.parse::<ChannelId>().unwrap().as_str(), good);
        }
        assert_eq!("".parse::<ChannelId>(), Err(InvalidChannelId::Empty));
        assert_eq!(
            "a".repeat(250).parse::<ChannelId>(),
            Err(InvalidChannelId::TooLong { length: 250 })
        );
        for (bad, at) in [
            ("0a", 0),
            (".a", 0),
            ("-a", 0),
            ("aB", 1),
            ("a_b", 1),
            ("a b", 1),
            ("aé", 1),
        ] {
            let error = bad.parse::<ChannelId>().unwrap_err();
            assert!(
                matches!(error, InvalidChannelId::IllegalCharacter { position, .. } if position == at),
                "{bad}: {error}"
            );
        }
    }
}
