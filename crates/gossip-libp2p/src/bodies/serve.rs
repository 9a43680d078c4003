// SPDX-License-Identifier: Apache-2.0
//! Giving bodies to others, also those that this node does not have whole itself yet.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use block_api::{BlockReader, DeliverStatus};
use futures::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, StreamExt as _, stream,
};
use libp2p::PeerId;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::{Instant, timeout, timeout_at},
};

use crate::{
    access::Access,
    bodies::{
        Bits, Hints,
        making::{Givable, Making},
        scheduler::eager_chunks,
        shelf::{Bodies, Found, Held},
    },
    frames::{
        self, Frame, FrameError, Patience, flush, read_frame, write_frame, write_head, write_part,
    },
    serve::{Library, end},
    stats::Counters,
    wire::{Ask, Offer, PIECE_HEAD, Want, put_have},
};

/// The longest question; it may name some thousand chunks.
const MAX_QUESTION: usize = 64 * 1024;

/// How long a requester waits for a body of which nothing can be given yet.
const NOT_YET_AFTER: Duration = Duration::from_millis(800);

/// How long the pieces of a body without manifest are, and the parts in which others are copied.
const PIECE: usize = 256 * 1024;
const PART: usize = 64 * 1024;

/// What serving one stream needs.
pub(crate) struct Server<'a> {
    pub(crate) bodies: &'a Bodies,
    pub(crate) library: &'a watch::Receiver<Library>,
    /// Who may have which channel.
    pub(crate) access: &'a Access,
    pub(crate) peer: PeerId,
    pub(crate) patience: Duration,
    /// What may be promised and not yet sent, to this peer and to all, in KiB.
    pub(crate) budgets: [Arc<Semaphore>; 2],
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
    _budgets: [OwnedSemaphorePermit; 2],
}

/// A body that is being given.
struct Giving {
    source: Source,
    hints: Hints,
    /// What the requester knows to be here.
    told: Bits,
    promised: VecDeque<Promised>,
    changes: watch::Receiver<u64>,
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
            _ => {
                self.counters.malformed.increment();
                return end(&mut writer, DeliverStatus::BadRequest, self.patience).await;
            }
        };
        let library = self.library.borrow().get(&ask.id.topic).cloned();
        let Some(reader_of_channel) = library else {
            return end(&mut writer, DeliverStatus::NotFound, self.patience).await;
        };
        if !self.access.may_have(&self.peer, ask.id.topic) {
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
            source,
            told: have,
            hints,
            promised: VecDeque::new(),
            changes,
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

    /// Answers one question after the other.
    async fn give<W>(
        &self,
        writer: &mut W,
        questions: impl stream::Stream<Item = Result<Option<Frame>, FrameError>>,
        giving: &mut Giving,
        first: Want,
    ) -> Result<(), FrameError>
    where
        W: AsyncWrite + Unpin,
    {
        tokio::pin!(questions);
        let mut want = Some(first);
        loop {
            if let Some(want) = want.take() {
                if want.all && giving.hints.manifest.is_none() {
                    return self.give_all(writer, giving).await;
                }
                if !self.promise(giving, &want) {
                    return end(writer, DeliverStatus::Unavailable, self.patience).await;
                }
            }
            if !self.tell(writer, giving).await? {
                return end(writer, DeliverStatus::Unavailable, self.patience).await;
            }
            flush(writer, self.patience).await?;
            let has_next = giving.next().is_some();
            tokio::select! {
                biased;
                question = questions.next() => match question {
                    Some(Ok(Some(Frame { kind: frames::BODY_WANT, payload }))) => {
                        let Ok(asked) = Want::parse(&payload) else {
                            self.counters.malformed.increment();
                            return end(writer, DeliverStatus::BadRequest, self.patience).await;
                        };
                        want = Some(asked);
                    }
                    // A kind that a later release may have.
                    Some(Ok(Some(_))) => {}
                    Some(Ok(None)) | None => return Ok(()),
                    // Nothing was asked for a long time: whoever wants more comes again.
                    Some(Err(FrameError::NothingCame { .. })) if giving.promised.is_empty() => {
                        return end(writer, DeliverStatus::Unavailable, self.patience).await;
                    }
                    Some(Err(error)) => return Err(error),
                },
                () = std::future::ready(()), if has_next => {
                    if !self.give_next(writer, giving).await? {
                        return end(writer, DeliverStatus::Unavailable, self.patience).await;
                    }
                }
                changed = giving.changes.changed(), if matches!(giving.source, Source::Making(_)) => {
                    // Whoever makes it is gone; what there is of it shows below.
                    drop(changed);
                }
            }
        }
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
                    let held = self.bodies.load(&ask.id, reader).await;
                    return held
                        .map(Source::Held)
                        .ok_or(Refusal::Status(DeliverStatus::NotFound));
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

    /// Takes what is wanted into account; `false` when it is more than one may have at a time.
    fn promise(&self, giving: &mut Giving, want: &Want) -> bool {
        for chunk in &want.chunks {
            let Some((_, length)) = giving.hints.place(*chunk) else {
                continue;
            };
            let Some(budgets) = self.budget(length) else {
                return false;
            };
            giving.promised.push_back(Promised {
                chunk: *chunk,
                _budgets: budgets,
            });
        }
        true
    }

    fn budget(&self, bytes: usize) -> Option<[OwnedSemaphorePermit; 2]> {
        let units = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX);
        let [of_peer, of_all] = &self.budgets;
        let of_peer = of_peer.clone().try_acquire_many_owned(units).ok()?;
        let of_all = of_all.clone().try_acquire_many_owned(units).ok()?;
        Some([of_peer, of_all])
    }

    /// Tells which chunks came; `false` when no more will.
    async fn tell<W: AsyncWrite + Unpin>(
        &self,
        writer: &mut W,
        giving: &mut Giving,
    ) -> Result<bool, FrameError> {
        giving.changes.borrow_and_update();
        let Source::Making(making) = &giving.source else {
            return Ok(true);
        };
        let have = match making.givable() {
            Givable::Chunks(hints, have) if hints.id() == giving.hints.id() => have,
            Givable::Whole => match making.held() {
                // What was told before may have been false.
                Some(held) if held.data().len() == giving.hints.size as usize => {
                    giving.source = Source::Held(held);
                    Bits::all(giving.hints.chunks())
                }
                Some(_) | None => return Ok(false),
            },
            // It begins anew, maybe by the same hints.
            Givable::Nothing => return Ok(true),
            Givable::Chunks(..) | Givable::Gone => return Ok(false),
        };
        let news: Vec<u32> = have.beyond(&giving.told).collect();
        if !news.is_empty() {
            giving.told = have;
            write_frame(
                writer,
                frames::BODY_HAVE,
                &[&put_have(&news)],
                self.patience,
            )
            .await?;
        }
        Ok(true)
    }

    /// Sends the next chunk that was promised and is here; `false` when it is here no longer.
    async fn give_next<W: AsyncWrite + Unpin>(
        &self,
        writer: &mut W,
        giving: &mut Giving,
    ) -> Result<bool, FrameError> {
        let next = giving
            .next()
            .and_then(|place| giving.promised.remove(place));
        let Some(promised) = next else {
            return Ok(true);
        };
        let Some((at, length)) = giving.hints.place(promised.chunk) else {
            return Ok(true);
        };
        self.piece(writer, &giving.source, at, length).await
    }

    /// Sends a body without manifest, and says that this was all.
    async fn give_all<W>(&self, writer: &mut W, giving: &Giving) -> Result<(), FrameError>
    where
        W: AsyncWrite + Unpin,
    {
        let size = giving.hints.size as usize;
        let Some(_budgets) = self.budget(size) else {
            return end(writer, DeliverStatus::Unavailable, self.patience).await;
        };
        for at in (0..size).step_by(PIECE) {
            let length = PIECE.min(size - at);
            if !self.piece(writer, &giving.source, at, length).await? {
                return end(writer, DeliverStatus::Unavailable, self.patience).await;
            }
        }
        end(writer, DeliverStatus::Success, self.patience).await
    }

    async fn piece<W: AsyncWrite + Unpin>(
        &self,
        writer: &mut W,
        source: &Source,
        at: usize,
        length: usize,
    ) -> Result<bool, FrameError> {
        let patience = self.patience;
        let place = u32::try_from(at).unwrap_or(u32::MAX).to_be_bytes();
        match source {
            Source::Held(held) => {
                let Some(data) = held.data().get(at..at + length) else {
                    return Ok(false);
                };
                write_frame(writer, frames::BODY_PIECE, &[&place, data], patience).await?;
            }
            Source::Making(making) => {
                let mut part = Vec::with_capacity(PART);
                write_head(writer, frames::BODY_PIECE, PIECE_HEAD + length, patience).await?;
                write_part(writer, &place, patience).await?;
                for from in (at..at + length).step_by(PART) {
                    if !making.copy(from, PART.min(at + length - from), &mut part) {
                        // A frame that was begun cannot be taken back.
                        return Err(std::io::Error::from(std::io::ErrorKind::Interrupted).into());
                    }
                    write_part(writer, &part, patience).await?;
                }
            }
        }
        self.counters.body_bytes_served.add(length);
        Ok(true)
    }
}

impl Giving {
    /// Which promise can be kept.
    fn next(&self) -> Option<usize> {
        let is_here = |promised: &Promised| self.told.contains(promised.chunk);
        self.promised.iter().position(is_here)
    }
}
