// SPDX-License-Identifier: Apache-2.0
//! Telling a peer how this node stands in the channels that both have, and hearing the same.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use futures::{AsyncRead, AsyncWrite};
use libp2p::PeerId;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep, sleep_until, timeout},
};
use tracing::{debug, warn};

use crate::{
    channels::MAX_STATUS,
    event_loop::Report,
    frames::{self, FrameError, Patience, flush, read_frame, write_frame},
    handle::Opener,
    score::Offence,
    stats::Counters,
    streams::STATUS,
    topic::TopicId,
    wire::{StatusMessage, UnreadableStatus},
};

/// How long to wait before a stream is opened again that failed; doubled up to [`MAX_PAUSE`], until
/// one stood for that long: what is written at first arrives, though the other side may not know the
/// protocol.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// How much time lies between two statuses of one channel at least, and between two frames of any
/// other kind. Whoever sends them sooner waits, since nothing is read meanwhile.
const PACE: Duration = Duration::from_millis(100);

/// Of how many channels statuses are heard in that time at most, however many a peer names.
const PACED: usize = 512;

/// Why hearing on a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    /// Its owner gave no sign of life for too long.
    Silent,
    /// What came on it is not understood.
    Malformed,
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

/// When each kind of frame was read last, a status by its channel.
#[derive(Debug, Default)]
struct Pace {
    read: BTreeMap<Option<TopicId>, Instant>,
}

impl Pace {
    /// Waits until another one of this kind is due.
    async fn wait(&mut self, kind: Option<TopicId>) {
        if let Some(last) = self.read.get(&kind) {
            sleep_until(*last + PACE).await;
        } else if self.read.len() >= PACED {
            // Of those that were read before, none has to wait after this.
            sleep(PACE).await;
            self.read.clear();
        }
        self.read.insert(kind, Instant::now());
    }
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
        if pause == FIRST_PAUSE {
            debug!(%peer, error, "status not told");
        }
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
) where
    S: AsyncRead + Unpin,
{
    let ended = hear_on(peer, stream, &reports, rhythm, counters).await;
    if ended == Ended::Malformed {
        let offence = Offence::Malformed;
        // As below.
        let _ = reports.send(Report::Offence { peer, offence }).await;
    }
    if ended != Ended::Silent {
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
) -> Ended
where
    S: AsyncRead + Unpin,
{
    // Of one that gives no signs of life, ping finds out whether it lives.
    let mut patience = Patience {
        first: None,
        next: rhythm.patience,
    };
    let mut pace = Pace::default();
    loop {
        let frame = match read_frame(&mut stream, MAX_STATUS, patience).await {
            Ok(Some(frame)) => frame,
            Ok(None) => return Ended::Other,
            Err(FrameError::NothingCame { .. }) => return Ended::Silent,
            Err(error) => {
                debug!(%peer, %error, "status stream broke");
                if matches!(error, FrameError::TooLong { .. }) {
                    counters.malformed.increment();
                    return Ended::Malformed;
                }
                return Ended::Other;
            }
        };
        if frame.kind != frames::STATUS {
            pace.wait(None).await;
        }
        if frame.kind == frames::BEAT {
            patience.first = Some(rhythm.silence);
        }
        if frame.kind != frames::STATUS {
            continue;
        }
        let message = match StatusMessage::parse(&frame.payload.into()) {
            Ok(message) => message,
            Err(error @ UnreadableStatus::Version(_)) => {
                pace.wait(None).await;
                warn!(%peer, %error, "status of another release skipped");
                continue;
            }
            Err(error) => {
                counters.malformed.increment();
                debug!(%peer, %error, "status stream closed");
                return Ended::Malformed;
            }
        };
        pace.wait(Some(message.topic)).await;
        // While the event loop is busy, the peer waits; the node stops when it is gone.
        let status = Report::Status { peer, message };
        if reports.send(status).await.is_err() {
            return Ended::Other;
        }
    }
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
    let (patience, opened) = (rhythm.patience, Instant::now());
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
        if opened.elapsed() >= MAX_PAUSE {
            *pause = FIRST_PAUSE;
        }
        // What changes sooner is told at once, and only the newest of it: the other side reads no
        // faster.
        sleep(PACE).await;
        if let Ok(Err(_)) = timeout(rhythm.beat, outbox.changed()).await {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use block_api::{BlockNumber, ChannelStatus, Height, testing::within};
    use tokio::{
        io::{DuplexStream, duplex},
        time::Instant,
    };
    use tokio_util::compat::{Compat, TokioAsyncReadCompatExt};

    use super::*;
    use crate::frames::Frame;

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

    #[tokio::test(start_paused = true)]
    async fn only_a_stream_that_stood_is_opened_again_soon() {
        for (seconds, expected) in [(3, MAX_PAUSE), (7, FIRST_PAUSE)] {
            let (one, _other) = duplex(1 << 16);
            let mut one = one.compat();
            let (outbox, mut news) = watch::channel(Outbox::from([entry(1, 1, 10)]));
            let mut pause = MAX_PAUSE;
            let telling = tell_on(&mut one, &mut news, RHYTHM, &mut pause);
            let ending = async {
                sleep(seconds * SECOND).await;
                drop(outbox);
            };
            let (told, ()) = tokio::join!(telling, ending);
            assert!(told.is_ok(), "{told:?}");
            assert_eq!(pause, expected);
        }
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
        assert_eq!(pause, MAX_PAUSE, "it did not stand for long");
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
        let (reports, mut reported) = mpsc::channel(300);
        let counters = Counters::default();
        let peer = peer();
        let heard = hear(peer, other, reports, RHYTHM, &counters);
        within("the end of the stream", heard).await;
        let (mut count, mut silent, mut offences) = (0, 0, 0);
        while let Some(report) = reported.recv().await {
            match report {
                Report::Status { .. } => count += 1,
                Report::Silent { .. } => silent += 1,
                Report::Offence { .. } => offences += 1,
                other @ (Report::Tip { .. } | Report::Records { .. }) => panic!("{other:?}"),
            }
        }
        assert_eq!(silent, 1, "no other stream took the place of this one");
        assert_eq!(offences, counters.snapshot().malformed);
        (count, counters.snapshot().malformed)
    }

    fn peer() -> PeerId {
        crate::Keypair::from_seed([1; 32]).peer_id()
    }

    /// A node that hangs closes nothing.
    #[tokio::test(start_paused = true)]
    async fn a_peer_that_gives_no_sign_of_life_is_reported() {
        let (one, other) = duplex(1 << 16);
        let (mut one, other) = (one.compat(), other.compat());
        let (reports, mut reported) = mpsc::channel(10);
        let (outbox, mut news) = watch::channel(Outbox::from([entry(1, 1, 10)]));
        let peer = peer();
        let counters = Counters::default();
        let mut pause = FIRST_PAUSE;
        let hearing = async {
            hear(peer, other, reports, RHYTHM, &counters).await;
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
        let peer = peer();
        let counters = Counters::default();
        let hearing = hear(peer, other, reports, RHYTHM, &counters);
        assert!(timeout(SECOND * 600, hearing).await.is_err());
        assert!(matches!(reported.recv().await, Some(Report::Status { .. })));
        assert!(reported.recv().await.is_none());
    }

    /// Frames that come faster are not lost, and read no faster than this.
    #[tokio::test(start_paused = true)]
    async fn a_peer_that_tells_too_much_waits() {
        let status = |topic, height| (frames::STATUS, message(topic, height).encode());
        let many = |topics: u8| {
            let rounds = (0..10).flat_map(move |height| (0..topics).map(move |n| (n, height)));
            rounds.map(|(topic, height)| status(topic, height))
        };
        let rows = [
            (many(1).collect::<Vec<_>>(), 10),
            // Those of one channel do not wait for those of another.
            (many(20).collect(), 200),
            (vec![(frames::BEAT, Vec::new()); 10], 0),
            (vec![(77, vec![1]); 10], 0),
            (vec![(frames::STATUS, vec![9]); 10], 0),
        ];
        for (frames, reported) in rows {
            let start = Instant::now();
            assert_eq!(hearing(frames).await, (reported, 0));
            // The end of the stream was waited for, too.
            assert_eq!(start.elapsed() - RHYTHM.silence, PACE * 9);
        }
        // However many channels it names.
        let mut pace = Pace::default();
        let start = Instant::now();
        for n in 0..u32::try_from(10 * PACED).unwrap() {
            let mut topic = [0; 32];
            topic[..4].copy_from_slice(&n.to_be_bytes());
            pace.wait(Some(TopicId::new(topic))).await;
            assert!(pace.read.len() <= PACED);
        }
        assert_eq!(start.elapsed(), PACE * 9);
    }

    /// What changes faster than it is read does not pile up on the way.
    #[tokio::test(start_paused = true)]
    async fn of_what_changes_quickly_the_newest_is_told_soon() {
        let (one, other) = duplex(1 << 20);
        let (mut one, mut other) = (one.compat(), other.compat());
        let (outbox, mut news) = watch::channel(Outbox::from([entry(0, 1, 0)]));
        let mut pause = FIRST_PAUSE;
        let telling = tell_on(&mut one, &mut news, RHYTHM, &mut pause);
        let changing = async {
            for height in 1..=1000 {
                outbox.send_modify(|outbox| outbox.extend([entry(height, 1, height)]));
                sleep(Duration::from_millis(1)).await;
            }
            Instant::now()
        };
        let hearing = async {
            let mut count = 0;
            while heard(&mut other).await.1 < 1000 {
                count += 1;
            }
            (count, Instant::now())
        };
        let both = async { tokio::join!(changing, hearing) };
        let (changed, (count, told)) = tokio::select! {
            both = both => both,
            _ = telling => panic!("telling goes on"),
        };
        assert!(count <= 10, "{count}");
        assert!(told <= changed + PACE);
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
