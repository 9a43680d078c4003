// SPDX-License-Identifier: Apache-2.0
//! Block delivery and dissemination for Hyperledger Fabric: a node, to be run or embedded.
#![doc = include_str!("../README.md")]

pub mod config;
mod node;

pub use block_api;
pub use block_store::{Damage, repair::CheckReport};
pub use deliver_service::{ChannelState, ChannelStats, Health, StuckReason};

pub use self::{
    config::NodeConfig,
    node::{
        ChannelRepair, GossipKeyError, Node, NodeBuilder, RefusedBlock, RepairSource,
        RepairStoreError, Repaired, StartError, StoreCheck, StoredBlockError, SubscribeError,
        Subscription,
    },
};
