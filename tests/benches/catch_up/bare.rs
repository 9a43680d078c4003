// SPDX-License-Identifier: Apache-2.0
//! A process that is a bare client: tonic over TLS with the windows of ours. Messages are received
//! and counted, no more.

use std::{fs, path::PathBuf, sync::Arc};

use anyhow::{Context as _, Result, ensure};
use block_api::{Clock as _, Endpoint, Start, StreamRequest, SystemClock};
use e2e_tests::bench::{Orders, Role, tell};
use orderer_client::{Config as ClientConfig, parse_pem_certificates};
use protos::{
    deliver::DeliverMessage,
    grpc::{AtomicBroadcastClient, MAX_MESSAGE_BYTES},
};
use rustls_pki_types::ServerName;
use signer::{
    envelope::{Nonce, seek_envelope},
    load_msp_folder,
};
use tokio::{net::TcpStream, time::Instant};
use tokio_stream::StreamExt as _;
use tonic::transport::Channel;

use crate::{
    node::{MSP, MSP_FOLDER},
    orderer::{CHANNEL, SERVED_BY},
    rig::READY,
};

pub(crate) const ROLE: &str = "bare";

pub(crate) async fn run(role: &Role) -> Result<()> {
    let (folder, endpoint): (PathBuf, Endpoint) = (role.argument(0)?, role.argument(1)?);
    let blocks: usize = role.argument(2)?;
    let signer = load_msp_folder(&folder.join(MSP_FOLDER), MSP)?;
    let request = StreamRequest::blocks_from(CHANNEL.parse()?, Start::At(1.into()));
    let (now, nonce) = (SystemClock.now(), Nonce::random());
    let envelope = seek_envelope(&*signer, &request, None, now, nonce).await?;
    let authority = fs::read(folder.join(SERVED_BY))?;

    let mut orders = Orders::default();
    tell(READY);
    orders.next().await?;
    let began = Instant::now();
    let channel = connect(&endpoint, &authority).await?;
    let mut client =
        AtomicBroadcastClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
    // The half that sends stays open, as an orderer's client leaves it.
    let requests = tokio_stream::iter([envelope]).chain(tokio_stream::pending());
    let mut responses = client.deliver(requests).await?.into_inner();
    for _ in 0..blocks {
        let response = responses.next().await.context("the stream ended early")??;
        let message = response.parse()?;
        ensure!(matches!(message, DeliverMessage::Block(_)), "no block");
    }
    tell(format_args!("{} 0", began.elapsed().as_nanos()));
    orders.end().await
}

async fn connect(endpoint: &Endpoint, authority: &[u8]) -> Result<Channel> {
    let mut roots = rustls::RootCertStore::empty();
    for root in parse_pem_certificates(authority)? {
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
            Ok::<_, std::io::Error>(hyper_util::rt::TokioIo::new(
                connector.connect(name, tcp).await?,
            ))
        }
    });
    let config = ClientConfig::default();
    let channel = tonic::transport::Endpoint::from_shared(format!("https://{endpoint}"))?
        .initial_stream_window_size(config.stream_window_bytes)
        .initial_connection_window_size(config.connection_window_bytes)
        .connect_with_connector(dial)
        .await?;
    Ok(channel)
}
