// SPDX-License-Identifier: Apache-2.0
//! Telling a peer how this node stands in the channels that both have, and hearing the same.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use futures::{AsyncRead, AsyncWrite};
use libp2p::PeerId;
use tokio::{
    sync::{mpsc, watch},
    time::sleep,
};
use tracing::{debug, warn};

use crate::{
    channels::MAX_STATUS,
    event_loop::Report,
    frames::{self, FrameError, Patience, flush, read_frame, write_frame},
    handle::Opener,
    stats::Counters,
    streams::STATUS,
    topic::TopicId,
    wire::{StatusMessage, UnreadableStatus},
};

/// How long to wait before a stream is opened again that failed; doubled up to [`MAX_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// What a peer is to know: the newest status of each channel that both have. A value is replaced
/// while the peer takes its time, so that a slow one costs no memory.
pub(crate) type Outbox = BTreeMap<TopicId, Entry>;

/// A status, and a number that differs whenever it is to be sent anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) version: u64,
    pub(crate) status: Bytes,
}

/// Tells a peer what is in its outbox, until the outbox is dropped.
pub(crate) async fn tell(
    peer: PeerId,
    mut outbox: watch::Receiver<Outbox>,
    opener: Opener,
    patience: Duration,
) {
    let mut pause = FIRST_PAUSE;
    loop {
        if outbox.wait_for(|outbox| !outbox.is_empty()).await.is_err() {
            return;
        }
        let error = match opener.open(peer, STATUS).await {
            Ok(mut stream) => match tell_on(&mut stream, &mut outbox, patience, &mut pause).await {
                Ok(()) => return,
                Err(error) => error.to_string(),
            },
            Err(error) => error.to_string(),
        };
        debug!(%peer, error, "status not told");
        sleep(pause).await;
        pause = (pause * 2).min(MAX_PAUSE);
    }
}

/// Hears the statuses of a peer and reports them, until its stream ends.
pub(crate) async fn hear<S>(
    peer: PeerId,
    mut stream: S,
    reports: mpsc::Sender<Report>,
    patience: Duration,
    counters: &Counters,
) where
    S: AsyncRead + Unpin,
{
    // A peer that has nothing to tell is silent; whether it lives, ping finds out.
    let patience = Patience {
        first: None,
        next: patience,
    };
    loop {
        let frame = match read_frame(&mut stream, MAX_STATUS, patience).await {
            Ok(Some(frame)) => frame,
            Ok(None) => return,
            Err(error) => {
                if matches!(error, FrameError::TooLong { .. }) {
                    counters.malformed.increment();
                }
                debug!(%peer, %error, "status stream broke");
                return;
            }
        };
        if frame.kind != frames::STATUS {
            continue;
        }
        let message = match StatusMessage::parse(&frame.payload.into()) {
            Ok(message) => message,
            Err(error @ UnreadableStatus::Version(_)) => {
                warn!(%peer, %error, "status of another release skipped");
                continue;
            }
            Err(error) => {
                counters.malformed.increment();
                debug!(%peer, %error, "status stream closed");
                return;
            }
        };
        // While the event loop is busy, the peer waits.
        if reports
            .send(Report::Status { peer, message })
            .await
            .is_err()
        {
            return;
        }
    }
}

/// Tells what is in the outbox, and what changes in it, on one stream.
async fn tell_on<S>(
    stream: &mut S,
    outbox: &mut watch::Receiver<Outbox>,
    patience: Duration,
    pause: &mut Duration,
) -> Result<(), FrameError>
where
    S: AsyncWrite + Unpin,
{
    let mut told: BTreeMap<TopicId, u64> = BTreeMap::new();
    loop {
        let news: Vec<Entry> = {
            let outbox = outbox.borrow_and_update();
            told.retain(|topic, _| outbox.contains_key(topic));
            let fresh = |(topic, entry): (&TopicId, &Entry)| {
                (told.insert(*topic, entry.version) != Some(entry.version)).then(|| entry.clone())
            };
            outbox.iter().filter_map(fresh).collect()
        };
        for entry in &news {
            write_frame(stream, frames::STATUS, &[&entry.status], patience).await?;
        }
        if !news.is_empty() {
            flush(stream, patience).await?;
            *pause = FIRST_PAUSE;
        }
        if outbox.changed().await.is_err() {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use block_api::{BlockNumber, ChannelStatus, Height, testing::within};
    use tokio::io::{DuplexStream, duplex};
    use tokio_util::compat::{Compat, TokioAsyncReadCompatExt};

    use super::*;
    use crate::frames::Frame;

    const SECOND: Duration = Duration::from_secs(1);

    fn message(topic: u8, height: u64) -> StatusMessage {
        let status = ChannelStatus {
            first: BlockNumber::GENESIS,
            height: Height::new(height),
            tip: None,
            pulling: false,
        };
        StatusMessage {
            topic: TopicId::new([topic; 32]),
            status,
        }
    }

    fn entry(version: u64, topic: u8, height: u64) -> (TopicId, Entry) {
        let status = message(topic, height).encode().into();
        (TopicId::new([topic; 32]), Entry { version, status })
    }

    async fn heard(stream: &mut Compat<DuplexStream>) -> (TopicId, u64) {
        let patience = Patience {
            first: None,
            next: SECOND,
        };
        let frame = within("a status", read_frame(stream, MAX_STATUS, patience))
            .await
            .unwrap();
        let Frame { kind, payload } = frame.unwrap();
        assert_eq!(kind, frames::STATUS);
        let StatusMessage { topic, status } = StatusMessage::parse(&payload.into()).unwrap();
        (topic, status.height.get())
    }

    /// Covers: GCH-24
    #[tokio::test]
    async fn changes_are_told_and_the_newest_of_them() {
        let (one, other) = duplex(1 << 16);
        let (mut one, mut other) = (one.compat(), other.compat());
        let (outbox, mut news) = watch::channel(Outbox::from([entry(1, 1, 10), entry(2, 2, 20)]));
        let mut pause = MAX_PAUSE;
        let telling = tell_on(&mut one, &mut news, SECOND, &mut pause);
        let hearing = async {
            let topic = |n| TopicId::new([n; 32]);
            assert_eq!(heard(&mut other).await, (topic(1), 10));
            assert_eq!(heard(&mut other).await, (topic(2), 20));
            // Of two changes before the next look, the last one is told; what is as it was is not.
            outbox.send_modify(|outbox| outbox.extend([entry(3, 2, 21)]));
            outbox.send_modify(|outbox| outbox.extend([entry(4, 2, 22)]));
            assert_eq!(heard(&mut other).await, (topic(2), 22));
            // A node that left and came back is told the same again.
            outbox.send_modify(|outbox| {
                outbox.remove(&topic(1));
                outbox.extend([entry(5, 1, 10)]);
            });
            assert_eq!(heard(&mut other).await, (topic(1), 10));
            drop(outbox);
        };
        let (told, ()) = tokio::join!(telling, hearing);
        assert!(told.is_ok(), "{told:?}");
        assert_eq!(
            pause, FIRST_PAUSE,
            "a stream that worked is opened again soon"
        );
    }

    /// What is reported, and how many malformed statuses are counted, when these frames come.
    async fn hearing(sent: Vec<(u8, Vec<u8>)>) -> (usize, u64) {
        let (one, other) = duplex(1 << 20);
        let (mut one, other) = (one.compat(), other.compat());
        for (kind, payload) in sent {
            write_frame(&mut one, kind, &[&payload], SECOND)
                .await
                .unwrap();
        }
        drop(one);
        let (reports, mut reported) = mpsc::channel(10);
        let counters = Counters::default();
        let peer = crate::Keypair::from_seed([1; 32]).peer_id();
        within(
            "the end of the stream",
            hear(peer, other, reports, SECOND, &counters),
        )
        .await;
        let mut count = 0;
        while reported.recv().await.is_some() {
            count += 1;
        }
        (count, counters.snapshot().malformed)
    }

    #[tokio::test]
    async fn what_is_not_understood_is_skipped_or_ends_the_stream() {
        let good = || (frames::STATUS, message(1, 1).encode());
        assert_eq!(hearing(vec![good(), good()]).await, (2, 0));
        assert_eq!(
            hearing(vec![(77, vec![1]), good()]).await,
            (1, 0),
            "an unknown kind"
        );
        assert_eq!(
            hearing(vec![(frames::STATUS, vec![9]), good()]).await,
            (1, 0),
            "another version"
        );
        assert_eq!(
            hearing(vec![good(), (frames::STATUS, vec![1, 8]), good()]).await,
            (1, 1),
            "malformed"
        );
        let long = vec![0; MAX_STATUS + 1];
        assert_eq!(
            hearing(vec![(frames::STATUS, long), good()]).await,
            (0, 1),
            "too long"
        );
    }
}
