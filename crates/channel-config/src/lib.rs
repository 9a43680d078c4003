// SPDX-License-Identifier: Apache-2.0
//! Channel configuration, MSPs and policies of Hyperledger Fabric, and the block verifier built from them.
#![doc = include_str!("../README.md")]

mod access;
mod certificate;
mod config;
mod der;
mod duration;
mod key;
mod msp;
mod own_msp;
mod pem;
mod policy;
mod recent;
#[cfg(test)]
mod test_support;
mod verifier;

pub use self::{
    access::{AccessError, ChannelAccess, ReaderScope},
    certificate::CertificateError,
    config::{
        BatchSize, Capabilities, ChannelConfig, ConfigChange, ConfigDiff, ConfigError, ConfigItem,
        ConfigLeaf, ConfigNode, ConfigTree, ConsensusState, ConsensusType, Consenter, ItemVersion,
        OrdererConfig, OrdererEndpoint, Organisation,
    },
    key::{KeyError, SignatureError},
    msp::{
        ChainError, Identity, IdentityError, Msp, MspError, MspVersion, Msps, Role,
        SerializedIdentity,
    },
    own_msp::OwnMsp,
    policy::{PolicyError, SignedData},
    verifier::{
        BlockError, ChainWalk, ChannelVerifier, SignatureReport, SignerInfo, SignerKind,
        verify_chain_step,
    },
};
