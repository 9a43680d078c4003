// SPDX-License-Identifier: Apache-2.0
//! A process that is a node which catches up: pulled, verified, durable, with the settings that
//! `blockcast` has by default.

use std::{fs, path::PathBuf, sync::Arc};

use anyhow::{Context as _, Result, ensure};
use block_api::{
    Block, BlockReader as _, BlockStore as _, Endpoint, Height, Standing, SystemClock,
    VerifiedBlock,
};
use block_store::SegmentStore;
use channel_config::{ChannelAccess, ChannelVerifier, OwnMsp};
use deliver_service::{ChannelParts, DeliverService};
use e2e_tests::bench::{Orders, Role, tell};
use gossip_memory::MemoryNetwork;
use orderer_client::{
    Config as ClientConfig, OrdererClient, OrdererEndpoint, Tls, parse_pem_certificates,
};
use signer::load_msp_folder;
use tokio::time::Instant;

use crate::{
    orderer::{CHANNEL, GENESIS, SERVED_BY},
    rig::READY,
};

pub(crate) const ROLE: &str = "node";

/// Who reads: the client of the first organisation.
pub(crate) const MSP: &str = "Org1MSP";
pub(crate) const MSP_FOLDER: &str = "org1/user1/msp";

pub(crate) async fn run(role: &Role) -> Result<()> {
    let (folder, endpoint): (PathBuf, Endpoint) = (role.argument(0)?, role.argument(1)?);
    let blocks: u64 = role.argument(2)?;
    let signer = load_msp_folder(&folder.join(MSP_FOLDER), MSP)?;
    let genesis = Block::parse(fs::read(folder.join(GENESIS))?.into())?;
    let channel: block_api::ChannelId = CHANNEL.parse()?;
    let dir = tempfile::tempdir_in(&folder)?;
    let config = block_store::Config::new(channel.clone());
    let (store, _) = SegmentStore::open(dir.path().join("chain"), config)?;
    let verifier = Arc::new(ChannelVerifier::from_genesis(&genesis)?);
    let first = VerifiedBlock::new(genesis.clone(), &*verifier, Standing::Linked)?;
    store.append(vec![first]).await?;
    let client = ClientConfig {
        endpoints: vec![OrdererEndpoint {
            endpoint,
            tls_roots: parse_pem_certificates(&fs::read(folder.join(SERVED_BY))?)?,
        }],
        tls: Tls::Server,
        ..ClientConfig::default()
    };
    let source = OrdererClient::new(client, signer.clone(), Arc::new(SystemClock))?;
    let gossip = Arc::new(MemoryNetwork::new(0).node("node"));
    let service = DeliverService::new(deliver_service::Config::default(), gossip)?;
    let readers = Arc::new(ChannelAccess::readers(&verifier));
    let organisation = Arc::new(OwnMsp::of_identity(&verifier, &signer.identity()));
    service
        .join_channel(ChannelParts {
            channel: channel.clone(),
            genesis: genesis.header_hash(),
            store: Arc::new(store.clone()),
            verifier,
            readers,
            signer,
            organisation,
            source: Arc::new(source),
        })
        .await?;

    let mut orders = Orders::default();
    tell(READY);
    orders.next().await?;
    let began = Instant::now();
    service
        .start_deliver_for_channel(&channel, Arc::new(store.clone()))
        .await?;
    let whole = Height::new(blocks + 1);
    let height = store.wait_for(whole).await?.height;
    let elapsed = began.elapsed();
    ensure!(
        height == whole,
        "the chain has the height {whole}, not {height}"
    );
    let state = service.state(&channel).context("the channel")?;
    let appends = state.stats.appends;
    tell(format_args!("{} {appends}", elapsed.as_nanos()));
    orders.end().await?;
    service.stop().await;
    store.close().await;
    Ok(())
}
