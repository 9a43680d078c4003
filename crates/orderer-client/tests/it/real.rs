// SPDX-License-Identifier: Apache-2.0
//! The client against the real server, with a real identity and the rights of the recorded channel.

use std::sync::Arc;

use block_api::{
    Block, BlockNumber, BlockReader, BlockSource as _, ChainInfo, DeliverStatus, Delivery, Height,
    ReadError, ReadLimits, Start, StreamRequest,
};
use bytes::Bytes;
use channel_config::{ChannelAccess, ChannelVerifier};
use orderer_client::{Config, ErrorResponse, OrdererClient, OrdererEndpoint, Tls};
use orderer_server::{ConsenterState, OrdererServer, ServedChannel, ServerTls};
use signer::load_msp_folder;
use tokio::sync::watch;

use crate::support::{
    block, blocks_from, channel, clock, fixtures,
    net::Served,
    next,
    pki::{mutual_client_tls, mutual_server_tls, orderer_roots, server_tls},
    range, recorded,
};

const HEIGHT: u64 = 66;

/// The recorded chain.
#[derive(Debug)]
struct Recorded(Vec<Bytes>);

#[async_trait::async_trait]
impl BlockReader for Recorded {
    fn info(&self) -> ChainInfo {
        ChainInfo {
            height: Height::new(HEIGHT),
            ..ChainInfo::EMPTY
        }
    }

    async fn read(&self, from: BlockNumber, limits: ReadLimits) -> Result<Vec<Bytes>, ReadError> {
        Ok(self
            .0
            .iter()
            .skip(from.get() as usize)
            .take(limits.blocks.get())
            .cloned()
            .collect())
    }

    async fn wait_for(&self, height: Height) -> Result<ChainInfo, ReadError> {
        if height > self.info().height {
            let () = std::future::pending().await;
        }
        Ok(self.info())
    }

    fn config_at(&self, _: BlockNumber) -> Option<BlockNumber> {
        None
    }
}

fn server(consenter: Option<watch::Receiver<ConsenterState>>) -> OrdererServer {
    let blocks: Vec<_> = (0..HEIGHT).map(recorded).collect();
    let genesis = Block::parse(blocks[0].clone()).unwrap();
    let verifier = ChannelVerifier::from_genesis(&genesis).unwrap();
    let served = ServedChannel::new(
        Arc::new(Recorded(blocks)),
        Arc::new(ChannelAccess::readers(&verifier)),
    );
    let served = match consenter {
        Some(consenter) => served.with_consenter(consenter),
        None => served,
    };
    let server = OrdererServer::builder(clock()).build();
    server.add_channel(channel(), served);
    server
}

fn client(served: &Served, user: &str, config: Config) -> OrdererClient {
    let folder = fixtures().join("msp").join(user).join("msp");
    let msp_id = if user.starts_with("org1") {
        "Org1MSP"
    } else {
        "Org2MSP"
    };
    let endpoint = served.endpoint.clone();
    let config = Config {
        endpoints: vec![OrdererEndpoint {
            endpoint,
            tls_roots: orderer_roots(),
        }],
        ..config
    };
    OrdererClient::new(config, load_msp_folder(&folder, msp_id).unwrap(), clock()).unwrap()
}

/// Covers: SVC-01, CFT-09, REQ-01, REQ-05, BND-02
#[tokio::test]
async fn the_recorded_chain_comes_over_every_kind_of_tls() {
    let kinds = [
        (ServerTls::plain(), Tls::Plain),
        (server_tls(), Tls::Server),
        (mutual_server_tls(), mutual_client_tls("org1/user1")),
        // A client with a certificate that nobody asks for.
        (server_tls(), mutual_client_tls("org1/user1")),
    ];
    for (server_side, client_side) in kinds {
        let server = server(None);
        let served = Served::start("localhost", server.clone(), server_side).await;
        let client = client(
            &served,
            "org1/user1",
            Config {
                tls: client_side,
                ..Config::default()
            },
        );
        let mut stream = client
            .open(&served.endpoint, &blocks_from(0))
            .await
            .unwrap();
        for number in 0..HEIGHT {
            assert_eq!(block(&mut stream).await, recorded(number), "block {number}");
        }
        drop(stream);
        let mut stream = client.open(&served.endpoint, &range(60, 70)).await.unwrap();
        for number in 60..HEIGHT {
            assert_eq!(block(&mut stream).await, recorded(number), "block {number}");
        }
        assert!(matches!(
            next(&mut stream).await,
            Ok(Delivery::Status(DeliverStatus::NotFound))
        ));
        drop(stream);
        served.stop().await;
        let counts = server.stats().counts();
        assert_eq!((counts.block_streams, counts.probes), (1, 1));
        assert_eq!((counts.open_block_streams, counts.open_probes), (0, 0));
    }
}

/// Covers: REQ-06
#[tokio::test]
async fn headers_come_without_data() {
    let served = Served::start("localhost", server(None), server_tls()).await;
    let client = client(
        &served,
        "org2/user1",
        Config {
            tls: Tls::Server,
            ..Config::default()
        },
    );
    let request = StreamRequest::headers_from(channel(), Start::At(BlockNumber::new(6)));
    let mut stream = client.open(&served.endpoint, &request).await.unwrap();
    for number in 6..HEIGHT {
        let Ok(Delivery::Block(block)) = next(&mut stream).await else {
            panic!("no block {number}")
        };
        let whole = Block::parse(recorded(number)).unwrap();
        assert_eq!(block.header_hash(), whole.header_hash());
        assert_eq!(block.signatures_slot(), whole.signatures_slot());
        assert_eq!(block.has_data(), whole.is_config(), "block {number}");
    }
    drop(stream);
    served.stop().await;
}

#[tokio::test]
async fn an_orderer_without_a_leader_serves_who_asks_for_best_effort() {
    let (_consenter, state) = watch::channel(ConsenterState::InError);
    let served = Served::start("localhost", server(Some(state)), ServerTls::plain()).await;
    let strict = client(&served, "org1/peer0", Config::default());
    let mut stream = strict
        .open(&served.endpoint, &blocks_from(0))
        .await
        .unwrap();
    assert!(matches!(
        next(&mut stream).await,
        Ok(Delivery::Status(DeliverStatus::Unavailable))
    ));
    let config = Config {
        error_response: ErrorResponse::BestEffort,
        ..Config::default()
    };
    let lenient = client(&served, "org1/peer0", config);
    let mut stream = lenient
        .open(&served.endpoint, &blocks_from(0))
        .await
        .unwrap();
    assert_eq!(block(&mut stream).await, recorded(0));
    drop(stream);
    served.stop().await;
}

#[tokio::test]
async fn a_server_that_stops_says_so() {
    let served = Served::start("localhost", server(None), server_tls()).await;
    let endpoint = served.endpoint.clone();
    let client = client(
        &served,
        "org1/user1",
        Config {
            tls: Tls::Server,
            ..Config::default()
        },
    );
    let mut stream = client
        .open(&endpoint, &blocks_from(HEIGHT - 1))
        .await
        .unwrap();
    block(&mut stream).await;
    served.stop().await;
    let text = next(&mut stream).await.unwrap_err().to_string();
    assert!(
        text.contains("Unavailable") && text.contains("the server is stopping"),
        "{text}"
    );
}
