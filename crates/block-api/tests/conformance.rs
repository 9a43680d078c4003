// SPDX-License-Identifier: Apache-2.0
//! The memory store keeps the promises of a block store.

use std::sync::Arc;

use blockcast_block_api::{
    BlockStore,
    testing::{MemoryStore, store_conformance},
};

/// Covers: FLG-01, FLG-02
#[tokio::test]
async fn the_memory_store_conforms() {
    store_conformance::run(|| async { Arc::new(MemoryStore::default()) as Arc<dyn BlockStore> })
        .await;
}
