// SPDX-License-Identifier: Apache-2.0
//! Blocks in another form than they have.

use block_api::BlockNumber;
use bytes::Bytes;
use prost::Message as _;
use protos::common::{Block, Metadata, MetadataSignature};

use crate::ecdsa;

/// What is done to a block. It is decoded for it and encoded again; where it lacks the part that
/// would be changed, it stays as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mutation {
    /// One bit of the first transaction is another.
    FlipData,
    /// One bit of the data hash in the header is another.
    FlipDataHash,
    /// One bit of the previous hash in the header is another.
    FlipPreviousHash,
    /// One bit of the first signature is another.
    FlipSignature,
    /// The header has another number.
    Number(BlockNumber),
    /// The first signature is in the upper form, which is as true and which Fabric refuses. Ed25519
    /// signatures have no other form.
    HighS,
    /// There are no signatures.
    NoSignatures,
    /// The first signature is there twice.
    DuplicateSigner,
    /// There are so many metadata slots at most.
    Slots(usize),
    /// The first two transactions are one entry, so that the data hash is the same. Of a block with
    /// one transaction, it is there twice.
    JoinedEnvelopes,
    /// There is no header.
    NoHeader,
    /// There is no data.
    NoData,
    /// The last byte is missing.
    Truncated,
}

impl Mutation {
    /// The bytes of a marshalled block with the change; as they are when they are no block.
    pub(crate) fn apply(self, raw: &Bytes) -> Bytes {
        if self == Self::Truncated {
            return raw.slice(..raw.len().saturating_sub(1));
        }
        let Ok(mut block) = Block::decode(raw.clone()) else {
            return raw.clone();
        };
        self.change(&mut block);
        block.encode_to_vec().into()
    }

    fn change(self, block: &mut Block) {
        match self {
            Self::FlipData => {
                if let Some(entry) = block.data.as_mut().and_then(|data| data.data.first_mut()) {
                    flip_last_bit(entry);
                }
            }
            Self::FlipDataHash => {
                if let Some(header) = &mut block.header {
                    flip_last_bit(&mut header.data_hash);
                }
            }
            Self::FlipPreviousHash => {
                if let Some(header) = &mut block.header {
                    flip_last_bit(&mut header.previous_hash);
                }
            }
            Self::Number(number) => {
                if let Some(header) = &mut block.header {
                    header.number = number.get();
                }
            }
            Self::FlipSignature => change_signatures(block, |signatures| {
                if let Some(first) = signatures.first_mut() {
                    flip_last_bit(&mut first.signature);
                }
            }),
            Self::HighS => change_signatures(block, |signatures| {
                if let Some(first) = signatures.first_mut()
                    && let Some(high) = ecdsa::high_s(&first.signature)
                {
                    first.signature = high.into();
                }
            }),
            Self::NoSignatures => change_signatures(block, Vec::clear),
            Self::DuplicateSigner => change_signatures(block, |signatures| {
                let first = signatures.first().cloned();
                signatures.extend(first);
            }),
            Self::Slots(count) => {
                if let Some(metadata) = &mut block.metadata {
                    metadata.metadata.truncate(count);
                }
            }
            Self::JoinedEnvelopes => {
                if let Some(data) = &mut block.data {
                    let mut entries = std::mem::take(&mut data.data).into_iter();
                    let (first, second) = (entries.next(), entries.next());
                    let second = second.or_else(|| first.clone());
                    let joined: Vec<u8> = [first, second].into_iter().flatten().flatten().collect();
                    data.data = std::iter::once(joined.into()).chain(entries).collect();
                }
            }
            Self::NoHeader => block.header = None,
            Self::NoData => block.data = None,
            Self::Truncated => {}
        }
    }
}

fn change_signatures(block: &mut Block, change: impl FnOnce(&mut Vec<MetadataSignature>)) {
    let slot = block
        .metadata
        .as_mut()
        .and_then(|metadata| metadata.metadata.first_mut());
    if let Some(slot) = slot
        && let Ok(mut metadata) = Metadata::decode(slot.clone())
    {
        change(&mut metadata.signatures);
        *slot = metadata.encode_to_vec().into();
    }
}

fn flip_last_bit(bytes: &mut Bytes) {
    let mut changed = bytes.to_vec();
    if let Some(last) = changed.last_mut() {
        *last ^= 1;
    }
    *bytes = changed.into();
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn fixture(name: &str) -> Bytes {
        let path = format!(
            concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/{}.pb"),
            name
        );
        std::fs::read(path).unwrap().into()
    }

    fn mutated(mutation: Mutation, raw: &Bytes) -> Block {
        Block::decode(mutation.apply(raw)).unwrap()
    }

    fn signatures(block: &Block) -> Vec<MetadataSignature> {
        Metadata::decode(block.metadata.clone().unwrap().metadata[0].clone())
            .unwrap()
            .signatures
    }

    #[test]
    fn each_mutation_changes_what_it_names_and_nothing_else() {
        use Mutation::*;
        let raw = fixture("raft/block_1");
        let block = Block::decode(raw.clone()).unwrap();
        for mutation in [
            FlipData,
            FlipDataHash,
            FlipPreviousHash,
            FlipSignature,
            Number(BlockNumber::new(9)),
            HighS,
            NoSignatures,
            DuplicateSigner,
            Slots(1),
            JoinedEnvelopes,
            NoHeader,
            NoData,
        ] {
            let changed = mutated(mutation, &raw);
            assert_ne!(changed, block, "{mutation:?}");
            let of = |wanted: &[Mutation]| wanted.contains(&mutation);
            let header = of(&[
                FlipDataHash,
                FlipPreviousHash,
                Number(BlockNumber::new(9)),
                NoHeader,
            ]);
            assert_eq!(changed.header != block.header, header, "{mutation:?}");
            assert_eq!(
                changed.data != block.data,
                of(&[FlipData, JoinedEnvelopes, NoData]),
                "{mutation:?}"
            );
            let metadata = of(&[
                FlipSignature,
                HighS,
                NoSignatures,
                DuplicateSigner,
                Slots(1),
            ]);
            assert_eq!(changed.metadata != block.metadata, metadata, "{mutation:?}");
        }
        assert_eq!(Truncated.apply(&raw), raw[..raw.len() - 1]);
    }

    #[test]
    fn signatures_are_changed_as_named() {
        let raw = fixture("bft/block_2");
        let before = signatures(&Block::decode(raw.clone()).unwrap());
        assert_eq!(before.len(), 3);
        let high = signatures(&mutated(Mutation::HighS, &raw));
        assert_eq!(ecdsa::is_low_s(&high[0].signature), Some(false));
        assert_eq!(high[1..], before[1..]);
        assert!(signatures(&mutated(Mutation::NoSignatures, &raw)).is_empty());
        let twice = signatures(&mutated(Mutation::DuplicateSigner, &raw));
        assert_eq!((twice.len(), &twice[3]), (4, &before[0]));
    }

    #[test]
    fn joined_envelopes_keep_the_data_hash() {
        let raw = fixture("raft/block_1");
        let joined = block_api::Block::parse(Mutation::JoinedEnvelopes.apply(&raw)).unwrap();
        let before = block_api::Block::parse(raw).unwrap();
        assert_eq!(joined.entry_count(), before.entry_count() - 1);
        assert_eq!(joined.data_hash(), before.data_hash());
    }

    #[test]
    fn what_is_no_block_stays_as_it_is() {
        for raw in [
            Bytes::new(),
            Bytes::from_static(b"\xff"),
            Bytes::from_static(b"\x0a\x00"),
        ] {
            assert_eq!(Mutation::HighS.apply(&raw), raw);
            assert_eq!(Mutation::NoData.apply(&raw), raw);
        }
        assert_eq!(Mutation::Truncated.apply(&Bytes::new()), Bytes::new());
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_mutation_panic(bytes in vec(any::<u8>(), 0..200)) {
            use Mutation::*;
            let raw = Bytes::from(bytes);
            for mutation in [
                FlipData, FlipDataHash, FlipPreviousHash, FlipSignature, Number(BlockNumber::new(9)), HighS,
                NoSignatures, DuplicateSigner, Slots(1), JoinedEnvelopes, NoHeader, NoData, Truncated,
            ] {
                let _ = mutation.apply(&raw);
            }
        }
    }
}
