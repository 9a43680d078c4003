// SPDX-License-Identifier: Apache-2.0
//! Reading the values of a configuration group.

use std::time::Duration;

use prost::Message;
use protos::{
    common::{
        BlockDataHashingStructure, Capabilities as CapabilitiesProto, ConfigGroup, HashingAlgorithm,
    },
    decode_as_go,
    described::Described,
    orderer::{BatchSize as BatchSizeProto, BatchTimeout},
};

use crate::{config::ConfigError, duration};

/// A group of the configuration, and its path.
#[derive(Debug, Clone)]
pub(super) struct Group<'a> {
    pub(super) path: String,
    pub(super) group: &'a ConfigGroup,
}

/// How the orderers cut blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchSize {
    /// At most so many transactions.
    pub max_messages: u32,
    /// No transaction is bigger, in bytes.
    pub absolute_max_bytes: u32,
    /// A block with more bytes has one transaction.
    pub preferred_max_bytes: u32,
}

impl<'a> Group<'a> {
    pub(super) fn new(path: impl Into<String>, group: &'a ConfigGroup) -> Self {
        Self {
            path: path.into(),
            group,
        }
    }

    /// The groups in this one, by name.
    pub(super) fn groups(&self) -> impl Iterator<Item = (&'a str, Group<'a>)> {
        let path = self.path.clone();
        self.group
            .groups
            .iter()
            .map(move |(name, group)| (name.as_str(), Group::new(format!("{path}/{name}"), group)))
    }

    pub(super) fn sub_group(&self, name: &str) -> Option<Self> {
        self.group
            .groups
            .get(name)
            .map(|group| Self::new(format!("{}/{name}", self.path), group))
    }

    pub(super) fn has_value(&self, key: &str) -> bool {
        self.group.values.contains_key(key)
    }

    pub(super) fn value_path(&self, key: &str) -> String {
        format!("{}/{key}", self.path)
    }

    /// Refuses values other than these, as Fabric does (CHC-13).
    pub(super) fn allow_values(&self, keys: &[&str]) -> Result<(), ConfigError> {
        match self
            .group
            .values
            .keys()
            .find(|key| !keys.contains(&key.as_str()))
        {
            Some(key) => Err(ConfigError::UnknownValue {
                path: self.value_path(key),
            }),
            None => Ok(()),
        }
    }

    pub(super) fn allow_no_groups(&self) -> Result<(), ConfigError> {
        match self.groups().next() {
            Some((_, group)) => Err(ConfigError::UnknownGroup { path: group.path }),
            None => Ok(()),
        }
    }

    /// A value; an absent one is as an empty one.
    pub(super) fn value<M: Described + Message + Default>(
        &self,
        key: &str,
    ) -> Result<M, ConfigError> {
        let Some(value) = self.group.values.get(key) else {
            return Ok(M::default());
        };
        decode_as_go(value.value.clone()).map_err(|error| ConfigError::Value {
            path: self.value_path(key),
            reason: error.to_string(),
        })
    }

    pub(super) fn illegal(&self, key: &str, reason: impl Into<String>) -> ConfigError {
        ConfigError::Illegal {
            path: self.value_path(key),
            reason: reason.into(),
        }
    }

    /// The names of the capabilities, all of which must be known.
    pub(super) fn capabilities(&self, known: &[&str]) -> Result<Vec<String>, ConfigError> {
        let capabilities: CapabilitiesProto = self.value("Capabilities")?;
        let names: Vec<String> = capabilities.capabilities.into_keys().collect();
        match names.iter().find(|name| !known.contains(&name.as_str())) {
            Some(name) => Err(ConfigError::UnknownCapability {
                path: self.path.clone(),
                name: name.clone(),
            }),
            None => Ok(names),
        }
    }

    /// Checks the hashes that the channel is set to, of which Fabric knows these alone (CHC-03).
    pub(super) fn check_hashing(&self) -> Result<(), ConfigError> {
        let algorithm: HashingAlgorithm = self.value("HashingAlgorithm")?;
        if !matches!(algorithm.name.as_str(), "SHA256" | "SHA3_256") {
            return Err(self.illegal(
                "HashingAlgorithm",
                format!("the algorithm {:?} is unknown", algorithm.name),
            ));
        }
        let structure: BlockDataHashingStructure = self.value("BlockDataHashingStructure")?;
        if structure.width != u32::MAX {
            return Err(self.illegal("BlockDataHashingStructure", "the width must be 4294967295"));
        }
        Ok(())
    }

    /// (CHC-05)
    pub(super) fn batch_size(&self) -> Result<BatchSize, ConfigError> {
        let size: BatchSizeProto = self.value("BatchSize")?;
        let parts = [
            size.max_message_count,
            size.absolute_max_bytes,
            size.preferred_max_bytes,
        ];
        if parts.contains(&0) {
            return Err(self.illegal("BatchSize", "none of its numbers may be 0"));
        }
        if size.preferred_max_bytes > size.absolute_max_bytes {
            return Err(self.illegal("BatchSize", "the preferred size is above the absolute one"));
        }
        Ok(BatchSize {
            max_messages: size.max_message_count,
            absolute_max_bytes: size.absolute_max_bytes,
            preferred_max_bytes: size.preferred_max_bytes,
        })
    }

    /// (CHC-06)
    pub(super) fn batch_timeout(&self) -> Result<Duration, ConfigError> {
        let timeout: BatchTimeout = self.value("BatchTimeout")?;
        duration::parse_positive(&timeout.timeout).ok_or_else(|| {
            self.illegal(
                "BatchTimeout",
                format!("{:?} is no duration above zero", timeout.timeout),
            )
        })
    }
}
