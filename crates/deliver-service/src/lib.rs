// SPDX-License-Identifier: Apache-2.0
//! The intake of blocks per channel, and the life cycle of the pull loop.
#![doc = include_str!("../README.md")]

mod buffer;
mod catch_up;
mod channel;
mod config;
mod error;
mod evidence;
mod failing;
mod heads;
mod health;
mod in_order;
mod intake;
mod judges;
mod lag;
mod leadership;
mod orderer;
mod peers;
mod publisher;
mod pull;
mod restore;
#[cfg(test)]
mod scene;
mod service;
mod stats;
mod storage;
mod supervision;
mod topic;
mod waiting_room;
mod writer;

#[cfg(any(test, feature = "testing"))]
pub use self::leadership::{Elector, Place};
pub use self::{
    config::{Config, ConfigError},
    error::{JoinError, StartError, StopError},
    evidence::Equivocation,
    health::{Health, StuckReason},
    lag::Missing,
    leadership::{Leadership, Role},
    service::{ChannelParts, ChannelState, DeliverService},
    stats::{ChannelStats, Origin},
    storage::{StorageFailure, StorageFailureKind},
    supervision::Task,
};
