// SPDX-License-Identifier: Apache-2.0
//! The vocabulary of blockcast: blocks, their identity, and the seams between its crates.
#![doc = include_str!("../README.md")]

mod block;
mod channel;
mod clock;
mod endpoint;
mod gossip;
mod hash;
mod number;
mod signer;
mod source;
mod store;
#[cfg(feature = "testing")]
pub mod testing;
mod verify;
pub mod wire;

pub use self::{
    block::{
        Block, BlockHeader, DataEntries, EnvelopeError, MetadataSlots, NotWellFormed,
        ParseBlockError, RelayBytes, SIGNATURES_SLOT, SLOT_COUNT, check_envelope,
    },
    channel::{ChannelId, InvalidChannelId},
    clock::{Clock, FixedClock, SystemClock},
    endpoint::{Endpoint, InvalidEndpoint, NodeId},
    gossip::{
        Answer, Candidate, Capabilities, ChannelStatus, Fault, FetchError, Gossip, GossipChannel,
        GossipError, GossipEvent, JoinRequest, Membership,
    },
    hash::{DataHash, DataHashing, HeaderHash, InvalidHash, data_hash, header_der},
    number::{BlockNumber, Height},
    signer::{SignError, Signer},
    source::{
        BlockSource, BlockStream, Content, DeliverStatus, Delivery, Phase, SourceError, Start,
        Stop, StreamRequest, WhenMissing,
    },
    store::{AppendError, BlockReader, BlockStore, ChainInfo, ReadError, ReadLimits},
    verify::{
        Acceptance, BlockVerifier, HeaderProof, Kinship, OwnOrganisation, Readers, ReadersDenied,
        Rejection, Standing, Verdict, VerifiedBlock, VerifyError,
    },
};

/// An error of a plugged-in part, of a type that only this part knows.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
