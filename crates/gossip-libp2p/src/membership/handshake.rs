// SPDX-License-Identifier: Apache-2.0
//! The proof of membership over one stream, from either side.

use std::{sync::Arc, time::Duration};

use block_api::{DeliverStatus, SignError, Signer};
use futures::{AsyncRead, AsyncWrite, AsyncWriteExt};
use libp2p::PeerId;
use rand::{TryRng, rngs::SysRng};
use tokio::time::timeout;

use super::wire::{
    Hello, MAX_FRAME, NONCE, Nonce, Proof, Role, Unreadable, encode_proof, parse_proof, signed,
};
use crate::{
    access::{Access, Refused},
    frames::{self, FrameError, Patience, flush, read_frame, write_frame},
    wire::{parse_end, put_end},
};

/// What a node proves itself with, and by what it judges others.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) network: String,
    pub(crate) peer: PeerId,
    pub(crate) signer: Arc<dyn Signer>,
    pub(crate) access: Access,
    /// How long the signer, or the other side with any frame, may take.
    pub(crate) patience: Duration,
}

/// Two nodes did not prove to each other who they are.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandshakeError {
    #[error("the proof of membership broke off: {0}")]
    Frame(#[from] FrameError),
    #[error("the other side hung up in the proof of membership")]
    HungUp,
    #[error("the other side sent a frame of kind {0} in the proof of membership")]
    Kind(u8),
    #[error("the other side cannot be understood: {0}")]
    Unreadable(#[from] Unreadable),
    #[error(
        "the other side is of network {theirs:?}, and this node of {ours:?}; set one name for both"
    )]
    Network { theirs: String, ours: String },
    #[error(
        "the other side refuses this node with {status}: its identity may read no channel there"
    )]
    Unwanted { status: DeliverStatus },
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error("this node cannot prove its identity: {0}")]
    Signer(#[from] SignError),
    #[error("this node cannot prove its identity: its signer did not answer for {} ms", after.as_millis())]
    SlowSigner { after: Duration },
    #[error(
        "this node cannot prove its identity: identity and signature have more than {MAX_FRAME} bytes"
    )]
    LongProof,
    #[error("the system gives no random bytes: {0}")]
    Random(String),
}

impl HandshakeError {
    /// Whether an operator should hear of it: it does not pass by itself.
    pub(crate) fn is_lasting(&self) -> bool {
        match self {
            Self::Unreadable(Unreadable::Version(_))
            | Self::Network { .. }
            | Self::Unwanted { .. }
            | Self::Signer(_)
            | Self::SlowSigner { .. }
            | Self::LongProof
            | Self::Random(_) => true,
            Self::Frame(_)
            | Self::HungUp
            | Self::Kind(_)
            | Self::Unreadable(_)
            | Self::Refused(_) => false,
        }
    }
}

impl Member {
    /// Proves this node to the one that it dialled, and has that one do the same. The dialer proves
    /// first, so that who listens tells nothing of itself to strangers.
    pub(crate) async fn dial<S>(&self, stream: &mut S, other: PeerId) -> Result<(), HandshakeError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let nonce = self.greet(stream).await?;
        let theirs = self.greeting(stream).await?;
        self.prove(stream, Role::Dialer, &nonce, (&other, &theirs))
            .await?;
        let proof = self
            .proof(stream, Role::Listener, &nonce, (&other, &theirs))
            .await?;
        self.access.admit(other, proof)?;
        // The other side sees that nothing more is said here.
        Ok(self.close(stream).await?)
    }

    /// The same for a node that was dialled. It greets who greets it, proves itself to whom it
    /// admits, and tells whom it does not.
    pub(crate) async fn listen<S>(
        &self,
        stream: &mut S,
        other: PeerId,
    ) -> Result<(), HandshakeError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let theirs = self.greeting(stream).await?;
        let nonce = self.greet(stream).await?;
        let proof = self
            .proof(stream, Role::Dialer, &nonce, (&other, &theirs))
            .await?;
        if let Err(refused) = self.access.admit(other, proof) {
            let no = put_end(DeliverStatus::Forbidden);
            write_frame(stream, frames::END, &[&no], self.patience).await?;
            self.close(stream).await?;
            return Err(refused.into());
        }
        self.prove(stream, Role::Listener, &nonce, (&other, &theirs))
            .await?;
        Ok(self.close(stream).await?)
    }

    async fn greet<S>(&self, stream: &mut S) -> Result<Nonce, HandshakeError>
    where
        S: AsyncWrite + Unpin,
    {
        let mut nonce = [0; NONCE];
        SysRng
            .try_fill_bytes(&mut nonce)
            .map_err(|error| HandshakeError::Random(error.to_string()))?;
        let hello = Hello {
            network: self.network.clone(),
            nonce,
        };
        write_frame(stream, frames::HELLO, &[&hello.encode()], self.patience).await?;
        flush(stream, self.patience).await?;
        Ok(nonce)
    }

    async fn greeting<S>(&self, stream: &mut S) -> Result<Nonce, HandshakeError>
    where
        S: AsyncRead + Unpin,
    {
        let hello = Hello::parse(&self.frame(stream, frames::HELLO).await?)?;
        if hello.network != self.network {
            return Err(HandshakeError::Network {
                theirs: hello.network,
                ours: self.network.clone(),
            });
        }
        Ok(hello.nonce)
    }

    async fn prove<S>(
        &self,
        stream: &mut S,
        role: Role,
        nonce: &Nonce,
        other: (&PeerId, &Nonce),
    ) -> Result<(), HandshakeError>
    where
        S: AsyncWrite + Unpin,
    {
        let message = signed(role, &self.network, (&self.peer, nonce), other);
        let after = self.patience;
        let signature = timeout(after, self.signer.sign(&message))
            .await
            .map_err(|_| HandshakeError::SlowSigner { after })??;
        let proof = encode_proof(&self.signer.identity(), &signature);
        let proof = proof.ok_or(HandshakeError::LongProof)?;
        write_frame(stream, frames::PROOF, &[&proof], self.patience).await?;
        Ok(flush(stream, self.patience).await?)
    }

    async fn proof<S>(
        &self,
        stream: &mut S,
        role: Role,
        nonce: &Nonce,
        (other, theirs): (&PeerId, &Nonce),
    ) -> Result<Proof, HandshakeError>
    where
        S: AsyncRead + Unpin,
    {
        let (identity, signature) = parse_proof(self.frame(stream, frames::PROOF).await?)?;
        Ok(Proof {
            identity,
            signed: signed(role, &self.network, (other, theirs), (&self.peer, nonce)),
            signature,
        })
    }

    async fn frame<S>(&self, stream: &mut S, wanted: u8) -> Result<Vec<u8>, HandshakeError>
    where
        S: AsyncRead + Unpin,
    {
        // The other side has its signer to ask, and then to judge.
        let wait = Patience {
            first: Some(self.patience.saturating_mul(2)),
            next: self.patience,
        };
        let frame = read_frame(stream, MAX_FRAME, wait).await?;
        let frame = frame.ok_or(HandshakeError::HungUp)?;
        if frame.kind == frames::END {
            let status = parse_end(&frame.payload).unwrap_or(DeliverStatus::Forbidden);
            return Err(HandshakeError::Unwanted { status });
        }
        if frame.kind != wanted {
            return Err(HandshakeError::Kind(frame.kind));
        }
        Ok(frame.payload)
    }

    async fn close<S>(&self, stream: &mut S) -> Result<(), FrameError>
    where
        S: AsyncWrite + Unpin,
    {
        Ok(timeout(self.patience, stream.close())
            .await
            .map_err(|_| FrameError::NotTaken {
                after: self.patience,
            })??)
    }
}
