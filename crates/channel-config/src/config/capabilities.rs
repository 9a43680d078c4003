// SPDX-License-Identifier: Apache-2.0
//! Capabilities: which rules a channel has switched on.

use crate::{
    config::{ConfigError, values::Group},
    msp::MspVersion,
};

const CHANNEL: [&str; 6] = ["V1_1", "V1_3", "V1_4_2", "V1_4_3", "V2_0", "V3_0"];
const ORDERER: [&str; 3] = ["V1_1", "V1_4_2", "V2_0"];
const APPLICATION: [&str; 8] = [
    "V1_1",
    "V1_2",
    "V1_3",
    "V1_4_2",
    "V2_0",
    "V2_5",
    "V1_1_PVTDATA_EXPERIMENTAL",
    "V1_1_RESOURCETREE_EXPERIMENTAL",
];

/// The capabilities of a channel, all of them known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capabilities {
    channel: Vec<String>,
    orderer: Vec<String>,
    application: Vec<String>,
}

impl Capabilities {
    pub(super) fn read(
        channel: &Group<'_>,
        orderer: &Group<'_>,
        application: Option<&Group<'_>>,
    ) -> Result<Self, ConfigError> {
        if !orderer.has_value("Capabilities") {
            let early = [Some(channel), application]
                .into_iter()
                .flatten()
                .find(|group| group.has_value("Capabilities"));
            if let Some(early) = early {
                // (CHC-02)
                return Err(early.illegal(
                    "Capabilities",
                    "the group of the orderers needs capabilities first",
                ));
            }
        }
        Ok(Self {
            channel: channel.capabilities(&CHANNEL)?,
            orderer: orderer.capabilities(&ORDERER)?,
            application: application
                .map(|group| group.capabilities(&APPLICATION))
                .transpose()?
                .unwrap_or_default(),
        })
    }

    /// Those of `/Channel`.
    pub fn channel(&self) -> &[String] {
        &self.channel
    }

    /// Those of `/Channel/Orderer`.
    pub fn orderer(&self) -> &[String] {
        &self.orderer
    }

    /// Those of `/Channel/Application`.
    pub fn application(&self) -> &[String] {
        &self.application
    }

    /// The rules that MSPs follow (semantics §2.5).
    pub fn msp_version(&self) -> MspVersion {
        if self.has_any(&["V3_0"]) {
            MspVersion::V3_0
        } else if self.has_any(&["V1_4_3", "V2_0"]) {
            MspVersion::V1_4_3
        } else if self.has_any(&["V1_3", "V1_4_2"]) {
            MspVersion::V1_3
        } else if self.has_any(&["V1_1"]) {
            MspVersion::V1_1
        } else {
            MspVersion::V1_0
        }
    }

    /// Whether block signatures may name a consenter by its id (semantics §2.7).
    pub fn identifier_headers(&self) -> bool {
        self.has_any(&["V3_0"])
    }

    /// Whether organisations of orderers may have addresses of their own.
    pub(super) fn organisation_addresses(&self) -> bool {
        self.has_any(&["V1_4_2", "V1_4_3", "V2_0", "V3_0"])
    }

    /// Whether organisations of orderers must have addresses of their own.
    pub(super) fn organisation_addresses_only(&self) -> bool {
        self.has_any(&["V3_0"])
    }

    pub(super) fn allow_acls(&self) -> bool {
        let with_acls = ["V1_2", "V1_3", "V1_4_2", "V2_0", "V2_5"];
        self.application
            .iter()
            .any(|name| with_acls.contains(&name.as_str()))
    }

    /// Old addresses must be there before there are those of organisations, and must not be there
    /// when only these are allowed (CHC-04, CHC-07).
    pub(super) fn check_addresses(
        &self,
        channel: &Group<'_>,
        addresses: &[String],
    ) -> Result<(), ConfigError> {
        if addresses.is_empty() && !self.organisation_addresses() {
            return Err(channel.illegal(
                "OrdererAddresses",
                "there must be one below the capability V1_4_2",
            ));
        }
        if !addresses.is_empty() && self.organisation_addresses_only() {
            return Err(channel.illegal(
                "OrdererAddresses",
                "the capability V3_0 allows only those of organisations",
            ));
        }
        Ok(())
    }

    fn has_any(&self, names: &[&str]) -> bool {
        self.channel
            .iter()
            .any(|name| names.contains(&name.as_str()))
    }
}
