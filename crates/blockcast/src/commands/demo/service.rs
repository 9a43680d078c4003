// SPDX-License-Identifier: Apache-2.0
//! The ordering service of the demo: it orders, or replays a recorded chain.

use std::{collections::BTreeSet, num::NonZeroU32, path::Path, sync::Arc};

use block_api::{
    Block, BlockNumber, ChainInfo, ChannelId, Clock, Endpoint, Height, Readers, Signer, SystemClock,
};
use dev_orderer::{
    Config, DeliverCounts, DevOrderer, KeyKind, NodesConfig, Organization, OrganizationSpec, Pace,
    PkiError, Rate, Role,
};
use tokio::{sync::Notify, time::Instant};

use crate::{
    commands::recorded::{OpenReaders, endpoints, read_chain},
    error::CommandError,
};

/// The channel that is ordered.
const CHANNEL: &str = "demo";

/// What a transaction has around its data: headers, a certificate, a signature.
const AROUND_DATA: usize = 64 << 10;

pub(super) struct Service {
    orderer: DevOrderer,
    what: What,
    /// Whom the nodes sign as.
    signers: Vec<Arc<dyn Signer>>,
    target: Height,
}

enum What {
    Order {
        blocks: usize,
        bytes: usize,
        pace: Pace,
    },
    Replay {
        begin: Arc<Notify>,
        endpoints: BTreeSet<Endpoint>,
    },
}

impl Service {
    /// A new channel, whose members the nodes are.
    pub(super) async fn order(
        blocks: usize,
        bytes: usize,
        rate: Rate,
        nodes: usize,
    ) -> Result<Self, CommandError> {
        let mut config = Config::new(CHANNEL.parse()?, Arc::new(SystemClock));
        let needed = NonZeroU32::new(u32::try_from(bytes.saturating_add(AROUND_DATA))?);
        let batch = &mut config.network.batch;
        batch.absolute_max_bytes = needed.map_or(batch.absolute_max_bytes, |needed| {
            needed.max(batch.absolute_max_bytes)
        });
        config.queue_bytes = config.queue_bytes.max(batch.absolute_max_bytes);
        let orderer = DevOrderer::start(config).await?;
        let organization = orderer
            .network()
            .and_then(|network| network.applications().first());
        let signers = match organization {
            Some(organization) => signers(organization, nodes)?,
            None => Vec::new(),
        };
        let target = Height::new(u64::try_from(blocks)?.saturating_add(1));
        let what = What::Order {
            blocks,
            bytes,
            pace: Pace::At(rate),
        };
        Ok(Self {
            orderer,
            what,
            signers,
            target,
        })
    }

    /// A recorded chain, served as it is.
    pub(super) async fn replay(
        folder: &Path,
        rate: Rate,
        nodes: usize,
    ) -> Result<Self, CommandError> {
        let chain = read_chain(folder)?;
        let endpoints = endpoints(&chain)?;
        let target = Height::new(u64::try_from(chain.blocks().len())?);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let spec = OrganizationSpec::new("Demo", []);
        let organization = Organization::generate(&spec, KeyKind::EcdsaP256, clock.now())?;
        let signers = signers(&organization, nodes)?;
        let begin = Arc::new(Notify::new());
        let begun = begin.clone().notified_owned();
        let config = NodesConfig::new(clock);
        let pace = Pace::At(rate);
        let orderer =
            DevOrderer::replay_when(begun, chain, pace, Arc::new(OpenReaders), config).await?;
        let what = What::Replay { begin, endpoints };
        Ok(Self {
            orderer,
            what,
            signers,
            target,
        })
    }

    /// What whoever reads the result should know.
    pub(super) fn notes(&self) -> Vec<String> {
        match &self.what {
            What::Order { .. } => Vec::new(),
            What::Replay { endpoints, .. } => {
                let names: Vec<&str> = endpoints.iter().map(Endpoint::as_str).collect();
                vec![
                    format!("replay: {} lead to the embedded server {}", names.join(", "), self.orderer.endpoint()),
                    "replay: the nodes are not the channel's Readers, and give each other the blocks all the same"
                        .to_owned(),
                ]
            }
        }
    }

    /// Has the blocks ordered, or the replay begun. Returns when nothing is left to be done here.
    pub(super) async fn begin(&self) -> Result<(), CommandError> {
        match &self.what {
            What::Order {
                blocks,
                bytes,
                pace,
            } => {
                self.orderer.generate(*blocks, *bytes, *pace).await?;
            }
            What::Replay { begin, .. } => begin.notify_one(),
        }
        Ok(())
    }

    pub(super) async fn stop(self) {
        self.orderer.stop().await;
    }

    pub(super) fn channel(&self) -> &ChannelId {
        self.orderer.channel()
    }

    pub(super) fn genesis(&self) -> &Block {
        self.orderer.genesis()
    }

    pub(super) fn signers(&self) -> &[Arc<dyn Signer>] {
        &self.signers
    }

    /// Who may have the blocks, where it is not the channel's configuration that says it.
    pub(super) fn readers(&self) -> Option<Arc<dyn Readers>> {
        match &self.what {
            What::Order { .. } => None,
            What::Replay { .. } => Some(Arc::new(OpenReaders)),
        }
    }

    /// The height at the end.
    pub(super) fn target(&self) -> Height {
        self.target
    }

    pub(super) fn tls_ca_pem(&self) -> &str {
        self.orderer.ordering_organization().tls_ca_pem()
    }

    /// Endpoints of the chain that lead elsewhere here, and where.
    pub(super) fn overrides(&self) -> Vec<(Endpoint, Endpoint)> {
        match &self.what {
            What::Order { .. } => Vec::new(),
            What::Replay { endpoints, .. } => endpoints
                .iter()
                .map(|endpoint| (endpoint.clone(), self.orderer.endpoint().clone()))
                .collect(),
        }
    }

    pub(super) fn chain(&self) -> ChainInfo {
        let node = self
            .orderer
            .nodes()
            .first()
            .expect("invariant: an ordering service has a node");
        node.reader().info()
    }

    pub(super) fn height(&self) -> u64 {
        self.chain().height.get()
    }

    pub(super) fn ordered_at(&self, number: BlockNumber) -> Option<Instant> {
        self.orderer.ordered_at(number)
    }

    pub(super) fn stats(&self) -> DeliverCounts {
        self.orderer.stats()
    }
}

fn signers(organization: &Organization, nodes: usize) -> Result<Vec<Arc<dyn Signer>>, PkiError> {
    (1..=nodes)
        .map(|index| {
            Ok(organization
                .issue(&format!("node{index}"), Role::Peer)?
                .signer())
        })
        .collect()
}
