// SPDX-License-Identifier: Apache-2.0
//! How the data hash of a channel's blocks is taken, as an operator says it.

use std::str::FromStr;

use block_api::DataHashing;

/// How the data hash of a channel's blocks is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum DataHashRule {
    /// `fabric`: over the transactions one after the other.
    #[default]
    Fabric,
    /// `fabric-x`: over each transaction's length and bytes, as Fabric-X takes it.
    FabricX,
}

/// A text that names no rule for data hashes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no rule for data hashes: there are fabric and fabric-x")]
pub struct InvalidDataHashRule {
    text: String,
}

impl FromStr for DataHashRule {
    type Err = InvalidDataHashRule;

    fn from_str(text: &str) -> Result<Self, InvalidDataHashRule> {
        match text {
            "fabric" => Ok(Self::Fabric),
            "fabric-x" => Ok(Self::FabricX),
            _ => Err(InvalidDataHashRule {
                text: text.to_owned(),
            }),
        }
    }
}

impl DataHashRule {
    /// The rule as verifiers know it.
    pub fn hashing(self) -> DataHashing {
        match self {
            Self::Fabric => DataHashing::Concatenated,
            Self::FabricX => DataHashing::LengthPrefixed,
        }
    }
}
