// SPDX-License-Identifier: Apache-2.0
//! The connections among nodes: one for gossip between two of them, and one for each range.

use std::{net::SocketAddr, sync::Arc};

use block_api::NodeId;
use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, mpsc},
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use crate::{
    channel::Input,
    handshake::{self, HandshakeError, Peer},
    node::Node,
    source,
    wire::{Frame, Purpose, WireError, read_frame},
};

/// A connection to another node, over which both send what there is.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) peer: Peer,
    frames: mpsc::Sender<Bytes>,
    pub(crate) closed: CancellationToken,
}

impl Link {
    /// Sends a frame when there is room for it.
    pub(crate) fn send(&self, frame: Bytes) {
        if self.frames.try_send(frame).is_err() {
            debug!(node = %self.peer.node, "no room for a frame");
        }
    }
}

/// Takes whoever dials, until the node stops.
pub(crate) async fn accept_all(node: Arc<Node>, listener: TcpListener) {
    let stopped = node.stopped.clone();
    let accept = async {
        // It is never closed.
        while let Ok(permit) = node.unproven.clone().acquire_owned().await {
            match listener.accept().await {
                Ok((stream, address)) => {
                    let accepted = accept_one(node.clone(), permit, stream, address);
                    node.tasks.spawn(accepted);
                }
                Err(error) => {
                    debug!(%error, "a connection was not taken");
                    sleep(node.config.redial).await;
                }
            }
        }
    };
    stopped.run_until_cancelled(accept).await;
}

async fn accept_one(
    node: Arc<Node>,
    unproven: OwnedSemaphorePermit,
    mut stream: TcpStream,
    address: SocketAddr,
) {
    let expected = |peer: &NodeId| node.config.peers.contains_key(peer);
    let own = (&node.config.node, &node.signer);
    let proven = async {
        let listened = handshake::listen(&mut stream, own, expected);
        timeout(node.config.timeout, listened).await
    };
    let proven = node.stopped.clone().run_until_cancelled(proven).await;
    drop(unproven);
    match proven {
        Some(Ok(Ok((peer, Purpose::Gossip)))) => talk(&node, peer, stream).await,
        Some(Ok(Ok((peer, Purpose::Range)))) => {
            let served = source::serve(&node, &peer, stream);
            node.stopped.clone().run_until_cancelled(served).await;
        }
        Some(Ok(Err(error))) => info!(%address, %error, "connection refused"),
        Some(Err(_)) => debug!(%address, "nothing was proven in time"),
        None => {}
    }
}

/// Keeps a connection to another node, until this one stops.
pub(crate) async fn keep_linked(node: Arc<Node>, peer: NodeId, address: SocketAddr) {
    let stopped = node.stopped.clone();
    while !stopped.is_cancelled() {
        let connected = connect(&node, &peer, address, Purpose::Gossip);
        match stopped.run_until_cancelled(connected).await {
            Some(Ok((peer, stream))) => talk(&node, peer, stream).await,
            Some(Err(error)) => debug!(node = %peer, %error, "not connected"),
            None => return,
        }
        stopped.run_until_cancelled(sleep(node.config.redial)).await;
    }
}

/// Connects to another node, and proves what there is to prove.
pub(crate) async fn connect(
    node: &Node,
    peer: &NodeId,
    address: SocketAddr,
    purpose: Purpose,
) -> Result<(Peer, TcpStream), HandshakeError> {
    let own = (&node.config.node, &node.signer);
    let connected = async {
        let mut stream = TcpStream::connect(address).await.map_err(WireError::Io)?;
        let peer = handshake::dial(&mut stream, own, purpose, peer).await?;
        Ok((peer, stream))
    };
    match timeout(node.config.timeout, connected).await {
        Ok(connected) => connected,
        Err(_) => Err(WireError::Io(std::io::ErrorKind::TimedOut.into()).into()),
    }
}

/// Sends and takes what there is, until the connection ends.
async fn talk(node: &Arc<Node>, peer: Peer, stream: TcpStream) {
    let (frames, mut to_send) = mpsc::channel::<Bytes>(node.config.link_queue.get());
    let link = Arc::new(Link {
        peer,
        frames,
        closed: node.stopped.child_token(),
    });
    // A link that nobody writes small frames to in vain: they go out at once.
    let _ = stream.set_nodelay(true);
    let (from, mut to) = stream.into_split();
    node.linked(&link);
    info!(node = %link.peer.node, "connected");
    let sending = async {
        while let Some(frame) = to_send.recv().await {
            let sent = timeout(node.config.silence_limit, to.write_all(&frame)).await;
            if !matches!(sent, Ok(Ok(()))) {
                break;
            }
        }
    };
    let both = async {
        tokio::select! {
            () = sending => {}
            taken = take_all(node, &link, from) => if let Err(error) = taken {
                debug!(node = %link.peer.node, %error, "connection ended");
            }
        }
    };
    link.closed.run_until_cancelled(both).await;
    info!(node = %link.peer.node, "disconnected");
    let unlinked = node.unlinked(&link);
    node.stopped.clone().run_until_cancelled(unlinked).await;
}

/// Brings what a node sends to the channels. A channel that has too much to do holds the connection
/// up, and so its sender.
async fn take_all(
    node: &Node,
    link: &Arc<Link>,
    from: impl AsyncRead + Unpin,
) -> Result<(), WireError> {
    let mut from = BufReader::new(from);
    loop {
        let (topic, input) = match read_frame(&mut from, node.config.max_frame).await? {
            Frame::Block { topic, block } => (topic, Input::Block(link.clone(), block)),
            Frame::Status { topic, status } => (topic, Input::Status(link.clone(), status)),
            Frame::Unknown => continue,
            Frame::Hello(_)
            | Frame::Proof { .. }
            | Frame::Range { .. }
            | Frame::Item(_)
            | Frame::End(_)
            | Frame::Subscribe(_) => {
                return Err(WireError::Malformed("this does not belong here"));
            }
        };
        // What belongs to a channel that this node is not in goes by.
        if let Some(channel) = node.channel(&topic) {
            let _ = channel.inputs.send(input).await;
        }
    }
}
