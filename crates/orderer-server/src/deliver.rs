// SPDX-License-Identifier: Apache-2.0
//! Deliver: the requests of a call, one after the other, and the blocks that answer them
//! (semantics §6.1).

use std::{num::NonZeroUsize, sync::Arc};

use block_api::{Block, BlockNumber, ChannelId, ReadError, ReadLimits};
use bytes::Bytes;
use futures::stream::{self, Stream};
use prost::Message as _;
use protos::{
    common::{Envelope, Status},
    deliver::RawDeliverResponse,
    orderer::{
        SeekInfo,
        seek_info::{SeekBehavior, SeekContentType, SeekErrorResponse},
    },
};
use tonic::{Code, Streaming};
use tracing::debug;

use crate::{
    ahead::{ConnectionAhead, Permit},
    peer::Peer,
    position::{Span, is_newest},
    recent::{Batch, Reading},
    request::Request,
    server::{Shared, stopping},
    session::Session,
    stats::{Kind, OpenRequest, OpenStream},
};

/// A call.
struct Call {
    shared: Arc<Shared>,
    peer: Peer,
    ahead: ConnectionAhead,
    requests: Streaming<Envelope>,
    state: State,
    _open: OpenStream,
}

enum State {
    /// The next request is waited for.
    Waiting,
    /// A request is being answered.
    Serving(Box<Serving>),
    /// The call ends.
    Over,
}

/// A request that was granted.
struct Serving {
    reading: Reading,
    session: Session,
    span: Span,
    /// The number of the block that is sent next.
    next: u64,
    /// Blocks that were read ahead, from `next` on.
    batch: Batch,
    /// The right to hold them.
    ahead: Option<Permit>,
    connection: ConnectionAhead,
    strict: bool,
    waits: bool,
    headers: bool,
    /// The last block was sent.
    complete: bool,
    counted: OpenRequest,
}

/// What a granted request gives next.
enum Next {
    Block(Bytes),
    End(Status),
}

/// Answers the requests of a call.
pub(crate) fn answers(
    shared: Arc<Shared>,
    peer: Peer,
    ahead: ConnectionAhead,
    requests: Streaming<Envelope>,
) -> impl Stream<Item = Result<RawDeliverResponse, tonic::Status>> + Send {
    let open = shared.stats.open_stream();
    let call = Call {
        shared,
        peer,
        ahead,
        requests,
        state: State::Waiting,
        _open: open,
    };
    stream::unfold(call, |mut call| async move {
        let response = call.next().await?;
        Some((response, call))
    })
}

impl Call {
    async fn next(&mut self) -> Option<Result<RawDeliverResponse, tonic::Status>> {
        let stop = self.peer.stop.clone();
        let next = tokio::select! {
            biased;
            () = stop.cancelled(), if !matches!(self.state, State::Over) => Some(Err(stopping())),
            next = self.advance() => next,
        };
        if !matches!(next, Some(Ok(_))) {
            self.state = State::Over;
        }
        next
    }

    async fn advance(&mut self) -> Option<Result<RawDeliverResponse, tonic::Status>> {
        loop {
            let status = match &mut self.state {
                State::Over => return None,
                State::Waiting => match self.requests.message().await {
                    Ok(None) => return None,
                    Ok(Some(envelope)) => {
                        match self.shared.grant(&self.peer, &self.ahead, envelope) {
                            Ok(serving) => {
                                self.state = State::Serving(Box::new(serving));
                                continue;
                            }
                            Err(status) => status,
                        }
                    }
                    // What is no envelope at all does not come through the codec.
                    Err(error) if error.code() == Code::Internal => Status::BadRequest,
                    Err(error) => return Some(Err(error)),
                },
                State::Serving(serving) => match serving.next().await {
                    Next::Block(block) => return Some(Ok(RawDeliverResponse::block(block))),
                    Next::End(status) => status,
                },
            };
            self.state = if status == Status::Success {
                State::Waiting
            } else {
                State::Over
            };
            return Some(Ok(RawDeliverResponse::status(status)));
        }
    }
}

impl Shared {
    /// Checks a request, in the order of semantics §3.10: the first failure decides.
    fn grant(
        self: &Arc<Self>,
        peer: &Peer,
        ahead: &ConnectionAhead,
        envelope: Envelope,
    ) -> Result<Serving, Status> {
        let refused = |status: Status, reason: &dyn std::fmt::Display| {
            debug!(peer = ?peer.address, status = status.as_str_name(), %reason, "deliver request refused");
            status
        };
        let bad_request = |reason: &dyn std::fmt::Display| refused(Status::BadRequest, reason);
        let now = self.clock.now();

        let request = Request::open(envelope).map_err(|err| bad_request(&err))?;
        request
            .check_time(now, self.config.time_window)
            .map_err(|err| bad_request(&err))?;
        if !peer.tls.binds(&request.header.tls_cert_hash) {
            return Err(bad_request(
                &"tls_cert_hash is not the hash of the client's certificate",
            ));
        }
        let channel = request
            .header
            .channel_id
            .parse::<ChannelId>()
            .ok()
            .and_then(|id| self.channels.get(&id));
        let channel =
            channel.ok_or_else(|| refused(Status::NotFound, &"the channel is not served here"))?;
        let mut counted = self.stats.open_request();
        let seek = SeekInfo::decode(request.seek).map_err(|err| bad_request(&err))?;
        let strict = seek.error_response != SeekErrorResponse::BestEffort as i32;
        if strict && channel.in_error() {
            return Err(refused(
                Status::ServiceUnavailable,
                &"the consenter is in error",
            ));
        }
        let mut session = Session::new(channel.readers.clone(), request.signed);
        session
            .check(now)
            .map_err(|denied| refused(Status::Forbidden, &denied))?;
        let span = Span::resolve(&seek, &channel.reader.info())
            .map_err(|status| refused(status, &"start or stop cannot be served"))?;

        let waits = seek.behavior != SeekBehavior::FailIfNotReady as i32;
        let headers = seek.content_type == SeekContentType::HeaderWithSig as i32;
        counted.grant(kind(&seek, waits, headers));
        Ok(Serving {
            reading: Reading::new(self.clone(), channel),
            session,
            next: span.first,
            span,
            batch: Batch::default(),
            ahead: None,
            connection: ahead.clone(),
            strict,
            waits,
            headers,
            complete: false,
            counted,
        })
    }
}

impl Serving {
    async fn next(&mut self) -> Next {
        let next = match self.block().await {
            Ok(block) => return Next::Block(block),
            Err(status) => Next::End(status),
        };
        if let Next::End(Status::Success) = next {
            self.counted.succeed();
        }
        next
    }

    /// The next block, or the status that the request ends with.
    async fn block(&mut self) -> Result<Bytes, Status> {
        if self.complete {
            return Err(Status::Success);
        }
        let raw = match self.batch.pop() {
            // What was read ahead is not served by a channel that has gone bad since.
            Some(raw) if !self.must_stop() => raw,
            Some(_) => return Err(Status::ServiceUnavailable),
            None => self.refill().await?,
        };
        if self.batch.is_empty() {
            self.ahead = None;
        }
        if let Err(denied) = self.session.check(self.reading.shared.clock.now()) {
            debug!(block.number = self.next, %denied, "deliver session ended");
            return Err(Status::Forbidden);
        }
        let raw = if self.headers { attestation(raw)? } else { raw };
        self.complete = self.next == self.span.last;
        self.next = self.next.saturating_add(1);
        self.counted.sent(raw.len());
        Ok(raw)
    }

    fn must_stop(&self) -> bool {
        let channel = &self.reading.channel;
        channel.removed.is_cancelled() || (self.strict && channel.in_error())
    }

    /// Waits for the next block and reads it, with some of those after it.
    async fn refill(&mut self) -> Result<Bytes, Status> {
        let Reading { shared, channel } = &self.reading;
        let reader = &channel.reader;
        if !self.waits && self.next >= reader.info().height.get() {
            return Err(Status::NotFound);
        }
        let number = BlockNumber::new(self.next);
        let wanted = NonZeroUsize::new(self.span.remaining(self.next));
        let read = async {
            reader.wait_for(number.height()).await?;
            // Not before: who waits for a block has nothing read ahead.
            let ahead = shared.ahead.permit(&self.connection);
            let most = match &ahead {
                Some(_) => shared.config.batch_blocks,
                None => NonZeroUsize::MIN,
            };
            let limits = ReadLimits {
                blocks: wanted.map_or(most, |wanted| wanted.min(most)),
                bytes: shared.ahead.batch(),
            };
            Ok((self.reading.read(number, limits).await?, ahead))
        };
        let read = tokio::select! {
            biased;
            () = channel.removed.cancelled() => return Err(Status::ServiceUnavailable),
            () = channel.until_error(), if self.strict => return Err(Status::ServiceUnavailable),
            read = read => read,
        };
        let (mut batch, ahead) = match read {
            Ok(read) => read,
            Err(ReadError::Gone { .. }) => return Err(Status::NotFound),
            Err(err) => {
                debug!(block.number = self.next, %err, "deliver cannot read a block");
                return Err(Status::ServiceUnavailable);
            }
        };
        let first = batch.pop();
        // What others had read may be more than this stream may hold.
        if ahead.is_some() {
            (self.batch, self.ahead) = (batch, ahead);
        }
        first.ok_or(Status::ServiceUnavailable)
    }
}

/// Header and metadata of a block; a config block stays whole (semantics §6.2).
fn attestation(raw: Bytes) -> Result<Bytes, Status> {
    let block = Block::parse(raw.clone()).map_err(|err| {
        debug!(%err, "deliver cannot take a stored block apart");
        Status::ServiceUnavailable
    })?;
    Ok(if block.is_config() {
        raw
    } else {
        block.without_data().raw().clone()
    })
}

fn kind(seek: &SeekInfo, waits: bool, headers: bool) -> Kind {
    let newest_only =
        seek.start.as_ref().is_some_and(is_newest) && seek.stop.as_ref().is_some_and(is_newest);
    if headers || !waits || newest_only {
        Kind::Probe
    } else {
        Kind::BlockStream
    }
}
