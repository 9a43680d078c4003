// SPDX-License-Identifier: Apache-2.0
//! The task that watches the stream of blocks: gathers evidence, and has the stream left.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use block_api::{Block, BlockSource, ChannelId, Endpoint, HeaderProof, Height};
use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::{
    scouts::{Scouts, Shown},
    suspicion::{Order, SourceView, Why, Withholding},
};
use crate::{
    BlockHandler, Config, Evidence, HeaderVerdict,
    head::Head,
    state::{Mode, Shared},
};

/// A header of a stream is judged only if the source has not delivered its block after this part of
/// the timeout: as a rule it has, and no signature had to be checked.
const JUDGED_AFTER: u32 = 8;

/// Has the stream of an attempt left.
#[derive(Debug, Clone)]
pub(crate) struct Leave {
    pub(crate) attempt: u64,
    pub(crate) why: Why,
}

/// Watches the stream of blocks of one pull loop.
#[derive(Debug)]
pub(crate) struct Sentry {
    channel: ChannelId,
    handler: Arc<dyn BlockHandler>,
    shared: Arc<Shared>,
    view: watch::Receiver<SourceView>,
    leave: watch::Sender<Option<Leave>>,
    withholding: Withholding,
    scouts: Scouts,
    mode: Mode,
    /// Headers of streams that were not judged yet, by who showed them.
    unjudged: BTreeMap<Endpoint, Unjudged>,
    judged_after: Duration,
    idle: Duration,
    /// When somebody else proved a block last, so that no streams of headers are needed.
    told: Option<Instant>,
    /// When streams of headers may be opened first: whoever announces blocks had time to do so.
    headers_from: Option<Instant>,
}

/// The first header that the source had not delivered, and the newest one.
#[derive(Debug)]
struct Unjudged {
    first: (Block, Instant),
    newest: (Block, Instant),
    due: Instant,
}

impl Sentry {
    pub(crate) fn new(
        channel: ChannelId,
        source: Arc<dyn BlockSource>,
        handler: Arc<dyn BlockHandler>,
        config: &Config,
        shared: Arc<Shared>,
        view: watch::Receiver<SourceView>,
        leave: watch::Sender<Option<Leave>>,
    ) -> Self {
        let mut rng = config
            .seed
            .map_or_else(rand::make_rng, StdRng::seed_from_u64);
        // The channels of a node, which begin together, do not all ask at the same moment.
        let share = 0.75 + 0.5 * f64::from(rng.next_u32()) / f64::from(u32::MAX);
        let idle = config.idle_limit.mul_f64(share);
        Self {
            scouts: Scouts::new(source, channel.clone(), config),
            channel,
            mode: Mode::of(handler.header_proof()),
            handler,
            shared,
            view,
            leave,
            withholding: Withholding::new(config.censorship_timeout, idle),
            unjudged: BTreeMap::new(),
            judged_after: config.censorship_timeout / JUDGED_AFTER,
            idle,
            told: None,
            headers_from: None,
        }
    }

    /// Watches until it is told to stop; every task has ended then.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        loop {
            let wake = self.round(Instant::now());
            let wakes = async {
                match wake {
                    Some(wake) => sleep_until(wake).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                changed = self.view.changed() => {
                    if changed.is_err() {
                        break;
                    }
                }
                () = self.shared.inbox.arrived() => self.handle_news(Instant::now()),
                shown = self.scouts.next() => {
                    if let Some(shown) = shown {
                        self.handle_shown(shown, Instant::now());
                    }
                }
                () = wakes => {}
            }
        }
        self.scouts.shutdown().await;
    }

    /// Does what is due; says when the next round is due.
    fn round(&mut self, now: Instant) -> Option<Instant> {
        let view = self.view.borrow_and_update().clone();
        self.withholding.source(&view);
        self.follow_mode();
        self.scouts.refresh();
        self.judge_due(now);
        while let Some(order) = self.withholding.poll(now) {
            match order {
                Order::Leave { attempt, why } => {
                    self.leave.send_replace(Some(Leave { attempt, why }));
                }
                Order::Probe => {
                    if let Some(source) = &view.endpoint
                        && self.scouts.probe(source, now)
                    {
                        self.shared.details().stats.probes += 1;
                    }
                }
            }
        }
        let streams = self.stream_headers(view.endpoint.as_ref(), now);
        let mut details = self.shared.details();
        let tally = self.withholding.tally;
        details.stats.suspicions_raised = tally.raised;
        details.stats.suspicions_cleared = tally.cleared;
        details.stats.suspicions_confirmed = tally.confirmed;
        details.suspicion = self.withholding.suspicion().cloned();
        details.mode = self.mode;
        drop(details);
        let waits = view.handing_off || self.withholding.suspicion().is_some();
        self.shared
            .wants_progress(waits || !self.unjudged.is_empty());
        let judging = self.unjudged.values().map(|unjudged| unjudged.due).min();
        [self.withholding.next_wake(), streams, judging]
            .into_iter()
            .flatten()
            .min()
    }

    /// A channel that migrates from raft to BFT is watched by the rules of BFT from then on.
    fn follow_mode(&mut self) {
        let mode = Mode::of(self.handler.header_proof());
        if mode != self.mode {
            info!(channel = %self.channel, ?mode, "what headers prove has changed");
            self.mode = mode;
            self.unjudged.clear();
            self.scouts.close_all();
        }
    }

    /// Keeps streams of headers open where they prove something and nobody else does; says when the
    /// next one is due.
    fn stream_headers(&mut self, source: Option<&Endpoint>, now: Instant) -> Option<Instant> {
        let source = source?;
        self.scouts.close(source);
        self.unjudged.remove(source);
        if self.mode == Mode::Cft {
            return None;
        }
        let first = *self.headers_from.get_or_insert(now + self.judged_after);
        let told_until = self.told.and_then(|told| told.checked_add(self.idle));
        if let Some(until) = told_until.max(Some(first)).filter(|until| *until > now) {
            return Some(until);
        }
        self.shared.details().stats.header_streams += self.scouts.open_streams(source, now);
        self.scouts.plan.next_stream(source)
    }

    fn handle_news(&mut self, now: Instant) {
        let news = self.shared.inbox.take();
        // What the source has delivered is nothing against it.
        let view = self.view.borrow_and_update().clone();
        self.withholding.source(&view);
        if let Some(height) = news.chain {
            self.withholding.chain(height, now);
        }
        for head in [news.proven, news.hint].into_iter().flatten() {
            if head.evidence == Evidence::Proven {
                self.told = Some(now);
            }
            self.note(&head, now);
        }
    }

    fn handle_shown(&mut self, shown: Shown, now: Instant) {
        let Shown { by, header, probed } = shown;
        if self.is_delivered(&header) {
            // Whoever is as high as the source, and no higher, proves nothing against it.
            return;
        }
        if probed {
            self.judge(&by, &header, now);
            return;
        }
        // Whoever answers with whole blocks is not to fill the memory with them.
        let header = match header.is_config() {
            true => header,
            false => header.without_data(),
        };
        let due = now + self.judged_after;
        self.unjudged
            .entry(by)
            .and_modify(|unjudged| unjudged.newest = (header.clone(), now))
            .or_insert_with(|| Unjudged {
                first: (header.clone(), now),
                newest: (header, now),
                due,
            });
    }

    /// Judges the headers that the source had time to deliver the blocks of, and did not.
    fn judge_due(&mut self, now: Instant) {
        let height = self.delivered();
        let is_delivered = |header: &Block| header.number().height() <= height;
        self.unjudged.retain(|_, unjudged| {
            if is_delivered(&unjudged.first.0) {
                unjudged.first = unjudged.newest.clone();
                unjudged.due = unjudged.first.1 + self.judged_after;
            }
            !is_delivered(&unjudged.first.0)
        });
        let due: Vec<_> = self
            .unjudged
            .iter()
            .filter(|(_, unjudged)| unjudged.due <= now)
            .map(|(by, unjudged)| (by.clone(), unjudged.first.clone()))
            .collect();
        for (by, (header, at)) in due {
            // A header that cannot be judged yet may be later.
            if let Some(unjudged) = self.unjudged.get_mut(&by) {
                unjudged.due = now + self.judged_after;
            }
            self.judge(&by, &header, at);
        }
    }

    fn judge(&mut self, by: &Endpoint, header: &Block, at: Instant) {
        let evidence = match self.handler.judge_header(header) {
            HeaderVerdict::Proven => Evidence::Proven,
            HeaderVerdict::Hint => Evidence::Hint,
            HeaderVerdict::Rejected(rejection) => {
                info!(channel = %self.channel, endpoint = %by, %rejection, "header rejected");
                self.scouts.plan.failed(by, Instant::now());
                self.scouts.close(by);
                self.unjudged.remove(by);
                return;
            }
            HeaderVerdict::Unknown => return,
        };
        self.scouts.plan.good(by);
        let head = Head {
            number: header.number(),
            hash: header.header_hash(),
            evidence,
            from: by.clone(),
        };
        self.note(&head, at);
    }

    fn note(&mut self, head: &Head, at: Instant) {
        if head.number.height() > self.delivered() {
            debug!(
                channel = %self.channel, block.number = %head.number, block.hash = %head.hash,
                from = %head.from, evidence = ?head.evidence, "a block that the source has not delivered"
            );
        }
        self.withholding
            .head(head.number, head.evidence, &head.from, at);
    }

    fn is_delivered(&self, header: &Block) -> bool {
        header.number().height() <= self.delivered()
    }

    /// What the source has delivered, or the one before it while no stream is open.
    fn delivered(&self) -> Height {
        self.view.borrow().height
    }
}

impl Mode {
    fn of(proof: HeaderProof) -> Self {
        match proof {
            HeaderProof::OneSigner => Self::Cft,
            HeaderProof::Quorum => Self::Bft,
        }
    }
}
