// SPDX-License-Identifier: Apache-2.0
//! The tasks that ask other orderers for headers.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use block_api::{
    Block, BlockSource, ChannelId, Delivery, Endpoint, Start, Stop, StreamRequest, WhenMissing,
};
use futures::StreamExt;
use tokio::{
    sync::mpsc,
    task::{AbortHandle, JoinSet},
    time::{Instant, timeout},
};
use tracing::{Instrument, debug};

use super::plan::Plan;
use crate::Config;

/// Headers that wait to be looked at; while it is full the streams of headers wait.
const QUEUE: usize = 16;

/// Opens streams of headers and asks for newest headers, each in a task of its own, so that one
/// that hangs delays none of the others (H9).
#[derive(Debug)]
pub(crate) struct Scouts {
    source: Arc<dyn BlockSource>,
    channel: ChannelId,
    patience: Duration,
    pub(crate) plan: Plan,
    tasks: JoinSet<Report>,
    streams: BTreeMap<Endpoint, Task>,
    probe: Option<Task>,
    headers: mpsc::Receiver<Report>,
    sender: mpsc::Sender<Report>,
    tokens: u64,
}

/// What a scout came back with. What a task says that was given up is not listened to (H8).
#[derive(Debug)]
pub(crate) struct Report {
    endpoint: Endpoint,
    token: u64,
    found: Found,
}

#[derive(Debug)]
enum Found {
    Header(Block),
    /// The stream, or the question, came to an end.
    End(Result<Option<Block>, String>),
}

#[derive(Debug)]
struct Task {
    token: u64,
    abort: AbortHandle,
}

/// A header that an orderer showed.
#[derive(Debug)]
pub(crate) struct Shown {
    pub(crate) by: Endpoint,
    pub(crate) header: Block,
    /// Whether it was asked for just now, so that it is to be judged at once.
    pub(crate) probed: bool,
}

impl Scouts {
    pub(crate) fn new(source: Arc<dyn BlockSource>, channel: ChannelId, config: &Config) -> Self {
        let (sender, headers) = mpsc::channel(QUEUE);
        Self {
            source,
            channel,
            patience: config.probe_timeout,
            plan: Plan::new(config),
            tasks: JoinSet::new(),
            streams: BTreeMap::new(),
            probe: None,
            headers,
            sender,
            tokens: 0,
        }
    }

    /// Goes by the endpoints that there are now.
    pub(crate) fn refresh(&mut self) {
        let endpoints = self.source.endpoints();
        let gone = self
            .streams
            .keys()
            .filter(|endpoint| !endpoints.contains(endpoint));
        for endpoint in gone.cloned().collect::<Vec<_>>() {
            self.close(&endpoint);
        }
        self.plan.endpoints(&endpoints);
    }

    /// Opens the streams of headers that are due; how many.
    pub(crate) fn open_streams(&mut self, source: &Endpoint, now: Instant) -> u64 {
        let due = self.plan.open_streams(source, now);
        let opened = due.len() as u64;
        for endpoint in due {
            let (token, sender) = (self.token(), self.sender.clone());
            // From the newest on: a node that catches up is not sent every header on the way.
            let request = StreamRequest::headers_from(self.channel.clone(), Start::Newest);
            let (source, patience) = (self.source.clone(), self.patience);
            let task = follow(source, endpoint.clone(), token, request, patience, sender);
            let abort = self.tasks.spawn(task.in_current_span());
            self.streams.insert(endpoint, Task { token, abort });
        }
        opened
    }

    /// Asks another orderer for its newest header, unless one is being asked; whether it did.
    pub(crate) fn probe(&mut self, source: &Endpoint, now: Instant) -> bool {
        if self.probe.is_some() {
            return false;
        }
        let Some(endpoint) = self.plan.probe(source, now) else {
            return false;
        };
        let token = self.token();
        let request = StreamRequest {
            stop: Stop::Newest,
            when_missing: WhenMissing::Fail,
            ..StreamRequest::headers_from(self.channel.clone(), Start::Newest)
        };
        let task = ask(self.source.clone(), endpoint, token, request, self.patience);
        let abort = self.tasks.spawn(task.in_current_span());
        self.probe = Some(Task { token, abort });
        true
    }

    /// The next header. It waits for ever while there is none.
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub(crate) async fn next(&mut self) -> Option<Shown> {
        let report = tokio::select! {
            // What a stream gave before it ended is heard before its end.
            biased;
            Some(report) = self.headers.recv() => report,
            Some(ended) = self.tasks.join_next() => match ended {
                Ok(report) => report,
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                Err(_) => return None,
            },
        };
        self.hear(report)
    }

    fn hear(&mut self, report: Report) -> Option<Shown> {
        let Report {
            endpoint,
            token,
            found,
        } = report;
        let is_probe = self.probe.as_ref().is_some_and(|task| task.token == token);
        let streaming = self.streams.get(&endpoint);
        if !is_probe && streaming.is_none_or(|task| task.token != token) {
            return None;
        }
        let header = match found {
            Found::Header(header) => Some(header),
            Found::End(result) => {
                if is_probe {
                    self.probe = None;
                } else {
                    self.streams.remove(&endpoint);
                    self.plan.closed(&endpoint);
                }
                result.unwrap_or_else(|reason| {
                    debug!(channel = %self.channel, %endpoint, reason, "no header");
                    self.plan.failed(&endpoint, Instant::now());
                    None
                })
            }
        }?;
        if header.has_data() && !header.is_config() {
            self.plan.whole(&endpoint, Instant::now());
            self.close(&endpoint);
        }
        Some(Shown {
            by: endpoint,
            header,
            probed: is_probe,
        })
    }

    /// Closes the stream of headers of an endpoint, if there is one.
    pub(crate) fn close(&mut self, endpoint: &Endpoint) {
        if let Some(task) = self.streams.remove(endpoint) {
            task.abort.abort();
            self.plan.closed(endpoint);
        }
    }

    /// Closes every stream of headers.
    pub(crate) fn close_all(&mut self) {
        for endpoint in self.streams.keys().cloned().collect::<Vec<_>>() {
            self.close(&endpoint);
        }
    }

    /// Ends every task, and waits until they have ended.
    pub(crate) async fn shutdown(mut self) {
        self.tasks.shutdown().await;
    }

    fn token(&mut self) -> u64 {
        self.tokens += 1;
        self.tokens
    }
}

/// Follows the headers of an orderer until its stream ends.
async fn follow(
    source: Arc<dyn BlockSource>,
    endpoint: Endpoint,
    token: u64,
    request: StreamRequest,
    patience: Duration,
    headers: mpsc::Sender<Report>,
) -> Report {
    let end = |reason: String| Report {
        endpoint: endpoint.clone(),
        token,
        found: Found::End(Err(reason)),
    };
    let mut stream = match timeout(patience, source.open(&endpoint, &request)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return end(error.to_string()),
        Err(_) => return end(format!("no connection within {patience:?}")),
    };
    let mut last = None;
    loop {
        let header = match stream.next().await {
            Some(Ok(Delivery::Block(header))) => header,
            Some(Ok(Delivery::Status(status))) => return end(status.to_string()),
            Some(Err(error)) => return end(error.to_string()),
            None => return end("the orderer hung up without a status".to_owned()),
        };
        if last.replace(header.number()) >= Some(header.number()) {
            return end(format!("header {} came out of its turn", header.number()));
        }
        let report = Report {
            endpoint: endpoint.clone(),
            token,
            found: Found::Header(header),
        };
        if headers.send(report).await.is_err() {
            return end("nobody listens".to_owned());
        }
    }
}

/// Asks an orderer for its newest header.
async fn ask(
    source: Arc<dyn BlockSource>,
    endpoint: Endpoint,
    token: u64,
    request: StreamRequest,
    patience: Duration,
) -> Report {
    let answer = timeout(patience, async {
        let mut stream = source
            .open(&endpoint, &request)
            .await
            .map_err(|error| error.to_string())?;
        match stream.next().await {
            Some(Ok(Delivery::Block(header))) => Ok(Some(header)),
            Some(Ok(Delivery::Status(status))) => Err(status.to_string()),
            Some(Err(error)) => Err(error.to_string()),
            None => Err("the orderer hung up without a status".to_owned()),
        }
    });
    let found = match answer.await {
        Ok(answer) => Found::End(answer),
        Err(_) => Found::End(Err(format!("no answer within {patience:?}"))),
    };
    Report {
        endpoint,
        token,
        found,
    }
}
