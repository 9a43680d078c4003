// SPDX-License-Identifier: Apache-2.0
//! A chain that is another one but for what a test replaces.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;

use crate::{
    AppendError, BlockNumber, BlockReader, BlockStore, ChainInfo, Height, ReadError, ReadLimits,
    VerifiedBlock,
};

/// A [`BlockStore`] that passes everything on to another one, but for what it replaces.
///
/// Whatever implements this is a [`BlockStore`], and so a [`BlockReader`].
#[async_trait]
pub trait AlteredStore: Send + Sync + fmt::Debug {
    /// The chain to which everything is passed on.
    fn inner(&self) -> &dyn BlockStore;

    /// What is done in the place of [`BlockReader::read`].
    ///
    /// # Errors
    ///
    /// Those of [`BlockReader::read`].
    ///
    /// # Cancel safety
    ///
    /// As [`BlockReader::read`].
    async fn instead_of_read(
        &self,
        from: BlockNumber,
        limits: ReadLimits,
    ) -> Result<Vec<Bytes>, ReadError> {
        self.inner().read(from, limits).await
    }

    /// What is done in the place of [`BlockStore::append`].
    ///
    /// # Errors
    ///
    /// Those of [`BlockStore::append`].
    ///
    /// # Cancel safety
    ///
    /// As [`BlockStore::append`].
    async fn instead_of_append(
        &self,
        blocks: Vec<VerifiedBlock>,
    ) -> Result<ChainInfo, AppendError> {
        self.inner().append(blocks).await
    }
}

#[async_trait]
impl<S: AlteredStore> BlockReader for S {
    fn info(&self) -> ChainInfo {
        self.inner().info()
    }

    async fn read(&self, from: BlockNumber, limits: ReadLimits) -> Result<Vec<Bytes>, ReadError> {
        self.instead_of_read(from, limits).await
    }

    async fn wait_for(&self, height: Height) -> Result<ChainInfo, ReadError> {
        self.inner().wait_for(height).await
    }

    fn config_at(&self, number: BlockNumber) -> Option<BlockNumber> {
        self.inner().config_at(number)
    }
}

#[async_trait]
impl<S: AlteredStore> BlockStore for S {
    async fn append(&self, blocks: Vec<VerifiedBlock>) -> Result<ChainInfo, AppendError> {
        self.instead_of_append(blocks).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{MemoryStore, TestChain};

    /// A store that takes nothing and gives nothing.
    #[derive(Debug)]
    struct Shut(MemoryStore);

    #[async_trait]
    impl AlteredStore for Shut {
        fn inner(&self) -> &dyn BlockStore {
            &self.0
        }

        async fn instead_of_read(
            &self,
            number: BlockNumber,
            _: ReadLimits,
        ) -> Result<Vec<Bytes>, ReadError> {
            let source = "the test said so".into();
            Err(ReadError::Storage { number, source })
        }

        async fn instead_of_append(&self, _: Vec<VerifiedBlock>) -> Result<ChainInfo, AppendError> {
            Err(AppendError::Closed)
        }
    }

    #[tokio::test]
    async fn what_is_replaced_is_not_passed_on_and_all_else_is() {
        let blocks = TestChain::of_blocks("ch", 2, 10).1;
        let [genesis, next] = [&blocks[0], &blocks[1]].map(TestChain::verified);
        let shut = Shut(MemoryStore::with(vec![genesis]).await);
        let store: &dyn BlockStore = &shut;
        let appended = store.append(vec![next.clone()]).await;
        assert!(matches!(appended, Err(AppendError::Closed)));
        assert_eq!(store.info().height, Height::new(1));
        let read = store.read(BlockNumber::GENESIS, ReadLimits::one()).await;
        assert!(matches!(read, Err(ReadError::Storage { .. })));

        let grown = shut.0.append(vec![next]).await.unwrap();
        assert_eq!(store.info(), grown);
        assert_eq!(store.wait_for(Height::new(2)).await.unwrap(), grown);
        assert_eq!(store.config_at(grown.first), shut.0.config_at(grown.first));
        assert_eq!(store.config_at(grown.first), Some(BlockNumber::GENESIS));
    }
}
