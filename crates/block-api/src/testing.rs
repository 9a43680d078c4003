// SPDX-License-Identifier: Apache-2.0
//! Test support: chains made to order, permissive judges, a memory store, a store that is another
//! one but for what a test replaces, a scripted source, and the conformance suites that every
//! implementation of a seam runs.
//!
//! A suite panics with a sentence that says which promise was broken.

mod altered_store;
mod chain;
pub mod gossip_conformance;
mod live_chain;
mod members;
mod memory_store;
mod roles;
mod scripted_source;
pub mod store_conformance;

pub use self::{
    altered_store::AlteredStore,
    chain::TestChain,
    live_chain::{HeaderForm, LiveChain, Manner},
    members::{MemberKey, MemberReaders},
    memory_store::MemoryStore,
    roles::{
        GullibleVerifier, NobodyReads, OpenReaders, TestOrganisation, TestSigner, TestVerifier,
    },
    scripted_source::{Opening, ScriptedSource, Step},
};

use std::{future::Future, time::Duration};

/// How long a suite waits for something that must happen.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// Waits for something that must happen.
///
/// # Panics
///
/// When it did not happen before the [`DEADLINE`].
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what} did not happen within {DEADLINE:?}"),
    }
}
