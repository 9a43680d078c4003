// SPDX-License-Identifier: Apache-2.0
//! The bare hops: a client of the orderer that stores nothing, and messages on a libp2p stream.

use std::{fs, path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use block_api::{Block, Clock as _, Endpoint, Start, StreamRequest, SystemClock};
use e2e_tests::{
    bare::BareTransport,
    bench::{Orders, tell},
};
use futures::{AsyncReadExt as _, AsyncWriteExt as _};
use gossip_libp2p::Multiaddr;
use orderer_client::{Config as ClientConfig, parse_pem_certificates};
use protos::{
    deliver::DeliverMessage,
    grpc::{AtomicBroadcastClient, MAX_MESSAGE_BYTES},
};
use rustls_pki_types::ServerName;
use signer::envelope::{Nonce, seek_envelope};
use tokio::{net::TcpStream, time::interval};
use tokio_stream::StreamExt as _;
use tonic::transport::Channel;

use crate::{
    child::{Came, MET, Stamp},
    run::INTERVAL,
};

/// What a message begins with: when it was sent.
const STAMP: usize = 8;

/// Tells of each block that comes from the orderer, as tonic gives it.
pub(crate) async fn client(dir: &Path, endpoint: &str) -> Result<()> {
    let genesis = Block::parse(fs::read(dir.join("genesis.block"))?.into())?;
    let verifier = channel_config::ChannelVerifier::from_genesis(&genesis)?;
    let signer = signer::load_msp_folder(&dir.join("org1/peer0/msp"), "Org1MSP")?;
    let channel = connect(&endpoint.parse()?, &fs::read(dir.join("tls-ca.pem"))?).await?;
    let mut client =
        AtomicBroadcastClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES);
    let request = StreamRequest::blocks_from(verifier.channel().clone(), Start::Newest);
    let (now, nonce) = (SystemClock.now(), Nonce::random());
    let envelope = seek_envelope(&*signer, &request, None, now, nonce).await?;
    // The half that sends stays open, as an orderer's client leaves it.
    let requests = tokio_stream::iter([envelope]).chain(tokio_stream::pending());
    let mut responses = client.deliver(requests).await?.into_inner();
    let telling = async {
        let mut met = false;
        loop {
            let response = responses.next().await.context("the stream ended")??;
            let at = Stamp::now();
            if let DeliverMessage::Block(raw) = response.parse()? {
                let number = Block::parse(raw)?.number().get();
                // The newest one was there before.
                if met {
                    tell(Came { number, at });
                } else {
                    tell(MET);
                    met = true;
                }
            }
        }
    };
    tokio::select! {
        ended = Orders::default().end() => ended,
        failed = telling => failed,
    }
}

/// Sends so many messages of so many bytes to who dials, at the pace of the blocks.
pub(crate) async fn sender(messages: usize, bytes: usize) -> Result<()> {
    let mut transport = BareTransport::new(1)?;
    tell(transport.listen().await?);
    let sending = async {
        let mut bare = transport.accept().await?;
        bare.stream.read_exact(&mut [0]).await?;
        let rest = vec![0xa5; bytes.saturating_sub(STAMP)];
        let mut turns = interval(INTERVAL);
        for _ in 0..messages {
            turns.tick().await;
            let now = u64::try_from(Stamp::now().0.as_nanos())?;
            bare.stream.write_all(&now.to_be_bytes()).await?;
            bare.stream.write_all(&rest).await?;
            bare.stream.flush().await?;
        }
        bare.hung_up().await;
        anyhow::Ok(())
    };
    tokio::select! {
        ended = Orders::default().end() => ended,
        sent = sending => {
            sent?;
            Orders::default().end().await
        }
    }
}

/// Tells how long each message took, and then that they ended.
pub(crate) async fn taker(bytes: usize, sender: Multiaddr) -> Result<()> {
    let mut bare = BareTransport::new(2)?.dial(sender).await?;
    bare.stream.write_all(&[1]).await?;
    bare.stream.flush().await?;
    let mut message = vec![0; bytes.max(STAMP)];
    loop {
        bare.stream.read_exact(&mut message).await?;
        let at = Stamp::now();
        let stamp: [u8; STAMP] = *message.first_chunk().context("a stamp")?;
        let sent = Stamp(Duration::from_nanos(u64::from_be_bytes(stamp)));
        tell(at.since(sent).as_nanos());
    }
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
