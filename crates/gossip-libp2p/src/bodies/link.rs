// SPDX-License-Identifier: Apache-2.0
//! The stream to one node that gives a body.

use std::time::Duration;

use block_api::DeliverStatus;
use futures::{AsyncRead, AsyncReadExt as _, AsyncWrite, StreamExt as _, stream};
use libp2p::PeerId;
use tokio::sync::mpsc;
use tracing::info;

use crate::{
    bodies::hints::CHUNK,
    frames::{self, Frame, FrameError, Patience, flush, read_frame, write_frame},
    wire::{Ask, Offer, PIECE_HEAD, UnreadableBody, Want, parse_end, parse_have},
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
    /// The payload of a piece: its place and its bytes.
    Piece(Vec<u8>),
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
    let answers = stream::unfold(reader, |mut reader| async {
        let frame = read_frame(&mut reader, MAX_ANSWER, limits).await;
        Some((frame, reader))
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
                    Ok(Some(frame)) => understand(frame),
                    Ok(None) => Some(Heard::End(DeliverStatus::Unavailable)),
                    Err(error) => Some(Heard::Broke(error)),
                };
                let Some(answer) = answer else {
                    continue;
                };
                let last = !matches!(answer, Heard::Offer(_) | Heard::Have(_) | Heard::Piece(_));
                answers_to.tell(answer).await;
                if last {
                    return;
                }
            }
        }
    }
}

/// What a frame says; `None` for a kind that a later release may have.
fn understand(Frame { kind, payload }: Frame) -> Option<Heard> {
    let nonsense = Some(Heard::Nonsense);
    match kind {
        frames::BODY_OFFER => Some(Offer::parse(&payload).map_or_else(unread, Heard::Offer)),
        frames::BODY_HAVE => Some(parse_have(&payload).map_or_else(unread, Heard::Have)),
        frames::BODY_PIECE => Some(Heard::Piece(payload)),
        frames::BODY_NOT_YET => Some(Heard::NotYet),
        frames::END => parse_end(&payload).map_or(nonsense, |status| Some(Heard::End(status))),
        _ => None,
    }
}

/// What an answer that is not understood comes to: another release is nobody's fault, and does not
/// give anything.
fn unread(error: UnreadableBody) -> Heard {
    match error {
        UnreadableBody::Version(version) => {
            info!(version, "an answer for a body of another release");
            Heard::End(DeliverStatus::NotFound)
        }
        UnreadableBody::Empty | UnreadableBody::Wire(_) | UnreadableBody::Missing(_) => {
            Heard::Nonsense
        }
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
