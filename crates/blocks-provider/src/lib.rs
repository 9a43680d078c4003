// SPDX-License-Identifier: Apache-2.0
//! The pull loop of blockcast.
#![doc = include_str!("../README.md")]

mod choice;
mod config;
mod handler;
mod provider;
mod state;

pub use self::{
    config::{Config, ConfigError},
    handler::{BlockHandler, HandleError},
    provider::{BlocksProvider, ProviderHandle},
    state::{Failure, PullState},
};
