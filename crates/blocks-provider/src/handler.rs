// SPDX-License-Identifier: Apache-2.0
//! The seam to whoever takes the blocks in.

use std::fmt;

use async_trait::async_trait;
use block_api::{Block, BoxError, ChainInfo, Endpoint, HeaderProof, Rejection};

use crate::HeaderVerdict;

/// Takes the blocks of one channel in, in order.
#[async_trait]
pub trait BlockHandler: Send + Sync + fmt::Debug {
    /// Where the chain stands, in one atomic read: the next stream begins at its height and must
    /// link to its tip. Asked before every connect, so that a handler may take it for the beginning
    /// of a new stream.
    fn position(&self) -> ChainInfo;

    /// Tells of a block that came: it is given to [`handle`](Self::handle) once those before it are
    /// taken over, or never, where the stream ends before. What does not depend on them may begin,
    /// beside the caller, who does not wait. A handler that does nothing judges one after the other.
    fn prepare(&self, block: &Block, from: &Endpoint) {
        let _ = (block, from);
    }

    /// Tells that the stream ended: what it [told of](Self::prepare) and did not give is not given.
    /// A handler that does nothing keeps what it began until the next stream. Told so while a panic of
    /// the handler goes on, too: a second one, here, would end the process.
    fn forget(&self) {}

    /// Judges a block and takes it over: one after the other, in order. It returns when the block is in safe hands, which may be
    /// before it is durable; while there is no room it waits, which slows the stream down.
    ///
    /// # Errors
    ///
    /// When the block was not taken over. The stream is dropped then, and the block comes again,
    /// from here or from another endpoint (NEW-01).
    ///
    /// # Cancel safety
    ///
    /// A dropped future may have taken the block over or not.
    async fn handle(&self, block: Block, from: &Endpoint) -> Result<(), HandleError>;

    /// Judges header and signatures of a block that another orderer showed, without data as a rule.
    /// A handler that does not know learns of withheld blocks only by what other sources give.
    fn judge_header(&self, header: &Block) -> HeaderVerdict {
        let _ = header;
        HeaderVerdict::Unknown
    }

    /// What a header that satisfies the channel's rules proves by the newest configuration in
    /// force. Asked again and again: a channel migrates from raft to BFT while it is pulled.
    fn header_proof(&self) -> HeaderProof {
        HeaderProof::OneSigner
    }
}

/// A block was not taken over.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandleError {
    /// It breaks a rule of the channel.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// The handler failed, whatever the block is.
    #[error("the block was not taken over: {0}")]
    Failed(#[source] BoxError),
    /// The handler takes nothing more.
    #[error("the channel is closing")]
    Closed,
}

impl HandleError {
    /// Whether the pull loop goes on.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Rejected(_) | Self::Failed(_) => true,
            Self::Closed => false,
        }
    }
}
