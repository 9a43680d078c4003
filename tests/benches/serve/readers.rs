// SPDX-License-Identifier: Apache-2.0
//! The process that reads: bare tonic clients that receive and count, no more.

use std::{net::SocketAddr, sync::Arc};

use anyhow::{Context as _, Result, ensure};
use e2e_tests::bench::{Role, Usage};
use orderer_client::Config as ClientConfig;
use protos::{
    common::Envelope,
    deliver::DeliverMessage,
    grpc::{AtomicBroadcastClient, MAX_MESSAGE_BYTES},
};
use rustls_pki_types::ServerName;
use tokio::{net::TcpStream, task::JoinSet, time::Instant};
use tokio_stream::StreamExt as _;
use tonic::transport::Channel;

use crate::{files::Files, tell};

/// What this process is for.
pub(crate) const ROLE: &str = "readers";

/// Reads so many blocks with each of so many readers, from when all of them are connected, and tells
/// how many seconds that took and how many of a processor.
pub(crate) async fn run(role: &Role) -> Result<()> {
    let files = Files::of(role)?;
    let address: SocketAddr = role.argument(1)?;
    let (readers, blocks): (usize, usize) = (role.argument(2)?, role.argument(3)?);
    let mut clients = Vec::new();
    for _ in 0..readers {
        clients.push(connect(files, address).await?);
    }
    let mut reading = JoinSet::new();
    let (began, used) = (Instant::now(), Usage::own()?);
    for client in clients {
        reading.spawn(read(client, files.asked()?, blocks));
    }
    while let Some(read) = reading.join_next().await {
        read??;
    }
    let (seconds, cpu) = (
        began.elapsed().as_secs_f64(),
        Usage::own()?.cpu_s - used.cpu_s,
    );
    tell(format_args!("{seconds} {cpu}"));
    Ok(())
}

async fn connect(files: Files<'_>, address: SocketAddr) -> Result<Channel> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(files.trusted()?)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let connector = tokio_rustls::TlsConnector::from(Arc::new(tls));
    let name = ServerName::from(address.ip());
    let dial = tower::service_fn(move |_| {
        let (connector, name) = (connector.clone(), name.clone());
        async move {
            let tcp = TcpStream::connect(address).await?;
            tcp.set_nodelay(true)?;
            Ok::<_, std::io::Error>(hyper_util::rt::TokioIo::new(
                connector.connect(name, tcp).await?,
            ))
        }
    });
    let config = ClientConfig::default();
    let channel = tonic::transport::Endpoint::from_shared(format!("https://{address}"))?
        .initial_stream_window_size(config.stream_window_bytes)
        .initial_connection_window_size(config.connection_window_bytes)
        .connect_with_connector(dial)
        .await?;
    Ok(channel)
}

async fn read(channel: Channel, envelope: Envelope, blocks: usize) -> Result<()> {
    let mut client =
        AtomicBroadcastClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
    // The half that sends stays open, as an orderer's client leaves it.
    let requests = tokio_stream::iter([envelope]).chain(tokio_stream::pending());
    let mut responses = client.deliver(requests).await?.into_inner();
    for _ in 0..blocks {
        let response = responses.next().await.context("the stream ended early")??;
        ensure!(
            matches!(response.parse()?, DeliverMessage::Block(_)),
            "no block"
        );
    }
    Ok(())
}
