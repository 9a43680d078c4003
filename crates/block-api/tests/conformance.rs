// SPDX-License-Identifier: Apache-2.0
//! The stores of tests keep the promises of a block store.

use std::sync::Arc;

use blockcast_block_api::{
    BlockStore,
    testing::{AlteredStore, MemoryStore, store_conformance},
};

/// Replaces nothing.
#[derive(Debug, Default)]
struct Unaltered(MemoryStore);

impl AlteredStore for Unaltered {
    fn inner(&self) -> &dyn BlockStore {
        &self.0
    }
}

/// Covers: FLG-01, FLG-02
#[tokio::test]
async fn the_memory_store_conforms() {
    store_conformance::run(|| async { Arc::new(MemoryStore::default()) as Arc<dyn BlockStore> })
        .await;
}

#[tokio::test]
async fn a_store_that_replaces_nothing_conforms() {
    store_conformance::run(|| async { Arc::new(Unaltered::default()) as Arc<dyn BlockStore> })
        .await;
}
