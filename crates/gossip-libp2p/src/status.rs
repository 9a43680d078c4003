// SPDX-License-Identifier: Apache-2.0
//! Telling a peer how this node stands in the channels that both have, and hearing the same.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use futures::{AsyncRead, AsyncWrite};
use libp2p::PeerId;
use tokio::{
    sync::{mpsc, watch},
    time::{sleep, timeout},
};
use tracing::{debug, warn};

use crate::{
    channels::MAX_STATUS,
    event_loop::Report,
    frames::{self, FrameError, Patience, flush, read_frame, write_frame},
    handle::Opener,
    proof::Examiner,
    stats::Counters,
    streams::STATUS,
    topic::TopicId,
    wire::{StatusMessage, UnreadableStatus},
};

/// How long to wait before a stream is opened again that failed; doubled up to [`MAX_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// Why hearing on a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// Its owner gave no sign of life for too long.
    Silent,
    /// It was closed, by whomever.
    Other,
}

/// What a peer is to know: the newest status of each channel that both have. A value is replaced
/// while the peer takes its time, so that a slow one costs no memory.
pub(crate) type Outbox = BTreeMap<TopicId, Entry>;

/// A status, and a number that differs whenever it is to be sent anew.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) version: u64,
    pub(crate) status: Bytes,
}

/// How often something is to be said, and how long is waited for it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rhythm {
    /// How long the other side may take for what it is sent, or for the rest of a frame.
    pub(crate) patience: Duration,
    /// How often a sign of life is given, on a stream that is open.
    pub(crate) beat: Duration,
    /// After how long without one the other side counts as gone.
    pub(crate) silence: Duration,
}

/// Tells a peer what is in its outbox, until the outbox is dropped.
pub(crate) async fn tell(
    peer: PeerId,
    mut outbox: watch::Receiver<Outbox>,
    opener: Opener,
    rhythm: Rhythm,
) {
    let mut pause = FIRST_PAUSE;
    loop {
        if outbox.wait_for(|outbox| !outbox.is_empty()).await.is_err() {
            return;
        }
        let error = match opener.open(peer, STATUS).await {
            Ok(mut stream) => match tell_on(&mut stream, &mut outbox, rhythm, &mut pause).await {
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

/// Hears the statuses of a peer and reports them, until its stream ends or it is silent. Where no
/// other stream takes its place in time, that is reported too. A peer that comes back opens a new
/// stream, because this one is closed, and tells everything on it.
pub(crate) async fn hear<S>(
    peer: PeerId,
    stream: S,
    reports: mpsc::Sender<Report>,
    rhythm: Rhythm,
    counters: &Counters,
    examiner: &mut Examiner,
) where
    S: AsyncRead + Unpin,
{
    if hear_on(peer, stream, &reports, rhythm, counters, examiner).await == Ended::Other {
        sleep(rhythm.silence).await;
    }
    // The event loop is gone when the node stops.
    let _ = reports.send(Report::Silent { peer }).await;
}

async fn hear_on<S>(
    peer: PeerId,
    mut stream: S,
    reports: &mpsc::Sender<Report>,
    rhythm: Rhythm,
    counters: &Counters,
    examiner: &mut Examiner,
) -> Ended
where
    S: AsyncRead + Unpin,
{
    // Of one that gives no signs of life, ping finds out whether it lives.
    let mut patience = Patience {
        first: None,
        next: rhythm.patience,
    };
    loop {
        let frame = match read_frame(&mut stream, MAX_STATUS, patience).await {
            Ok(Some(frame)) => frame,
            Ok(None) => return Ended::Other,
            Err(FrameError::NothingCame { .. }) => return Ended::Silent,
            Err(error) => {
                if matches!(error, FrameError::TooLong { .. }) {
                    counters.malformed.increment();
                }
                debug!(%peer, %error, "status stream broke");
                return Ended::Other;
            }
        };
        if frame.kind == frames::BEAT {
            patience.first = Some(rhythm.silence);
            for (message, identity) in examiner.look_again() {
                let identity = Some(identity);
                if !report(reports, peer, message, identity).await {
                    return Ended::Other;
                }
            }
        }
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
                return Ended::Other;
            }
        };
        let identity = examiner.identity(&message);
        if !report(reports, peer, message, identity).await {
            return Ended::Other;
        }
    }
}

/// Reports a status; `false` when the node stops. While the event loop is busy, the peer waits.
async fn report(
    reports: &mpsc::Sender<Report>,
    peer: PeerId,
    message: StatusMessage,
    identity: Option<Bytes>,
) -> bool {
    let status = Report::Status {
        peer,
        message,
        identity,
    };
    reports.send(status).await.is_ok()
}

/// Tells what is in the outbox, and what changes in it, on one stream; while nothing does, that this
/// node lives.
async fn tell_on<S>(
    stream: &mut S,
    outbox: &mut watch::Receiver<Outbox>,
    rhythm: Rhythm,
    pause: &mut Duration,
) -> Result<(), FrameError>
where
    S: AsyncWrite + Unpin,
{
    let patience = rhythm.patience;
    let mut told: BTreeMap<TopicId, u64> = BTreeMap::new();
    // The other side counts on signs of life once one came.
    write_frame(stream, frames::BEAT, &[], patience).await?;
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
        if news.is_empty() {
            write_frame(stream, frames::BEAT, &[], patience).await?;
        }
        flush(stream, patience).await?;
        *pause = FIRST_PAUSE;
        if let Ok(Err(_)) = timeout(rhythm.beat, outbox.changed()).await {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::SystemTime};

    use block_api::{BlockNumber, ChannelStatus, FixedClock, Height, testing::within};
    use tokio::{
        io::{DuplexStream, duplex},
        time::Instant,
    };
    use tokio_util::compat::{Compat, TokioAsyncReadCompatExt};

    use super::*;
    use crate::{frames::Frame, proof::Judges};

    const SECOND: Duration = Duration::from_secs(1);
    const RHYTHM: Rhythm = Rhythm {
        patience: SECOND,
        beat: SECOND,
        silence: Duration::from_secs(3),
    };

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
            proof: None,
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
        let Frame { kind, payload } = loop {
            let frame = within("a status", read_frame(stream, MAX_STATUS, patience))
                .await
                .unwrap()
                .unwrap();
            if frame.kind != frames::BEAT {
                break frame;
            }
        };
        assert_eq!(kind, frames::STATUS);
        let StatusMessage { topic, status, .. } = StatusMessage::parse(&payload.into()).unwrap();
        (topic, status.height.get())
    }

    /// Covers: GCH-24
    #[tokio::test]
    async fn changes_are_told_and_the_newest_of_them() {
        let (one, other) = duplex(1 << 16);
        let (mut one, mut other) = (one.compat(), other.compat());
        let (outbox, mut news) = watch::channel(Outbox::from([entry(1, 1, 10), entry(2, 2, 20)]));
        let mut pause = MAX_PAUSE;
        let telling = tell_on(&mut one, &mut news, RHYTHM, &mut pause);
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
        let (peer, mut examiner) = examiner();
        let heard = hear(peer, other, reports, RHYTHM, &counters, &mut examiner);
        within("the end of the stream", heard).await;
        let (mut count, mut silent) = (0, 0);
        while let Some(report) = reported.recv().await {
            match report {
                Report::Status { .. } => count += 1,
                Report::Silent { .. } => silent += 1,
                other @ (Report::Proof { .. } | Report::Tip { .. }) => panic!("{other:?}"),
            }
        }
        assert_eq!(silent, 1, "no other stream took the place of this one");
        (count, counters.snapshot().malformed)
    }

    fn examiner() -> (PeerId, Examiner) {
        let peer = crate::Keypair::from_seed([1; 32]).peer_id();
        let clock = Arc::new(FixedClock(SystemTime::UNIX_EPOCH));
        let judges = watch::channel(Judges::default()).1;
        (peer, Examiner::new(peer, judges, clock))
    }

    /// A node that hangs closes nothing.
    #[tokio::test(start_paused = true)]
    async fn a_peer_that_gives_no_sign_of_life_is_reported() {
        let (one, other) = duplex(1 << 16);
        let (mut one, other) = (one.compat(), other.compat());
        let (reports, mut reported) = mpsc::channel(10);
        let (outbox, mut news) = watch::channel(Outbox::from([entry(1, 1, 10)]));
        let (peer, mut examiner) = examiner();
        let counters = Counters::default();
        let mut pause = FIRST_PAUSE;
        let hearing = async {
            hear(peer, other, reports, RHYTHM, &counters, &mut examiner).await;
            Instant::now()
        };
        let telling = async {
            // It lives for a minute, and has nothing new to tell.
            let told = tell_on(&mut one, &mut news, RHYTHM, &mut pause);
            assert!(timeout(SECOND * 60, told).await.is_err());
            let hangs = Instant::now();
            let first = reported.recv().await;
            assert!(matches!(first, Some(Report::Status { .. })), "{first:?}");
            assert!(reported.try_recv().is_err(), "it lived");
            let second = reported.recv().await;
            assert!(matches!(second, Some(Report::Silent { .. })), "{second:?}");
            hangs
        };
        let (silent, hangs) = tokio::join!(hearing, telling);
        let after = silent - hangs;
        assert!(after <= RHYTHM.silence && after + RHYTHM.beat >= RHYTHM.silence);
        drop(outbox);
        // The stream was closed: when it is told of again, that fails, and begins with a new stream.
        let error = write_frame(&mut one, frames::BEAT, &[], SECOND).await;
        assert!(error.is_err());
    }

    /// One of an older release gives no signs of life.
    #[tokio::test(start_paused = true)]
    async fn a_peer_that_never_gave_a_sign_of_life_may_be_silent() {
        let (one, other) = duplex(1 << 16);
        let (mut one, other) = (one.compat(), other.compat());
        let status = message(1, 1).encode();
        write_frame(&mut one, frames::STATUS, &[&status], SECOND)
            .await
            .unwrap();
        let (reports, mut reported) = mpsc::channel(10);
        let (peer, mut examiner) = examiner();
        let counters = Counters::default();
        let hearing = hear(peer, other, reports, RHYTHM, &counters, &mut examiner);
        assert!(timeout(SECOND * 600, hearing).await.is_err());
        assert!(matches!(reported.recv().await, Some(Report::Status { .. })));
        assert!(reported.recv().await.is_none());
    }

    #[tokio::test(start_paused = true)]
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
