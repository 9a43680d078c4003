// SPDX-License-Identifier: Apache-2.0
//! An answer cut where gRPC's messages begin and end, so that each is copied once and takes no more
//! room than it needs.
//!
//! tonic gathers a message in a buffer that it makes larger when it has read the head of the message,
//! and puts whatever comes into it. When a piece has the head with what follows, or the end of one
//! message with the beginning of the next, the buffer is made twice, copied, and larger than the
//! message; and the message keeps all of it. With a head alone, and then nothing but its message, the
//! buffer is made once and is full.

use std::{
    mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use hyper::body::{Body, Frame};

/// What stands before each message: whether it is compressed, and its length in four bytes.
const HEAD: usize = 5;

/// A body in pieces that are the head of a message, or of one message alone.
#[derive(Debug)]
pub(crate) struct ByMessage<B> {
    body: B,
    /// What came and was not given on.
    rest: Bytes,
    part: Part,
}

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// A head, of which so many bytes were given on.
    Head { given: usize, head: [u8; HEAD] },
    /// So many bytes of a message; not none.
    Message(usize),
}

impl<B> ByMessage<B> {
    pub(crate) fn new(body: B) -> Self {
        Self {
            body,
            rest: Bytes::new(),
            part: Part::BEGINNING,
        }
    }
}

impl Part {
    const BEGINNING: Self = Self::Head {
        given: 0,
        head: [0; HEAD],
    };

    /// Takes what belongs together off the beginning of what came.
    fn cut(&mut self, came: &mut Bytes) -> Bytes {
        match self {
            Self::Head { given, head } => {
                let piece = came.split_to(came.len().min(HEAD - *given));
                for (to, from) in head.iter_mut().skip(*given).zip(&piece) {
                    *to = *from;
                }
                *given += piece.len();
                if *given == HEAD {
                    let [_, length @ ..] = *head;
                    *self = Self::message(u32::from_be_bytes(length) as usize);
                }
                piece
            }
            Self::Message(left) => {
                let piece = came.split_to(came.len().min(*left));
                *self = Self::message(*left - piece.len());
                piece
            }
        }
    }

    /// So many bytes of a message, or what comes behind it.
    fn message(left: usize) -> Self {
        match left {
            0 => Self::BEGINNING,
            left => Self::Message(left),
        }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for ByMessage<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = &mut *self;
        while this.rest.is_empty() {
            match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => this.rest = data,
                    Err(other) => return Poll::Ready(Some(Ok(other))),
                },
                ended => return Poll::Ready(ended),
            }
        }
        let mut rest = mem::take(&mut this.rest);
        let piece = this.part.cut(&mut rest);
        this.rest = rest;
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, convert::Infallible, future::poll_fn};

    use futures::FutureExt as _;
    use proptest::{collection::vec, prelude::*};

    use super::*;

    /// A body that comes in these pieces.
    struct Pieces(VecDeque<Bytes>);

    impl Body for Pieces {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            Poll::Ready(self.0.pop_front().map(|piece| Ok(Frame::data(piece))))
        }

        fn is_end_stream(&self) -> bool {
            self.0.is_empty()
        }
    }

    /// What comes out of a body.
    fn cut(pieces: VecDeque<Bytes>) -> Vec<Bytes> {
        let mut body = ByMessage::new(Pieces(pieces));
        let mut out = Vec::new();
        let mut next = || poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).now_or_never();
        while let Some(frame) = next().expect("it waits for nothing") {
            out.push(frame.unwrap().into_data().unwrap());
        }
        assert!(body.is_end_stream());
        out
    }

    fn framed(messages: &[Vec<u8>]) -> Vec<u8> {
        let mut out = Vec::new();
        for message in messages {
            out.push(0);
            out.extend_from_slice(&(message.len() as u32).to_be_bytes());
            out.extend_from_slice(message);
        }
        out
    }

    proptest! {
        /// Nothing is lost, and no piece has anything of two messages.
        #[test]
        fn pieces_end_where_messages_do(
            messages in vec(vec(any::<u8>(), 0..40), 0..8), at in vec(1..30usize, 1..60),
        ) {
            let whole = framed(&messages);
            let mut left = Bytes::from(whole.clone());
            let mut pieces = VecDeque::new();
            for length in at.into_iter().cycle() {
                if left.is_empty() {
                    break;
                }
                pieces.push_back(left.split_to(length.min(left.len())));
            }
            let out = cut(pieces);
            prop_assert_eq!(out.concat(), whole);
            let mut ends = messages.iter().flat_map(|message| [HEAD, message.len()]).filter(|part| *part > 0);
            let mut left = 0;
            for piece in &out {
                if left == 0 {
                    left = ends.next().unwrap();
                }
                prop_assert!(!piece.is_empty() && piece.len() <= left);
                left -= piece.len();
            }
            prop_assert_eq!((left, ends.next()), (0, None));
        }

        /// Whatever comes, all of it is given on: what it says is for tonic to judge.
        #[test]
        fn no_bytes_are_lost(pieces in vec(vec(any::<u8>(), 0..30), 0..20)) {
            let given = pieces.iter().map(|piece| Bytes::copy_from_slice(piece)).collect();
            prop_assert_eq!(cut(given).concat(), pieces.concat());
        }
    }
}
