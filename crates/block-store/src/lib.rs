// SPDX-License-Identifier: Apache-2.0
//! An append-only block store in segment files.
#![doc = include_str!("../README.md")]

mod archive;
mod catalog;
mod codec;
mod config;
mod dir;
mod error;
mod file;
#[cfg(any(test, feature = "testing"))]
mod fuzz;
mod head;
mod index;
mod lock;
mod origin;
mod preamble;
mod read;
mod record;
mod recover;
pub mod repair;
mod report;
mod scan;
mod segment_file;
mod settle;
mod snapshot;
mod start;
mod store;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod writer;

#[cfg(any(test, feature = "testing"))]
pub use self::fuzz::fuzz_segment;
pub use self::{
    config::{Config, ConfigError, Retention, Start, SyncPolicy, ValidConfig},
    error::{Damage, DamagedRecord, OpenError, RecordFault, SegmentFault, StorageError},
    report::{HeadState, OpenReport, TornTail},
    snapshot::StoreSnapshot,
    start::StartConfig,
    store::SegmentStore,
};
