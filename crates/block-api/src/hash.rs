// SPDX-License-Identifier: Apache-2.0
//! The two hashes of a block: over its header (DER) and over its data.

use std::{fmt, str::FromStr};

use sha2::{Digest, Sha256};

use crate::BlockNumber;

/// SHA-256 of the DER form of a block header: the identity of a block, and the link to it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HeaderHash([u8; 32]);

/// SHA-256 of the data entries of a block.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DataHash([u8; 32]);

/// How the data hash is taken over the entries of a block. Blocks do not tell; a channel has one
/// rule from its genesis block on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DataHashing {
    /// SHA-256 over the entries one after the other, as Fabric does it. Nothing marks where one
    /// ends, so every entry must be in a form that shows it (semantics §2.3).
    #[default]
    Concatenated,
    /// SHA-256 over the entries, each after its length as four bytes, the highest first, as
    /// Fabric-X does it. It stands for one list of entries alone, whatever their form.
    LengthPrefixed,
}

/// A text that is not the 64 hexadecimal digits of a hash.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a hash is written with 64 hexadecimal digits, this is {text:?}")]
pub struct InvalidHash {
    text: String,
}

macro_rules! hash_type {
    ($name:ident) => {
        impl $name {
            /// The hash with these bytes.
            pub const fn new(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// The 32 bytes.
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }
        }

        impl AsRef<[u8]> for $name {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = InvalidHash;

            fn from_str(text: &str) -> Result<Self, InvalidHash> {
                let mut bytes = [0; 32];
                hex::decode_to_slice(text, &mut bytes).map_err(|_| InvalidHash {
                    text: text.to_owned(),
                })?;
                Ok(Self(bytes))
            }
        }
    };
}

hash_type!(HeaderHash);
hash_type!(DataHash);

impl DataHashing {
    /// The data hash of these entries.
    pub fn hash<'a>(self, entries: impl IntoIterator<Item = &'a [u8]>) -> DataHash {
        let mut hasher = Sha256::new();
        for entry in entries {
            if self == Self::LengthPrefixed {
                // An entry of 4 GiB or more is in no block that can be read.
                let length = u32::try_from(entry.len()).unwrap_or(u32::MAX);
                hasher.update(length.to_be_bytes());
            }
            hasher.update(entry);
        }
        DataHash(hasher.finalize().into())
    }
}

impl HeaderHash {
    /// Hashes a header (semantics §2.2).
    pub fn of_header(number: BlockNumber, previous_hash: &[u8], data_hash: &[u8]) -> Self {
        Self(Sha256::digest(header_der(number, previous_hash, data_hash)).into())
    }
}

/// The DER form of a block header: `SEQUENCE { INTEGER number, OCTET STRING previous_hash,
/// OCTET STRING data_hash }`, the number as an unsigned integer (semantics §2.2).
///
/// It is what a header hash is taken over, and the last part of what an orderer signs.
pub fn header_der(number: BlockNumber, previous_hash: &[u8], data_hash: &[u8]) -> Vec<u8> {
    const INTEGER: u8 = 0x02;
    const OCTET_STRING: u8 = 0x04;
    const SEQUENCE: u8 = 0x30;

    let big_endian = number.get().to_be_bytes();
    let zeros = big_endian
        .iter()
        .take(7)
        .take_while(|byte| **byte == 0)
        .count();
    let mut integer = Vec::with_capacity(9);
    let significant = big_endian.iter().skip(zeros);
    if significant.clone().next().is_some_and(|byte| *byte >= 0x80) {
        // A leading one bit would make the integer negative.
        integer.push(0);
    }
    integer.extend(significant);

    let mut body = Vec::with_capacity(24 + previous_hash.len() + data_hash.len());
    push_der(&mut body, INTEGER, &integer);
    push_der(&mut body, OCTET_STRING, previous_hash);
    push_der(&mut body, OCTET_STRING, data_hash);
    let mut der = Vec::with_capacity(body.len() + 8);
    push_der(&mut der, SEQUENCE, &body);
    der
}

/// Fabric's data hash: SHA-256 over the entries one after the other, without any framing
/// (semantics §2.3).
pub fn data_hash<'a>(entries: impl IntoIterator<Item = &'a [u8]>) -> DataHash {
    DataHashing::Concatenated.hash(entries)
}

fn push_der(out: &mut Vec<u8>, tag: u8, content: &[u8]) {
    out.push(tag);
    let length = content.len();
    match u8::try_from(length) {
        Ok(short) if short < 0x80 => out.push(short),
        _ => {
            let big_endian = length.to_be_bytes();
            let zeros = big_endian.iter().take_while(|byte| **byte == 0).count();
            // At most eight length bytes follow, so the sum stays below 0x89.
            out.push(0x80 | (big_endian.len() - zeros) as u8);
            out.extend(big_endian.iter().skip(zeros));
        }
    }
    out.extend_from_slice(content);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Covers: PRB-02
    #[test]
    fn header_der_and_hash_agree_with_the_vectors() {
        let long_previous: Vec<u8> = (0x00..0x20).collect();
        let long_data: Vec<u8> = (0x20..0x40).collect();
        type Row<'a> = (u64, &'a [u8], &'a [u8], &'a str, &'a str);
        let rows: [Row<'_>; 7] = [
            (
                0,
                b"",
                b"",
                "300702010004000400",
                "1d1c288c6851505be0b47a0f8e7dfb91ab2abe6ad71cef63a3791d14588d1d0e",
            ),
            (
                1,
                b"foo",
                b"bar",
                "300d0201010403666f6f0403626172",
                "e93c1382cc0ad21a64ae3286fd3ec883e2da582a793eb7b255954370b90a6b5b",
            ),
            (
                127,
                b"foo",
                b"bar",
                "300d02017f0403666f6f0403626172",
                "ed6209b75f12a154a0f799ae0607cf9d94d711f28121a0904ef29e1434988e8e",
            ),
            (
                128,
                b"foo",
                b"bar",
                "300e020200800403666f6f0403626172",
                "16156043c6bfdb0ac94f0ba6306d6506a2b7a48f7c9c3fffabb20013df5f5f19",
            ),
            (
                1 << 63,
                b"foo",
                b"bar",
                "301502090080000000000000000403666f6f0403626172",
                "e97649c8f4988adf9d537070c56768cdafde9bb7e60cd6c0538d2c88878a2099",
            ),
            (
                u64::MAX,
                b"foo",
                b"bar",
                "3015020900ffffffffffffffff0403666f6f0403626172",
                "881d18bfd3f0892744d9ac21cec5c19df483b07f4f196654d758cd57dda1cace",
            ),
            (
                7,
                &long_previous,
                &long_data,
                "30470201070420000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f0420202122232425262728292a2b2c2d2e2f303132333435363738393a3b3c3d3e3f",
                "1ce115a9fbe9050550242ab653a92ffd555901c0b12efcf60f86e8ac302fc50b",
            ),
        ];
        for (number, previous, data, der, hash) in rows {
            let number = BlockNumber::new(number);
            assert_eq!(
                hex::encode(header_der(number, previous, data)),
                der,
                "block {number}"
            );
            assert_eq!(
                HeaderHash::of_header(number, previous, data).to_string(),
                hash,
                "block {number}"
            );
        }
    }

    #[test]
    fn long_contents_use_the_long_length_form() {
        let der = header_der(BlockNumber::new(1), &[7; 300], &[]);
        assert!(
            hex::encode(der).starts_with("30820135020101048201 2c07".replace(' ', "").as_str())
        );
    }

    /// The two entries of the vector, with and without their lengths.
    #[test]
    fn lengths_tell_entries_apart_where_they_are_hashed() {
        let entries = [
            hex::decode("0a030102031203040506").unwrap(),
            hex::decode("0a0307080912030a0b0c").unwrap(),
        ];
        let joined = [entries.concat()];
        let by = |hashing: DataHashing, entries: &[Vec<u8>]| {
            hashing.hash(entries.iter().map(Vec::as_slice))
        };
        let concatenated = DataHashing::default();
        assert_eq!(by(concatenated, &entries), by(concatenated, &joined));
        let prefixed = DataHashing::LengthPrefixed;
        assert_ne!(by(prefixed, &entries), by(prefixed, &joined));
        let framed =
            hex::decode("0000000a0a0301020312030405060000000a0a0307080912030a0b0c").unwrap();
        assert_eq!(by(prefixed, &entries), data_hash([framed.as_slice()]));
    }

    #[test]
    fn data_hash_has_no_framing() {
        let one = hex::decode("0a030102031203040506").unwrap();
        let two = hex::decode("0a0307080912030a0b0c").unwrap();
        let joined = [one.clone(), two.clone()].concat();
        let expected = "e04ff7735e300c1163190e6b626cb9cd1efc1a37ce357446901b82069487f5ee";
        assert_eq!(
            data_hash([one.as_slice(), two.as_slice()]).to_string(),
            expected
        );
        assert_eq!(data_hash([joined.as_slice()]).to_string(), expected);
    }

    #[test]
    fn hashes_parse_from_hex_and_refuse_anything_else() {
        let text = "1d1c288c6851505be0b47a0f8e7dfb91ab2abe6ad71cef63a3791d14588d1d0e";
        assert_eq!(text.parse::<HeaderHash>().unwrap().to_string(), text);
        assert!(
            "1d1c"
                .parse::<HeaderHash>()
                .unwrap_err()
                .to_string()
                .contains("64 hexadecimal")
        );
        assert!("zz".repeat(32).parse::<DataHash>().is_err());
    }
}
