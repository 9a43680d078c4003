// SPDX-License-Identifier: Apache-2.0
//! How a connection below TLS comes about: over TCP, or over what a test or simulation plugs in.

use std::{fmt, io, time::Duration};

use async_trait::async_trait;
use block_api::Endpoint;
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};

/// A silent connection is probed after so long.
const PROBE_AFTER: Duration = Duration::from_secs(10);
/// Then again and again after so long.
const PROBE_EVERY: Duration = Duration::from_secs(3);
/// So many probes stay unanswered before the connection is dead.
const PROBES: u32 = 3;
/// So long may sent bytes stay unacknowledged before the connection is dead.
#[cfg(target_os = "linux")]
const UNACKNOWLEDGED: Duration = Duration::from_secs(15);

/// A connection, in bytes.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

/// Makes connections.
#[async_trait]
pub trait Connector: Send + Sync + fmt::Debug {
    /// Connects to an endpoint, without TLS. The client holds it to its connect time-out.
    ///
    /// # Errors
    ///
    /// When the endpoint is not reached.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future gives the attempt up.
    async fn connect(&self, endpoint: &Endpoint) -> io::Result<Box<dyn Io>>;
}

/// Connects over TCP, with the name resolved anew each time, without Nagle's delay, and so that a
/// dead link is noticed after about 20 s.
#[derive(Debug, Clone, Copy, Default)]
pub struct TcpConnector;

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

#[async_trait]
impl Connector for TcpConnector {
    async fn connect(&self, endpoint: &Endpoint) -> io::Result<Box<dyn Io>> {
        let port = endpoint.port().ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("{endpoint} has no port"),
            )
        })?;
        let stream = TcpStream::connect((endpoint.host(), port)).await?;
        stream.set_nodelay(true)?;
        let keepalive = TcpKeepalive::new()
            .with_time(PROBE_AFTER)
            .with_interval(PROBE_EVERY)
            .with_retries(PROBES);
        let socket = SockRef::from(&stream);
        socket.set_tcp_keepalive(&keepalive)?;
        #[cfg(target_os = "linux")]
        socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED))?;
        Ok(Box::new(stream))
    }
}
