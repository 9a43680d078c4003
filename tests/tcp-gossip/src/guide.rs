// SPDX-License-Identifier: Apache-2.0
//! The guide, whose code is compiled with this crate.
#![doc = include_str!("../../../docs/guides/gossip-backend.md")]
