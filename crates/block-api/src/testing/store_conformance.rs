// SPDX-License-Identifier: Apache-2.0
//! What every [`BlockStore`] promises.

use std::{future::Future, sync::Arc};

use crate::{
    AppendError, BlockNumber, BlockStore, ChainInfo, Height, ReadError, ReadLimits, VerifiedBlock,
    testing::{TestChain, within},
};

/// Runs every check, each on a store that `empty` makes anew.
///
/// # Panics
///
/// When the store breaks a promise.
pub async fn run<F, S>(empty: F)
where
    F: Fn() -> S,
    S: Future<Output = Arc<dyn BlockStore>>,
{
    empty_store_says_so(&*empty().await).await;
    appended_blocks_are_read_as_they_are(&*empty().await).await;
    refuses_what_does_not_link(&*empty().await).await;
    refuses_what_another_configuration_judged(&*empty().await).await;
    reads_respect_their_limits(&*empty().await).await;
    config_blocks_are_found(&*empty().await).await;
    waiting_ends_with_the_height(empty().await).await;
}

async fn empty_store_says_so(store: &dyn BlockStore) {
    assert_eq!(
        store.info(),
        ChainInfo::EMPTY,
        "an empty store has height 0 and no tip"
    );
    let read = store
        .read(BlockNumber::GENESIS, ReadLimits::one())
        .await
        .expect("an empty store can be read");
    assert!(read.is_empty(), "an empty store gives nothing");
    assert_eq!(
        store.config_at(BlockNumber::new(9)),
        None,
        "an empty store has no config block"
    );
    let info = store
        .append(Vec::new())
        .await
        .expect("an empty batch is nothing");
    assert_eq!(info, ChainInfo::EMPTY, "an empty batch changes nothing");
}

async fn appended_blocks_are_read_as_they_are(store: &dyn BlockStore) {
    let blocks = chain(7, 3000);
    let (first, rest) = blocks.split_at(1);
    store
        .append(first.to_vec())
        .await
        .expect("the genesis block is appended");
    let info = store
        .append(rest.to_vec())
        .await
        .expect("a batch is appended");
    assert_eq!(info.height, Height::new(7), "append returns the new height");
    assert_eq!(info, store.info(), "readers see what append returned");
    assert_eq!(
        info.tip_hash,
        blocks.last().map(VerifiedBlock::header_hash),
        "the tip is the last block"
    );
    let read = store
        .read(BlockNumber::GENESIS, ReadLimits::new(100, 1 << 30))
        .await
        .expect("blocks can be read");
    let expected: Vec<_> = blocks
        .iter()
        .map(|block| block.block().raw().clone())
        .collect();
    assert_eq!(read, expected, "the bytes are the ones that were appended");
}

async fn refuses_what_does_not_link(store: &dyn BlockStore) {
    let blocks = chain(4, 10);
    let [genesis, one, two, three] = blocks.as_slice() else {
        unreachable!("four blocks were made")
    };
    store
        .append(vec![genesis.clone(), one.clone()])
        .await
        .expect("linked blocks are appended");
    let before = store.info();
    let mut other = TestChain::new("other");
    let _ = other.config();
    let _ = other.data(1);
    let stranger = TestChain::verified(&other.data(1));
    for (what, batch) in [
        ("a block twice", vec![one.clone()]),
        ("a hole", vec![three.clone()]),
        ("a block of another chain", vec![stranger.clone()]),
        ("a good block and a hole", vec![two.clone(), two.clone()]),
        ("a good block and a stranger", vec![two.clone(), stranger]),
    ] {
        let error = store.append(batch).await.expect_err(what);
        assert!(
            matches!(error, AppendError::DoesNotLink { .. }),
            "{what}: {error}"
        );
        assert!(!error.is_retryable(), "{what} will never link");
        assert_eq!(store.info(), before, "{what} appended something");
    }
    store
        .append(vec![two.clone(), three.clone()])
        .await
        .expect("the store still works");
}

async fn refuses_what_another_configuration_judged(store: &dyn BlockStore) {
    let mut chain = TestChain::new("ch");
    let blocks = [chain.config(), chain.config(), chain.data(1)];
    let verified = blocks.each_ref().map(TestChain::verified);
    // Signed by those who were in force before the second config block, and judged by it.
    let old = TestChain::verified(&TestChain::signed_by_others(
        &blocks[2],
        BlockNumber::GENESIS,
    ));
    assert_eq!(old.header_hash(), verified[2].header_hash());
    for (what, stored, batch) in [
        ("in one batch", 0, vec![&verified[0], &verified[1], &old]),
        ("behind the tip", 2, vec![&old]),
    ] {
        let until = verified.iter().take(stored).cloned().collect();
        store
            .append(until)
            .await
            .expect("linked blocks are appended");
        let before = store.info();
        let batch = batch.into_iter().cloned().collect();
        match store.append(batch).await {
            Err(error @ AppendError::OtherJudge { .. }) => {
                assert!(!error.is_retryable(), "{what}: it is judged so for ever");
            }
            other => panic!("{what}: judged by another configuration: {other:?}"),
        }
        assert_eq!(store.info(), before, "{what}: something was appended");
    }
    store
        .append(vec![verified[2].clone()])
        .await
        .expect("the block that was judged in its place is appended");
}

async fn reads_respect_their_limits(store: &dyn BlockStore) {
    let blocks = chain(10, 1000);
    store
        .append(blocks.clone())
        .await
        .expect("linked blocks are appended");
    let numbers = |from: u64, limits| async move {
        store
            .read(BlockNumber::new(from), limits)
            .await
            .expect("blocks can be read")
            .len()
    };
    assert_eq!(
        numbers(3, ReadLimits::new(4, 1 << 30)).await,
        4,
        "the limit of blocks holds"
    );
    assert_eq!(
        numbers(3, ReadLimits::new(100, 2500)).await,
        2,
        "the limit of bytes holds"
    );
    assert_eq!(
        numbers(3, ReadLimits::new(100, 1)).await,
        1,
        "one block is given whatever its size"
    );
    assert_eq!(
        numbers(8, ReadLimits::new(100, 1 << 30)).await,
        2,
        "the tip ends a read"
    );
    assert_eq!(
        numbers(10, ReadLimits::one()).await,
        0,
        "at the height there is nothing yet"
    );
    assert_eq!(
        numbers(u64::MAX, ReadLimits::one()).await,
        0,
        "far above there is nothing either"
    );
}

async fn config_blocks_are_found(store: &dyn BlockStore) {
    let mut chain = TestChain::new("ch");
    let blocks = [chain.config(), chain.data(1), chain.config(), chain.data(1)];
    store
        .append(blocks.iter().map(TestChain::verified).collect())
        .await
        .expect("linked blocks are appended");
    for (at, config) in [(0, 0), (1, 0), (2, 2), (3, 2), (99, 2)] {
        assert_eq!(
            store.config_at(BlockNumber::new(at)),
            Some(BlockNumber::new(config)),
            "block {at} is judged by the newest config block up to it"
        );
    }
}

async fn waiting_ends_with_the_height(store: Arc<dyn BlockStore>) {
    let blocks = chain(3, 10);
    let [genesis, one, two] = blocks.as_slice() else {
        unreachable!("three blocks were made")
    };
    store
        .append(vec![genesis.clone()])
        .await
        .expect("the genesis block is appended");
    let info = within("a height that is reached", store.wait_for(Height::new(1)))
        .await
        .expect("the store is open");
    assert_eq!(info.height, Height::new(1));
    let waits = store.wait_for(Height::new(3));
    let grows = async {
        store.append(vec![one.clone()]).await?;
        store.append(vec![two.clone()]).await
    };
    let (waited, grown) = within("a wait", async { tokio::join!(waits, grows) }).await;
    grown.expect("linked blocks are appended");
    assert_eq!(
        waited.expect("the store is open").height,
        Height::new(3),
        "a wait ends when the height is there"
    );
    match store.read(BlockNumber::GENESIS, ReadLimits::one()).await {
        Ok(read) => assert_eq!(read.len(), 1, "what was appended stays"),
        Err(ReadError::Gone { .. }) => panic!("a block was removed by nobody"),
        Err(error) => panic!("blocks cannot be read: {error}"),
    }
}

fn chain(count: usize, bytes: usize) -> Vec<VerifiedBlock> {
    let (_, blocks) = TestChain::of_blocks("ch", count, bytes);
    blocks.iter().map(TestChain::verified).collect()
}
