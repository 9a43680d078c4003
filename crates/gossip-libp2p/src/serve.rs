// SPDX-License-Identifier: Apache-2.0
//! Serving blocks to peers, from the readers of the channels that were joined.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use block_api::{
    Block, BlockNumber, BlockReader, Content, DeliverStatus, ReadError, ReadLimits, Start, Stop,
};
use futures::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::{sync::watch, time::timeout};

use crate::{
    frames::{self, FrameError, Pace, Patience, flush, read_frame, write_frame, write_paced},
    stats::Counters,
    topic::TopicId,
    wire::{RangeRequest, Unreadable, put_end},
};

/// What is served: the readers of all channels.
pub(crate) type Library = BTreeMap<TopicId, Arc<dyn BlockReader>>;

/// The longest request.
const MAX_REQUEST: usize = 1024;

/// How much is read from the store at a time; a longer block is read alone.
const BATCH_BLOCKS: usize = 256;
const BATCH_BYTES: usize = 1024 * 1024;

/// Serves the request on a stream to its end. Who may not have the channel is told so.
///
/// # Errors
///
/// When the requester does not ask, or does not take what it asked for.
pub(crate) async fn serve<S>(
    stream: &mut S,
    library: &watch::Receiver<Library>,
    may_have: impl Fn(TopicId) -> bool,
    patience: Duration,
    counters: &Counters,
) -> Result<(), FrameError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let wait = Patience {
        first: Some(patience),
        next: patience,
    };
    let Some(frame) = read_frame(stream, MAX_REQUEST, wait).await? else {
        return Ok(());
    };
    let status = match RangeRequest::parse(&frame.payload) {
        Ok(request) if frame.kind == frames::REQUEST => {
            let reader = library.borrow().get(&request.topic).cloned();
            match reader {
                Some(_) if !may_have(request.topic) => {
                    counters.not_entitled.increment();
                    DeliverStatus::Forbidden
                }
                Some(reader) => {
                    let may_have = || may_have(request.topic);
                    send(stream, &*reader, &request, may_have, patience, counters).await?
                }
                None => DeliverStatus::NotFound,
            }
        }
        Err(Unreadable::Version(_)) => {
            // A newer release may ask so.
            counters.malformed.increment();
            DeliverStatus::BadRequest
        }
        _ => {
            counters.malformed.increment();
            end(stream, DeliverStatus::BadRequest, patience).await?;
            return Err(FrameError::NotUnderstood);
        }
    };
    counters.requests_served.increment();
    end(stream, status, patience).await
}

/// Tells a requester to come back later.
///
/// # Errors
///
/// When it does not take the answer.
pub(crate) async fn refuse<S>(stream: &mut S, patience: Duration) -> Result<(), FrameError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    // Its request is read, so that closing the stream does not cut the answer off.
    let wait = Patience {
        first: Some(patience),
        next: patience,
    };
    read_frame(stream, MAX_REQUEST, wait).await?;
    end(stream, DeliverStatus::Unavailable, patience).await
}

/// Says how an answer ended, and closes the stream.
pub(crate) async fn end<S>(
    stream: &mut S,
    status: DeliverStatus,
    patience: Duration,
) -> Result<(), FrameError>
where
    S: AsyncWrite + Unpin,
{
    write_frame(stream, frames::END, &[&put_end(status)], patience).await?;
    Ok(timeout(patience, stream.close())
        .await
        .map_err(|_| FrameError::NotTaken { after: patience })??)
}

/// Sends the blocks of a range, and says how it ended. A requester takes as long as it likes, and may
/// lose the right meanwhile: it is asked about before each block.
async fn send<S>(
    stream: &mut S,
    reader: &dyn BlockReader,
    request: &RangeRequest,
    may_have: impl Fn() -> bool,
    patience: Duration,
    counters: &Counters,
) -> Result<DeliverStatus, FrameError>
where
    S: AsyncWrite + Unpin,
{
    let info = reader.info();
    // Without any block there is no newest one; the next one is not there either.
    let newest = info.height.tip().unwrap_or_default();
    let mut next = match request.start {
        Start::Oldest => info.first,
        Start::Newest => newest,
        Start::At(number) => number,
    };
    let last = match request.stop {
        Stop::Newest => newest,
        Stop::At(number) => number,
        Stop::Never => BlockNumber::new(u64::MAX),
    };
    if next > last {
        return Ok(DeliverStatus::BadRequest);
    }
    let mut pace = Pace::new(patience);
    loop {
        // No more than is asked for: blocks that are read and not sent cost the store for nothing.
        let wanted = usize::try_from(last.get() - next.get())
            .unwrap_or(usize::MAX)
            .saturating_add(1);
        let batch = match reader
            .read(next, ReadLimits::new(wanted.min(BATCH_BLOCKS), BATCH_BYTES))
            .await
        {
            Ok(batch) => batch,
            Err(ReadError::Gone { .. }) => return Ok(DeliverStatus::NotFound),
            Err(ReadError::Closed) => return Ok(DeliverStatus::Unavailable),
            Err(_) => return Ok(DeliverStatus::InternalError),
        };
        if batch.is_empty() {
            return Ok(DeliverStatus::NotFound);
        }
        for raw in batch {
            let Ok(block) = Block::parse(raw) else {
                return Ok(DeliverStatus::InternalError);
            };
            if !may_have() {
                counters.not_entitled.increment();
                return Ok(DeliverStatus::Forbidden);
            }
            if !send_block(stream, &block, request, &mut pace).await? {
                return Ok(DeliverStatus::TooLarge);
            }
            counters.blocks_served.increment();
            if next >= last {
                return Ok(DeliverStatus::Success);
            }
            let Some(after) = next.next() else {
                return Ok(DeliverStatus::Success);
            };
            next = after;
        }
        flush(stream, patience).await?;
    }
}

/// Sends a block; `false` when it is longer than the requester takes.
async fn send_block<S>(
    stream: &mut S,
    block: &Block,
    request: &RangeRequest,
    pace: &mut Pace,
) -> Result<bool, FrameError>
where
    S: AsyncWrite + Unpin,
{
    let relay = match request.content {
        Content::Headers if !block.is_config() => block.without_data().relay(),
        Content::Blocks | Content::Headers => block.relay(),
    };
    if relay.len() as u64 > request.max_block {
        return Ok(false);
    }
    write_paced(stream, frames::BLOCK, &[&relay.body, &relay.metadata], pace).await?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use block_api::{
        HeaderHash,
        testing::{MemoryStore, TestChain, within},
    };
    use tokio::io::{DuplexStream, duplex};
    use tokio_util::compat::{Compat, TokioAsyncReadCompatExt};

    use super::*;
    use crate::{frames::Frame, wire::parse_end};

    const SECOND: Duration = Duration::from_secs(1);
    const PATIENCE: Patience = Patience {
        first: Some(SECOND),
        next: SECOND,
    };
    const TOPIC: TopicId = TopicId::new([1; 32]);

    fn request(start: Start, stop: Stop) -> RangeRequest {
        RangeRequest {
            topic: TOPIC,
            start,
            stop,
            content: Content::Blocks,
            max_block: u64::MAX,
        }
    }

    fn at(number: u64) -> BlockNumber {
        BlockNumber::new(number)
    }

    async fn store(count: usize, bytes: usize) -> MemoryStore {
        let (_, blocks) = TestChain::of_blocks("ch", count, bytes);
        MemoryStore::with(blocks.iter().map(TestChain::verified).collect()).await
    }

    fn library(store: MemoryStore) -> watch::Receiver<Library> {
        let library = Library::from([(TOPIC, Arc::new(store) as Arc<dyn BlockReader>)]);
        watch::channel(library).1
    }

    async fn answer(stream: &mut Compat<DuplexStream>) -> (Vec<Block>, DeliverStatus) {
        let mut blocks = Vec::new();
        loop {
            let frame = within("an answer", read_frame(stream, usize::MAX, PATIENCE))
                .await
                .unwrap();
            let Frame { kind, payload } = frame.unwrap();
            if kind == frames::END {
                return (blocks, parse_end(&payload).unwrap());
            }
            assert_eq!(kind, frames::BLOCK);
            blocks.push(Block::parse(payload.into()).unwrap());
        }
    }

    async fn ask(
        store: MemoryStore,
        kind: u8,
        request: &[u8],
    ) -> (Vec<Block>, DeliverStatus, Counters) {
        let (one, other) = duplex(1 << 12);
        let (mut one, mut other) = (one.compat(), other.compat());
        let (library, counters) = (library(store), Counters::default());
        let asking = async {
            write_frame(&mut one, kind, &[request], SECOND)
                .await
                .unwrap();
            answer(&mut one).await
        };
        let (served, (blocks, status)) = tokio::join!(
            serve(&mut other, &library, |_| true, SECOND, &counters),
            asking
        );
        let understood = !matches!(served, Err(FrameError::NotUnderstood));
        assert!(served.is_ok() || !understood, "{served:?}");
        let newer = request.first().is_some_and(|version| *version > 1);
        assert_eq!(understood, counters.snapshot().malformed == 0 || newer);
        (blocks, status, counters)
    }

    #[tokio::test]
    async fn ranges_end_as_their_bounds_say() {
        let (newest, oldest, never) = (Start::Newest, Start::Oldest, Stop::Never);
        let rows = [
            (
                Start::At(at(2)),
                Stop::At(at(4)),
                vec![2, 3, 4],
                DeliverStatus::Success,
            ),
            (
                Start::At(at(2)),
                Stop::At(at(2)),
                vec![2],
                DeliverStatus::Success,
            ),
            (
                Start::At(at(4)),
                Stop::At(at(9)),
                vec![4, 5],
                DeliverStatus::NotFound,
            ),
            (
                Start::At(at(6)),
                Stop::At(at(9)),
                vec![],
                DeliverStatus::NotFound,
            ),
            (
                Start::At(at(4)),
                Stop::At(at(3)),
                vec![],
                DeliverStatus::BadRequest,
            ),
            (
                Start::At(at(9)),
                Stop::Newest,
                vec![],
                DeliverStatus::BadRequest,
            ),
            (
                Start::At(at(4)),
                Stop::Newest,
                vec![4, 5],
                DeliverStatus::Success,
            ),
            (Start::At(at(4)), never, vec![4, 5], DeliverStatus::NotFound),
            (
                oldest,
                Stop::Newest,
                vec![0, 1, 2, 3, 4, 5],
                DeliverStatus::Success,
            ),
            (newest, Stop::Newest, vec![5], DeliverStatus::Success),
            (newest, never, vec![5], DeliverStatus::NotFound),
            (oldest, Stop::At(at(1)), vec![0, 1], DeliverStatus::Success),
            (
                Start::At(at(u64::MAX)),
                never,
                vec![],
                DeliverStatus::NotFound,
            ),
        ];
        for (start, stop, numbers, status) in rows {
            let asked = request(start, stop);
            let (blocks, ended, counters) =
                ask(store(6, 100).await, frames::REQUEST, &asked.encode()).await;
            let got: Vec<u64> = blocks.iter().map(|block| block.number().get()).collect();
            assert_eq!((got, ended), (numbers, status), "{asked:?}");
            assert!(
                blocks.iter().all(|block| block.slot_count() == 1),
                "only the signatures travel"
            );
            assert_eq!(counters.snapshot().blocks_served, blocks.len() as u64);
        }
    }

    #[tokio::test]
    async fn many_batches_make_one_range() {
        let asked = request(Start::At(at(0)), Stop::At(at(699)));
        let (blocks, status, _) =
            ask(store(700, 3000).await, frames::REQUEST, &asked.encode()).await;
        assert_eq!((blocks.len(), status), (700, DeliverStatus::Success));
    }

    #[tokio::test]
    async fn headers_come_without_data_but_for_config_blocks() {
        let asked = RangeRequest {
            content: Content::Headers,
            ..request(Start::Oldest, Stop::Newest)
        };
        let (blocks, _, _) = ask(store(3, 5000).await, frames::REQUEST, &asked.encode()).await;
        let with_data: Vec<bool> = blocks.iter().map(Block::has_data).collect();
        assert_eq!(with_data, [true, false, false]);
    }

    #[tokio::test]
    async fn a_block_that_is_too_long_for_the_requester_ends_the_answer() {
        let asked = RangeRequest {
            max_block: 1000,
            ..request(Start::Oldest, Stop::Newest)
        };
        let (blocks, status, _) = ask(store(3, 5000).await, frames::REQUEST, &asked.encode()).await;
        assert_eq!((blocks.len(), status), (1, DeliverStatus::TooLarge));
    }

    #[tokio::test]
    async fn what_is_not_here_and_what_is_nonsense_is_told() {
        let other_channel = RangeRequest {
            topic: TopicId::new([2; 32]),
            ..request(Start::Oldest, Stop::Newest)
        };
        let (_, status, counters) =
            ask(store(3, 10).await, frames::REQUEST, &other_channel.encode()).await;
        assert_eq!(
            (status, counters.snapshot().malformed),
            (DeliverStatus::NotFound, 0)
        );
        for (kind, bytes) in [
            (frames::REQUEST, vec![]),
            (frames::REQUEST, vec![1, 8]),
            (frames::REQUEST, vec![2, 8]),
            (frames::BLOCK, vec![]),
        ] {
            let (_, status, counters) = ask(store(3, 10).await, kind, &bytes).await;
            assert_eq!(
                (status, counters.snapshot().malformed),
                (DeliverStatus::BadRequest, 1)
            );
        }
        let empty = ask(
            MemoryStore::default(),
            frames::REQUEST,
            &request(Start::Oldest, Stop::Never).encode(),
        )
        .await;
        assert_eq!(empty.1, DeliverStatus::NotFound);
        let young = MemoryStore::after(at(7), HeaderHash::new([1; 32]));
        let below = request(Start::At(at(3)), Stop::At(at(9)));
        assert_eq!(
            ask(young, frames::REQUEST, &below.encode()).await.1,
            DeliverStatus::NotFound
        );
    }

    /// A config block takes a right away while a range of all that is to come is taken slowly.
    ///
    /// Covers: GCH-21
    #[tokio::test]
    async fn a_range_ends_where_the_right_is_lost() {
        let counters = Counters::default();
        let library = library(store(100, 100).await);
        // Room for less than a block: each one is sent when the one before was taken.
        let (one, other) = duplex(100);
        let (mut one, mut other) = (one.compat(), other.compat());
        let may = std::cell::Cell::new(true);
        let asking = async {
            let asked = request(Start::Oldest, Stop::Never).encode();
            write_frame(&mut one, frames::REQUEST, &[&asked], SECOND)
                .await
                .unwrap();
            for _ in 0..3 {
                let frame = read_frame(&mut one, usize::MAX, PATIENCE).await.unwrap();
                assert_eq!(frame.unwrap().kind, frames::BLOCK);
            }
            may.set(false);
            answer(&mut one).await
        };
        let (served, (blocks, status)) = tokio::join!(
            serve(&mut other, &library, |_| may.get(), SECOND, &counters),
            asking
        );
        served.unwrap();
        assert_eq!(status, DeliverStatus::Forbidden);
        assert!(
            blocks.len() <= 1,
            "only what was under way: {}",
            blocks.len()
        );
        assert_eq!(counters.snapshot().not_entitled, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_nothing_or_takes_nothing_is_given_up() {
        let counters = Counters::default();
        let library = library(store(3, 5000).await);
        let (one, other) = duplex(100);
        let (mut one, mut other) = (one.compat(), other.compat());
        let silent = serve(&mut other, &library, |_| true, SECOND, &counters).await;
        assert!(
            matches!(silent, Err(FrameError::NothingCame { .. })),
            "{silent:?}"
        );
        write_frame(
            &mut one,
            frames::REQUEST,
            &[&request(Start::Oldest, Stop::Newest).encode()],
            SECOND,
        )
        .await
        .unwrap();
        let stuck = serve(&mut other, &library, |_| true, SECOND, &counters).await;
        assert!(
            matches!(stuck, Err(FrameError::NotTaken { .. })),
            "{stuck:?}"
        );
    }

    #[tokio::test]
    async fn who_comes_when_there_is_no_room_is_told_to_come_back() {
        let (one, other) = duplex(1 << 12);
        let (mut one, mut other) = (one.compat(), other.compat());
        let asked = request(Start::Oldest, Stop::Newest).encode();
        write_frame(&mut one, frames::REQUEST, &[&asked], SECOND)
            .await
            .unwrap();
        refuse(&mut other, SECOND).await.unwrap();
        assert_eq!(answer(&mut one).await.1, DeliverStatus::Unavailable);
    }
}
