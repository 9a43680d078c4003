// SPDX-License-Identifier: Apache-2.0
//! What bounds a server: tonic alone, which answers each call with messages that were made before.

use std::{
    convert::Infallible,
    pin::{Pin, pin},
    sync::Arc,
};

use anyhow::{Context as _, Result};
use block_api::{BlockReader, ReadLimits};
use bytes::{Buf as _, BufMut as _, Bytes};
use e2e_tests::bench::Role;
use futures::{StreamExt as _, stream};
use hyper::{body::Incoming, server::conn::http2, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use orderer_server::ServeConfig;
use prost::Message as _;
use protos::{
    common::{Envelope, Payload},
    deliver::RawDeliverResponse,
    orderer::{SeekInfo, SeekPosition, seek_position::Type},
};
use rustls::crypto::aws_lc_rs;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;
use tonic::{
    Request, Response, Status, Streaming,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    server::{Grpc, StreamingService},
};

use crate::{files::Files, tell, until_told};

/// What this process is for.
pub(crate) const ROLE: &str = "bare";

/// Sends bytes as they are.
#[derive(Debug, Clone, Copy)]
struct Raw;

/// Answers each call with the messages from the block on that it asks for.
#[derive(Clone)]
struct Prepared(Arc<Vec<Bytes>>);

pub(crate) async fn run(role: &Role) -> Result<()> {
    let files = Files::of(role)?;
    let prepared = Prepared(Arc::new(messages(files).await?));
    let (certificate, key) = files.server()?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key)?;
    tls.alpn_protocols = vec![b"h2".to_vec()];
    let tls = TlsAcceptor::from(Arc::new(tls));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    tell(listener.local_addr()?);
    let mut connections = JoinSet::new();
    let mut told = pin!(until_told());
    loop {
        tokio::select! {
            biased;
            () = &mut told => return Ok(()),
            accepted = listener.accept() => {
                connections.spawn(serve(accepted?.0, tls.clone(), prepared.clone()));
            }
        }
    }
}

/// Every block of the chain in a message of Deliver.
async fn messages(files: Files<'_>) -> Result<Vec<Bytes>> {
    let (store, _) = files.store()?;
    let height = store.info().height.get();
    let mut messages = Vec::new();
    while (messages.len() as u64) < height {
        let from = messages.len() as u64;
        let blocks = store
            .read(from.into(), ReadLimits::new(64, 4 << 20))
            .await?;
        messages.extend(
            blocks
                .into_iter()
                .map(|block| RawDeliverResponse::block(block).into_bytes()),
        );
    }
    store.close().await;
    Ok(messages)
}

/// A connection, with the settings of `orderer-server`.
async fn serve(stream: TcpStream, tls: TlsAcceptor, prepared: Prepared) -> Result<()> {
    stream.set_nodelay(true)?;
    let stream = tls.accept(stream).await?;
    let config = ServeConfig::default();
    let calls = service_fn(move |request: http::Request<Incoming>| {
        let prepared = prepared.clone();
        async move {
            let response = Grpc::new(Raw).streaming(prepared, request).await;
            Ok::<_, Infallible>(response)
        }
    });
    http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(config.stream_window_bytes)
        .initial_connection_window_size(config.connection_window_bytes)
        .max_send_buf_size(config.max_send_buffer_bytes.get())
        .serve_connection(TokioIo::new(stream), calls)
        .await
        .context("a connection of the bare server failed")
}

impl StreamingService<Bytes> for Prepared {
    type Response = Bytes;
    type ResponseStream = stream::BoxStream<'static, Result<Bytes, Status>>;
    type Future =
        Pin<Box<dyn Future<Output = Result<Response<Self::ResponseStream>, Status>> + Send>>;

    fn call(&mut self, request: Request<Streaming<Bytes>>) -> Self::Future {
        let messages = self.0.clone();
        Box::pin(async move {
            let mut requests = request.into_inner();
            let asked = requests.message().await?.unwrap_or_default();
            let first = first_block(&asked)
                .ok_or_else(|| Status::invalid_argument("the request names no first block"))?;
            let answers = stream::iter(first..messages.len())
                .map(move |number| messages.get(number).cloned())
                .filter_map(|message| std::future::ready(message.map(Ok)))
                // The client ends the call.
                .chain(stream::pending());
            let answers: Self::ResponseStream = Box::pin(answers);
            Ok(Response::new(answers))
        })
    }
}

/// The first block that a request asks for.
fn first_block(envelope: &Bytes) -> Option<usize> {
    let envelope = Envelope::decode(envelope.clone()).ok()?;
    let payload = Payload::decode(envelope.payload).ok()?;
    let seek = SeekInfo::decode(payload.data).ok()?;
    match seek.start? {
        SeekPosition {
            r#type: Some(Type::Specified(start)),
        } => start.number.try_into().ok(),
        _ => None,
    }
}

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, dst: &mut EncodeBuf<'_>) -> Result<(), Status> {
        dst.reserve(item.len());
        dst.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, src: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        let length = src.remaining();
        Ok(Some(src.copy_to_bytes(length)))
    }
}
