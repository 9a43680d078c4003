// SPDX-License-Identifier: Apache-2.0
//! The limits of a server.

use std::{num::NonZeroUsize, time::Duration};

use protos::grpc::MAX_MESSAGE_BYTES;

/// How Deliver is served.
#[derive(Debug, Clone)]
pub struct DeliverConfig {
    /// So far may the time of a request be off, either way. Default: 15 min, as in Fabric.
    pub time_window: Duration,
    /// So many bytes are read ahead for one stream at most, and never more than
    /// [`ahead_bytes`](Self::ahead_bytes); a larger block is read alone. Default: 1 MiB, which is still
    /// in the caches of the processor when it is sent.
    pub batch_bytes: NonZeroUsize,
    /// So many blocks are read ahead for one stream at most. Default: 128.
    pub batch_blocks: NonZeroUsize,
    /// So many bytes are read ahead for all streams together, an eighth of them, or one batch, for
    /// those of one connection; the streams beyond that read block by block. Default: 128 MiB.
    pub ahead_bytes: NonZeroUsize,
    /// So many bytes of what was read lately are kept for other streams of the same channels, in
    /// all; the oldest go first. Default: 32 MiB.
    pub recent_bytes: NonZeroUsize,
}

/// How connections are served.
#[derive(Debug, Clone)]
pub struct ServeConfig {
    /// So many connections are open at once, counted from before their handshake. More wait in the
    /// listener's backlog until one closes. Default: 1024.
    pub max_connections: NonZeroUsize,
    /// So many calls run at once on one connection; HTTP/2 tells the client to wait with more.
    /// Default: 128.
    pub max_streams_per_connection: u32,
    /// The limit on the TLS handshake, and then on the first call; a connection that needs longer
    /// is closed. Default: 10 s.
    pub handshake_timeout: Duration,
    /// When the server stops, calls have so long to end. Default: 2 s.
    pub drain_timeout: Duration,
    /// The size of a message that a client sends, in bytes, above which its call fails.
    /// Default: 100 MiB.
    pub max_message_bytes: NonZeroUsize,
    /// How many bytes of one call a client may have on the way to the server. Default: 1 MiB.
    pub stream_window_bytes: u32,
    /// The same for the calls of a connection together. Default: 2 MiB.
    pub connection_window_bytes: u32,
    /// So many bytes of one call wait in the server for the client to take them; when they are
    /// more, no further block is encoded. Default: 1 MiB.
    pub max_send_buffer_bytes: NonZeroUsize,
    /// After so long without a frame from the client an HTTP/2 ping is sent. Default: 60 s.
    pub keepalive_interval: Duration,
    /// So long a ping may stay unanswered. Default: 20 s.
    pub keepalive_timeout: Duration,
}

impl Default for DeliverConfig {
    fn default() -> Self {
        Self {
            time_window: Duration::from_secs(15 * 60),
            batch_bytes: size(1 << 20),
            batch_blocks: size(128),
            ahead_bytes: size(128 << 20),
            recent_bytes: size(32 << 20),
        }
    }
}

impl Default for ServeConfig {
    fn default() -> Self {
        Self {
            max_connections: size(1024),
            max_streams_per_connection: 128,
            handshake_timeout: Duration::from_secs(10),
            drain_timeout: Duration::from_secs(2),
            max_message_bytes: size(MAX_MESSAGE_BYTES),
            stream_window_bytes: 1 << 20,
            connection_window_bytes: 2 << 20,
            max_send_buffer_bytes: size(1 << 20),
            keepalive_interval: Duration::from_secs(60),
            keepalive_timeout: Duration::from_secs(20),
        }
    }
}

fn size(bytes: usize) -> NonZeroUsize {
    NonZeroUsize::new(bytes).unwrap_or(NonZeroUsize::MIN)
}
