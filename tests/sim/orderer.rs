// SPDX-License-Identifier: Apache-2.0
//! An orderer of the simulation: what it has of each chain, and how it serves it.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use block_api::{BlockNumber, BlockReader, ChainInfo, Height, ReadError, ReadLimits};
use bytes::Bytes;
use channel_config::ChannelAccess;
use dev_orderer::{ConsenterState, Fault, FaultyServer, Script, When};
use orderer_server::{OrdererServer, ServeConfig, ServedChannel};
use tokio::{
    sync::{Notify, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use crate::{
    node::SimClock,
    scene::{Chain, Scene, port},
    schedule::Misdeed,
};

/// An orderer, which outlives its crashes as its disk does.
#[derive(Debug)]
pub(crate) struct Orderer {
    pub(crate) channels: Vec<Arc<Served>>,
}

/// What an orderer has of one channel, and how it behaves there.
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) server: FaultyServer,
    consenter: watch::Sender<ConsenterState>,
    script: Script,
    /// The faults that are on; the script is made of them.
    faults: Mutex<Vec<Fault>>,
}

/// The blocks that an orderer has by now.
#[derive(Debug)]
pub(crate) struct Ledger {
    chain: &'static Chain,
    orderer: usize,
    state: Mutex<State>,
    grown: Notify,
}

#[derive(Debug, Default)]
struct State {
    height: u64,
    behind: usize,
    /// How many faults let it hand out forged blocks.
    forging: usize,
}

impl Orderer {
    pub(crate) fn new(index: usize) -> Arc<Self> {
        let channels = Scene::get()
            .channels
            .iter()
            .map(|chain| Arc::new(Served::new(chain, index)));
        Arc::new(Self {
            channels: channels.collect(),
        })
    }

    /// Serves each channel on a port of its own, for ever.
    pub(crate) async fn run(self: Arc<Self>) -> turmoil::Result {
        let mut tasks = JoinSet::new();
        for (index, served) in self.channels.iter().enumerate() {
            let address = (IpAddr::from(Ipv4Addr::UNSPECIFIED), port(index));
            let listener = turmoil::net::TcpListener::bind(address).await?;
            let server = served.server.clone();
            tasks.spawn(async move {
                let mut connections = JoinSet::new();
                while let Ok((stream, peer)) = listener.accept().await {
                    while connections.try_join_next().is_some() {}
                    let server = server.clone();
                    connections.spawn(async move {
                        let stop = CancellationToken::new();
                        server.serve_connection(stream, peer, stop).await;
                    });
                }
            });
        }
        while tasks.join_next().await.is_some() {}
        Ok(())
    }
}

impl Served {
    fn new(chain: &'static Chain, orderer: usize) -> Self {
        let ledger = Arc::new(Ledger {
            chain,
            orderer,
            state: Mutex::new(State {
                height: 1,
                behind: 0,
                forging: 0,
            }),
            grown: Notify::new(),
        });
        let server = OrdererServer::builder(Arc::new(SimClock)).build();
        let consenter = watch::Sender::new(ConsenterState::Ready);
        let readers = Arc::new(ChannelAccess::readers(&chain.verifier()));
        let channel =
            ServedChannel::new(ledger.clone(), readers).with_consenter(consenter.subscribe());
        server.add_channel(chain.id.clone(), channel);
        let script = Script::new();
        Self {
            ledger,
            server: FaultyServer::new(server, script.clone(), ServeConfig::default()),
            consenter,
            script,
            faults: Mutex::default(),
        }
    }

    /// Lets a misdeed happen from now on.
    pub(crate) fn begin(&self, misdeed: &Misdeed) {
        let Misdeed::Fault(fault) = misdeed else {
            lock(&self.ledger.state).forging += 1;
            return;
        };
        lock(&self.faults).push(fault.clone());
        self.script.add(When::Always, fault.clone());
    }

    /// Ends one misdeed of this kind.
    pub(crate) fn end(&self, misdeed: &Misdeed) {
        let Misdeed::Fault(fault) = misdeed else {
            lock(&self.ledger.state).forging -= 1;
            return;
        };
        let mut faults = lock(&self.faults);
        if let Some(at) = faults.iter().position(|other| other == fault) {
            faults.remove(at);
        }
        self.script.clear();
        for fault in faults.iter() {
            self.script.add(When::Always, fault.clone());
        }
    }

    pub(crate) fn set_leader(&self, is_there: bool) {
        self.consenter.send_replace(match is_there {
            true => ConsenterState::Ready,
            false => ConsenterState::InError,
        });
    }
}

impl Ledger {
    /// What is ordered by now; an orderer that is behind does not hear of it.
    pub(crate) fn grow_to(&self, height: u64) {
        let mut state = lock(&self.state);
        if state.behind == 0 && state.height < height {
            state.height = height;
            drop(state);
            self.grown.notify_waiters();
        }
    }

    pub(crate) fn fall_behind(&self, is_behind: bool) {
        let mut state = lock(&self.state);
        state.behind = match is_behind {
            true => state.behind + 1,
            false => state.behind - 1,
        };
    }

    fn height(&self) -> u64 {
        lock(&self.state).height
    }
}

#[async_trait]
impl BlockReader for Ledger {
    fn info(&self) -> ChainInfo {
        let height = self.height();
        ChainInfo {
            first: BlockNumber::GENESIS,
            height: Height::new(height),
            tip_hash: Some(self.chain.hashes[height as usize - 1]),
        }
    }

    async fn read(&self, from: BlockNumber, limits: ReadLimits) -> Result<Vec<Bytes>, ReadError> {
        let (from, height) = (from.get().min(self.height()) as usize, self.height());
        let blocks = match lock(&self.state).forging {
            0 => &self.chain.copies[self.orderer],
            _ => &self.chain.forged,
        };
        let blocks = &blocks[from..height as usize];
        Ok(blocks
            .iter()
            .take(limits.blocks.get())
            .map(|block| block.raw().clone())
            .collect())
    }

    async fn wait_for(&self, height: Height) -> Result<ChainInfo, ReadError> {
        loop {
            let grown = self.grown.notified();
            if self.height() >= height.get() {
                return Ok(self.info());
            }
            grown.await;
        }
    }

    fn config_at(&self, number: BlockNumber) -> Option<BlockNumber> {
        let configs = self.chain.configs.iter().copied();
        configs
            .map(BlockNumber::new)
            .filter(|config| *config <= number)
            .max()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
