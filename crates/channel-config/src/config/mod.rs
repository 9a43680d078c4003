// SPDX-License-Identifier: Apache-2.0
//! The configuration of a channel, as types.

mod capabilities;
mod diff;
mod error;
mod orderer;
mod organisation;
mod source;
mod tree;
mod values;

use std::{collections::BTreeMap, fmt, sync::Arc};

use block_api::{Block, ChannelId, Endpoint};
use protos::{
    common::{Config, ConfigGroup, OrdererAddresses},
    msp::MspConfig,
};
use rustls_pki_types::CertificateDer;

pub use self::{
    capabilities::Capabilities,
    diff::{ConfigChange, ConfigDiff, ConfigItem, ItemVersion},
    error::ConfigError,
    orderer::{ConsensusState, ConsensusType, Consenter, OrdererConfig},
    organisation::Organisation,
    tree::{ConfigLeaf, ConfigNode, ConfigTree},
    values::BatchSize,
};
use self::{organisation::MspBuilder, values::Group};
use crate::{
    msp::{Msp, MspVersion, Msps, SerializedIdentity},
    policy::{Evaluation, Policy, PolicyTree, SignedData},
};

/// The policy by which block signatures are judged.
pub(crate) const BLOCK_VALIDATION: &str = "/Channel/Orderer/BlockValidation";

/// The name of the outermost group.
const CHANNEL: &str = "Channel";

/// The configuration of a channel, checked as far as a Fabric peer checks it on delivery
/// (semantics §2.8).
#[derive(Clone)]
pub struct ChannelConfig {
    channel: ChannelId,
    sequence: u64,
    capabilities: Capabilities,
    orderer: OrdererConfig,
    applications: BTreeMap<String, Organisation>,
    addresses: Vec<String>,
    msps: Msps,
    policies: PolicyTree,
    group: ConfigGroup,
}

/// Where blocks of a channel can be had, and whom to trust there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrdererEndpoint {
    /// Host and port.
    pub endpoint: Endpoint,
    /// The MSP id of the organisation that runs it; `None` for the old addresses of the channel,
    /// which do not say.
    pub organisation: Option<String>,
    /// The certificates of the TLS authorities of that organisation (of all of them for an old
    /// address), intermediate ones among them. When there are none, no TLS connection can be
    /// trusted: the roots of the machine are no substitute.
    pub tls_roots: Vec<CertificateDer<'static>>,
}

impl ChannelConfig {
    /// Reads the configuration in a genesis block or another config block (CFB-01 to CFB-09).
    /// Nothing of the block but this is checked.
    ///
    /// # Errors
    ///
    /// When the block is no config block, or its configuration is none that Fabric would take.
    pub fn from_block(block: &Block) -> Result<Self, ConfigError> {
        Self::from_block_after(block, None)
    }

    /// Reads a configuration.
    ///
    /// # Errors
    ///
    /// When it is none that Fabric would take.
    pub fn from_config(config: Config, channel: &str) -> Result<Self, ConfigError> {
        Self::build(config, channel, None)
    }

    /// Reads the configuration in a block, and takes over from the one before what did not change.
    pub(crate) fn from_block_after(
        block: &Block,
        previous: Option<&Self>,
    ) -> Result<Self, ConfigError> {
        let source = source::ConfigSource::of(block)?;
        Self::build(source.config, &source.channel, previous)
    }

    fn build(config: Config, channel: &str, previous: Option<&Self>) -> Result<Self, ConfigError> {
        let channel = channel.parse()?;
        let no_channel = || ConfigError::NoGroup {
            path: format!("/{CHANNEL}"),
        };
        let group = config.channel_group.ok_or_else(no_channel)?;
        let root = Group::new(format!("/{CHANNEL}"), &group);
        root.allow_values(&[
            "HashingAlgorithm",
            "BlockDataHashingStructure",
            "OrdererAddresses",
            "Orderers",
            "Consortium",
            "Capabilities",
        ])?;
        root.check_hashing()?;
        let no_group = |name: &str| ConfigError::NoGroup {
            path: format!("/{CHANNEL}/{name}"),
        };
        let orderer_group = root
            .sub_group("Orderer")
            .ok_or_else(|| no_group("Orderer"))?;
        let application_group = root.sub_group("Application");
        if let Some((_, unknown)) = root
            .groups()
            .find(|(name, _)| !matches!(*name, "Orderer" | "Application"))
        {
            return Err(ConfigError::UnknownGroup { path: unknown.path });
        }
        let capabilities = Capabilities::read(&root, &orderer_group, application_group.as_ref())?;
        let addresses: OrdererAddresses = root.value("OrdererAddresses")?;
        capabilities.check_addresses(&root, &addresses.addresses)?;

        let mut msps = MspBuilder::new(capabilities.msp_version(), previous);
        let orderer = OrdererConfig::read(&orderer_group, &capabilities, &mut msps)?;
        let mut applications = BTreeMap::new();
        if let Some(application_group) = &application_group {
            application_group.allow_values(&["ACLs", "Capabilities"])?;
            if application_group.has_value("ACLs") && !capabilities.allow_acls() {
                return Err(
                    application_group.illegal("ACLs", "they need the application capability V1_2")
                );
            }
            for (name, organisation) in application_group.groups() {
                applications.insert(name.to_owned(), msps.application(name, &organisation)?);
            }
        }
        let msps = msps.finish();
        let policies = PolicyTree::compile(CHANNEL, &group, capabilities.msp_version())?;
        Ok(Self {
            channel,
            sequence: config.sequence,
            capabilities,
            orderer,
            applications,
            addresses: addresses.addresses,
            msps,
            policies,
            group,
        })
    }

    /// The channel.
    pub fn channel(&self) -> &ChannelId {
        &self.channel
    }

    /// How many times the configuration was changed.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The capabilities.
    pub fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// What concerns the ordering service.
    pub fn orderer(&self) -> &OrdererConfig {
        &self.orderer
    }

    /// The application organisations, by name.
    pub fn applications(&self) -> impl Iterator<Item = &Organisation> {
        self.applications.values()
    }

    /// The old addresses of the channel, as they are written; used only where no organisation of
    /// orderers has addresses.
    pub fn global_addresses(&self) -> &[String] {
        &self.addresses
    }

    /// The MSPs of all organisations.
    pub fn msps(&self) -> &Msps {
        &self.msps
    }

    /// Where blocks can be had: the addresses of each organisation with its own TLS authorities,
    /// or else the old addresses with those of all (semantics §1.8). An address that is none is
    /// left out with a warning.
    pub fn endpoints(&self) -> Vec<OrdererEndpoint> {
        let endpoint = |address: &String,
                        organisation: Option<&Organisation>,
                        roots: &[CertificateDer<'static>]| {
            let parsed = address.parse().inspect_err(|error| {
                tracing::warn!(channel = %self.channel, %error, "orderer address left out");
            });
            parsed.ok().map(|endpoint| OrdererEndpoint {
                endpoint,
                organisation: organisation.map(|organisation| organisation.msp.id().to_owned()),
                tls_roots: roots.to_vec(),
            })
        };
        let organisations = || self.orderer.organisations();
        if organisations().any(|organisation| !organisation.addresses.is_empty()) {
            return organisations()
                .flat_map(|organisation| {
                    organisation
                        .addresses
                        .iter()
                        .map(move |address| (organisation, address))
                })
                .filter_map(|(organisation, address)| {
                    endpoint(
                        address,
                        Some(organisation),
                        organisation.msp.tls_authorities(),
                    )
                })
                .collect();
        }
        let mut roots: Vec<CertificateDer<'static>> = Vec::new();
        for root in organisations().flat_map(|organisation| organisation.msp.tls_authorities()) {
            if !roots.contains(root) {
                roots.push(root.clone());
            }
        }
        self.addresses
            .iter()
            .filter_map(|address| endpoint(address, None, &roots))
            .collect()
    }

    /// Whether a policy of this path is there, as text: `ANY Writers`.
    pub fn policy_text(&self, path: &str) -> Option<String> {
        self.policy(path).map(|policy| policy.to_string())
    }

    /// Whether signatures satisfy the policy of this path; a policy that is not there is satisfied
    /// by nobody (POL-03).
    pub fn satisfies(&self, path: &str, signed: &[SignedData<'_>]) -> bool {
        self.policy(path)
            .is_some_and(|policy| policy.is_satisfied(&Evaluation::new(signed, &self.msps)))
    }

    /// The configuration as a tree that people can read.
    pub fn tree(&self) -> ConfigTree {
        ConfigTree::new(self)
    }

    pub(crate) fn policy(&self, path: &str) -> Option<&Arc<Policy>> {
        self.policies.get(path)
    }

    /// The identity of the consenter with this id.
    pub(crate) fn consenter_identity(&self, id: u32) -> Option<SerializedIdentity<'_>> {
        let consenter = self
            .orderer
            .consenters()
            .iter()
            .find(|consenter| consenter.id == id)?;
        Some(SerializedIdentity {
            msp_id: &consenter.msp_id,
            credential: &consenter.identity,
        })
    }

    /// The MSP that was built from this configuration under these rules.
    fn msp_with(&self, config: &MspConfig, version: MspVersion) -> Option<Arc<Msp>> {
        let organisations = self
            .orderer
            .organisations()
            .chain(self.applications.values());
        let same = organisations
            .into_iter()
            .find(|organisation| organisation.msp_config == *config)?;
        (same.msp.version() == version).then(|| same.msp.clone())
    }
}

impl fmt::Debug for ChannelConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChannelConfig")
            .field("channel", &self.channel)
            .field("sequence", &self.sequence)
            .field("capabilities", &self.capabilities)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
