// SPDX-License-Identifier: Apache-2.0
//! What a node that has a body says of it, before anybody else can check it.

use block_api::{BlockNumber, HeaderHash};
use libp2p::{PeerId, identity::PublicKey};
use sha2::{Digest, Sha256};

use crate::{Keypair, topic::TopicId};

/// A body is cut into chunks of so many bytes; the last one may be shorter.
pub(crate) const CHUNK: usize = 1024 * 1024;

/// A body of at most so many bytes comes from one node in one stream, without a manifest.
pub(crate) const WHOLE: usize = 4 * 1024 * 1024;

/// Keeps the signature apart from every other one of the key.
const DOMAIN: &[u8] = b"\0blockcast body hints 1\0";

/// The identity function among the hashes of a multihash: what is behind it is the key itself.
const IDENTITY: u64 = 0;

/// Which body is meant: that of one block in one channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct BodyId {
    pub(crate) topic: TopicId,
    pub(crate) number: BlockNumber,
    pub(crate) hash: HeaderHash,
}

/// How long a body is, and for a long one what its chunks are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hints {
    /// In bytes.
    pub(crate) size: u32,
    /// `None` where the body comes from one node.
    pub(crate) manifest: Option<Manifest>,
}

/// The hashes of the chunks, as the node says that made them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub(crate) hashes: Vec<[u8; 32]>,
    /// Who answers for them.
    pub(crate) maker: PeerId,
    pub(crate) signature: Vec<u8>,
}

/// Tells hints apart, whoever made them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct HintsId([u8; 32]);

/// Hints that nobody has to follow, and that are held against who sent them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadHints {
    #[error("there are {got} hashes for a body of {size} bytes, which has {expected} chunks")]
    Count { got: u32, expected: u32, size: u32 },
    #[error("the signature under the manifest is not that of its maker")]
    Signature,
}

impl Hints {
    /// The hints for a body, made by the holder of this key.
    pub(crate) fn make(id: &BodyId, data: &[u8], key: &Keypair) -> Self {
        let size = u32::try_from(data.len()).unwrap_or(u32::MAX);
        if data.len() <= WHOLE {
            return Self {
                size,
                manifest: None,
            };
        }
        let hashes: Vec<[u8; 32]> = data.chunks(CHUNK).map(hash).collect();
        // An Ed25519 key signs whatever it is given.
        let signature = key.inner().sign(&signed(id, size, &hashes));
        Self {
            size,
            manifest: Some(Manifest {
                hashes,
                maker: key.peer_id(),
                signature: signature.unwrap_or_default(),
            }),
        }
    }

    /// Checks what can be checked without the body.
    pub(crate) fn check(&self, id: &BodyId) -> Result<(), BadHints> {
        let expected = match self.size as usize > WHOLE {
            true => self.chunks(),
            false => 0,
        };
        let hashes = self.manifest.as_ref().map(|manifest| &manifest.hashes);
        let got = hashes.map_or(0, |hashes| u32::try_from(hashes.len()).unwrap_or(u32::MAX));
        if got != expected {
            let size = self.size;
            return Err(BadHints::Count {
                got,
                expected,
                size,
            });
        }
        let Some(manifest) = &self.manifest else {
            return Ok(());
        };
        let message = signed(id, self.size, &manifest.hashes);
        let key = key_of(&manifest.maker).ok_or(BadHints::Signature)?;
        match key.verify(&message, &manifest.signature) {
            true => Ok(()),
            false => Err(BadHints::Signature),
        }
    }

    /// How many chunks the body has.
    pub(crate) fn chunks(&self) -> u32 {
        self.size.div_ceil(CHUNK as u32)
    }

    /// The hash of a chunk; `None` when there is no such chunk, or no manifest.
    pub(crate) fn chunk_hash(&self, chunk: u32) -> Option<&[u8; 32]> {
        self.manifest.as_ref()?.hashes.get(chunk as usize)
    }

    /// Where a chunk begins, and how long it is.
    pub(crate) fn place(&self, chunk: u32) -> Option<(usize, usize)> {
        let begin = (chunk as usize).checked_mul(CHUNK)?;
        let left = (self.size as usize).checked_sub(begin)?;
        (left > 0).then_some((begin, left.min(CHUNK)))
    }

    /// Whether they say the same, whoever made them.
    pub(crate) fn agree_with(&self, others: &Self) -> bool {
        self.size == others.size && self.hashes() == others.hashes()
    }

    fn hashes(&self) -> Option<&[[u8; 32]]> {
        let manifest = self.manifest.as_ref();
        manifest.map(|manifest| manifest.hashes.as_slice())
    }

    pub(crate) fn id(&self) -> HintsId {
        let hashes = self.manifest.iter().flat_map(|manifest| &manifest.hashes);
        let start = Sha256::new().chain_update(self.size.to_be_bytes());
        let all = hashes.fold(start, |all, hash| all.chain_update(hash));
        HintsId(all.finalize().into())
    }
}

/// The hash of a chunk.
pub(crate) fn hash(chunk: &[u8]) -> [u8; 32] {
    Sha256::digest(chunk).into()
}

fn signed(id: &BodyId, size: u32, hashes: &[[u8; 32]]) -> Vec<u8> {
    let mut message = Vec::with_capacity(DOMAIN.len() + 80 + hashes.len() * 32);
    message.extend_from_slice(DOMAIN);
    message.extend_from_slice(id.topic.as_bytes());
    message.extend(id.number.get().to_be_bytes());
    message.extend_from_slice(id.hash.as_bytes());
    message.extend(u64::from(size).to_be_bytes());
    hashes.iter().for_each(|hash| message.extend(hash));
    message
}

/// The key of a node, which an id of ours has in it.
fn key_of(peer: &PeerId) -> Option<PublicKey> {
    let hash = peer.as_ref();
    (hash.code() == IDENTITY)
        .then(|| PublicKey::try_decode_protobuf(hash.digest()).ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u64) -> BodyId {
        BodyId {
            topic: TopicId::new([1; 32]),
            number: BlockNumber::new(number),
            hash: HeaderHash::new([2; 32]),
        }
    }

    #[test]
    fn hints_are_their_makers_word_for_one_body() {
        let key = Keypair::from_seed([1; 32]);
        let data = vec![7; WHOLE + 5];
        let hints = Hints::make(&id(1), &data, &key);
        assert_eq!((hints.chunks(), hints.check(&id(1))), (5, Ok(())));
        assert_eq!(hints.place(4), Some((4 * CHUNK, 5)));
        assert_eq!(hints.place(5), None);
        assert_eq!(hints.chunk_hash(4), Some(&hash(&[7; 5])));
        assert_eq!(hints.check(&id(2)), Err(BadHints::Signature));
        let others = Hints::make(&id(1), &data, &Keypair::from_seed([2; 32]));
        assert!(others != hints && others.id() == hints.id());
        let mut claimed = hints.clone();
        claimed.manifest.as_mut().unwrap().maker = Keypair::from_seed([3; 32]).peer_id();
        assert_eq!(claimed.check(&id(1)), Err(BadHints::Signature));
        let mut longer = hints.clone();
        longer.size += 1;
        assert!(longer.check(&id(1)) == Err(BadHints::Signature) && longer.id() != hints.id());
        longer.size += CHUNK as u32;
        assert!(matches!(
            longer.check(&id(1)),
            Err(BadHints::Count {
                got: 5,
                expected: 6,
                ..
            })
        ));
    }

    #[test]
    fn a_short_body_has_no_manifest_and_a_long_one_must() {
        let key = Keypair::from_seed([1; 32]);
        let short = Hints::make(&id(1), &[0; WHOLE], &key);
        assert_eq!(
            (short.manifest.is_none(), short.check(&id(1))),
            (true, Ok(()))
        );
        assert_eq!(short.chunks(), 4);
        let long = Hints {
            size: WHOLE as u32 + 1,
            manifest: None,
        };
        assert!(matches!(
            long.check(&id(1)),
            Err(BadHints::Count {
                got: 0,
                expected: 5,
                ..
            })
        ));
        let nothing = Hints::make(&id(1), &[], &key);
        assert_eq!((nothing.chunks(), nothing.check(&id(1))), (0, Ok(())));
    }
}
