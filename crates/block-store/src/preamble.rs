// SPDX-License-Identifier: Apache-2.0
//! The first bytes of segments, of the head file and of the archive: what the file is, and whose chain it holds.

use std::hash::{BuildHasher, RandomState};

use block_api::{BlockNumber, ChainInfo, ChannelId, HeaderHash};

use crate::codec::{FormatError, Input, VERSION, checked, put_checksum, put_optional_hash};

/// How many bytes a preamble takes, with its checksum.
pub(crate) const PREAMBLE_LEN: usize = 512;

const MAGIC_LEN: usize = 8;

/// The longest channel id that has a place.
const CHANNEL_LEN: usize = 249;

/// What kind of file a preamble begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Segment,
    Head,
    Archive,
}

/// The random bytes that begin every record of one segment. Who can write blocks does not know
/// them, so nothing in a block can pass for a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SyncBytes([u8; 8]);

/// Whose chain a file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) channel: ChannelId,
    /// The header hash of block 0, where it is known.
    pub(crate) genesis: Option<HeaderHash>,
    /// The first block that the chain ever had here.
    pub(crate) start: BlockNumber,
    /// The header hash of the block before `start`.
    pub(crate) start_previous: Option<HeaderHash>,
}

/// The first bytes of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Preamble {
    pub(crate) kind: Kind,
    pub(crate) sync: SyncBytes,
    /// The number of the first block in the file.
    pub(crate) first: BlockNumber,
    /// The header hash of the block before it.
    pub(crate) previous: Option<HeaderHash>,
    pub(crate) identity: Identity,
}

impl Kind {
    fn magic(self) -> &'static [u8; MAGIC_LEN] {
        match self {
            Self::Segment => b"BCASTSEG",
            Self::Head => b"BCASTHED",
            Self::Archive => b"BCASTCFG",
        }
    }
}

impl SyncBytes {
    pub(crate) const LEN: usize = 8;

    /// Fresh ones. The keys of a `RandomState` come from the operating system.
    pub(crate) fn random() -> Self {
        Self(RandomState::new().hash_one(0u64).to_le_bytes())
    }

    pub(crate) fn new(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes)
    }

    pub(crate) fn as_bytes(&self) -> &[u8; Self::LEN] {
        &self.0
    }
}

impl Identity {
    /// The identity of a chain that begins so.
    pub(crate) fn new(
        channel: ChannelId,
        genesis: Option<HeaderHash>,
        beginning: &ChainInfo,
    ) -> Self {
        Self {
            channel,
            genesis,
            start: beginning.first,
            start_previous: beginning.tip_hash,
        }
    }
}

impl Preamble {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(PREAMBLE_LEN);
        out.extend_from_slice(self.kind.magic());
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(self.sync.as_bytes());
        out.extend_from_slice(&self.first.get().to_le_bytes());
        put_optional_hash(&mut out, self.previous.as_ref());
        out.extend_from_slice(&self.identity.start.get().to_le_bytes());
        put_optional_hash(&mut out, self.identity.start_previous.as_ref());
        put_optional_hash(&mut out, self.identity.genesis.as_ref());
        let channel = self.identity.channel.as_str().as_bytes();
        let length =
            u8::try_from(channel.len()).expect("invariant: a channel id has at most 249 bytes");
        out.push(length);
        out.extend_from_slice(channel);
        out.resize(PREAMBLE_LEN - size_of::<u32>(), 0);
        put_checksum(&mut out);
        out
    }

    /// Reads a preamble from the beginning of a file.
    ///
    /// The version is judged before the checksum: where the checksum stands is for the version to
    /// say.
    pub(crate) fn decode(kind: Kind, file: &[u8]) -> Result<Self, FormatError> {
        let mut input = Input::new(file);
        let magic: [u8; MAGIC_LEN] = input.array().ok_or(FormatError::Truncated)?;
        if magic != *kind.magic() {
            return Err(FormatError::Magic);
        }
        match input.u32().ok_or(FormatError::Truncated)? {
            VERSION => {}
            other => return Err(FormatError::Version(other)),
        }
        let content = checked(file.get(..PREAMBLE_LEN).ok_or(FormatError::Truncated)?)?;
        Self::fields(kind, content).ok_or(FormatError::Content(
            "a field of the preamble has no legal value",
        ))
    }

    fn fields(kind: Kind, content: &[u8]) -> Option<Self> {
        let mut input = Input::new(content);
        input.bytes(MAGIC_LEN + 2 * size_of::<u32>())?;
        let sync = SyncBytes(input.array()?);
        let first = input.number()?;
        let previous = input.optional_hash()?;
        let start = input.number()?;
        let start_previous = input.optional_hash()?;
        let genesis = input.optional_hash()?;
        let length = usize::from(input.u8()?);
        if length > CHANNEL_LEN {
            return None;
        }
        let channel = std::str::from_utf8(input.bytes(length)?)
            .ok()?
            .parse()
            .ok()?;
        let identity = Identity {
            channel,
            genesis,
            start,
            start_previous,
        };
        Some(Self {
            kind,
            sync,
            first,
            previous,
            identity,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn preamble() -> impl Strategy<Value = Preamble> {
        let hash = || proptest::option::of(any::<[u8; 32]>().prop_map(HeaderHash::new));
        let kind = prop_oneof![Just(Kind::Segment), Just(Kind::Head), Just(Kind::Archive)];
        (
            kind,
            any::<[u8; 8]>(),
            any::<u64>(),
            hash(),
            any::<u64>(),
            hash(),
            hash(),
            1usize..=249,
        )
            .prop_map(
                |(kind, sync, first, previous, start, start_previous, genesis, length)| Preamble {
                    kind,
                    sync: SyncBytes::new(sync),
                    first: BlockNumber::new(first),
                    previous,
                    identity: Identity {
                        channel: "c".repeat(length).parse().unwrap(),
                        genesis,
                        start: BlockNumber::new(start),
                        start_previous,
                    },
                },
            )
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(preamble in preamble()) {
            let bytes = preamble.encode();
            prop_assert_eq!(bytes.len(), PREAMBLE_LEN);
            prop_assert_eq!(Preamble::decode(preamble.kind, &bytes), Ok(preamble));
        }

        #[test]
        fn a_changed_byte_is_noticed(preamble in preamble(), at in 0..PREAMBLE_LEN, change in 1u8..) {
            let mut bytes = preamble.encode();
            bytes[at] ^= change;
            prop_assert!(Preamble::decode(preamble.kind, &bytes).is_err());
        }

        #[test]
        fn arbitrary_bytes_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            prop_assert!(Preamble::decode(Kind::Segment, &bytes).is_err());
        }
    }

    #[test]
    fn an_unknown_version_is_named() {
        let mut bytes = Preamble {
            kind: Kind::Segment,
            sync: SyncBytes::random(),
            first: BlockNumber::GENESIS,
            previous: None,
            identity: Identity::new("c".parse().unwrap(), None, &ChainInfo::EMPTY),
        }
        .encode();
        bytes[8] = 2;
        assert_eq!(
            Preamble::decode(Kind::Segment, &bytes),
            Err(FormatError::Version(2))
        );
        assert_eq!(
            Preamble::decode(Kind::Head, &bytes),
            Err(FormatError::Magic)
        );
    }
}
