// SPDX-License-Identifier: Apache-2.0
//! An embedded ordering service for development and tests.
#![doc = include_str!("../README.md")]

mod broadcast;
mod chain;
mod change;
mod config;
mod cutter;
mod ecdsa;
mod faults;
mod gate;
mod genesis;
mod maker;
mod network;
mod nodes;
mod orderer;
mod ordering;
mod pace;
mod pki;
mod reconfigure;
mod recorded;
mod service;
mod terms;
mod tree;
mod writer;

pub use orderer_server::{ConsenterState, DeliverCounts, DeliverStats};

pub use self::{
    broadcast::SubmitError,
    change::{CapabilityGroup, Change, ChangeError},
    config::{BatchConfig, Config, ConfigError, Consensus, NetworkConfig, NodesConfig, TlsMode},
    faults::{Fault, Mutation, Script, When},
    maker::ChainMaker,
    network::{Network, NetworkError},
    nodes::{Node, StartError},
    orderer::{DevOrderer, GenerateError},
    ordering::Stopped,
    pace::{InvalidRate, Pace, Rate},
    pki::{File, KeyKind, Member, Organization, OrganizationSpec, PkiError, Role},
    reconfigure::ReconfigureError,
    recorded::{RecordedChain, RecordedChainError},
    service::FaultyServer,
    terms::OrdererNode,
};
