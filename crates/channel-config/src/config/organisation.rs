// SPDX-License-Identifier: Apache-2.0
//! The organisations of a channel.

use std::{collections::BTreeMap, sync::Arc};

use protos::{common::OrdererAddresses, msp::MspConfig, peer::AnchorPeers};

use crate::{
    config::{ChannelConfig, ConfigError, values::Group},
    msp::{Msp, MspVersion, Msps},
};

/// An organisation of a channel.
#[derive(Debug, Clone)]
pub struct Organisation {
    pub(super) name: String,
    pub(super) msp: Arc<Msp>,
    /// The configuration of the MSP, as it stands.
    pub(super) msp_config: MspConfig,
    pub(super) addresses: Vec<String>,
    pub(super) anchor_peers: Vec<String>,
}

/// Builds the MSPs of a configuration, each once.
#[derive(Debug)]
pub(super) struct MspBuilder<'a> {
    version: MspVersion,
    previous: Option<&'a ChannelConfig>,
    known: BTreeMap<String, (MspConfig, Arc<Msp>)>,
}

impl Organisation {
    /// The name of its group.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its MSP.
    pub fn msp(&self) -> &Arc<Msp> {
        &self.msp
    }

    /// The addresses of its orderers, as they are written.
    pub fn addresses(&self) -> &[String] {
        &self.addresses
    }

    /// The addresses of its anchor peers, as they are written.
    pub fn anchor_peers(&self) -> &[String] {
        &self.anchor_peers
    }
}

impl<'a> MspBuilder<'a> {
    /// Takes over from the previous configuration what did not change, with what it remembers.
    pub(super) fn new(version: MspVersion, previous: Option<&'a ChannelConfig>) -> Self {
        Self {
            version,
            previous,
            known: BTreeMap::new(),
        }
    }

    /// An organisation of orderers.
    pub(super) fn orderer(
        &mut self,
        name: &str,
        group: &Group<'_>,
    ) -> Result<Organisation, ConfigError> {
        group.allow_no_groups()?;
        group.allow_values(&["MSP", "Endpoints"])?;
        let addresses: OrdererAddresses = group.value("Endpoints")?;
        let mut organisation = self.organisation(name, group)?;
        organisation.addresses = addresses.addresses;
        Ok(organisation)
    }

    /// An organisation of applications.
    pub(super) fn application(
        &mut self,
        name: &str,
        group: &Group<'_>,
    ) -> Result<Organisation, ConfigError> {
        group.allow_no_groups()?;
        group.allow_values(&["MSP", "AnchorPeers"])?;
        let peers: AnchorPeers = group.value("AnchorPeers")?;
        let mut organisation = self.organisation(name, group)?;
        let peers = peers.anchor_peers.into_iter();
        organisation.anchor_peers = peers
            .map(|peer| format!("{}:{}", peer.host, peer.port))
            .collect();
        Ok(organisation)
    }

    fn organisation(&mut self, name: &str, group: &Group<'_>) -> Result<Organisation, ConfigError> {
        let config: MspConfig = group.value("MSP")?;
        let msp = self.msp(&config, group)?;
        Ok(Organisation {
            name: name.to_owned(),
            msp,
            msp_config: config,
            addresses: Vec::new(),
            anchor_peers: Vec::new(),
        })
    }

    fn msp(&mut self, config: &MspConfig, group: &Group<'_>) -> Result<Arc<Msp>, ConfigError> {
        let same = self
            .known
            .values()
            .find(|(known, _)| known == config)
            .map(|(_, msp)| msp.clone());
        let msp = match same.or_else(|| self.previous?.msp_with(config, self.version)) {
            Some(msp) => msp,
            None => {
                let msp = Msp::from_message(config, self.version);
                Arc::new(msp.map_err(|source| ConfigError::Msp {
                    path: group.path.clone(),
                    source: Box::new(source),
                })?)
            }
        };
        let (known, _) = self
            .known
            .entry(msp.id().to_owned())
            .or_insert_with(|| (config.clone(), msp.clone()));
        if known != config {
            return Err(ConfigError::ConflictingMsp {
                msp_id: msp.id().to_owned(),
            });
        }
        Ok(msp)
    }

    pub(super) fn finish(self) -> Msps {
        Msps::new(self.known.into_values().map(|(_, msp)| msp))
    }
}
