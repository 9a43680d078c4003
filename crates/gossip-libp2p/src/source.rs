// SPDX-License-Identifier: Apache-2.0
//! A peer as a source of blocks.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use block_api::{
    Block, BlockNumber, BlockSource, BlockStream, BoxError, ChannelId, DeliverStatus, Delivery,
    Endpoint, Phase, SourceError, Start, Stop, StreamRequest, WhenMissing,
};
use bytes::Bytes;
use futures::{AsyncRead, stream};
use libp2p::PeerId;

use crate::{
    config::Config,
    error::OpenError,
    frames::{self, Frame, FrameError, Patience, flush, read_frame, write_frame},
    handle::Opener,
    identity::node_id,
    streams::BLOCKS,
    topic::TopicId,
    wire::{RangeRequest, parse_end},
};

/// Gives blocks of one channel from one connected peer.
#[derive(Debug)]
pub(crate) struct PeerSource {
    pub(crate) peer: PeerId,
    pub(crate) channel: ChannelId,
    pub(crate) topic: TopicId,
    pub(crate) opener: Opener,
    pub(crate) config: Arc<Config>,
}

/// What is wrong with an answer that parses.
#[derive(Debug, thiserror::Error)]
enum Nonsense {
    #[error("a frame of the unknown kind {0}")]
    Kind(u8),
    #[error("block {got} where block {expected} was next")]
    Order {
        got: BlockNumber,
        expected: BlockNumber,
    },
    #[error("block {got} where {last} was the last one")]
    Beyond { got: BlockNumber, last: BlockNumber },
    #[error("the end of the answer does not parse: {0}")]
    End(BoxError),
}

/// An answer that is being read. The next block is read when it is asked for and not before, so
/// that a slow consumer slows the peer and holds one block at most.
struct Answer<S> {
    stream: S,
    endpoint: Endpoint,
    config: Arc<Config>,
    /// The block that must come next, once that is known.
    next: Option<BlockNumber>,
    last: Option<BlockNumber>,
    begun: bool,
}

#[async_trait]
impl BlockSource for PeerSource {
    fn endpoints(&self) -> Vec<Endpoint> {
        vec![Endpoint::of_node(&node_id(&self.peer))]
    }

    async fn open(
        &self,
        endpoint: &Endpoint,
        request: &StreamRequest,
    ) -> Result<BlockStream, SourceError> {
        if !self.endpoints().contains(endpoint) {
            return Err(SourceError::UnknownEndpoint {
                endpoint: endpoint.clone(),
            });
        }
        let unsupported = |reason| {
            Err(SourceError::Unsupported {
                endpoint: endpoint.clone(),
                reason,
            })
        };
        if request.channel != self.channel {
            return unsupported("this source is of another channel");
        }
        if request.when_missing == WhenMissing::Wait {
            return unsupported("a peer does not wait for blocks; its status says what it has");
        }
        let broken = |error: FrameError| failed(endpoint, Phase::Initial, error);
        let opened = self.opener.open(self.peer, BLOCKS).await;
        let mut stream = opened.map_err(|error| self.not_opened(endpoint, error))?;
        let asked = RangeRequest {
            topic: self.topic,
            start: request.start,
            stop: request.stop,
            content: request.content,
            max_block: self.config.max_block.get() as u64,
        };
        let patience = self.config.initial_timeout;
        write_frame(&mut stream, frames::REQUEST, &[&asked.encode()], patience)
            .await
            .map_err(broken)?;
        flush(&mut stream, patience).await.map_err(broken)?;
        Ok(Answer::new(stream, endpoint.clone(), request, self.config.clone()).into_stream())
    }
}

impl PeerSource {
    fn not_opened(&self, endpoint: &Endpoint, error: OpenError) -> SourceError {
        let endpoint = endpoint.clone();
        if let OpenError::TimedOut = error {
            let after = self.config.open_timeout;
            return SourceError::TimedOut {
                endpoint,
                phase: Phase::Connect,
                after,
            };
        }
        SourceError::Connect {
            endpoint,
            source: error.into(),
        }
    }
}

impl<S: AsyncRead + Unpin + Send + 'static> Answer<S> {
    fn new(stream: S, endpoint: Endpoint, request: &StreamRequest, config: Arc<Config>) -> Self {
        let next = match request.start {
            Start::At(number) => Some(number),
            Start::Oldest | Start::Newest => None,
        };
        let last = match request.stop {
            Stop::At(number) => Some(number),
            Stop::Newest | Stop::Never => None,
        };
        Self {
            stream,
            endpoint,
            config,
            next,
            last,
            begun: false,
        }
    }

    /// The deliveries of the answer. After an error or a status it is dropped, and with it the
    /// stream to the peer.
    fn into_stream(self) -> BlockStream {
        Box::pin(stream::unfold(Some(self), |answer| async {
            let mut answer = answer?;
            match answer.next_delivery().await {
                Ok(Some(Delivery::Block(block))) => {
                    Some((Ok(Delivery::Block(block)), Some(answer)))
                }
                Ok(Some(status)) => Some((Ok(status), None)),
                Ok(None) => None,
                Err(error) => Some((Err(error), None)),
            }
        }))
    }

    async fn next_delivery(&mut self) -> Result<Option<Delivery>, SourceError> {
        let (phase, first) = match self.begun {
            false => (Phase::Initial, self.config.initial_timeout),
            true => (Phase::Idle, self.config.idle_timeout),
        };
        let patience = Patience {
            first: Some(first),
            next: self.config.idle_timeout,
        };
        let frame = read_frame(&mut self.stream, self.config.max_block.get(), patience)
            .await
            .map_err(|error| failed(&self.endpoint, phase, error))?;
        self.begun = true;
        let Some(Frame { kind, payload }) = frame else {
            return Ok(None);
        };
        match kind {
            frames::BLOCK => self
                .block(payload.into())
                .map(|block| Some(Delivery::Block(block))),
            frames::END => self
                .end(&payload)
                .map(|status| Some(Delivery::Status(status))),
            unknown => Err(self.malformed(Nonsense::Kind(unknown))),
        }
    }

    fn block(&mut self, raw: Bytes) -> Result<Block, SourceError> {
        let block = Block::parse(raw).map_err(|source| SourceError::MalformedBlock {
            endpoint: self.endpoint.clone(),
            source,
        })?;
        let got = block.number();
        if let Some(expected) = self.next.filter(|expected| *expected != got) {
            return Err(self.malformed(Nonsense::Order { got, expected }));
        }
        if let Some(last) = self.last.filter(|last| *last < got) {
            return Err(self.malformed(Nonsense::Beyond { got, last }));
        }
        self.next = got.next();
        // A peer sends no other slot; one that does is not believed.
        Ok(block.with_signatures_slot_only())
    }

    fn end(&self, payload: &[u8]) -> Result<DeliverStatus, SourceError> {
        parse_end(payload).map_err(|error| self.malformed(Nonsense::End(error.into())))
    }

    fn malformed(&self, nonsense: Nonsense) -> SourceError {
        SourceError::Malformed {
            endpoint: self.endpoint.clone(),
            source: nonsense.into(),
        }
    }
}

fn failed(endpoint: &Endpoint, phase: Phase, error: FrameError) -> SourceError {
    let endpoint = endpoint.clone();
    let timed_out = |phase, after: Duration| SourceError::TimedOut {
        endpoint: endpoint.clone(),
        phase,
        after,
    };
    match error {
        FrameError::NothingCame { after } | FrameError::NotTaken { after } => {
            timed_out(phase, after)
        }
        FrameError::Stalled { after } => timed_out(Phase::Idle, after),
        FrameError::TooLong { .. } | FrameError::NotUnderstood => SourceError::Malformed {
            endpoint,
            source: error.into(),
        },
        FrameError::Unsupported => SourceError::Connect {
            endpoint,
            source: error.into(),
        },
        FrameError::Io(source) => SourceError::Broken {
            endpoint,
            source: source.into(),
        },
    }
}

#[cfg(test)]
mod tests {
    use block_api::testing::{TestChain, TestSigner, within};
    use futures::{AsyncWriteExt, StreamExt};
    use tokio::io::{DuplexStream, duplex};
    use tokio_util::compat::{Compat, TokioAsyncReadCompatExt};

    use super::*;
    use crate::{Keypair, wire::put_end};

    const SECOND: Duration = Duration::from_secs(1);

    fn config() -> Arc<Config> {
        let max_block = 10_000.try_into().unwrap();
        let inline_limit = max_block;
        Arc::new(Config {
            max_block,
            inline_limit,
            ..Config::new(Keypair::from_seed([1; 32]), Arc::new(TestSigner("node")))
        })
    }

    /// What a requester of blocks 1 to 3 gets when these frames come; `None` is a hang-up.
    async fn deliveries(
        frames: Vec<(u8, Vec<u8>)>,
        hang_up: bool,
    ) -> Vec<Result<Delivery, SourceError>> {
        let (one, other) = duplex(1 << 20);
        let mut one: Compat<DuplexStream> = one.compat();
        for (kind, payload) in frames {
            write_frame(&mut one, kind, &[&payload], SECOND)
                .await
                .unwrap();
        }
        if hang_up {
            one.close().await.unwrap();
        }
        let endpoint = Endpoint::of_node(&config().identity.node_id());
        let request = StreamRequest::range("ch".parse().unwrap(), 1.into(), 3.into());
        let answer = Answer::new(other.compat(), endpoint, &request, config());
        answer.into_stream().collect().await
    }

    fn block(n: usize) -> (u8, Vec<u8>) {
        let (_, blocks) = TestChain::of_blocks("ch", 5, 50);
        (frames::BLOCK, blocks[n].raw().to_vec())
    }

    fn end() -> (u8, Vec<u8>) {
        (frames::END, put_end(DeliverStatus::Success))
    }

    #[tokio::test]
    async fn a_range_comes_with_its_end_and_nothing_after_it() {
        let got = deliveries(vec![block(1), block(2), block(3), end(), block(4)], true).await;
        let [
            Ok(Delivery::Block(first)),
            Ok(_),
            Ok(_),
            Ok(Delivery::Status(DeliverStatus::Success)),
        ] = got.as_slice()
        else {
            panic!("{got:?}")
        };
        assert_eq!((first.number(), first.slot_count()), (1.into(), 1));
    }

    #[tokio::test]
    async fn a_peer_that_hangs_up_leaves_no_status() {
        let got = deliveries(vec![block(1)], true).await;
        assert!(
            matches!(got.as_slice(), [Ok(Delivery::Block(_))]),
            "{got:?}"
        );
    }

    #[tokio::test]
    async fn nonsense_ends_the_stream_with_an_error_that_says_so() {
        let (_, mut forged) = block(1);
        forged.truncate(forged.len() - 1);
        let rows = [
            (vec![block(2)], "block 2 where block 1 was next"),
            (vec![block(1), block(1)], "block 1 where block 2 was next"),
            (
                vec![block(1), block(2), block(3), block(4)],
                "block 4 where 3 was the last",
            ),
            (vec![(9, vec![])], "kind 9"),
            (vec![(frames::END, vec![])], "end of the answer"),
            (vec![(frames::BLOCK, forged)], "cut off"),
            (vec![(frames::BLOCK, vec![0; 10_001])], "10001 bytes"),
        ];
        for (frames, reason) in rows {
            let good = frames.len() - 1;
            let got = deliveries(frames, false).await;
            assert_eq!(got.len(), good + 1, "{reason}: {got:?}");
            let Some(Err(error)) = got.last() else {
                panic!("{reason}: {got:?}")
            };
            let text = error.to_string();
            assert!(
                text.contains(reason) && text.contains("12D3Koo"),
                "{reason}: {text}"
            );
            assert!(error.is_retryable());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn silence_is_an_error_that_says_what_was_waited_for() {
        let rows = [
            (vec![], Phase::Initial, config().initial_timeout),
            (vec![block(1)], Phase::Idle, config().idle_timeout),
        ];
        for (frames, phase, after) in rows {
            // The stream that would send more stays open.
            let (one, other) = duplex(1 << 20);
            let mut one = one.compat();
            for (kind, payload) in frames {
                write_frame(&mut one, kind, &[&payload], SECOND)
                    .await
                    .unwrap();
            }
            let endpoint = Endpoint::of_node(&config().identity.node_id());
            let request = StreamRequest::range("ch".parse().unwrap(), 1.into(), 3.into());
            let answer = Answer::new(other.compat(), endpoint, &request, config());
            let last = within("the time-out", answer.into_stream().collect::<Vec<_>>())
                .await
                .pop();
            let Some(Err(SourceError::TimedOut {
                phase: waited,
                after: long,
                ..
            })) = last
            else {
                panic!("{last:?}")
            };
            assert_eq!((waited, long), (phase, after));
        }
    }

    #[tokio::test]
    async fn nothing_is_read_before_it_is_asked_for() {
        // Two blocks fit into the pipe; the third write has to wait for a read.
        let (_, raw) = block(1);
        let (one, other) = duplex(2 * (raw.len() + 5));
        let mut one = one.compat();
        let endpoint = Endpoint::of_node(&config().identity.node_id());
        let request = StreamRequest::range("ch".parse().unwrap(), 1.into(), 3.into());
        let mut stream = Answer::new(other.compat(), endpoint, &request, config()).into_stream();
        for n in [1, 2] {
            let (kind, payload) = block(n);
            write_frame(&mut one, kind, &[&payload], SECOND)
                .await
                .unwrap();
        }
        let (kind, payload) = block(3);
        let third = write_frame(&mut one, kind, &[&payload], Duration::from_millis(50)).await;
        assert!(
            matches!(third, Err(FrameError::NotTaken { .. })),
            "{third:?}"
        );
        assert!(
            matches!(stream.next().await, Some(Ok(Delivery::Block(block))) if block.number() == 1.into())
        );
    }
}
