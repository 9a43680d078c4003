// SPDX-License-Identifier: Apache-2.0
//! Sending what a requester wants, chunk by chunk, as far as it is here.

use block_api::DeliverStatus;
use futures::{AsyncWrite, StreamExt as _, stream};
use tokio::{
    sync::OwnedSemaphorePermit,
    time::{Instant, sleep_until},
};

use super::{Giving, PART, PIECE, Promised, Server, Source, UNWANTED};
use crate::{
    bodies::{Bits, making::Givable},
    frames::{self, Frame, FrameError, flush, write_frame, write_head, write_paced, write_part},
    serve::end,
    wire::{PIECE_HEAD, Want, put_have},
};

impl Server<'_> {
    /// Answers one question after the other.
    pub(super) async fn give<W>(
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
        let mut wanted = Instant::now();
        loop {
            // For each wish and each piece: the right may be lost at any time.
            if !self.still_may_have(giving) {
                return end(writer, DeliverStatus::Forbidden, self.patience).await;
            }
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
            if !giving.promised.is_empty() {
                wanted = Instant::now();
            }
            // Whatever else it says: it comes again for what it wants.
            let until = wanted
                + match giving.source {
                    Source::Held(_) => UNWANTED.min(self.patience),
                    Source::Making(_) => self.patience,
                };
            tokio::select! {
                biased;
                question = questions.next() => match question {
                    Some(Ok(Some(Frame { kind: frames::BODY_WANT, payload }))) => {
                        let Ok(asked) = Want::parse(&payload) else {
                            self.counters.malformed.increment();
                            end(writer, DeliverStatus::BadRequest, self.patience).await?;
                            return Err(FrameError::NotUnderstood);
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
                    wanted = Instant::now();
                }
                () = sleep_until(until), if giving.promised.is_empty() => {
                    return end(writer, DeliverStatus::Unavailable, self.patience).await;
                }
                changed = giving.changes.changed(), if matches!(giving.source, Source::Making(_)) => {
                    // Whoever makes it is gone; what there is of it shows below.
                    drop(changed);
                }
            }
        }
    }

    fn still_may_have(&self, giving: &Giving) -> bool {
        let may_have = (self.may_have)(giving.topic);
        if !may_have {
            self.counters.not_entitled.increment();
        }
        may_have
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

    fn budget(&self, bytes: usize) -> Option<[OwnedSemaphorePermit; 3]> {
        let units = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX);
        let [of_peer, of_share, of_all] = &self.budgets;
        let of_peer = of_peer.clone().try_acquire_many_owned(units).ok()?;
        let of_share = of_share.clone().try_acquire_many_owned(units).ok()?;
        let of_all = of_all.clone().try_acquire_many_owned(units).ok()?;
        Some([of_peer, of_share, of_all])
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
                Some(held) if held.is_by(&giving.hints) => {
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
        self.piece(writer, giving, at, length).await
    }

    /// Sends a body without manifest, and says that this was all.
    async fn give_all<W>(&self, writer: &mut W, giving: &mut Giving) -> Result<(), FrameError>
    where
        W: AsyncWrite + Unpin,
    {
        let size = giving.hints.size as usize;
        let Some(_budgets) = self.budget(size) else {
            return end(writer, DeliverStatus::Unavailable, self.patience).await;
        };
        for at in (0..size).step_by(PIECE) {
            if !self.still_may_have(giving) {
                return end(writer, DeliverStatus::Forbidden, self.patience).await;
            }
            let length = PIECE.min(size - at);
            if !self.piece(writer, giving, at, length).await? {
                return end(writer, DeliverStatus::Unavailable, self.patience).await;
            }
        }
        end(writer, DeliverStatus::Success, self.patience).await
    }

    async fn piece<W: AsyncWrite + Unpin>(
        &self,
        writer: &mut W,
        giving: &mut Giving,
        at: usize,
        length: usize,
    ) -> Result<bool, FrameError> {
        let Giving {
            source,
            hints,
            pace,
            ..
        } = giving;
        let place = u32::try_from(at).unwrap_or(u32::MAX).to_be_bytes();
        match source {
            Source::Held(held) => {
                let Some(data) = held.data().get(at..at + length) else {
                    return Ok(false);
                };
                write_paced(writer, frames::BODY_PIECE, &[&place, data], pace).await?;
            }
            Source::Making(making) => {
                let mut part = Vec::with_capacity(PART);
                for from in (at..at + length).step_by(PART) {
                    let left = PART.min(at + length - from);
                    let is_here = making.copy(hints, from, left, &mut part);
                    if from == at {
                        if !is_here {
                            return Ok(false);
                        }
                        let length = PIECE_HEAD + length;
                        write_head(writer, frames::BODY_PIECE, length, pace).await?;
                        write_part(writer, &place, pace).await?;
                    } else if !is_here {
                        // A frame that was begun cannot be taken back.
                        return Err(std::io::Error::from(std::io::ErrorKind::Interrupted).into());
                    }
                    write_part(writer, &part, pace).await?;
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
