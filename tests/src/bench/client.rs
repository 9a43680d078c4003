// SPDX-License-Identifier: Apache-2.0
//! A bare client of an ordering service: tonic over TLS with the HTTP/2 settings of ours. Messages are
//! received, no more.

use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use block_api::Endpoint;
use orderer_client::Config as ClientConfig;
use protos::{
    common::Envelope,
    deliver::{DeliverMessage, RawDeliverResponse},
    grpc::{AtomicBroadcastClient, MAX_MESSAGE_BYTES},
};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_stream::StreamExt as _;
use tonic::{Streaming, transport::Channel};

/// How large a DATA frame may be, as `orderer-client` asks for.
const FRAME_BYTES: u32 = 256 << 10;

/// One connection to an ordering service.
#[derive(Debug, Clone)]
pub struct BareClient(Channel);

/// What comes on a stream of blocks.
///
/// A task of its own has to receive, as in a node: what the runtime is started with is woken from
/// another thread for each message.
#[derive(Debug)]
pub struct BareBlocks(Streaming<RawDeliverResponse>);

impl BareClient {
    /// Connects to who has a certificate of one of these authorities.
    ///
    /// # Errors
    ///
    /// When nobody is there, or somebody else.
    pub async fn connect(
        endpoint: &Endpoint,
        authorities: impl IntoIterator<Item = CertificateDer<'static>>,
    ) -> Result<Self> {
        let mut roots = rustls::RootCertStore::empty();
        for root in authorities {
            roots.add(root)?;
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        tls.alpn_protocols = vec![b"h2".to_vec()];
        let connector = tokio_rustls::TlsConnector::from(Arc::new(tls));
        let name = ServerName::try_from(endpoint.host().to_owned())?;
        let address = endpoint.to_string();
        let dial = tower::service_fn(move |_| {
            let (connector, name, address) = (connector.clone(), name.clone(), address.clone());
            async move {
                let tcp = TcpStream::connect(address).await?;
                tcp.set_nodelay(true)?;
                let io = connector.connect(name, tcp).await?;
                Ok::<_, std::io::Error>(hyper_util::rt::TokioIo::new(io))
            }
        });
        let config = ClientConfig::default();
        let channel = tonic::transport::Endpoint::from_shared(format!("https://{endpoint}"))?
            .initial_stream_window_size(config.stream_window_bytes)
            .initial_connection_window_size(config.connection_window_bytes)
            .max_frame_size(FRAME_BYTES)
            .connect_with_connector(dial)
            .await?;
        Ok(Self(channel))
    }

    /// Asks for blocks.
    ///
    /// # Errors
    ///
    /// When the ordering service does not answer.
    pub async fn deliver(self, envelope: Envelope) -> Result<BareBlocks> {
        let mut client =
            AtomicBroadcastClient::new(self.0).max_decoding_message_size(MAX_MESSAGE_BYTES);
        // The half that sends stays open, as an orderer's client leaves it.
        let requests = tokio_stream::iter([envelope]).chain(tokio_stream::pending());
        Ok(BareBlocks(client.deliver(requests).await?.into_inner()))
    }
}

impl BareBlocks {
    /// The next message.
    ///
    /// # Errors
    ///
    /// When the stream fails or ends.
    pub async fn next(&mut self) -> Result<DeliverMessage> {
        let response = self.0.next().await.context("the stream ended early")??;
        Ok(response.parse()?)
    }

    /// Receives so many blocks, and drops them.
    ///
    /// # Errors
    ///
    /// When something else comes.
    pub async fn take(mut self, blocks: usize) -> Result<()> {
        for _ in 0..blocks {
            let message = self.next().await?;
            ensure!(matches!(message, DeliverMessage::Block(_)), "no block");
        }
        Ok(())
    }
}
