// SPDX-License-Identifier: Apache-2.0
//! The commands, a module each: its arguments, and a function that carries it out.

pub(crate) mod block_files;
pub(crate) mod channel;
pub(crate) mod config_report;
pub(crate) mod demo;
pub(crate) mod fetch;
pub(crate) mod health_log;
pub(crate) mod identity;
pub(crate) mod inspect;
pub(crate) mod open_files;
pub(crate) mod orderer;
pub(crate) mod printable;
pub(crate) mod recorded;
pub(crate) mod run;
pub(crate) mod store;
pub(crate) mod table;
pub(crate) mod verify;
