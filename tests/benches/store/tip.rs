// SPDX-License-Identifier: Apache-2.0
//! `tip`: one block at a time, each as soon as the one before is durable.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, ensure};
use aws_lc_rs::{
    digest::{SHA256, digest},
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _,
        ParsedPublicKey,
    },
};
use block_api::{
    Block, BlockReader as _, BlockStore as _, ChannelId, Clock as _, Standing, SystemClock,
    VerifiedBlock,
    testing::{LiveChain, Manner, OpenReaders, ScriptedSource, TestOrganisation, TestSigner},
};
use block_store::{Config, SegmentStore};
use channel_config::ChannelVerifier;
use deliver_service::{ChannelParts, DeliverService};
use dev_orderer::{ChainMaker, NetworkConfig};
use e2e_tests::bench::{self, Round, Row, Target, median};
use gossip_memory::MemoryNetwork;
use tokio::time::{Instant, timeout};

use crate::{CHANNEL, Extent, bare::BareFile};

/// The time of a block, over that of its verification and its write with `fdatasync`.
const TARGET: f64 = 1.5;

/// Where the blocks come from.
const ORDERER: &str = "orderer:7050";

/// Longer than anything that works takes for a block.
const PATIENCE: Duration = Duration::from_secs(30);

/// A way that a block takes.
enum Way {
    Straight(Straight),
    Delivered(Box<Delivered>),
}

/// Verified, then appended, by one task.
struct Straight {
    verifier: Arc<ChannelVerifier>,
    store: SegmentStore,
}

/// From an orderer that gives it through a node's delivery service.
struct Delivered {
    orderer: LiveChain,
    service: DeliverService,
    store: SegmentStore,
}

/// One verification and one write, bare.
struct Bare {
    key: ParsedPublicKey,
    message: Vec<u8>,
    signature: Vec<u8>,
    file: BareFile,
}

pub(super) async fn cases(size: &str, bytes: usize, extent: Extent) -> Result<Vec<Row>> {
    let config = NetworkConfig::new(CHANNEL.parse()?);
    let mut maker = ChainMaker::new(config, &[ORDERER.parse()?], SystemClock.now())?;
    let chain = maker.chain(extent.tips, bytes).await?;
    let mut rows = Vec::new();
    for through in ["store", "service"] {
        let mut rounds = Vec::new();
        for _ in 0..extent.rounds {
            rounds.push(measure(through, chain.blocks()).await?);
        }
        let case = format!("tip size={size} through={through}");
        rows.push(Row::new(case, "µs/block", Target::AtMost(TARGET), &rounds));
    }
    Ok(rows)
}

/// The medians of the times of a block, in microseconds. The two sides take turns block by block.
async fn measure(through: &str, blocks: &[Block]) -> Result<Round> {
    let dir = bench::folder()?;
    let (genesis, blocks) = blocks.split_first().context("a chain has a first block")?;
    let way = Way::start(through, dir.path(), genesis).await?;
    let mut bare = Bare::start(dir.path())?;
    let (mut values, mut baselines) = (Vec::new(), Vec::new());
    for (index, block) in blocks.iter().enumerate() {
        let data = block.data().collect::<Vec<_>>().concat();
        for is_way in [index % 2 == 0, index % 2 != 0] {
            let began = Instant::now();
            if is_way {
                timeout(PATIENCE, way.take(block))
                    .await
                    .context("a block did not become durable")??;
                values.push(began.elapsed());
            } else {
                bare.take(block, &data)?;
                baselines.push(began.elapsed());
            }
        }
    }
    way.end().await;
    let middle = |times: Vec<Duration>| median(times.iter().map(micros).collect());
    Ok(Round {
        value: middle(values),
        baseline: middle(baselines),
    })
}

fn micros(time: &Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

impl Way {
    async fn start(through: &str, dir: &Path, genesis: &Block) -> Result<Self> {
        let config = Config::new(CHANNEL.parse()?);
        let (store, _) = SegmentStore::open(dir.join("chain"), config)?;
        let verifier = Arc::new(ChannelVerifier::from_genesis(genesis)?);
        let first = VerifiedBlock::new(genesis.clone(), &*verifier, Standing::Linked)?;
        store.append(vec![first]).await?;
        let straight = Straight { verifier, store };
        match through {
            "store" => Ok(Self::Straight(straight)),
            _ => Ok(Self::Delivered(Box::new(straight.deliver(genesis).await?))),
        }
    }

    /// Hands a block in, and waits until it is durable.
    async fn take(&self, block: &Block) -> Result<()> {
        match self {
            Self::Straight(Straight { verifier, store }) => {
                let block = VerifiedBlock::new(block.clone(), &**verifier, Standing::Linked)?;
                store.append(vec![block]).await?;
            }
            Self::Delivered(delivered) => {
                delivered.orderer.grow([block.clone()]);
                delivered.store.wait_for(block.number().height()).await?;
            }
        }
        Ok(())
    }

    async fn end(self) {
        match self {
            Self::Straight(straight) => straight.store.close().await,
            Self::Delivered(delivered) => {
                delivered.service.stop().await;
                delivered.store.close().await;
            }
        }
    }
}

impl Straight {
    /// A node that pulls the channel into this store.
    async fn deliver(self, genesis: &Block) -> Result<Delivered> {
        let orderer = LiveChain::new(vec![genesis.clone()]);
        let source = Arc::new(ScriptedSource::new(&[ORDERER]));
        source.serve(ORDERER, &orderer, Manner::HONEST);
        let gossip = Arc::new(MemoryNetwork::new(0).node("node"));
        let service = DeliverService::new(deliver_service::Config::default(), gossip)?;
        let channel: ChannelId = CHANNEL.parse()?;
        let store = Arc::new(self.store.clone());
        service
            .join_channel(ChannelParts {
                channel: channel.clone(),
                genesis: genesis.header_hash(),
                store: store.clone(),
                verifier: self.verifier,
                readers: Arc::new(OpenReaders),
                signer: Arc::new(TestSigner("node")),
                organisation: Arc::new(TestOrganisation("node")),
                source: source.clone(),
            })
            .await?;
        service.start_deliver_for_channel(&channel, store).await?;
        // Opening the stream is no part of a block's way.
        timeout(PATIENCE, source.wait_for_requests(1))
            .await
            .context("no stream was opened")?;
        Ok(Delivered {
            orderer,
            service,
            store: self.store,
        })
    }
}

impl Bare {
    fn start(dir: &Path) -> Result<Self> {
        let (random, algorithm) = (SystemRandom::new(), &ECDSA_P256_SHA256_ASN1_SIGNING);
        let key = EcdsaKeyPair::generate(algorithm)?;
        // As long as what an orderer signs.
        let message = vec![0x5a; 1000];
        let signature = key.sign(&random, &message)?;
        Ok(Self {
            key: ParsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key.public_key())?,
            message,
            signature: signature.as_ref().to_vec(),
            file: BareFile::create(dir)?,
        })
    }

    fn take(&mut self, block: &Block, data: &[u8]) -> Result<()> {
        let hash = digest(&SHA256, data);
        let genuine = self.key.verify_sig(&self.message, &self.signature);
        ensure!(
            genuine.is_ok() && hash.as_ref() == block.header().data_hash,
            "the baseline checks the same"
        );
        self.file.append([block.raw()])
    }
}
