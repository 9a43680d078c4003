// SPDX-License-Identifier: Apache-2.0
//! A signer of one's own: the private key stays in another process, which is asked over a socket.
#![expect(clippy::print_stdout, reason = "an example shows what it made")]

use std::{io, net::SocketAddr};

use async_trait::async_trait;
use block_api::{ChannelId, Clock as _, Start, StreamRequest, SystemClock};
use blockcast_signer::{
    EcdsaP256Signer, Identity, SignError, Signer,
    envelope::{Nonce, OpenedEnvelope, seek_envelope},
};
use bytes::Bytes;
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

/// Knows who it signs as and where to ask; it holds no key.
#[derive(Debug)]
struct RemoteSigner {
    identity: Identity,
    address: SocketAddr,
}

impl RemoteSigner {
    /// Sends the message, closes that half of the connection, and takes the answer as signature.
    async fn ask(&self, message: &[u8]) -> io::Result<Bytes> {
        let mut connection = TcpStream::connect(self.address).await?;
        connection.write_all(message).await?;
        connection.shutdown().await?;
        let mut signature = Vec::new();
        connection.read_to_end(&mut signature).await?;
        Ok(signature.into())
    }
}

#[async_trait]
impl Signer for RemoteSigner {
    fn identity(&self) -> Bytes {
        self.identity.serialized()
    }

    async fn sign(&self, message: &[u8]) -> Result<Bytes, SignError> {
        self.ask(message).await.map_err(SignError::new)
    }
}

/// Stands in for the process that holds the key: answers one request.
async fn serve_one(
    listener: &TcpListener,
    key_holder: &dyn Signer,
) -> Result<(), Box<dyn std::error::Error>> {
    let (mut connection, _) = listener.accept().await?;
    let mut message = Vec::new();
    connection.read_to_end(&mut message).await?;
    connection
        .write_all(&key_holder.sign(&message).await?)
        .await?;
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let certificate = CertificateParams::new(Vec::new())?.self_signed(&key)?;
    let identity = Identity::new("Org1MSP", certificate.pem())?;
    let key_holder = EcdsaP256Signer::new(identity.clone(), key.serialize_pem())?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;

    let signer = RemoteSigner {
        identity,
        address: listener.local_addr()?,
    };
    let channel: ChannelId = "mychannel".parse()?;
    let request = StreamRequest::blocks_from(channel, Start::Oldest);
    let (envelope, served) = tokio::join!(
        seek_envelope(&signer, &request, None, SystemClock.now(), Nonce::random()),
        serve_one(&listener, &key_holder),
    );
    served?;
    let envelope = envelope?;

    let opened = OpenedEnvelope::open(&envelope)?;
    println!(
        "a request for channel {} with {} bytes of payload and {} bytes of signature",
        opened.channel_header.channel_id,
        envelope.payload.len(),
        envelope.signature.len()
    );
    Ok(())
}
