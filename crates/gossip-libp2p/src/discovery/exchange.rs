// SPDX-License-Identifier: Apache-2.0
//! Telling a peer where others are, and hearing the same of it.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use futures::{AsyncRead, AsyncWrite};
use libp2p::PeerId;
use tokio::{
    sync::{mpsc, watch},
    time::{Instant, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::record::{
    MAX_MESSAGE, MAX_RECORDS, Record, Scope, UnreadableRecord, encode_records, parse_records,
};
use crate::{
    error::OpenError,
    event_loop::Report,
    frames::{FrameError, Patience, RECORDS, flush, read_frame, write_frame},
    handle::Opener,
    score::Offence,
    stats::Counters,
    streams::PEERS,
};

/// How much time lies between two frames at least. Whoever sends them sooner waits, since nothing is
/// read meanwhile.
const PACE: Duration = Duration::from_millis(500);

/// How long to wait before a stream is opened again that failed; doubled up to [`MAX_PAUSE`], until
/// one stood for that long: what is written at first arrives, though the other side may not know the
/// protocol.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const MAX_PAUSE: Duration = Duration::from_secs(60);

/// What a peer is to know: the newest record of each node and scope. A record is replaced while the
/// peer takes its time, so that a slow one costs no memory.
pub(crate) type Outbox = BTreeMap<(PeerId, Scope), Entry>;

/// A record as it travels, and which one it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    issued: u64,
    raw: Bytes,
}

/// What a connection to a peer has to do with finding others.
#[derive(Debug)]
pub(crate) struct Link {
    outbox: watch::Sender<Outbox>,
    /// Whether the peer is on this machine.
    pub(crate) here: bool,
    /// Whether it was met as a node of the own organisation.
    pub(crate) own_org: bool,
    /// Ends the task that hears its records.
    hearing: Option<CancellationToken>,
    /// When hearing began on the newest stream, or is going to.
    hears_since: Option<Instant>,
}

impl Entry {
    fn of(record: &Record) -> Self {
        Self {
            issued: record.issued,
            raw: record.raw().clone(),
        }
    }
}

impl Link {
    /// The link, and what it is told by.
    pub(crate) fn new(here: bool) -> (Self, watch::Receiver<Outbox>) {
        let (outbox, news) = watch::channel(Outbox::new());
        let link = Self {
            outbox,
            here,
            own_org: false,
            hearing: None,
            hears_since: None,
        };
        (link, news)
    }

    /// Has the peer told of a node, unless it was or is going to be.
    pub(crate) fn offer(&self, record: &Record) {
        self.outbox.send_if_modified(|outbox| {
            let key = (record.node, record.scope);
            let new = outbox
                .get(&key)
                .is_none_or(|entry| entry.issued < record.issued);
            if new {
                outbox.insert(key, Entry::of(record));
            }
            new
        });
    }

    /// Has the peer told the newer record of a node that it was told of.
    pub(crate) fn update(&self, record: &Record) {
        let knows = self
            .outbox
            .borrow()
            .contains_key(&(record.node, record.scope));
        if knows {
            self.offer(record);
        }
    }

    /// A node is not connected any more, and nobody is told of it.
    pub(crate) fn forget(&self, node: &PeerId) {
        self.outbox.send_if_modified(|outbox| {
            let before = outbox.len();
            outbox.retain(|(known, _), _| known != node);
            outbox.len() != before
        });
    }

    /// The peer opened a stream: when to begin to hear it, and what ends that. The one before was
    /// given up by the peer; opening more of them makes nothing be heard sooner.
    pub(crate) fn hear(
        &mut self,
        gone: &CancellationToken,
        now: Instant,
    ) -> (Instant, CancellationToken) {
        let hearing = gone.child_token();
        if let Some(old) = self.hearing.replace(hearing.clone()) {
            old.cancel();
        }
        let start = match self.hears_since {
            None => now,
            Some(before) if before > now => before,
            Some(before) => now.max(before + PACE),
        };
        self.hears_since = Some(start);
        (start, hearing)
    }
}

/// Tells a peer what is in its outbox, until the outbox is dropped or the peer does not want to know.
pub(crate) async fn tell_records(
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
        let error = match opener.open(peer, PEERS).await {
            Ok(mut stream) => match tell_on(&mut stream, &mut outbox, patience, &mut pause).await {
                Ok(()) => return,
                Err(error @ FrameError::Unsupported) => {
                    debug!(%peer, %error, "not told of other nodes");
                    return;
                }
                Err(error) => error.to_string(),
            },
            Err(error @ OpenError::Unsupported) => {
                debug!(%peer, %error, "not told of other nodes");
                return;
            }
            Err(error) => error.to_string(),
        };
        if pause == FIRST_PAUSE {
            debug!(%peer, %error, "not told of other nodes");
        }
        sleep(pause).await;
        pause = (pause * 2).min(MAX_PAUSE);
    }
}

async fn tell_on<S>(
    stream: &mut S,
    outbox: &mut watch::Receiver<Outbox>,
    patience: Duration,
    pause: &mut Duration,
) -> Result<(), FrameError>
where
    S: AsyncWrite + Unpin,
{
    let opened = Instant::now();
    let mut told: BTreeMap<(PeerId, Scope), u64> = BTreeMap::new();
    loop {
        let news: Vec<Bytes> = {
            let outbox = outbox.borrow_and_update();
            told.retain(|key, _| outbox.contains_key(key));
            let fresh = |(key, entry): (&(PeerId, Scope), &Entry)| {
                (told.insert(*key, entry.issued) != Some(entry.issued)).then(|| entry.raw.clone())
            };
            outbox.iter().filter_map(fresh).collect()
        };
        for some in news.chunks(MAX_RECORDS) {
            let message = encode_records(some);
            write_frame(stream, RECORDS, &[&message], patience).await?;
            flush(stream, patience).await?;
            if opened.elapsed() >= MAX_PAUSE {
                *pause = FIRST_PAUSE;
            }
            sleep(PACE).await;
        }
        if outbox.changed().await.is_err() {
            return Ok(());
        }
    }
}

/// Hears of whom a peer tells and reports it, from `start` on and until its stream ends.
pub(crate) async fn hear_records<S>(
    peer: PeerId,
    mut stream: S,
    start: Instant,
    reports: mpsc::Sender<Report>,
    patience: Duration,
    counters: &Counters,
) where
    S: AsyncRead + Unpin,
{
    sleep_until(start).await;
    if let Some(offence) = hear_on(peer, &mut stream, &reports, patience).await {
        if offence == Offence::Malformed {
            counters.malformed.increment();
        }
        // The event loop is gone when the node stops.
        let _ = reports.send(Report::Offence { peer, offence }).await;
    }
}

/// The same; returns what the peer did wrong, when the stream is heard no longer for it.
async fn hear_on<S>(
    peer: PeerId,
    stream: &mut S,
    reports: &mpsc::Sender<Report>,
    patience: Duration,
) -> Option<Offence>
where
    S: AsyncRead + Unpin,
{
    let patience = Patience {
        first: None,
        next: patience,
    };
    loop {
        let frame = match read_frame(stream, MAX_MESSAGE, patience).await {
            Ok(Some(frame)) => frame,
            Ok(None) => return None,
            Err(error) => {
                debug!(%peer, %error, "stream with other nodes broke");
                return error.offence();
            }
        };
        if frame.kind == RECORDS {
            match parse_records(&frame.payload.into()) {
                Ok(records) => {
                    let told = Report::Records { peer, records };
                    if reports.send(told).await.is_err() {
                        return None;
                    }
                }
                Err(error @ UnreadableRecord::Version(_)) => {
                    warn!(%peer, %error, "nodes of another release skipped");
                }
                Err(error) => {
                    debug!(%peer, %error, "stream with other nodes closed");
                    return Some(Offence::Malformed);
                }
            }
        }
        sleep(PACE).await;
    }
}

#[cfg(test)]
mod tests {
    use block_api::testing::within;
    use futures::io::Cursor;
    use libp2p::Multiaddr;
    use tokio::io::duplex;
    use tokio_util::compat::TokioAsyncReadCompatExt;

    use super::*;
    use crate::Keypair;

    const SECOND: Duration = Duration::from_secs(1);

    fn record(seed: u8, issued: u64) -> Record {
        let address: Multiaddr = "/ip4/10.0.0.1/tcp/7000".parse().unwrap();
        let key = Keypair::from_seed([seed; 32]);
        Record::sign(&key, Scope::External, issued, vec![address], None).unwrap()
    }

    fn peer() -> PeerId {
        Keypair::from_seed([99; 32]).peer_id()
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_offered_is_told_in_messages_and_only_the_newest() {
        let (one, other) = duplex(1 << 20);
        let (mut one, other) = (one.compat(), other.compat());
        let (link, mut news) = Link::new(false);
        for seed in 1..=20 {
            link.offer(&record(seed, 1));
        }
        let mut pause = FIRST_PAUSE;
        let (reports, mut reported) = mpsc::channel(1);
        let counters = Counters::default();
        let hearing = hear_records(peer(), other, Instant::now(), reports, SECOND, &counters);
        let telling = tell_on(&mut one, &mut news, SECOND, &mut pause);
        let looking = async {
            let mut next = async || match within("records", reported.recv()).await {
                Some(Report::Records { records, .. }) => records,
                other => panic!("{other:?}"),
            };
            assert_eq!(next().await.len(), MAX_RECORDS);
            assert_eq!(next().await.len(), 20 - MAX_RECORDS);
            link.offer(&record(1, 1));
            link.offer(&record(2, 2));
            link.offer(&record(2, 3));
            assert_eq!(next().await, [record(2, 3)]);
        };
        tokio::select! {
            () = hearing => panic!("the stream ended"),
            told = telling => panic!("{told:?}"),
            () = looking => {}
        }
        assert_eq!(counters.snapshot().malformed, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn frames_are_read_at_their_pace() {
        let mut frames = Cursor::new(Vec::new());
        for kind in [RECORDS, 29, RECORDS] {
            let message = encode_records([record(1, 1).raw()]);
            write_frame(&mut frames, kind, &[&message], SECOND)
                .await
                .unwrap();
        }
        let (reports, mut reported) = mpsc::channel(8);
        let (counters, began) = (Counters::default(), Instant::now());
        let stream = Cursor::new(frames.into_inner());
        hear_records(peer(), stream, began, reports, SECOND, &counters).await;
        assert_eq!(began.elapsed(), 3 * PACE);
        assert!(reported.recv().await.is_some() && reported.recv().await.is_some());
        assert!(reported.recv().await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn a_forged_record_ends_the_stream_and_is_counted() {
        let mut forged = record(1, 1).raw().to_vec();
        *forged.last_mut().unwrap() ^= 1;
        let mut frames = Cursor::new(Vec::new());
        for raw in [forged.into(), record(2, 1).raw().clone()] {
            let message = encode_records([&raw]);
            write_frame(&mut frames, RECORDS, &[&message], SECOND)
                .await
                .unwrap();
        }
        let (reports, mut reported) = mpsc::channel(8);
        let counters = Counters::default();
        let stream = Cursor::new(frames.into_inner());
        hear_records(peer(), stream, Instant::now(), reports, SECOND, &counters).await;
        let offence = reported.recv().await;
        assert!(
            matches!(
                offence,
                Some(Report::Offence {
                    offence: Offence::Malformed,
                    ..
                })
            ),
            "{offence:?}"
        );
        assert!(reported.recv().await.is_none());
        assert_eq!(counters.snapshot().malformed, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn opening_streams_makes_nothing_be_heard_sooner() {
        let (mut link, _news) = Link::new(false);
        let (gone, now) = (CancellationToken::new(), Instant::now());
        let (first, old) = link.hear(&gone, now);
        let (second, _) = link.hear(&gone, now);
        let (third, new) = link.hear(&gone, now);
        assert_eq!((first, second, third), (now, now + PACE, now + PACE));
        assert!(old.is_cancelled() && !new.is_cancelled());
        assert_eq!(link.hear(&gone, now + 5 * PACE).0, now + 5 * PACE);
    }
}
