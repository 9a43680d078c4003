// SPDX-License-Identifier: Apache-2.0
//! How two nodes prove to each other who they are, before anything else is said on a connection.
//!
//! ```text
//! dialer   HELLO  version 1 = 1 | network: length 1, UTF-8 | nonce 32
//! listener HELLO  the same, with its own nonce
//! dialer   PROOF  identity: length 4, big-endian, bytes | signature: length 4, bytes
//! listener PROOF  when it has judged that of the dialer; END, a status, when it refuses it
//! ```
//!
//! The frames are those of every other stream. What is signed begins with a zero byte and a tag, so
//! that no parser of protobuf takes it for something of Fabric's, and binds both nodes, both nonces,
//! the role and the network: a proof is of use on one connection only.

mod handshake;
mod wire;

use std::time::Duration;

use libp2p::StreamProtocol;

#[cfg(any(test, feature = "testing"))]
pub(crate) use self::wire::fuzz;
pub(crate) use self::{
    handshake::{HandshakeError, Member},
    wire::Proof,
};

/// The proof of membership: the first stream of each connection, opened by the dialer.
pub(crate) const MEMBER: StreamProtocol = StreamProtocol::new("/blockcast/member/1");

/// How long a node that calls may take until its keys are agreed on, and then until it greets. Until
/// it does it is one of many that cost nothing to be.
pub(crate) const GREETING: Duration = Duration::from_secs(3);
