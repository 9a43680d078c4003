// SPDX-License-Identifier: Apache-2.0
//! The pull loop of blockcast.
#![doc = include_str!("../README.md")]

mod back_off;
mod calls;
mod choice;
mod config;
mod failure;
mod hand_off;
mod handler;
mod head;
mod provider;
mod puller;
mod state;
mod watch;

pub use self::{
    back_off::{full_jitter, jitter_by_share},
    config::{Config, ConfigError},
    failure::{Failure, Reason},
    handler::{BlockHandler, HandleError},
    head::{Evidence, Head, HeaderVerdict},
    provider::{BlocksProvider, ProviderHandle},
    state::{Mode, PullReport, PullState, PullStats},
    watch::Suspicion,
};
