// SPDX-License-Identifier: Apache-2.0
//! What is asked and answered on a stream for the body of a block: a version byte, then protobuf
//! fields. A piece of the body alone is its place and its bytes.
//!
//! ```text
//! ask:    1 topic (32 bytes) | 2 block number | 3 header hash (32 bytes)
//!         4 the longest body that is taken, in bytes
//!         5 with which chunk to begin, modulo their number
//!         6 how many chunks to send at once; a body without manifest comes whole, unless it is none
//! want:   1 chunks, four bytes each | 2 whether all of it is wanted (a body without manifest)
//! hints:  1 size in bytes | 2 hashes of the chunks, 32 bytes each | 3 maker (PeerId) | 4 its signature
//!         5 the chunks that are here, one bit each | 6 whether all are
//! have:   1 chunks that came, four bytes each
//! piece:  where it begins (four bytes) | bytes …
//! ```

use block_api::{
    BlockNumber, HeaderHash,
    wire::{Value, put_bytes, put_uint},
};
use libp2p::PeerId;

use crate::{
    bodies::{Bits, BodyId, Hints, Manifest},
    topic::TopicId,
    wire::{Unreadable, VERSION, fields},
};

/// What begins a piece of a body.
pub(crate) const PIECE_HEAD: usize = 4;

/// What a requester wants to know, and to have at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ask {
    pub(crate) id: BodyId,
    pub(crate) max_size: u64,
    pub(crate) first: u32,
    pub(crate) count: u32,
}

/// What a requester wants after it has the hints.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Want {
    pub(crate) chunks: Vec<u32>,
    pub(crate) all: bool,
}

/// The first answer: what the body is, and what of it is here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Offer {
    pub(crate) hints: Hints,
    pub(crate) have: Bits,
}

impl Ask {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        put_bytes(&mut out, 1, self.id.topic.as_bytes());
        put_uint(&mut out, 2, self.id.number.get());
        put_bytes(&mut out, 3, self.id.hash.as_bytes());
        put_uint(&mut out, 4, self.max_size);
        put_uint(&mut out, 5, self.first.into());
        put_uint(&mut out, 6, self.count.into());
        out
    }

    pub(crate) fn parse(message: &[u8]) -> Result<Self, Unreadable> {
        let (mut topic, mut hash) = (None, None);
        let mut values = [0; 7];
        for field in fields(message)? {
            let field = field?;
            match (field.number, field.value) {
                (1, Value::Bytes(bytes, _)) => topic = bytes.try_into().ok().map(TopicId::new),
                (3, Value::Bytes(bytes, _)) => hash = bytes.try_into().ok().map(HeaderHash::new),
                (number, Value::Varint(value)) => {
                    if let Some(slot) = values.get_mut(number as usize) {
                        *slot = value;
                    }
                }
                _ => {}
            }
        }
        let [_, _, number, _, max_size, first, count] = values;
        let short = |value| u32::try_from(value).unwrap_or(u32::MAX);
        Ok(Self {
            id: BodyId {
                topic: topic.ok_or(Unreadable::Missing("a channel"))?,
                number: BlockNumber::new(number),
                hash: hash.ok_or(Unreadable::Missing("a header hash"))?,
            },
            max_size,
            first: short(first),
            count: short(count),
        })
    }
}

impl Want {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        put_chunks(&mut out, &self.chunks);
        put_uint(&mut out, 2, self.all.into());
        out
    }

    pub(crate) fn parse(message: &[u8]) -> Result<Self, Unreadable> {
        let mut want = Self::default();
        for field in fields(message)? {
            let field = field?;
            match (field.number, field.value) {
                (1, Value::Bytes(bytes, _)) => want.chunks.extend(chunks(bytes)),
                (2, Value::Varint(value)) => want.all = value != 0,
                _ => {}
            }
        }
        Ok(want)
    }
}

impl Offer {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        put_uint(&mut out, 1, self.hints.size.into());
        if let Some(manifest) = &self.hints.manifest {
            put_bytes(&mut out, 2, manifest.hashes.as_flattened());
            put_bytes(&mut out, 3, &manifest.maker.to_bytes());
            put_bytes(&mut out, 4, &manifest.signature);
        }
        match self.have.is_full() {
            true => put_uint(&mut out, 6, 1),
            false => put_bytes(&mut out, 5, self.have.as_bytes()),
        }
        out
    }

    /// What is in it holds together only if [`Hints::check`] says so.
    pub(crate) fn parse(message: &[u8]) -> Result<Self, Unreadable> {
        let (mut size, mut all) = (0, false);
        let (mut hashes, mut have): (&[u8], &[u8]) = (&[], &[]);
        let (mut maker, mut signature) = (None, &[][..]);
        for field in fields(message)? {
            let field = field?;
            match (field.number, field.value) {
                (1, Value::Varint(value)) => {
                    size = u32::try_from(value).map_err(|_| Unreadable::Missing("a size"))?;
                }
                (2, Value::Bytes(bytes, _)) => hashes = bytes,
                (3, Value::Bytes(bytes, _)) => maker = PeerId::from_bytes(bytes).ok(),
                (4, Value::Bytes(bytes, _)) => signature = bytes,
                (5, Value::Bytes(bytes, _)) => have = bytes,
                (6, Value::Varint(value)) => all = value != 0,
                _ => {}
            }
        }
        let (hashes, rest) = hashes.as_chunks::<32>();
        if !rest.is_empty() {
            return Err(Unreadable::Missing("a whole hash"));
        }
        let manifest = match hashes.is_empty() {
            true => None,
            false => Some(Manifest {
                hashes: hashes.to_vec(),
                maker: maker.ok_or(Unreadable::Missing("a maker"))?,
                signature: signature.to_vec(),
            }),
        };
        let hints = Hints { size, manifest };
        let count = hints.chunks();
        let have = match all {
            true => Bits::all(count),
            false => Bits::of_bytes(have, count),
        };
        Ok(Self { hints, have })
    }
}

/// The chunks that came to a node since it spoke last.
pub(crate) fn put_have(chunks: &[u32]) -> Vec<u8> {
    let mut out = vec![VERSION];
    put_chunks(&mut out, chunks);
    out
}

pub(crate) fn parse_have(message: &[u8]) -> Result<Vec<u32>, Unreadable> {
    Want::parse(message).map(|want| want.chunks)
}

/// Where a piece begins.
pub(crate) fn parse_place(head: [u8; PIECE_HEAD]) -> usize {
    u32::from_be_bytes(head) as usize
}

fn put_chunks(out: &mut Vec<u8>, chunks: &[u32]) {
    let bytes: Vec<[u8; 4]> = chunks.iter().map(|chunk| chunk.to_be_bytes()).collect();
    put_bytes(out, 1, bytes.as_flattened());
}

fn chunks(bytes: &[u8]) -> impl Iterator<Item = u32> {
    let (chunks, _) = bytes.as_chunks::<4>();
    chunks.iter().map(|chunk| u32::from_be_bytes(*chunk))
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::Keypair;

    fn id(number: u64) -> BodyId {
        BodyId {
            topic: TopicId::new([3; 32]),
            number: BlockNumber::new(number),
            hash: HeaderHash::new([4; 32]),
        }
    }

    proptest! {
        #[test]
        fn questions_come_back(
            number in any::<u64>(), max_size in any::<u64>(), first in any::<u32>(), count in any::<u32>(),
            chunks in vec(any::<u32>(), 0..20), all in any::<bool>(),
        ) {
            let ask = Ask { id: id(number), max_size, first, count };
            prop_assert_eq!(Ask::parse(&ask.encode()), Ok(ask));
            prop_assert_eq!(parse_have(&put_have(&chunks)), Ok(chunks.clone()));
            let want = Want { chunks, all };
            prop_assert_eq!(Want::parse(&want.encode()), Ok(want));
        }

        #[test]
        fn an_offer_comes_back(size in 1u32..1 << 25, here in vec(any::<u32>(), 0..9), full in any::<bool>()) {
            let count = size.div_ceil(1 << 20);
            let hashes = vec![[5; 32]; count as usize];
            let maker = Keypair::from_seed([1; 32]).peer_id();
            let manifest = (size > 1 << 22).then(|| Manifest { hashes, maker, signature: vec![1; 64] });
            let mut have = Bits::none(count);
            for chunk in here {
                have.insert(chunk % count);
            }
            if full {
                have = Bits::all(count);
            }
            let offer = Offer { hints: Hints { size, manifest }, have };
            prop_assert_eq!(Offer::parse(&offer.encode()), Ok(offer));
        }
    }

    #[test]
    fn what_is_missing_is_named_and_what_is_unknown_skipped() {
        assert_eq!(Ask::parse(&[]), Err(Unreadable::Empty));
        assert_eq!(Want::parse(&[2]), Err(Unreadable::Version(2)));
        assert_eq!(
            Ask::parse(&[VERSION]),
            Err(Unreadable::Missing("a channel"))
        );
        assert_eq!(parse_place([0, 0, 1, 0]), 256);
        let mut offer = vec![VERSION];
        put_bytes(&mut offer, 2, &[1; 33]);
        assert_eq!(
            Offer::parse(&offer),
            Err(Unreadable::Missing("a whole hash"))
        );
        let mut later = Want {
            chunks: vec![1],
            all: false,
        }
        .encode();
        put_bytes(&mut later, 99, b"of a later release");
        assert_eq!(parse_have(&later), Ok(vec![1]));
    }
}
