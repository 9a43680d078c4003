// SPDX-License-Identifier: Apache-2.0
//! A chain that grows while it is served, by orderers of which some do not do what they should.

use std::time::Duration;

use futures::{StreamExt, stream};
use tokio::{sync::watch, time::sleep};

use crate::{
    Block, BlockStream, Content, DeliverStatus, Delivery, Start, Stop, StreamRequest, WhenMissing,
    testing::TestChain,
};

/// The blocks that an ordering service has by now. Cloning gives another handle to them.
#[derive(Debug, Clone)]
pub struct LiveChain(watch::Sender<Vec<Block>>);

/// How an endpoint answers from a [`LiveChain`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Manner {
    /// Of the blocks only so many are given, as if there were no more.
    pub blocks: u64,
    /// Of the headers only so many are given, as if there were no more.
    pub headers: u64,
    /// How long each block takes.
    pub delay: Duration,
    /// What is given where headers are asked for.
    pub form: HeaderForm,
}

/// What an endpoint gives where headers are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderForm {
    /// Header and metadata; config blocks whole.
    Stripped,
    /// Whole blocks, as Fabric v2.5 does.
    Whole,
    /// The header with signatures that the [`TestVerifier`](crate::testing::TestVerifier) rejects.
    Forged,
}

impl Manner {
    /// Gives what there is.
    pub const HONEST: Self = Self {
        blocks: u64::MAX,
        headers: u64::MAX,
        delay: Duration::ZERO,
        form: HeaderForm::Stripped,
    };

    /// Gives only so many blocks, and every header.
    pub const fn withholding_blocks(blocks: u64) -> Self {
        Self {
            blocks,
            ..Self::HONEST
        }
    }

    /// Gives only so many blocks and headers, as one that is behind.
    pub const fn behind(height: u64) -> Self {
        Self {
            blocks: height,
            headers: height,
            ..Self::HONEST
        }
    }

    /// Gives every block, and headers in this form.
    pub const fn with_headers(form: HeaderForm) -> Self {
        Self {
            form,
            ..Self::HONEST
        }
    }

    /// Gives what there is, but each block after so long only.
    pub const fn slow(delay: Duration) -> Self {
        Self {
            delay,
            ..Self::HONEST
        }
    }

    fn shows(self, content: Content) -> u64 {
        match content {
            Content::Blocks => self.blocks,
            Content::Headers => self.headers,
        }
    }

    fn give(self, block: &Block, content: Content) -> Block {
        match (content, self.form) {
            (Content::Blocks, _) | (Content::Headers, HeaderForm::Whole) => block.clone(),
            (Content::Headers, HeaderForm::Forged) => TestChain::forged(block).without_data(),
            (Content::Headers, HeaderForm::Stripped) if block.is_config() => block.clone(),
            (Content::Headers, HeaderForm::Stripped) => block.without_data(),
        }
    }
}

impl LiveChain {
    /// A chain of these blocks.
    pub fn new(blocks: Vec<Block>) -> Self {
        Self(watch::Sender::new(blocks))
    }

    /// The chain grows by these blocks.
    pub fn grow(&self, blocks: impl IntoIterator<Item = Block>) {
        self.0.send_modify(|all| all.extend(blocks));
    }

    /// How many blocks there are.
    pub fn height(&self) -> usize {
        self.0.borrow().len()
    }

    /// What an orderer of this manner answers.
    pub(crate) fn answer(&self, request: &StreamRequest, manner: Manner) -> BlockStream {
        let (chain, request) = (self.0.subscribe(), request.clone());
        let shown = visible(&chain, &request, manner);
        let next = match request.start {
            Start::Oldest => 0,
            Start::Newest => shown.saturating_sub(1),
            Start::At(number) => number.get(),
        };
        let last = match request.stop {
            Stop::Newest => Some(shown.saturating_sub(1)),
            Stop::At(number) => Some(number.get()),
            Stop::Never => None,
        };
        let state = Some((chain, next));
        stream::unfold(state, move |state| {
            let request = request.clone();
            async move {
                let (mut chain, next) = state?;
                if last.is_some_and(|last| next > last) {
                    return Some((Ok(Delivery::Status(DeliverStatus::Success)), None));
                }
                loop {
                    let at = usize::try_from(next).ok()?;
                    let block = chain.borrow().get(at).cloned();
                    match block {
                        Some(block) if next < manner.shows(request.content) => {
                            if request.content == Content::Blocks && !manner.delay.is_zero() {
                                sleep(manner.delay).await;
                            }
                            let given = manner.give(&block, request.content);
                            return Some((Ok(Delivery::Block(given)), Some((chain, next + 1))));
                        }
                        _ if request.when_missing == WhenMissing::Fail => {
                            return Some((Ok(Delivery::Status(DeliverStatus::NotFound)), None));
                        }
                        _ => chain.changed().await.ok()?,
                    }
                }
            }
        })
        .boxed()
    }
}

fn visible(chain: &watch::Receiver<Vec<Block>>, request: &StreamRequest, manner: Manner) -> u64 {
    (chain.borrow().len() as u64).min(manner.shows(request.content))
}
