// SPDX-License-Identifier: Apache-2.0
//! The task that orders: it takes messages, cuts them into blocks, and puts those on the chains of
//! the nodes.

use std::{sync::Arc, time::Duration};

use block_api::{Block, BlockNumber, SignError};
use bytes::Bytes;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error};

use crate::{
    chain::MemoryChain,
    config::BatchConfig,
    cutter::{Batch, BlockCutter, Message},
    writer::{BlockWriter, Membership},
};

/// So many messages wait to be ordered; with more, who submits waits for room.
const QUEUE_MESSAGES: usize = 1024;

/// The ordering service has stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the ordering service has stopped")]
pub struct Stopped;

/// Hands messages to the ordering task. Clones share its queue.
#[derive(Debug, Clone)]
pub(crate) struct OrderingHandle {
    queue: mpsc::Sender<Queued>,
    /// The bytes that may wait; with more, who submits waits for room.
    room: Arc<Semaphore>,
    room_bytes: u32,
}

/// Cuts, signs and appends. There is one for a channel.
#[derive(Debug)]
pub(crate) struct Ordering {
    queue: mpsc::Receiver<Queued>,
    cutter: BlockCutter,
    timeout: Duration,
    /// When what is pending is cut, whatever it is.
    deadline: Option<Instant>,
    writer: BlockWriter,
    /// The chain of each node.
    chains: Vec<Arc<MemoryChain>>,
}

#[derive(Debug)]
struct Queued {
    command: Command,
    /// The room that the message takes in the queue.
    _room: OwnedSemaphorePermit,
}

#[derive(Debug)]
enum Command {
    /// To be ordered with others.
    Message(Message),
    /// To be a block of its own; the number of the block is told.
    Block(Batch, oneshot::Sender<BlockNumber>),
    /// To be a config block, after which other nodes may sign, and blocks be cut otherwise.
    Config(Box<ConfigCommand>, oneshot::Sender<BlockNumber>),
}

/// A config block, and what is so after it.
#[derive(Debug)]
pub(crate) struct ConfigCommand {
    pub(crate) envelope: Bytes,
    pub(crate) batch: BatchConfig,
    pub(crate) membership: Membership,
    /// The chain of each node of the membership. One that is new here begins as a copy.
    pub(crate) chains: Vec<Arc<MemoryChain>>,
}

impl OrderingHandle {
    /// Puts a message in the queue. It is not ordered yet when this returns.
    ///
    /// # Errors
    ///
    /// When the ordering task has stopped.
    ///
    /// # Cancel safety
    ///
    /// Safe: a message whose future is dropped is not ordered.
    pub(crate) async fn enqueue(&self, message: Message) -> Result<(), Stopped> {
        let size = message.envelope.len();
        self.send(Command::Message(message), size).await
    }

    /// Puts a whole block in the queue. The number is told when the block is there.
    ///
    /// # Errors
    ///
    /// When the ordering task has stopped.
    ///
    /// # Cancel safety
    ///
    /// Safe: a block whose future is dropped is not made.
    pub(crate) async fn enqueue_block(
        &self,
        batch: Batch,
    ) -> Result<oneshot::Receiver<BlockNumber>, Stopped> {
        let size = batch.iter().map(Bytes::len).sum();
        let (done, number) = oneshot::channel();
        self.send(Command::Block(batch, done), size).await?;
        Ok(number)
    }

    /// Puts a config block in the queue, with what is so after it.
    ///
    /// # Errors
    ///
    /// When the ordering task has stopped.
    ///
    /// # Cancel safety
    ///
    /// Safe: a block whose future is dropped is not made.
    pub(crate) async fn enqueue_config(
        &self,
        config: ConfigCommand,
    ) -> Result<oneshot::Receiver<BlockNumber>, Stopped> {
        let size = config.envelope.len();
        let (done, number) = oneshot::channel();
        self.send(Command::Config(Box::new(config), done), size)
            .await?;
        Ok(number)
    }

    async fn send(&self, command: Command, size: usize) -> Result<(), Stopped> {
        // What is larger than the whole room takes all of it, and is alone.
        let size = u32::try_from(size).unwrap_or(u32::MAX).min(self.room_bytes);
        let room = self
            .room
            .clone()
            .acquire_many_owned(size)
            .await
            .map_err(|_| Stopped)?;
        self.queue
            .send(Queued {
                command,
                _room: room,
            })
            .await
            .map_err(|_| Stopped)
    }
}

impl Ordering {
    /// A task that puts what the writer writes on the chains, one for each node of the writer, and
    /// the handle to its queue.
    pub(crate) fn new(
        batch: &BatchConfig,
        queue_bytes: u32,
        writer: BlockWriter,
        chains: Vec<Arc<MemoryChain>>,
    ) -> (Self, OrderingHandle) {
        let (sender, queue) = mpsc::channel(QUEUE_MESSAGES);
        let room_bytes = queue_bytes.min(u32::try_from(Semaphore::MAX_PERMITS).unwrap_or(u32::MAX));
        let room = Arc::new(Semaphore::new(
            usize::try_from(room_bytes).unwrap_or(Semaphore::MAX_PERMITS),
        ));
        let ordering = Self {
            queue,
            cutter: BlockCutter::new(batch),
            timeout: batch.timeout,
            deadline: None,
            writer,
            chains,
        };
        (
            ordering,
            OrderingHandle {
                queue: sender,
                room,
                room_bytes,
            },
        )
    }

    /// Orders until told to stop. What was not cut by then is lost, as with an ordering service
    /// that halts; who waits for the chain to grow learns that it will not.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        loop {
            let deadline = self.deadline;
            let done = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => self.handle_timeout().await,
                queued = self.queue.recv() => match queued {
                    Some(queued) => self.handle_command(queued.command).await,
                    None => break,
                },
            };
            if let Err(err) = done {
                error!(%err, "ordering stopped");
                break;
            }
        }
        for chain in &self.chains {
            chain.close();
        }
    }

    async fn handle_timeout(&mut self) -> Result<(), SignError> {
        self.deadline = None;
        self.cut().await
    }

    async fn handle_command(&mut self, command: Command) -> Result<(), SignError> {
        match command {
            Command::Message(message) => {
                for batch in self.cutter.ordered(message) {
                    self.write(&batch).await?;
                }
                if self.cutter.is_pending() {
                    // The time runs from the first message that waits.
                    self.deadline
                        .get_or_insert_with(|| Instant::now() + self.timeout);
                } else {
                    self.deadline = None;
                }
            }
            Command::Block(batch, done) => {
                self.deadline = None;
                self.cut().await?;
                let number = self.write(&batch).await?;
                // Who asked may not want to know any more.
                let _ = done.send(number);
            }
            Command::Config(config, done) => {
                self.deadline = None;
                self.cut().await?;
                let number = self.writer.next();
                let copies = self
                    .writer
                    .write_config(config.envelope, config.membership)
                    .await?;
                self.append(&copies);
                self.cutter = BlockCutter::new(&config.batch);
                self.timeout = config.batch.timeout;
                self.go_on_with(config.chains);
                debug!(block.number = number.get(), "config block written");
                let _ = done.send(number);
            }
        }
        Ok(())
    }

    async fn cut(&mut self) -> Result<(), SignError> {
        if let Some(batch) = self.cutter.cut() {
            self.write(&batch).await?;
        }
        Ok(())
    }

    async fn write(&mut self, batch: &Batch) -> Result<BlockNumber, SignError> {
        let number = self.writer.next();
        let copies = self.writer.write(batch).await?;
        self.append(&copies);
        debug!(
            block.number = number.get(),
            transactions = batch.len(),
            "block cut"
        );
        Ok(number)
    }

    /// Lets those whose chain grows no more know, and gives those that are new what there is.
    fn go_on_with(&mut self, chains: Vec<Arc<MemoryChain>>) {
        let contains = |chains: &[Arc<MemoryChain>], chain| {
            chains.iter().any(|other| Arc::ptr_eq(other, chain))
        };
        if let Some(source) = self.chains.first() {
            for new in chains.iter().filter(|chain| !contains(&self.chains, chain)) {
                new.copy_from(source);
            }
        }
        for left in self.chains.iter().filter(|chain| !contains(&chains, chain)) {
            left.close();
        }
        self.chains = chains;
    }

    fn append(&self, copies: &[Block]) {
        for (chain, block) in self.chains.iter().zip(copies) {
            chain.append(block);
        }
    }
}

#[cfg(test)]
mod tests;
