// SPDX-License-Identifier: Apache-2.0
//! The muxer of a connection, bounded where the libraries bound nothing or much: in what a node may
//! send before it proved anything, and in how long closing takes.

use std::{
    collections::VecDeque,
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use libp2p::core::{
    StreamMuxer,
    muxing::{StreamMuxerBox, StreamMuxerEvent, StreamMuxerExt as _, SubstreamBox},
};
use tokio::time::{Sleep, sleep};

/// How many streams the other side may open beside that of the proof. A node opens fewer at once
/// when its proof is done, which may be before this side's is.
const EARLY: usize = 8;

/// How long closing may take. Whoever reads nothing more would have it last for ever, and its place
/// be taken.
const GOODBYE: Duration = Duration::from_secs(1);

/// A muxer that takes few streams until it is [opened](Bounded::opened), and closes in time.
#[derive(Debug)]
pub(crate) struct Bounded {
    inner: StreamMuxerBox,
    is_proving: bool,
    /// The streams that came too early; they are the first to be taken.
    early: VecDeque<SubstreamBox>,
    goodbye: Option<Pin<Box<Sleep>>>,
}

impl Bounded {
    pub(crate) fn new(inner: StreamMuxerBox) -> Self {
        Self {
            inner,
            is_proving: true,
            early: VecDeque::new(),
            goodbye: None,
        }
    }

    /// The same with all that it can: its nodes have proven who they are.
    pub(crate) fn opened(mut self) -> StreamMuxerBox {
        self.is_proving = false;
        StreamMuxerBox::new(self)
    }
}

impl StreamMuxer for Bounded {
    type Substream = SubstreamBox;
    type Error = io::Error;

    fn poll_inbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<SubstreamBox>> {
        if let Some(stream) = self.early.pop_front() {
            return Poll::Ready(Ok(stream));
        }
        self.inner.poll_inbound_unpin(cx)
    }

    fn poll_outbound(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<SubstreamBox>> {
        self.inner.poll_outbound_unpin(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Poll::Ready(closed) = self.inner.poll_close_unpin(cx) {
            return Poll::Ready(closed);
        }
        let goodbye = self.goodbye.get_or_insert_with(|| Box::pin(sleep(GOODBYE)));
        goodbye.as_mut().poll(cx).map(Ok)
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<StreamMuxerEvent>> {
        // The muxer below would keep hundreds of them, each with a window full of bytes.
        while self.is_proving
            && let Poll::Ready(stream) = self.inner.poll_inbound_unpin(cx)
        {
            if self.early.len() >= EARLY {
                return Poll::Ready(Err(io::Error::other(
                    "too many streams before the proof of membership",
                )));
            }
            self.early.push_back(stream?);
        }
        self.inner.poll_unpin(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use futures::io::Cursor;
    use tokio::time::{Instant, timeout};

    use super::*;

    /// Has so many streams to be taken, and closes never.
    struct Eager(usize);

    impl StreamMuxer for Eager {
        type Substream = Cursor<Vec<u8>>;
        type Error = io::Error;

        fn poll_inbound(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<io::Result<Self::Substream>> {
            let Some(left) = self.0.checked_sub(1) else {
                return Poll::Pending;
            };
            self.0 = left;
            Poll::Ready(Ok(Cursor::default()))
        }

        fn poll_outbound(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<io::Result<Self::Substream>> {
            Poll::Pending
        }

        fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }

        fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<StreamMuxerEvent>> {
            Poll::Pending
        }
    }

    fn bounded(streams: usize) -> Bounded {
        Bounded::new(StreamMuxerBox::new(Eager(streams)))
    }

    async fn moves(muxer: &mut Bounded) -> Poll<io::Result<StreamMuxerEvent>> {
        poll_fn(|cx| Poll::Ready(muxer.poll_unpin(cx))).await
    }

    #[tokio::test]
    async fn few_streams_come_before_the_proof_and_none_of_them_is_lost() {
        let mut muxer = bounded(EARLY);
        assert!(moves(&mut muxer).await.is_pending());
        assert_eq!(muxer.early.len(), EARLY);
        let mut muxer = muxer.opened();
        for _ in 0..EARLY {
            poll_fn(|cx| muxer.poll_inbound_unpin(cx)).await.unwrap();
        }
        let more = poll_fn(|cx| Poll::Ready(muxer.poll_inbound_unpin(cx))).await;
        assert!(more.is_pending());

        let mut muxer = bounded(EARLY + 1);
        assert!(matches!(moves(&mut muxer).await, Poll::Ready(Err(_))));
        // Who has proven itself opens as many as the protocols allow.
        let mut muxer = bounded(EARLY + 1);
        muxer.is_proving = false;
        assert!(moves(&mut muxer).await.is_pending());
        assert!(muxer.early.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn closing_ends_though_the_other_side_takes_nothing() {
        let (muxer, began) = (bounded(0).opened(), Instant::now());
        let closed = timeout(2 * GOODBYE, muxer.close()).await;
        closed.unwrap().unwrap();
        assert_eq!(began.elapsed(), GOODBYE);
    }
}
