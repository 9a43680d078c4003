// SPDX-License-Identifier: Apache-2.0
//! What it takes to receive the chain and do nothing with it: by the client, and by a bare stub.

use std::{fs, path::Path, sync::Arc};

use anyhow::{Context as _, Result, ensure};
use block_api::{BlockSource as _, Clock as _, Delivery, Start, StreamRequest, SystemClock};
use e2e_tests::bench::Usage;
use orderer_client::{Config as ClientConfig, OrdererClient};
use protos::{
    deliver::DeliverMessage,
    grpc::{AtomicBroadcastClient, MAX_MESSAGE_BYTES},
};
use rustls_pki_types::ServerName;
use signer::{
    envelope::{Nonce, seek_envelope},
    load_msp_folder,
};
use tokio::{net::TcpStream, task::JoinSet};
use tokio_stream::StreamExt as _;

use crate::hosts;

/// The role of one who receives with the client.
pub(crate) const CLIENT: &str = "receive";

/// The role of one who receives with a stub and nothing else.
pub(crate) const STUB: &str = "receive-bare";

/// What the clock of a process cannot tell from nothing, in seconds.
const TICK_S: f64 = 0.01;

/// Receives the chain with the client, and says what it took.
pub(crate) async fn client(dir: &Path, blocks: usize) -> Result<()> {
    let signer = load_msp_folder(&dir.join(hosts::MSP), hosts::MSP_ID)?;
    let config = hosts::client_config(dir)?;
    let endpoint = config
        .endpoints
        .first()
        .context("an endpoint")?
        .endpoint
        .clone();
    let client = OrdererClient::new(config, signer, Arc::new(SystemClock))?;
    let request = StreamRequest::blocks_from(hosts::CHANNEL.parse()?, Start::At(1.into()));
    let mut stream = client.open(&endpoint, &request).await?;
    tell_cpu(async move {
        for _ in 0..blocks {
            let delivery = stream.next().await.context("the stream ended early")??;
            ensure!(matches!(delivery, Delivery::Block(_)), "no block");
        }
        Ok(())
    })
    .await
}

/// Receives the chain with a stub over the same TLS and windows, and says what it took.
pub(crate) async fn stub(dir: &Path, blocks: usize) -> Result<()> {
    let signer = load_msp_folder(&dir.join(hosts::MSP), hosts::MSP_ID)?;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(fs::read(dir.join(hosts::TLS_ROOT))?.into())?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let connector = tokio_rustls::TlsConnector::from(Arc::new(tls));
    let address = hosts::orderer_address();
    let dial = tower::service_fn(move |_| {
        let connector = connector.clone();
        async move {
            let tcp = TcpStream::connect(address).await?;
            tcp.set_nodelay(true)?;
            let name = ServerName::from(address.ip());
            let io = connector.connect(name, tcp).await?;
            Ok::<_, std::io::Error>(hyper_util::rt::TokioIo::new(io))
        }
    });
    let windows = ClientConfig::default();
    let channel = tonic::transport::Endpoint::from_shared(format!("https://{address}"))?
        .initial_stream_window_size(windows.stream_window_bytes)
        .initial_connection_window_size(windows.connection_window_bytes)
        .connect_with_connector(dial)
        .await?;
    let mut client =
        AtomicBroadcastClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
    let request = StreamRequest::blocks_from(hosts::CHANNEL.parse()?, Start::At(1.into()));
    let now = SystemClock.now();
    let envelope = seek_envelope(&*signer, &request, None, now, Nonce::random()).await?;
    // The half that sends stays open, as an orderer's client leaves it.
    let requests = tokio_stream::iter([envelope]).chain(tokio_stream::pending());
    let mut responses = client.deliver(requests).await?.into_inner();
    tell_cpu(async move {
        for _ in 0..blocks {
            let response = responses.next().await.context("the stream ended early")??;
            let message = response.parse()?;
            ensure!(matches!(message, DeliverMessage::Block(_)), "no block");
        }
        Ok(())
    })
    .await
}

/// Receives in a task, as a pull loop does, and says how many seconds of a core that took.
async fn tell_cpu(receiving: impl Future<Output = Result<()>> + Send + 'static) -> Result<()> {
    let before = Usage::own()?.cpu_s;
    let mut tasks = JoinSet::new();
    tasks.spawn(receiving);
    tasks.join_next().await.context("a task")???;
    println!("{}", (Usage::own()?.cpu_s - before).max(TICK_S));
    Ok(())
}
