// SPDX-License-Identifier: Apache-2.0
//! The stream to one node that gives a body.

use std::{sync::Arc, time::Duration};

use block_api::DeliverStatus;
use futures::{AsyncRead, AsyncReadExt as _, AsyncWrite, StreamExt as _, stream};
use libp2p::PeerId;
use tokio::sync::mpsc;
use tracing::info;

use crate::{
    bodies::{
        hints::{CHUNK, HintsId},
        making::{Claim, Making},
    },
    frames::{
        self, Frame, FrameError, Head, Patience, flush, read_array, read_head, read_payload,
        read_to, write_frame,
    },
    wire::{Ask, Offer, PIECE_HEAD, Unreadable, Want, parse_end, parse_have, parse_place},
};

/// The longest answer: hints of a body of 4 GiB, or a chunk.
const MAX_ANSWER: usize = CHUNK + PIECE_HEAD;

/// What a node said.
#[derive(Debug)]
pub(crate) enum Heard {
    /// It can be asked.
    Opened,
    Offer(Offer),
    Have(Vec<u32>),
    /// A piece that stands where it belongs.
    Written(Claim),
    /// A piece that could not be written there: where it begins, and its bytes.
    Piece(usize, Vec<u8>),
    NotYet,
    End(DeliverStatus),
    /// What came is not understood.
    Nonsense,
    /// The stream broke, or nothing moved on it.
    Broke(FrameError),
}

/// Where the answers of one node go.
#[derive(Debug)]
pub(crate) struct Answers {
    pub(crate) peer: PeerId,
    /// Tells its stream from an earlier one.
    pub(crate) serial: u64,
    pub(crate) to: mpsc::Sender<(PeerId, u64, Heard)>,
}

/// What comes on a stream.
struct Hearing<'a, R> {
    reader: R,
    making: &'a Arc<Making>,
    /// Which link it is.
    serial: u64,
    /// What was told of the body.
    hints: Option<HintsId>,
    limits: Patience,
}

impl Answers {
    pub(crate) async fn tell(&self, heard: Heard) {
        // Nobody waits for an answer any more when the body is there.
        let _ = self.to.send((self.peer, self.serial, heard)).await;
    }
}

/// Asks, and tells what is heard, until the stream ends or nobody wants anything more.
pub(crate) async fn talk<S>(
    stream: S,
    ask: Ask,
    mut wants: mpsc::Receiver<Want>,
    making: &Arc<Making>,
    patience: Duration,
    answers_to: &Answers,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (reader, mut writer) = stream.split();
    let limits = Patience {
        // Whoever reads knows better how long it waits for what.
        first: None,
        next: patience,
    };
    let hearing = Hearing {
        reader,
        making,
        serial: answers_to.serial,
        hints: None,
        limits,
    };
    let answers = stream::unfold(hearing, |mut hearing| async {
        Some((hearing.next().await, hearing))
    });
    tokio::pin!(answers);
    let asked = async {
        write_frame(&mut writer, frames::BODY_ASK, &[&ask.encode()], patience).await?;
        flush(&mut writer, patience).await
    };
    if let Err(error) = asked.await {
        return answers_to.tell(Heard::Broke(error)).await;
    }
    loop {
        tokio::select! {
            want = wants.recv() => {
                let Some(want) = want else {
                    return;
                };
                let told = async {
                    write_frame(&mut writer, frames::BODY_WANT, &[&want.encode()], patience).await?;
                    flush(&mut writer, patience).await
                };
                if let Err(error) = told.await {
                    return answers_to.tell(Heard::Broke(error)).await;
                }
            }
            Some(answer) = answers.next() => {
                let answer = match answer {
                    Ok(answer) => answer,
                    Err(error) => Some(Heard::Broke(error)),
                };
                let Some(answer) = answer else {
                    continue;
                };
                let last = !matches!(
                    answer,
                    Heard::Offer(_) | Heard::Have(_) | Heard::Written(_) | Heard::Piece(..)
                );
                answers_to.tell(answer).await;
                if last {
                    return;
                }
            }
        }
    }
}

impl<R: AsyncRead + Unpin> Hearing<'_, R> {
    /// What is said next; `None` for a kind that a later release may have.
    async fn next(&mut self) -> Result<Option<Heard>, FrameError> {
        let patience = self.limits.next;
        let Some(head) = read_head(&mut self.reader, MAX_ANSWER, self.limits).await? else {
            return Ok(Some(Heard::End(DeliverStatus::Unavailable)));
        };
        let Head { kind, length } = head;
        if kind == frames::BODY_PIECE {
            return self.piece(length).await.map(Some);
        }
        let payload = read_payload(&mut self.reader, length, patience).await?;
        let heard = understand(Frame { kind, payload });
        if let Some(Heard::Offer(offer)) = &heard {
            self.hints = Some(offer.hints.id());
        }
        Ok(heard)
    }

    async fn piece(&mut self, length: usize) -> Result<Heard, FrameError> {
        let (reader, patience) = (&mut self.reader, self.limits.next);
        let Some(length) = length.checked_sub(PIECE_HEAD) else {
            return Ok(Heard::Nonsense);
        };
        let at = parse_place(read_array(reader, patience).await?);
        // Before the hints it is nothing that anybody asked for.
        let claim = match self.hints {
            Some(hints) => self.making.claim(self.serial, hints, (at, length)).await,
            None => None,
        };
        let Some(mut claim) = claim else {
            let bytes = read_payload(reader, length, patience).await?;
            return Ok(Heard::Piece(at, bytes));
        };
        read_to(reader, length, patience, |stream, cx, have| {
            claim.poll_read(stream, cx, have)
        })
        .await?;
        Ok(Heard::Written(claim))
    }
}

/// What a frame says; `None` for a kind that a later release may have.
fn understand(Frame { kind, payload }: Frame) -> Option<Heard> {
    let nonsense = Some(Heard::Nonsense);
    match kind {
        frames::BODY_OFFER => Some(Offer::parse(&payload).map_or_else(unread, Heard::Offer)),
        frames::BODY_HAVE => Some(parse_have(&payload).map_or_else(unread, Heard::Have)),
        frames::BODY_NOT_YET => Some(Heard::NotYet),
        frames::END => parse_end(&payload).map_or(nonsense, |status| Some(Heard::End(status))),
        _ => None,
    }
}

/// What an answer that is not understood comes to: another release is nobody's fault, and does not
/// give anything.
fn unread(error: Unreadable) -> Heard {
    match error {
        Unreadable::Version(version) => {
            info!(version, "an answer for a body of another release");
            Heard::End(DeliverStatus::NotFound)
        }
        Unreadable::Empty | Unreadable::Wire(_) | Unreadable::Missing(_) => Heard::Nonsense,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_of_another_release_is_no_nonsense() {
        for kind in [frames::BODY_OFFER, frames::BODY_HAVE] {
            let said = |payload| understand(Frame { kind, payload });
            let status = DeliverStatus::NotFound;
            assert!(matches!(said(vec![9, 1]), Some(Heard::End(end)) if end == status));
            assert!(matches!(said(vec![]), Some(Heard::Nonsense)));
        }
        let later = Frame {
            kind: 19,
            payload: vec![1],
        };
        assert!(understand(later).is_none());
    }
}
