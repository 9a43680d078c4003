// SPDX-License-Identifier: Apache-2.0
//! Giving bodies to others, also those that this node does not have whole itself yet.

mod giving;

use std::{collections::VecDeque, sync::Arc, time::Duration};

use block_api::{BlockReader, DeliverStatus};
use futures::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, stream};
use libp2p::PeerId;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::{Instant, timeout, timeout_at},
};
use tracing::info;

use crate::{
    bodies::{
        Bits, Hints,
        making::{Givable, Making},
        scheduler::eager_chunks,
        shelf::{Bodies, Found, Held, NotLoaded},
    },
    frames::{self, FrameError, Pace, Patience, read_frame, write_frame},
    serve::{Library, end},
    stats::Counters,
    topic::TopicId,
    wire::{Ask, Offer, Unreadable, Want},
};

/// The longest question; it may name some thousand chunks.
const MAX_QUESTION: usize = 64 * 1024;

/// How long a requester waits for a body of which nothing can be given yet.
const NOT_YET_AFTER: Duration = Duration::from_millis(800);

/// For how long a body that is here is held for a requester that wants nothing of it.
const UNWANTED: Duration = Duration::from_secs(2);

/// How long the pieces of a body without manifest are, and the parts in which others are copied.
const PIECE: usize = 256 * 1024;
const PART: usize = 64 * 1024;

/// What serving one stream needs.
pub(crate) struct Server<'a> {
    pub(crate) bodies: &'a Bodies,
    pub(crate) library: &'a watch::Receiver<Library>,
    /// Whether the peer may have a channel.
    pub(crate) may_have: &'a (dyn Fn(TopicId) -> bool + Send + Sync),
    pub(crate) peer: PeerId,
    pub(crate) patience: Duration,
    /// What may be promised and not yet sent, to this peer, to all with its certificate, and to all
    /// that there are, in KiB.
    pub(crate) budgets: [Arc<Semaphore>; 3],
    pub(crate) counters: &'a Counters,
}

/// Where the bytes come from.
enum Source {
    Held(Arc<Held>),
    Making(Arc<Making>),
}

/// Why there is nothing to give.
enum Refusal {
    NotYet,
    Status(DeliverStatus),
}

/// What a requester was promised, and holds of the budgets until it was sent.
struct Promised {
    chunk: u32,
    _budgets: [OwnedSemaphorePermit; 3],
}

/// A body that is being given.
struct Giving {
    topic: TopicId,
    source: Source,
    hints: Hints,
    /// What the requester knows to be here.
    told: Bits,
    promised: VecDeque<Promised>,
    changes: watch::Receiver<u64>,
    pace: Pace,
}

impl Server<'_> {
    /// Serves the stream to its end.
    ///
    /// # Errors
    ///
    /// When the requester does not ask, or does not take what it asked for.
    pub(crate) async fn serve<S>(&self, stream: S) -> Result<(), FrameError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let (mut reader, mut writer) = stream.split();
        let wait = Patience {
            first: Some(self.patience),
            next: self.patience,
        };
        let Some(frame) = read_frame(&mut reader, MAX_QUESTION, wait).await? else {
            return Ok(());
        };
        let ask = match Ask::parse(&frame.payload) {
            Ok(ask) if frame.kind == frames::BODY_ASK => ask,
            Err(Unreadable::Version(version)) => {
                info!(peer = %self.peer, version, "a question for a body of another release");
                self.counters.malformed.increment();
                return end(&mut writer, DeliverStatus::BadRequest, self.patience).await;
            }
            _ => {
                self.counters.malformed.increment();
                end(&mut writer, DeliverStatus::BadRequest, self.patience).await?;
                return Err(FrameError::NotUnderstood);
            }
        };
        let library = self.library.borrow().get(&ask.id.topic).cloned();
        let Some(reader_of_channel) = library else {
            return end(&mut writer, DeliverStatus::NotFound, self.patience).await;
        };
        if !(self.may_have)(ask.id.topic) {
            self.counters.not_entitled.increment();
            return end(&mut writer, DeliverStatus::Forbidden, self.patience).await;
        }
        let until = Instant::now() + NOT_YET_AFTER;
        let found = timeout_at(until, self.find(&ask, &*reader_of_channel)).await;
        let source = match found {
            Ok(Ok(source)) => source,
            Ok(Err(Refusal::Status(status))) => {
                return end(&mut writer, status, self.patience).await;
            }
            Ok(Err(Refusal::NotYet)) | Err(_) => return self.not_yet(&mut writer).await,
        };
        let (Some(source), hints, have) = self.offer(&ask, source).await else {
            return self.not_yet(&mut writer).await;
        };
        if u64::from(hints.size) > ask.max_size {
            return end(&mut writer, DeliverStatus::TooLarge, self.patience).await;
        }
        self.counters.requests_served.increment();
        let offer = Offer { hints, have };
        write_frame(
            &mut writer,
            frames::BODY_OFFER,
            &[&offer.encode()],
            self.patience,
        )
        .await?;
        let Offer { hints, have } = offer;
        let questions = stream::unfold(reader, |mut reader| async move {
            let frame = read_frame(&mut reader, MAX_QUESTION, wait).await;
            Some((frame, reader))
        });
        let changes = match &source {
            Source::Making(making) => making.changes(),
            Source::Held(_) => watch::Sender::new(0).subscribe(),
        };
        let mut giving = Giving {
            topic: ask.id.topic,
            source,
            told: have,
            hints,
            promised: VecDeque::new(),
            changes,
            pace: Pace::new(self.patience),
        };
        let first = Want {
            chunks: match giving.hints.manifest {
                Some(_) if ask.count > 0 => eager_chunks(ask.first, &giving.told).collect(),
                Some(_) | None => Vec::new(),
            },
            all: giving.hints.manifest.is_none() && ask.count > 0,
        };
        self.give(&mut writer, questions, &mut giving, first).await
    }

    /// What can be given, once anything can.
    async fn find(&self, ask: &Ask, reader: &dyn BlockReader) -> Result<Source, Refusal> {
        let mut changes = self.bodies.changes();
        loop {
            changes.borrow_and_update();
            match self.bodies.find(&ask.id) {
                Found::Held(held) => return Ok(Source::Held(held)),
                Found::Making(making) => {
                    if let Some(source) = self.wait_for(making).await? {
                        return Ok(source);
                    }
                }
                Found::Nothing if reader.info().height.next_block() > ask.id.number => {
                    let held = self.bodies.load(&ask.id, reader, self.peer).await;
                    return held.map(Source::Held).map_err(|error| {
                        Refusal::Status(match error {
                            NotLoaded::NotThere => DeliverStatus::NotFound,
                            NotLoaded::NotNow => DeliverStatus::Unavailable,
                        })
                    });
                }
                Found::Nothing => {
                    let stored = reader.wait_for(ask.id.number.height());
                    tokio::select! {
                        _ = changes.changed() => {}
                        stored = stored => {
                            if stored.is_err() {
                                return Err(Refusal::Status(DeliverStatus::Unavailable));
                            }
                        }
                    }
                }
            }
        }
    }

    /// Waits until something of a body in the making can be given; `None` when it is given up.
    async fn wait_for(&self, making: Arc<Making>) -> Result<Option<Source>, Refusal> {
        let mut changes = making.changes();
        loop {
            changes.borrow_and_update();
            match making.givable() {
                Givable::Whole => return Ok(making.held().map(Source::Held)),
                Givable::Chunks(..) => return Ok(Some(Source::Making(making))),
                Givable::Gone => return Ok(None),
                // It would wait for this node, which waits for it.
                Givable::Nothing if making.waits_for(&self.peer) => return Err(Refusal::NotYet),
                Givable::Nothing => {
                    if changes.changed().await.is_err() {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// The hints of what was found, and what of it is here.
    async fn offer(&self, ask: &Ask, source: Source) -> (Option<Source>, Hints, Bits) {
        let held = match source {
            Source::Held(held) => held,
            Source::Making(making) => match making.givable() {
                Givable::Chunks(hints, have) => return (Some(Source::Making(making)), hints, have),
                Givable::Whole | Givable::Nothing | Givable::Gone => match making.held() {
                    Some(held) => held,
                    None => {
                        let nothing = Hints {
                            size: 0,
                            manifest: None,
                        };
                        return (None, nothing, Bits::none(0));
                    }
                },
            },
        };
        let hints = self.bodies.hints(&ask.id, &held).await;
        let have = Bits::all(hints.chunks());
        (Some(Source::Held(held)), hints, have)
    }

    async fn not_yet<W: AsyncWrite + Unpin>(&self, writer: &mut W) -> Result<(), FrameError> {
        write_frame(writer, frames::BODY_NOT_YET, &[], self.patience).await?;
        Ok(timeout(self.patience, writer.close())
            .await
            .map_err(|_| FrameError::NotTaken {
                after: self.patience,
            })??)
    }
}
