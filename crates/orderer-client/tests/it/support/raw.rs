// SPDX-License-Identifier: Apache-2.0
//! HTTP/2 by hand, for what no well-behaved server does.

use block_api::{BlockSource as _, BlockStream};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream};

use super::{blocks_from, client_of, endpoint, net::MemoryNet};

pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const ACK: u8 = 1;

/// A frame.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) payload: Vec<u8>,
}

/// A server's end of a connection.
pub(crate) struct RawServer<T>(pub T);

impl<T: AsyncRead + AsyncWrite + Unpin> RawServer<T> {
    /// Takes a client's preface and sends settings, and nothing else.
    pub(crate) async fn accept(mut io: T) -> Self {
        let mut preface = [0; 24];
        io.read_exact(&mut preface).await.unwrap();
        assert!(preface.starts_with(b"PRI * HTTP/2.0"));
        let mut server = Self(io);
        server.send(SETTINGS, 0, &[]).await;
        server
    }

    pub(crate) async fn send(&mut self, kind: u8, flags: u8, payload: &[u8]) {
        self.send_on(0, kind, flags, payload).await;
    }

    pub(crate) async fn send_on(&mut self, stream: u8, kind: u8, flags: u8, payload: &[u8]) {
        let length = (payload.len() as u32).to_be_bytes();
        let mut frame = vec![
            length[1], length[2], length[3], kind, flags, 0, 0, 0, stream,
        ];
        frame.extend_from_slice(payload);
        self.0.write_all(&frame).await.unwrap();
    }

    /// The next frame; `None` when the client is gone.
    pub(crate) async fn receive(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).await.ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        self.0.read_exact(&mut payload).await.ok()?;
        Some(Frame {
            kind: head[3],
            flags: head[4],
            payload,
        })
    }
}

/// A client's stream that is open, and the server's end of its connection.
pub(crate) async fn opened() -> (BlockStream, RawServer<DuplexStream>) {
    let orderer = endpoint("orderer:7050");
    let net = MemoryNet::new();
    let far = net.pipe(&orderer);
    let client = client_of(&[&orderer]).with_connector(net);
    let request = blocks_from(1);
    let (opened, server) = tokio::join!(client.open(&orderer, &request), RawServer::accept(far));
    (opened.unwrap(), server)
}
