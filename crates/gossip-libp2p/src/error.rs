// SPDX-License-Identifier: Apache-2.0
//! What can go wrong before a node runs.

use std::{io, time::Duration};

use block_api::BoxError;
use libp2p::Multiaddr;

/// A configuration that makes no node.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A peer's address has no id.
    #[error("the static peer {}", source)]
    Peer {
        /// What is wrong with it.
        #[from]
        source: AddressError,
    },
    /// A value is out of its range.
    #[error("{field} is {value}: {reason}")]
    Value {
        /// The field of [`Config`](crate::Config).
        field: &'static str,
        /// Its value.
        value: String,
        /// What it must be.
        reason: &'static str,
    },
}

/// An address of a peer that does not say who is there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{address} does not end with the id of a peer; write it as /ip4/…/tcp/…/p2p/ID")]
pub struct AddressError {
    /// The address.
    pub address: Multiaddr,
}

/// A peer was not added.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AddPeerError {
    /// Its address has no id.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// The network was stopped.
    #[error("the gossip network is closed")]
    Closed,
}

/// A node did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration makes no node.
    #[error("the gossip configuration cannot be used: {0}")]
    Config(#[from] ConfigError),
    /// A transport or a behaviour could not be set up.
    #[error("{part} could not be set up: {source}")]
    Setup {
        /// Which one.
        part: &'static str,
        /// What it said.
        source: BoxError,
    },
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: Multiaddr,
        /// What the transport said.
        source: BoxError,
    },
    /// An address was not ready in time.
    #[error("listening on {address} did not begin within {} ms", after.as_millis())]
    ListenTimedOut {
        /// The address.
        address: Multiaddr,
        /// How long was waited.
        after: Duration,
    },
}

/// Why a stream to a peer was not opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error("the node is not connected")]
    NotConnected,
    #[error("too many streams are being opened to the node")]
    Busy,
    #[error("the node does not speak this protocol")]
    Unsupported,
    #[error("the stream was not opened in time")]
    TimedOut,
    #[error("the gossip network is closed")]
    Closed,
    #[error(transparent)]
    Io(#[from] io::Error),
}
