// SPDX-License-Identifier: Apache-2.0
//! Frames on a stream: a kind, a length, and so many bytes.
//!
//! ```text
//! kind 1 | length 4, big-endian | payload …
//! ```
//!
//! Every wait has a limit. A buffer grows with what really comes, never by what a length claims.

use std::{
    future::poll_fn,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use libp2p::core::upgrade::NegotiationError;
use tokio::time::{Instant, timeout, timeout_at};

use crate::score::Offence;

/// A request for a range of blocks.
pub(crate) const REQUEST: u8 = 1;
/// A block in its relay form.
pub(crate) const BLOCK: u8 = 2;
/// The end of an answer.
pub(crate) const END: u8 = 3;
/// The status of a node in a channel.
pub(crate) const STATUS: u8 = 4;
/// That the sender lives. It has no payload.
pub(crate) const BEAT: u8 = 5;
/// The first word of a node on a connection.
pub(crate) const HELLO: u8 = 6;
/// An identity, and a signature of its holder.
pub(crate) const PROOF: u8 = 7;

/// A question for a body.
pub(crate) const BODY_ASK: u8 = 10;
/// Chunks that are wanted of it.
pub(crate) const BODY_WANT: u8 = 11;
/// What it is, and what of it is there.
pub(crate) const BODY_OFFER: u8 = 12;
/// Chunks that came to the one who is asked.
pub(crate) const BODY_HAVE: u8 = 13;
/// A piece of it.
pub(crate) const BODY_PIECE: u8 = 14;
/// It is expected and not there. It has no payload.
pub(crate) const BODY_NOT_YET: u8 = 15;
/// Records of nodes.
pub(crate) const RECORDS: u8 = 20;

pub(crate) const HEAD: usize = 5;

/// How much is asked of the stream at once, and the size that a buffer begins with.
const CHUNK: usize = 64 * 1024;

/// What comes or is taken slower than this, in bytes per second, is given up: one side that trickles
/// would hold the other one for ever.
const SLOWEST: u64 = 16 * 1024;

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) payload: Vec<u8>,
}

/// What begins a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) kind: u8,
    /// Of the payload, in bytes.
    pub(crate) length: usize,
}

/// How long a reader waits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// For the first byte of a frame; `None` is for ever.
    pub(crate) first: Option<Duration>,
    /// For the next bytes within a frame.
    pub(crate) next: Duration,
}

/// How long a writer waits, over all frames of a stream: whoever takes more gains time, and nobody
/// more of it than there was in the beginning.
#[derive(Debug)]
pub(crate) struct Pace {
    patience: Duration,
    left: Duration,
}

/// A frame did not come or go.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("nothing came for {} ms", after.as_millis())]
    NothingCame { after: Duration },
    #[error("a frame did not come whole: nothing, or too little, came for {} ms", after.as_millis())]
    Stalled { after: Duration },
    #[error("the other side took nothing, or too little, for {} ms", after.as_millis())]
    NotTaken { after: Duration },
    #[error("a frame claims {claimed} bytes, the limit is {limit}")]
    TooLong { claimed: usize, limit: usize },
    /// It was answered so.
    #[error("the request is not understood")]
    NotUnderstood,
    /// Shows with the first bytes that come: nobody waits for the answer to a proposal.
    #[error("the node does not speak this protocol")]
    Unsupported,
    #[error(transparent)]
    Io(io::Error),
}

impl From<io::Error> for FrameError {
    fn from(error: io::Error) -> Self {
        let negotiation = error.get_ref().and_then(|inner| inner.downcast_ref());
        match negotiation {
            Some(NegotiationError::Failed) => Self::Unsupported,
            Some(NegotiationError::ProtocolError(_)) | None => Self::Io(error),
        }
    }
}

impl FrameError {
    /// What of it is the fault of who asked for something.
    pub(crate) fn offence(&self) -> Option<Offence> {
        match self {
            Self::TooLong { .. } | Self::NotUnderstood => Some(Offence::Malformed),
            Self::NothingCame { .. } | Self::Stalled { .. } | Self::NotTaken { .. } => {
                Some(Offence::Stalled)
            }
            Self::Unsupported | Self::Io(_) => None,
        }
    }
}

impl Pace {
    pub(crate) fn new(patience: Duration) -> Self {
        Self {
            patience,
            left: patience,
        }
    }

    fn took(&mut self, bytes: usize, waited: Duration) {
        let gained = Duration::from_micros((bytes as u64).saturating_mul(1_000_000) / SLOWEST);
        let left = self.left.saturating_sub(waited).saturating_add(gained);
        self.left = left.min(self.patience);
    }
}

/// Reads a frame whose payload has at most `limit` bytes; `None` when the stream ends before it.
pub(crate) async fn read_frame<R>(
    stream: &mut R,
    limit: usize,
    patience: Patience,
) -> Result<Option<Frame>, FrameError>
where
    R: AsyncRead + Unpin,
{
    let Some(Head { kind, length }) = read_head(stream, limit, patience).await? else {
        return Ok(None);
    };
    Ok(Some(Frame {
        kind,
        payload: read_payload(stream, length, patience.next).await?,
    }))
}

/// Reads what begins a frame whose payload has at most `limit` bytes, which are read after it;
/// `None` when the stream ends before it.
pub(crate) async fn read_head<R>(
    stream: &mut R,
    limit: usize,
    patience: Patience,
) -> Result<Option<Head>, FrameError>
where
    R: AsyncRead + Unpin,
{
    let mut kind = [0];
    let first = stream.read(&mut kind);
    let count = match patience.first {
        None => first.await?,
        Some(after) => timeout(after, first)
            .await
            .map_err(|_| FrameError::NothingCame { after })??,
    };
    if count == 0 {
        return Ok(None);
    }
    let length: [u8; HEAD - 1] = read_array(stream, patience.next).await?;
    let claimed = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if claimed > limit {
        return Err(FrameError::TooLong { claimed, limit });
    }
    let [kind] = kind;
    Ok(Some(Head {
        kind,
        length: claimed,
    }))
}

/// Reads the next few bytes of a frame.
pub(crate) async fn read_array<R, const N: usize>(
    stream: &mut R,
    patience: Duration,
) -> Result<[u8; N], FrameError>
where
    R: AsyncRead + Unpin,
{
    let mut bytes = [0; N];
    timeout(patience, stream.read_exact(&mut bytes))
        .await
        .map_err(|_| FrameError::Stalled { after: patience })??;
    Ok(bytes)
}

/// Writes what begins a frame, whose payload of `length` bytes is written after it.
pub(crate) async fn write_head<W>(
    stream: &mut W,
    kind: u8,
    length: usize,
    pace: &mut Pace,
) -> Result<(), FrameError>
where
    W: AsyncWrite + Unpin,
{
    let claimed = u32::try_from(length).map_err(|_| FrameError::TooLong {
        claimed: length,
        limit: u32::MAX as usize,
    })?;
    let [a, b, c, d] = claimed.to_be_bytes();
    write_part(stream, &[kind, a, b, c, d], pace).await
}

/// Writes a part of a payload.
pub(crate) async fn write_part<W>(
    stream: &mut W,
    mut part: &[u8],
    pace: &mut Pace,
) -> Result<(), FrameError>
where
    W: AsyncWrite + Unpin,
{
    while !part.is_empty() {
        let began = Instant::now();
        let taken =
            timeout(pace.left, stream.write(part))
                .await
                .map_err(|_| FrameError::NotTaken {
                    after: pace.patience,
                })??;
        pace.took(taken, began.elapsed());
        if taken == 0 {
            return Err(io::Error::from(io::ErrorKind::WriteZero).into());
        }
        part = part.get(taken..).unwrap_or_default();
    }
    Ok(())
}

/// Writes a frame whose payload is these parts, one after the other, without putting them together.
pub(crate) async fn write_frame<W>(
    stream: &mut W,
    kind: u8,
    parts: &[&[u8]],
    patience: Duration,
) -> Result<(), FrameError>
where
    W: AsyncWrite + Unpin,
{
    write_paced(stream, kind, parts, &mut Pace::new(patience)).await
}

/// The same for one of many frames, which have to be taken at a pace together.
pub(crate) async fn write_paced<W>(
    stream: &mut W,
    kind: u8,
    parts: &[&[u8]],
    pace: &mut Pace,
) -> Result<(), FrameError>
where
    W: AsyncWrite + Unpin,
{
    let length = parts.iter().map(|part| part.len()).sum();
    write_head(stream, kind, length, pace).await?;
    for part in parts {
        write_part(stream, part, pace).await?;
    }
    Ok(())
}

/// Sends what was written on its way.
pub(crate) async fn flush<W>(stream: &mut W, patience: Duration) -> Result<(), FrameError>
where
    W: AsyncWrite + Unpin,
{
    Ok(timeout(patience, stream.flush())
        .await
        .map_err(|_| FrameError::NotTaken { after: patience })??)
}

/// Reads the rest of a frame, of so many bytes.
pub(crate) async fn read_payload<R>(
    stream: &mut R,
    length: usize,
    patience: Duration,
) -> Result<Vec<u8>, FrameError>
where
    R: AsyncRead + Unpin,
{
    let mut payload: Vec<u8> = Vec::new();
    let read = |stream: Pin<&mut R>, cx: &mut Context<'_>, have: usize| {
        if have == payload.len() {
            // Doubled as it fills, and never beyond what is to come: the last buffer fits exactly.
            let more = have.max(CHUNK).min(length - have);
            payload.reserve_exact(more);
            payload.resize(have + more, 0);
        }
        stream.poll_read(cx, payload.get_mut(have..).unwrap_or_default())
    };
    read_to(stream, length, patience, read).await?;
    Ok(payload)
}

/// Reads the rest of a frame, of so many bytes, to wherever `read` puts what comes next: it is told
/// how many came before, and takes no more than are to come.
pub(crate) async fn read_to<R>(
    stream: &mut R,
    length: usize,
    patience: Duration,
    mut read: impl FnMut(Pin<&mut R>, &mut Context<'_>, usize) -> Poll<io::Result<usize>>,
) -> Result<(), FrameError>
where
    R: AsyncRead + Unpin,
{
    let deadline = Instant::now() + patience + Duration::from_secs(length as u64 / SLOWEST);
    let mut have = 0;
    while have < length {
        let limit = deadline.min(Instant::now() + patience);
        let next = poll_fn(|cx| read(Pin::new(&mut *stream), cx, have));
        let count = timeout_at(limit, next)
            .await
            .map_err(|_| FrameError::Stalled { after: patience })??;
        if count == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        have += count;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use futures::io::Cursor;
    use proptest::prelude::*;
    use tokio::{
        io::duplex,
        time::{Sleep, sleep},
    };
    use tokio_util::compat::TokioAsyncReadCompatExt;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const PATIENCE: Patience = Patience {
        first: Some(Duration::from_secs(2)),
        next: SECOND,
    };

    /// Gives `burst` bytes after each pause, and never ends.
    struct Trickle {
        bytes: Vec<u8>,
        burst: usize,
        pause: Duration,
        waiting: Option<Pin<Box<Sleep>>>,
    }

    impl Trickle {
        fn new(bytes: Vec<u8>, burst: usize, pause: Duration) -> Self {
            Self {
                bytes,
                burst,
                pause,
                waiting: None,
            }
        }
    }

    impl AsyncRead for Trickle {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buffer: &mut [u8],
        ) -> Poll<io::Result<usize>> {
            let pause = self.pause;
            let waiting = self.waiting.get_or_insert_with(|| Box::pin(sleep(pause)));
            std::task::ready!(waiting.as_mut().poll(cx));
            let count = self.burst.min(buffer.len()).min(self.bytes.len());
            if count == 0 {
                return Poll::Pending;
            }
            self.waiting = None;
            let rest = self.bytes.split_off(count);
            buffer[..count].copy_from_slice(&self.bytes);
            self.bytes = rest;
            Poll::Ready(Ok(count))
        }
    }

    /// Takes nothing.
    struct Stuck;

    impl AsyncWrite for Stuck {
        fn poll_write(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
            _: &[u8],
        ) -> Poll<io::Result<usize>> {
            Poll::Pending
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    async fn written(kind: u8, parts: &[&[u8]]) -> Vec<u8> {
        let mut out = Cursor::new(Vec::new());
        write_frame(&mut out, kind, parts, SECOND).await.unwrap();
        flush(&mut out, SECOND).await.unwrap();
        out.into_inner()
    }

    #[tokio::test(start_paused = true)]
    async fn frames_come_back_and_the_end_is_clean() {
        let big = vec![7; 3 * CHUNK + 5];
        let mut bytes = written(BLOCK, &[&big, b"tail"]).await;
        bytes.extend(written(END, &[]).await);
        let mut stream = Cursor::new(bytes);
        let frame = read_frame(&mut stream, usize::MAX, PATIENCE)
            .await
            .unwrap()
            .unwrap();
        assert_eq!((frame.kind, frame.payload.len()), (BLOCK, big.len() + 4));
        assert!(frame.payload.ends_with(b"\x07tail"));
        assert_eq!(
            frame.payload.capacity(),
            frame.payload.len(),
            "no byte more than needed"
        );
        let end = read_frame(&mut stream, 0, PATIENCE).await.unwrap().unwrap();
        assert_eq!(
            end,
            Frame {
                kind: END,
                payload: vec![]
            }
        );
        assert_eq!(read_frame(&mut stream, 0, PATIENCE).await.unwrap(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_claimed_length_is_neither_believed_nor_waited_for() {
        let huge = [BLOCK, 0xff, 0xff, 0xff, 0xff];
        let error = read_frame(&mut Cursor::new(huge), 100, PATIENCE)
            .await
            .unwrap_err();
        assert!(
            matches!(
                error,
                FrameError::TooLong {
                    claimed: 0xffff_ffff,
                    limit: 100
                }
            ),
            "{error}"
        );
        let cut_off = read_frame(&mut Cursor::new(huge), usize::MAX, PATIENCE)
            .await
            .unwrap_err();
        assert!(matches!(cut_off, FrameError::Io(_)), "{cut_off}");
        for cut in 1..5 {
            let error = read_frame(&mut Cursor::new(&huge[..cut]), usize::MAX, PATIENCE).await;
            assert!(matches!(error, Err(FrameError::Io(_))), "{error:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_is_silent_is_given_up() {
        let never = Duration::from_secs(1 << 30);
        let nothing = read_frame(&mut Trickle::new(vec![], 1, never), 10, PATIENCE).await;
        assert!(
            matches!(nothing, Err(FrameError::NothingCame { .. })),
            "{nothing:?}"
        );
        let head_only = Trickle::new(vec![BLOCK, 0, 0, 0, 9, 1], 6, Duration::ZERO);
        let stalled = read_frame(&mut { head_only }, 10, PATIENCE).await;
        assert!(
            matches!(stalled, Err(FrameError::Stalled { .. })),
            "{stalled:?}"
        );
        let stuck = write_frame(&mut Stuck, BLOCK, &[], SECOND).await;
        assert!(
            matches!(stuck, Err(FrameError::NotTaken { .. })),
            "{stuck:?}"
        );
        let stuck = flush(&mut Stuck, SECOND).await;
        assert!(
            matches!(stuck, Err(FrameError::NotTaken { .. })),
            "{stuck:?}"
        );
    }

    /// Each frame is short enough, and each byte is taken in time.
    #[tokio::test(start_paused = true)]
    async fn who_takes_a_trickle_is_given_up_although_each_byte_is_in_time() {
        let take = async |burst: usize, pause: Duration, length: usize| {
            let (mut one, mut other) = duplex(64);
            let taking = async {
                let mut taken = vec![0; burst];
                loop {
                    sleep(pause).await;
                    tokio::io::AsyncReadExt::read_exact(&mut other, &mut taken)
                        .await
                        .unwrap();
                }
            };
            let writing = async {
                let (mut stream, mut pace) = ((&mut one).compat(), Pace::new(SECOND * 30));
                for _ in 0..100 {
                    write_paced(&mut stream, BLOCK, &[&vec![1; length]], &mut pace).await?;
                }
                Ok::<_, FrameError>(())
            };
            let began = Instant::now();
            tokio::select! {
                written = writing => (written, began.elapsed()),
                () = taking => unreachable!(),
            }
        };
        let (trickled, waited) = take(1024, SECOND * 29, 1024).await;
        assert!(
            matches!(trickled, Err(FrameError::NotTaken { .. })),
            "{trickled:?}"
        );
        assert!(waited < SECOND * 60, "{waited:?}");
        let (one_frame, waited) = take(1024, SECOND * 29, 1024 * 1024).await;
        assert!(one_frame.is_err() && waited < SECOND * 60, "{waited:?}");
        let (slow, _) = take(16 * 1024, SECOND / 2, 10 * 1024).await;
        assert!(slow.is_ok(), "{slow:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_trickle_is_given_up_although_each_byte_is_in_time() {
        let bytes = written(BLOCK, &[&[1; 1000]]).await;
        let began = Instant::now();
        let stalled = read_frame(
            &mut Trickle::new(bytes.clone(), 5, SECOND / 2),
            1000,
            PATIENCE,
        )
        .await;
        assert!(
            matches!(stalled, Err(FrameError::Stalled { .. })),
            "{stalled:?}"
        );
        assert!(began.elapsed() < 3 * SECOND);
        let fast = read_frame(&mut Trickle::new(bytes, 500, SECOND / 4), 1000, PATIENCE).await;
        assert!(fast.is_ok(), "{fast:?}");
    }

    proptest! {
        #[test]
        fn any_bytes_give_frames_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
            runtime.block_on(async {
                let mut stream = Cursor::new(&bytes);
                let patience = Patience { first: None, next: SECOND };
                while let Ok(Some(frame)) = read_frame(&mut stream, 100, patience).await {
                    assert!(frame.payload.len() <= 100);
                }
            });
        }
    }
}
