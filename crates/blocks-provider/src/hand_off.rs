// SPDX-License-Identifier: Apache-2.0
//! Blocks that came and are not taken over yet: known to the handler, and given to it in order.

use std::{collections::VecDeque, fmt};

use block_api::{Block, BlockNumber, Endpoint};
use futures::future::BoxFuture;

use crate::{BlockHandler, Config, HandleError};

/// The blocks of one stream on their way to the handler, bounded in number and in bytes.
pub(crate) struct HandOffs<'a> {
    handler: &'a dyn BlockHandler,
    from: &'a Endpoint,
    most_blocks: usize,
    most_bytes: usize,
    waiting: VecDeque<Block>,
    /// The oldest one, which the handler has in hand.
    current: Option<Current<'a>>,
    /// Bytes of all of them.
    bytes: usize,
}

struct Current<'a> {
    number: BlockNumber,
    bytes: usize,
    handling: BoxFuture<'a, Result<(), HandleError>>,
}

impl<'a> HandOffs<'a> {
    pub(crate) fn new(handler: &'a dyn BlockHandler, from: &'a Endpoint, config: &Config) -> Self {
        Self {
            handler,
            from,
            most_blocks: config.ahead_blocks.get(),
            most_bytes: config.ahead_bytes.get(),
            waiting: VecDeque::new(),
            current: None,
            bytes: 0,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.current.is_none() && self.waiting.is_empty()
    }

    /// Whether another block is received. The one that fills it may be of any size.
    pub(crate) fn has_room(&self) -> bool {
        let blocks = self.waiting.len() + usize::from(self.current.is_some());
        blocks < self.most_blocks && self.bytes < self.most_bytes
    }

    /// Takes the next block, and tells the handler of it.
    pub(crate) fn push(&mut self, block: Block) {
        self.bytes += block.raw().len();
        self.handler.prepare(&block, self.from);
        self.waiting.push_back(block);
    }

    /// Waits until the oldest block is taken over; for ever while there is none. After an error there
    /// is nothing more to be waited for: the blocks behind do not count.
    ///
    /// # Cancel safety
    ///
    /// Safe: the next call goes on with the same block.
    pub(crate) async fn next(&mut self) -> Result<BlockNumber, HandleError> {
        if self.current.is_none() {
            let Some(block) = self.waiting.pop_front() else {
                return std::future::pending().await;
            };
            self.current = Some(Current {
                number: block.number(),
                bytes: block.raw().len(),
                handling: self.handler.handle(block, self.from),
            });
        }
        let Some(current) = &mut self.current else {
            return std::future::pending().await;
        };
        let handled = (&mut current.handling).await;
        let number = current.number;
        self.bytes -= current.bytes;
        self.current = None;
        handled.map(|()| number)
    }
}

impl Drop for HandOffs<'_> {
    fn drop(&mut self) {
        self.handler.forget();
    }
}

impl fmt::Debug for HandOffs<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HandOffs")
            .field("from", &self.from)
            .field("waiting", &self.waiting.len())
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}
