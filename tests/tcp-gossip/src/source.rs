// SPDX-License-Identifier: Apache-2.0
//! Ranges: what another node has, over a connection of its own.

use std::{net::SocketAddr, sync::Arc};

use async_trait::async_trait;
use block_api::{
    Block, BlockNumber, BlockReader, BlockSource, BlockStream, Content, DeliverStatus, Delivery,
    Endpoint, NodeId, Phase, ReadLimits, SourceError, Start, Stop, StreamRequest, WhenMissing,
};
use futures::{StreamExt as _, stream};
use tokio::{io::BufReader, net::TcpStream, time::timeout};
use tracing::debug;

use crate::{
    handshake::Peer,
    link::connect,
    node::Node,
    wire::{Frame, Purpose, Topic, WireError, read_frame, write_frame},
};

/// A request is not longer.
const REQUEST_LIMIT: usize = 1024;
/// How much is read from the store at one time.
const AT_ONE_TIME: (usize, usize) = (64, 1 << 20);

/// Another node, as a source of blocks.
#[derive(Debug)]
pub(crate) struct PeerSource {
    node: Arc<Node>,
    topic: Topic,
    peer: NodeId,
    address: SocketAddr,
}

impl PeerSource {
    /// `None` when nobody knows where that node listens.
    pub(crate) fn new(node: Arc<Node>, topic: Topic, peer: NodeId) -> Option<Self> {
        let address = *node.config.peers.get(&peer)?;
        Some(Self {
            node,
            topic,
            peer,
            address,
        })
    }

    /// The body of an announcement, if this node has it.
    pub(crate) async fn body(&self, announcement: &Block) -> Option<Block> {
        let number = announcement.number();
        let request = StreamRequest::range(self.topic.0.clone(), number, number);
        let opened = self.open(&Endpoint::of_node(&self.peer), &request).await;
        let Some(Ok(Delivery::Block(given))) = opened.ok()?.next().await else {
            return None;
        };
        // The header and the signatures are those that were accepted.
        let data = given.data_bytes()?;
        let (head, tail) = announcement.around_data(data.len());
        let block = Block::parse([head.as_slice(), &data, &tail].concat().into()).ok()?;
        block.has_claimed_data().then_some(block)
    }
}

#[async_trait]
impl BlockSource for PeerSource {
    fn endpoints(&self) -> Vec<Endpoint> {
        vec![Endpoint::of_node(&self.peer)]
    }

    async fn open(
        &self,
        endpoint: &Endpoint,
        request: &StreamRequest,
    ) -> Result<BlockStream, SourceError> {
        let endpoint = endpoint.clone();
        if endpoint != Endpoint::of_node(&self.peer) {
            return Err(SourceError::UnknownEndpoint { endpoint });
        }
        let (Start::At(first), Stop::At(last), WhenMissing::Fail) =
            (request.start, request.stop, request.when_missing)
        else {
            return Err(SourceError::Unsupported {
                endpoint,
                reason: "a node gives ranges from one number to another",
            });
        };
        let connected = connect(&self.node, &self.peer, self.address, Purpose::Range).await;
        let (_, mut stream) = connected.map_err(|error| SourceError::Connect {
            endpoint: endpoint.clone(),
            source: error.into(),
        })?;
        let range = Frame::Range {
            topic: self.topic.clone(),
            first,
            last,
            headers: request.content == Content::Headers,
        };
        let limit = self.node.config.timeout;
        let sent = timeout(limit, write_frame(&mut stream, &range)).await;
        if let Ok(Err(error)) = sent {
            let source = error.into();
            return Err(SourceError::Broken { endpoint, source });
        }
        let (max_frame, stream) = (self.node.config.max_frame, BufReader::new(stream));
        let deliveries = stream::unfold(Some(stream), move |stream| {
            let endpoint = endpoint.clone();
            async move {
                let mut stream = stream?;
                let frame = timeout(limit, read_frame(&mut stream, max_frame)).await;
                let delivery = match frame {
                    Ok(frame) => delivery(frame, endpoint),
                    Err(_) => Err(SourceError::TimedOut {
                        endpoint,
                        phase: Phase::Idle,
                        after: limit,
                    }),
                };
                let goes_on = matches!(delivery, Ok(Delivery::Block(_)));
                Some((delivery, goes_on.then_some(stream)))
            }
        });
        Ok(deliveries.boxed())
    }
}

/// What a frame brings.
fn delivery(frame: Result<Frame, WireError>, endpoint: Endpoint) -> Result<Delivery, SourceError> {
    match frame {
        Ok(Frame::Item(bytes)) => match Block::parse(bytes) {
            Ok(block) => Ok(Delivery::Block(block)),
            Err(source) => Err(SourceError::MalformedBlock { endpoint, source }),
        },
        Ok(Frame::End(status)) => Ok(Delivery::Status(status)),
        Ok(_) => Err(SourceError::Malformed {
            endpoint,
            source: "it is no part of a range".into(),
        }),
        Err(WireError::Io(source)) => Err(SourceError::Broken {
            endpoint,
            source: source.into(),
        }),
        Err(error) => Err(SourceError::Malformed {
            endpoint,
            source: error.into(),
        }),
    }
}

/// Gives a node the range that it asks for, if it may have it.
pub(crate) async fn serve(node: &Node, peer: &Peer, stream: TcpStream) {
    let mut stream = BufReader::new(stream);
    let asked = timeout(node.config.timeout, read_frame(&mut stream, REQUEST_LIMIT)).await;
    let Ok(Ok(Frame::Range {
        topic,
        first,
        last,
        headers,
    })) = asked
    else {
        return debug!(peer = %peer.node, "nothing was asked for");
    };
    let sent = match (node.channel(&topic), node.serving.try_acquire()) {
        (None, _) => send(node, &mut stream, Frame::End(DeliverStatus::NotFound)).await,
        (Some(channel), _) if !channel.lets_read(peer) => {
            send(node, &mut stream, Frame::End(DeliverStatus::Forbidden)).await
        }
        (Some(_), Err(_)) => send(node, &mut stream, Frame::End(DeliverStatus::Unavailable)).await,
        (Some(channel), Ok(_serving)) => {
            let range = (first, last, headers);
            serve_range(node, &*channel.reader, range, &mut stream).await
        }
    };
    if let Err(error) = sent {
        debug!(peer = %peer.node, %error, "a range was not taken");
    }
}

async fn serve_range(
    node: &Node,
    reader: &dyn BlockReader,
    (first, last, headers): (BlockNumber, BlockNumber, bool),
    to: &mut BufReader<TcpStream>,
) -> Result<(), WireError> {
    let mut next = first;
    while next <= last {
        let (blocks, bytes) = AT_ONE_TIME;
        let Ok(blocks) = reader.read(next, ReadLimits::new(blocks, bytes)).await else {
            return send(node, to, Frame::End(DeliverStatus::InternalError)).await;
        };
        if blocks.is_empty() {
            return send(node, to, Frame::End(DeliverStatus::NotFound)).await;
        }
        for bytes in blocks {
            let Ok(block) = Block::parse(bytes) else {
                return send(node, to, Frame::End(DeliverStatus::InternalError)).await;
            };
            let block = block.with_signatures_slot_only();
            let item = match headers && !block.is_config() {
                true => block.without_data().raw().clone(),
                false => block.raw().clone(),
            };
            send(node, to, Frame::Item(item)).await?;
            match next.next() {
                Some(number) if number <= last => next = number,
                Some(_) | None => return send(node, to, Frame::End(DeliverStatus::Success)).await,
            }
        }
    }
    send(node, to, Frame::End(DeliverStatus::Success)).await
}

/// Sends a part of a range. Who does not take it in time gets no more.
async fn send(node: &Node, to: &mut BufReader<TcpStream>, frame: Frame) -> Result<(), WireError> {
    match timeout(node.config.timeout, write_frame(to, &frame)).await {
        Ok(sent) => sent,
        Err(_) => Err(WireError::Io(std::io::ErrorKind::TimedOut.into())),
    }
}
