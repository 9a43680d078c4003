// SPDX-License-Identifier: Apache-2.0
//! A call of Deliver without a network: the client calls the service itself.

use block_api::Block;
use bytes::Bytes;
use orderer_server::{OrdererServer, Peer};
use protos::{
    common::{Envelope, Status},
    deliver::{DeliverMessage, RawDeliverResponse},
    grpc::{AtomicBroadcastServer, RawDeliverCodec},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming, client::Grpc};

use super::within;

pub(crate) struct Talk {
    requests: Option<mpsc::Sender<RawDeliverResponse>>,
    responses: Streaming<RawDeliverResponse>,
}

/// What came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Got {
    /// A block with this number and data.
    Block(u64),
    /// One without data.
    Header(u64),
    Status(Status),
    /// The call ended with the gRPC status OK.
    End,
    /// The call ended with another one.
    Error(Code),
}

impl Talk {
    pub(crate) async fn with(server: &OrdererServer) -> Self {
        Self::by(server, Peer::default()).await
    }

    pub(crate) async fn by(server: &OrdererServer, peer: Peer) -> Self {
        let service = AtomicBroadcastServer::with_interceptor(
            server.clone(),
            move |mut request: tonic::Request<()>| {
                request.extensions_mut().insert(peer.clone());
                Ok(request)
            },
        );
        let (requests, queue) = mpsc::channel(4);
        let mut grpc = Grpc::new(service).max_decoding_message_size(100 << 20);
        let codec = RawDeliverCodec::<RawDeliverResponse, RawDeliverResponse>::default();
        let path = http::uri::PathAndQuery::from_static("/orderer.AtomicBroadcast/Deliver");
        let request = tonic::Request::new(ReceiverStream::new(queue));
        let responses = grpc
            .streaming(request, path, codec)
            .await
            .unwrap()
            .into_inner();
        Self {
            requests: Some(requests),
            responses,
        }
    }

    pub(crate) async fn send(&mut self, envelope: &Envelope) {
        self.send_raw(prost::Message::encode_to_vec(envelope)).await;
    }

    /// Sends bytes as a gRPC message.
    pub(crate) async fn send_raw(&mut self, bytes: impl Into<Bytes>) {
        let requests = self.requests.as_ref().expect("the call is open");
        requests
            .send(RawDeliverResponse::from_bytes(bytes.into()))
            .await
            .unwrap();
    }

    pub(crate) fn half_close(&mut self) {
        self.requests = None;
    }

    /// The next block, whole.
    pub(crate) async fn block(&mut self) -> Bytes {
        match self.message().await.map(RawDeliverResponse::parse) {
            Ok(Ok(DeliverMessage::Block(block))) => block,
            other => panic!("no block, but {other:?}"),
        }
    }

    pub(crate) async fn next(&mut self) -> Got {
        let message = match within("an answer", self.responses.message()).await {
            Err(status) => return Got::Error(status.code()),
            Ok(None) => return Got::End,
            Ok(Some(message)) => message,
        };
        match message.parse().unwrap() {
            DeliverMessage::Status(code) => Got::Status(Status::try_from(code).unwrap()),
            DeliverMessage::Block(raw) => {
                let block = Block::parse(raw).unwrap();
                let number = block.number().get();
                if block.has_data() {
                    Got::Block(number)
                } else {
                    Got::Header(number)
                }
            }
            DeliverMessage::Unset => panic!("a message without content"),
        }
    }

    /// What comes up to the next status, or the end.
    pub(crate) async fn answer(&mut self) -> Vec<Got> {
        let mut got = Vec::new();
        loop {
            got.push(self.next().await);
            if !matches!(got.last(), Some(Got::Block(_) | Got::Header(_))) {
                return got;
            }
        }
    }

    async fn message(&mut self) -> Result<RawDeliverResponse, String> {
        match within("an answer", self.responses.message()).await {
            Ok(Some(message)) => Ok(message),
            other => Err(format!("{other:?}")),
        }
    }
}

/// Whole blocks, then SUCCESS.
pub(crate) fn blocks(numbers: impl IntoIterator<Item = u64>) -> Vec<Got> {
    served(numbers.into_iter().map(Got::Block))
}

/// Blocks, then SUCCESS.
pub(crate) fn served(blocks: impl IntoIterator<Item = Got>) -> Vec<Got> {
    blocks
        .into_iter()
        .chain([Got::Status(Status::Success)])
        .collect()
}

/// Whole blocks, then another status.
pub(crate) fn refused(numbers: impl IntoIterator<Item = u64>, status: Status) -> Vec<Got> {
    numbers
        .into_iter()
        .map(Got::Block)
        .chain([Got::Status(status)])
        .collect()
}
