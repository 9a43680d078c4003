// SPDX-License-Identifier: Apache-2.0
//! Two nodes prove to each other who they are. Whether that gives a right, each channel says.

use std::{fmt, sync::Arc, time::SystemTime};

use block_api::{BoxError, NodeId, Readers, ReadersDenied, Signer};
use bytes::Bytes;
use rand::{TryRng as _, rngs::SysRng};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::wire::{Frame, Hello, Purpose, VERSION, WireError, read_frame, write_frame};

/// Neither a greeting nor a proof is longer.
const LIMIT: usize = 32 << 10;

/// Who is at the other end, with what it proves that by.
pub(crate) struct Peer {
    pub(crate) node: NodeId,
    pub(crate) identity: Bytes,
    message: Vec<u8>,
    signature: Bytes,
}

/// The side of a connection.
#[derive(Debug, Clone, Copy)]
enum Role {
    Dialer = 1,
    Listener = 2,
}

/// Two nodes did not come together.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandshakeError {
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error("the other end speaks version {0}, and this one version {VERSION}")]
    Version(u8),
    #[error("the other end is {0}, whom nobody expects")]
    Unexpected(NodeId),
    #[error("the other end sent something else than its proof")]
    NoProof,
    #[error("this node cannot prove itself: {0}")]
    Signer(BoxError),
}

impl Peer {
    /// Whether the readers of a channel let it read.
    pub(crate) fn may_read(
        &self,
        readers: &dyn Readers,
        now: SystemTime,
    ) -> Result<(), ReadersDenied> {
        readers.may_read(&self.identity, &self.message, &self.signature, now)
    }
}

/// Greets and proves as the one who dialled, which proves itself first.
pub(crate) async fn dial(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    (own, signer): (&NodeId, &Arc<dyn Signer>),
    purpose: Purpose,
    expected: &NodeId,
) -> Result<Peer, HandshakeError> {
    let hello = hello(own, purpose)?;
    write_frame(stream, &Frame::Hello(hello.clone())).await?;
    let theirs = greeting(stream).await?;
    if theirs.node != *expected {
        return Err(HandshakeError::Unexpected(theirs.node));
    }
    prove(stream, signer, Role::Dialer, &hello, &theirs).await?;
    proof(stream, Role::Listener, &hello, theirs).await
}

/// The same as the one who was dialled, with what the connection is for.
pub(crate) async fn listen(
    stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
    (own, signer): (&NodeId, &Arc<dyn Signer>),
    expected: impl Fn(&NodeId) -> bool,
) -> Result<(Peer, Purpose), HandshakeError> {
    let theirs = greeting(stream).await?;
    if !expected(&theirs.node) {
        return Err(HandshakeError::Unexpected(theirs.node));
    }
    let purpose = theirs.purpose;
    let hello = hello(own, purpose)?;
    write_frame(stream, &Frame::Hello(hello.clone())).await?;
    let peer = proof(stream, Role::Dialer, &hello, theirs.clone()).await?;
    prove(stream, signer, Role::Listener, &hello, &theirs).await?;
    Ok((peer, purpose))
}

fn hello(node: &NodeId, purpose: Purpose) -> Result<Hello, HandshakeError> {
    let mut nonce = [0; 32];
    let filled = SysRng.try_fill_bytes(&mut nonce);
    filled.map_err(|error| HandshakeError::Signer(error.into()))?;
    Ok(Hello {
        version: VERSION,
        purpose,
        node: node.clone(),
        nonce,
    })
}

async fn greeting(from: &mut (impl AsyncRead + Unpin)) -> Result<Hello, HandshakeError> {
    let Frame::Hello(hello) = read_frame(from, LIMIT).await? else {
        return Err(HandshakeError::NoProof);
    };
    match hello.version {
        VERSION => Ok(hello),
        version => Err(HandshakeError::Version(version)),
    }
}

async fn prove(
    to: &mut (impl AsyncWrite + Unpin),
    signer: &Arc<dyn Signer>,
    role: Role,
    own: &Hello,
    theirs: &Hello,
) -> Result<(), HandshakeError> {
    let message = message(role, own, theirs);
    let signed = signer.sign(&message).await;
    let signature = signed.map_err(|error| HandshakeError::Signer(error.into()))?;
    let identity = signer.identity();
    let proof = Frame::Proof {
        identity,
        signature,
    };
    Ok(write_frame(to, &proof).await?)
}

async fn proof(
    from: &mut (impl AsyncRead + Unpin),
    role: Role,
    own: &Hello,
    theirs: Hello,
) -> Result<Peer, HandshakeError> {
    let Frame::Proof {
        identity,
        signature,
    } = read_frame(from, LIMIT).await?
    else {
        return Err(HandshakeError::NoProof);
    };
    Ok(Peer {
        message: message(role, &theirs, own),
        node: theirs.node,
        identity,
        signature,
    })
}

/// What is signed: it begins with a zero, so that nobody takes it for a transaction, and holds both
/// names and nonces, so that it proves nothing to anybody else or at another time.
fn message(role: Role, signer: &Hello, other: &Hello) -> Vec<u8> {
    let mut message = b"\0tcp-gossip 1\0".to_vec();
    message.push(role as u8);
    for hello in [signer, other] {
        let name = hello.node.as_str().as_bytes();
        message.extend((name.len() as u32).to_be_bytes());
        message.extend(name);
        message.extend(hello.nonce);
    }
    message
}

impl fmt::Debug for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Peer").field(&self.node).finish()
    }
}
