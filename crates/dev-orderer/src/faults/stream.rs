// SPDX-License-Identifier: Apache-2.0
//! A Deliver stream to which scripted faults happen.

use std::{collections::VecDeque, pin::Pin};

use block_api::{Block, BlockNumber};
use futures::{Stream, StreamExt as _, stream};
use protos::deliver::{DeliverMessage, RawDeliverResponse};
use tokio::{sync::watch, time};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::{Fault, Mutation, Script, When};
use crate::service::Tally;

/// So many blocks at most are sent again.
const RECENT: usize = 8;

type Item = Result<RawDeliverResponse, Status>;

/// A stream, its faults, and how far it has come.
struct Faulty<S> {
    inner: Pin<Box<S>>,
    script: Script,
    changes: watch::Receiver<Vec<(When, Fault)>>,
    index: u64,
    /// Cuts the connection that the stream is on.
    cut: CancellationToken,
    /// Cancelled when the server stops.
    stop: CancellationToken,
    blocks_sent: usize,
    unset_sent: bool,
    /// The last blocks that were sent, for faults that send them again, unless they did.
    recent: VecDeque<RawDeliverResponse>,
    repeated: bool,
    replayed: bool,
    /// What is to be sent again now.
    again: VecDeque<RawDeliverResponse>,
    tally: Tally,
    /// Whether the tally has this stream among those that gave data.
    tallied: bool,
    /// A message that is ready and held up.
    held: Option<Item>,
    ended: bool,
}

/// What the script says before a message.
enum Turn {
    Send(Item),
    SendLast(Item),
    /// Nothing happens until the script changes.
    Wait,
    Cut,
    /// The inner stream has to say what comes.
    Fetch,
}

/// The stream, with what the script has for the Deliver stream of this index. It ends when `stop`
/// is cancelled, also while it is held up.
pub(crate) fn faulty<S>(
    inner: S,
    script: Script,
    index: u64,
    cut: CancellationToken,
    stop: CancellationToken,
    tally: Tally,
) -> impl Stream<Item = Item> + Send
where
    S: Stream<Item = Item> + Send + 'static,
{
    let changes = script.changes();
    let state = Faulty {
        inner: Box::pin(inner),
        script,
        changes,
        index,
        cut,
        stop,
        blocks_sent: 0,
        unset_sent: false,
        recent: VecDeque::new(),
        repeated: false,
        replayed: false,
        again: VecDeque::new(),
        tally,
        tallied: false,
        held: None,
        ended: false,
    };
    stream::unfold(state, |mut state| async move {
        state.next_or_stop().await.map(|item| (item, state))
    })
}

impl<S: Stream<Item = Item> + Send> Faulty<S> {
    async fn next_or_stop(&mut self) -> Option<Item> {
        let stop = self.stop.clone();
        tokio::select! {
            biased;
            () = stop.cancelled(), if !self.ended => {
                self.ended = true;
                Some(Err(Status::unavailable("the server is stopping")))
            }
            item = self.next() => item,
        }
    }

    async fn next(&mut self) -> Option<Item> {
        while !self.ended {
            // What changes after the faults were looked at is seen by the wait below.
            self.changes.mark_unchanged();
            let faults = self.script.faults(self.index);
            match self.turn(&faults) {
                Turn::Send(item) => {
                    if let Some(delay) = delay(&faults) {
                        time::sleep(delay).await;
                    }
                    return Some(item);
                }
                Turn::SendLast(item) => {
                    self.ended = true;
                    return Some(item);
                }
                Turn::Wait => self.changed().await,
                Turn::Cut => {
                    self.cut.cancel();
                    // The connection goes, and this stream with it; there is nothing to send.
                    std::future::pending::<()>().await;
                }
                Turn::Fetch => {
                    let fetched = tokio::select! {
                        biased;
                        _ = self.changes.changed() => continue,
                        item = self.inner.next() => item,
                    };
                    match fetched {
                        Some(item) => self.held = Some(item),
                        None => self.ended = true,
                    }
                }
            }
        }
        None
    }

    fn turn(&mut self, faults: &[Fault]) -> Turn {
        for fault in faults {
            match fault {
                Fault::Hang => return Turn::Wait,
                Fault::Refuse { status } if self.blocks_sent == 0 => {
                    return Turn::SendLast(Ok(status_of(*status)));
                }
                Fault::Cut { after } if self.blocks_sent >= *after => return Turn::Cut,
                Fault::Status { after, status } if self.blocks_sent >= *after => {
                    return Turn::SendLast(Ok(status_of(*status)));
                }
                Fault::Unset { after } if self.blocks_sent >= *after && !self.unset_sent => {
                    self.unset_sent = true;
                    return Turn::Send(Ok(RawDeliverResponse::from_bytes(bytes::Bytes::new())));
                }
                Fault::Stall { after } if self.blocks_sent >= *after => return Turn::Wait,
                Fault::Repeat { after } if self.blocks_sent >= *after && !self.repeated => {
                    if let Some(last) = self.recent.back().cloned() {
                        self.repeated = true;
                        return Turn::Send(Ok(last));
                    }
                }
                Fault::Replay { after } if self.blocks_sent >= *after && !self.replayed => {
                    self.replayed = !self.recent.is_empty();
                    self.again = self.recent.clone();
                }
                Fault::RefuseConnection
                | Fault::RefuseTls
                | Fault::Refuse { .. }
                | Fault::Withhold { .. }
                | Fault::Delay { .. }
                | Fault::Cut { .. }
                | Fault::Status { .. }
                | Fault::Unset { .. }
                | Fault::Stall { .. }
                | Fault::Repeat { .. }
                | Fault::Replay { .. }
                | Fault::Corrupt { .. }
                | Fault::CorruptAll { .. } => {}
            }
        }
        if let Some(again) = self.again.pop_front() {
            return Turn::Send(Ok(again));
        }
        let Some(item) = self.held.take() else {
            return Turn::Fetch;
        };
        let Some(block) = block_of(&item) else {
            return Turn::Send(item);
        };
        if faults.iter().any(|fault| withholds(fault, &block)) {
            self.held = Some(item);
            return Turn::Wait;
        }
        self.blocks_sent += 1;
        if block.has_data() {
            self.tally.sent(block.number());
            // Config blocks come whole in streams of headers, too.
            if !self.tallied && !block.is_config() {
                self.tallied = true;
                self.tally.gave();
            }
        }
        let item = corrupted(faults, &block).map_or(item, Ok);
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.extend(item.as_ref().ok().cloned());
        Turn::Send(item)
    }

    async fn changed(&mut self) {
        // The script is held here, so that its sender lives.
        let _ = self.changes.changed().await;
    }
}

fn block_of(item: &Item) -> Option<Block> {
    match item.as_ref().ok()?.clone().parse() {
        Ok(DeliverMessage::Block(raw)) => Block::parse(raw).ok(),
        Ok(DeliverMessage::Status(_) | DeliverMessage::Unset) | Err(_) => None,
    }
}

fn withholds(fault: &Fault, block: &Block) -> bool {
    matches!(fault, Fault::Withhold { after } if block.has_data() && block.number() > *after)
}

fn corrupted(faults: &[Fault], block: &Block) -> Option<RawDeliverResponse> {
    let mut raw = None;
    for fault in faults {
        if let Some(mutation) = mutation_of(fault, block.number()) {
            raw = Some(mutation.apply(raw.as_ref().unwrap_or(block.raw())));
        }
    }
    raw.map(RawDeliverResponse::block)
}

/// What a fault does to the block of a number.
fn mutation_of(fault: &Fault, number: BlockNumber) -> Option<Mutation> {
    if let Fault::CorruptAll { mutation } = fault {
        return Some(*mutation);
    }
    if let Fault::Corrupt { block, mutation } = fault
        && *block == number
    {
        return Some(*mutation);
    }
    None
}

fn delay(faults: &[Fault]) -> Option<std::time::Duration> {
    faults.iter().find_map(|fault| {
        if let Fault::Delay { by } = fault {
            Some(*by)
        } else {
            None
        }
    })
}

/// A response with a status that may be none of those that there are.
fn status_of(code: i32) -> RawDeliverResponse {
    let mut bytes = Vec::new();
    block_api::wire::put_uint(&mut bytes, 1, i64::from(code) as u64);
    if code == 0 {
        // A member of a oneof is there even when it is zero.
        bytes = vec![8, 0];
    }
    RawDeliverResponse::from_bytes(bytes.into())
}

#[cfg(test)]
mod tests {
    use std::{pin::pin, time::Duration};

    use bytes::Bytes;
    use futures::{FutureExt as _, StreamExt as _};

    use super::*;

    fn block(number: u64) -> Block {
        Block::assemble::<_, &[u8]>(BlockNumber::new(number), &[7; 32], &[b"data"], &[])
    }

    fn source(blocks: impl IntoIterator<Item = u64>) -> impl Stream<Item = Item> + Send + 'static {
        let blocks: Vec<Item> = blocks
            .into_iter()
            .map(|n| Ok(RawDeliverResponse::block(block(n).raw().clone())))
            .collect();
        stream::iter(blocks).chain(stream::pending())
    }

    fn run(
        script: &Script,
        index: u64,
    ) -> (Pin<Box<dyn Stream<Item = Item> + Send>>, CancellationToken) {
        let cut = CancellationToken::new();
        (
            Box::pin(faulty(
                source(1..=3),
                script.clone(),
                index,
                cut.clone(),
                CancellationToken::new(),
                Tally::default(),
            )),
            cut,
        )
    }

    /// What is there without waiting: numbers of blocks, statuses, and what else comes.
    fn ready(stream: &mut (impl Stream<Item = Item> + Unpin)) -> Vec<String> {
        let mut seen = Vec::new();
        loop {
            seen.push(match stream.next().now_or_never() {
                None => return seen,
                Some(None) => "end".to_owned(),
                Some(Some(item)) => match item.unwrap().parse().unwrap() {
                    DeliverMessage::Block(raw) => match Block::parse(raw) {
                        Ok(block) => block.number().to_string(),
                        Err(_) => "malformed".to_owned(),
                    },
                    DeliverMessage::Status(code) => format!("status {code}"),
                    DeliverMessage::Unset => "unset".to_owned(),
                },
            });
            if seen.last().is_some_and(|last| last == "end") {
                return seen;
            }
        }
    }

    #[tokio::test]
    async fn each_fault_happens_where_it_shall() {
        let after = |n| BlockNumber::new(n);
        let rows: [(Fault, &[&str]); 16] = [
            (Fault::RefuseTls, &["1", "2", "3"]),
            (Fault::Refuse { status: 503 }, &["status 503", "end"]),
            (Fault::Refuse { status: -7 }, &["status -7", "end"]),
            (Fault::Hang, &[]),
            (Fault::Withhold { after: after(2) }, &["1", "2"]),
            (
                Fault::Status {
                    after: 2,
                    status: 200,
                },
                &["1", "2", "status 200", "end"],
            ),
            (
                Fault::Status {
                    after: 0,
                    status: 0,
                },
                &["status 0", "end"],
            ),
            (Fault::Unset { after: 1 }, &["1", "unset", "2", "3"]),
            (Fault::Stall { after: 2 }, &["1", "2"]),
            (Fault::Repeat { after: 2 }, &["1", "2", "2", "3"]),
            (Fault::Repeat { after: 0 }, &["1", "1", "2", "3"]),
            (Fault::Replay { after: 2 }, &["1", "2", "1", "2", "3"]),
            (Fault::Replay { after: 0 }, &["1", "1", "2", "3"]),
            (
                Fault::CorruptAll {
                    mutation: Mutation::NoHeader,
                },
                &["malformed", "malformed", "malformed"],
            ),
            (
                Fault::CorruptAll {
                    mutation: Mutation::Number(after(9)),
                },
                &["9", "9", "9"],
            ),
            (
                Fault::Corrupt {
                    block: after(2),
                    mutation: Mutation::Number(after(9)),
                },
                &["1", "9", "3"],
            ),
        ];
        for (fault, expected) in rows {
            let script = Script::new().with(When::Nth(4), fault.clone());
            let (mut stream, cut) = run(&script, 4);
            assert_eq!(ready(&mut stream), expected, "{fault:?}");
            assert!(!cut.is_cancelled(), "{fault:?}");
            assert_eq!(
                ready(&mut run(&script, 5).0),
                ["1", "2", "3"],
                "another stream, {fault:?}"
            );
        }
    }

    #[tokio::test]
    async fn a_cut_takes_the_connection() {
        let (mut stream, cut) = run(
            &Script::new().with(When::Always, Fault::Cut { after: 1 }),
            0,
        );
        assert_eq!(ready(&mut stream), ["1"]);
        assert!(cut.is_cancelled());
    }

    #[tokio::test]
    async fn a_script_that_changes_lets_a_held_stream_go_on() {
        let script = Script::new().with(
            When::Always,
            Fault::Withhold {
                after: BlockNumber::new(1),
            },
        );
        let (mut stream, _cut) = run(&script, 0);
        assert_eq!(ready(&mut stream), ["1"]);
        script.clear();
        assert_eq!(ready(&mut stream), ["2", "3"]);
        // It waits for a block, and learns of the change nevertheless.
        let mut next = pin!(stream.next());
        assert!(next.as_mut().now_or_never().is_none());
        script.add(
            When::Always,
            Fault::Status {
                after: 3,
                status: 503,
            },
        );
        let message = time::timeout(Duration::from_secs(10), next)
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        assert_eq!(message.parse().unwrap(), DeliverMessage::Status(503));
    }

    #[tokio::test]
    async fn headers_pass_where_blocks_are_withheld() {
        let headers = stream::iter([Ok(RawDeliverResponse::block(
            block(5).without_data().raw().clone(),
        ))]);
        let script = Script::new().with(
            When::Always,
            Fault::Withhold {
                after: BlockNumber::new(1),
            },
        );
        let mut stream = Box::pin(faulty(
            headers,
            script,
            0,
            CancellationToken::new(),
            CancellationToken::new(),
            Tally::default(),
        ));
        assert_eq!(ready(&mut stream), ["5", "end"]);
    }

    #[tokio::test]
    async fn a_stop_ends_a_stream_that_is_held_up() {
        let stop = CancellationToken::new();
        let script = Script::new().with(When::Always, Fault::Hang);
        let mut stream = Box::pin(faulty(
            source(1..=3),
            script,
            0,
            CancellationToken::new(),
            stop.clone(),
            Tally::default(),
        ));
        assert!(stream.next().now_or_never().is_none());
        stop.cancel();
        assert_eq!(
            stream.next().await.unwrap().unwrap_err().code(),
            tonic::Code::Unavailable
        );
        assert!(stream.next().await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_delay_is_kept_before_each_message() {
        let by = Duration::from_secs(3);
        let (mut stream, _cut) = run(&Script::new().with(When::Always, Fault::Delay { by }), 0);
        let start = time::Instant::now();
        stream.next().await.unwrap().unwrap();
        stream.next().await.unwrap().unwrap();
        assert_eq!(start.elapsed(), by * 2);
    }

    #[tokio::test]
    async fn several_mutations_of_one_block_add_up() {
        let number = BlockNumber::new(1);
        let script = Script::new()
            .with(
                When::Always,
                Fault::Corrupt {
                    block: number,
                    mutation: Mutation::NoData,
                },
            )
            .with(
                When::Always,
                Fault::Corrupt {
                    block: number,
                    mutation: Mutation::FlipDataHash,
                },
            );
        let (mut stream, _cut) = run(&script, 0);
        let message = stream.next().await.unwrap().unwrap().parse().unwrap();
        let DeliverMessage::Block(raw) = message else {
            panic!("{message:?}")
        };
        let changed = Block::parse(raw).unwrap();
        assert!(!changed.has_data());
        assert_ne!(changed.header().data_hash, block(1).header().data_hash);
        assert_eq!(
            Bytes::copy_from_slice(changed.header().previous_hash),
            Bytes::from_static(&[7; 32])
        );
    }
}
