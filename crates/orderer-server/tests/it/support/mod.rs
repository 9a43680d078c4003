// SPDX-License-Identifier: Apache-2.0
//! What the tests of the server share: a recorded chain, requests made to order, and a client that
//! calls the service without a network.

pub(crate) mod access;
pub(crate) mod ledger;
pub(crate) mod seek;
pub(crate) mod talk;
pub(crate) mod wire;

use std::{
    fs,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use block_api::{ChannelId, Clock, Readers, ReadersDenied, Signer};
use bytes::Bytes;
use orderer_server::{OrdererServer, ServedChannel};
use signer::load_msp_folder;

/// The moment of the tests: the day after the fixtures were made.
pub(crate) fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_795_420_000)
}

/// The channel of the recorded chain.
pub(crate) const CHANNEL: &str = "ch-raft";

/// Its height.
pub(crate) const HEIGHT: u64 = 66;

/// Nothing takes longer.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// A clock that is set by hand.
#[derive(Debug)]
pub(crate) struct HandClock(Mutex<SystemTime>);

/// Readers whose verdict is set by hand, and who count how often they were asked.
#[derive(Debug, Default)]
pub(crate) struct HandReaders {
    denied: AtomicBool,
    generation: AtomicU64,
    asked: AtomicU64,
}

impl HandClock {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(now())))
    }

    pub(crate) fn set(&self, now: SystemTime) {
        *self.0.lock().unwrap() = now;
    }
}

impl Clock for HandClock {
    fn now(&self) -> SystemTime {
        *self.0.lock().unwrap()
    }
}

impl HandReaders {
    /// Changes the verdict without saying that it changed.
    pub(crate) fn deny(&self, denied: bool) {
        self.denied.store(denied, Ordering::SeqCst);
    }

    /// Says that the verdict may have changed.
    pub(crate) fn advance(&self) {
        self.generation.fetch_add(1, Ordering::SeqCst);
    }

    pub(crate) fn asked(&self) -> u64 {
        self.asked.load(Ordering::SeqCst)
    }
}

impl Readers for HandReaders {
    fn may_read(&self, _: &[u8], _: &[u8], _: &[u8], _: SystemTime) -> Result<(), ReadersDenied> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        match self.denied.load(Ordering::SeqCst) {
            true => Err(ReadersDenied::new("denied by hand")),
            false => Ok(()),
        }
    }

    fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }
}

pub(crate) fn fixtures() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures"))
}

pub(crate) fn fixture(path: &str) -> Vec<u8> {
    fs::read(fixtures().join(path)).unwrap_or_else(|err| panic!("{path}: {err}"))
}

/// The signer of a folder such as `org1/user1`.
pub(crate) fn signer(folder: &str) -> Arc<dyn Signer> {
    let msp_id = match folder.split('/').next() {
        Some("org1") => "Org1MSP",
        Some("org2") => "Org2MSP",
        _ => "OrdererMSP",
    };
    load_msp_folder(&fixtures().join("msp").join(folder).join("msp"), msp_id).unwrap()
}

pub(crate) fn channel_id() -> ChannelId {
    CHANNEL.parse().unwrap()
}

/// The bytes of a recorded block.
pub(crate) fn recorded(number: u64) -> Bytes {
    fixture(&format!("raft/block_{number}.pb")).into()
}

/// A server of one channel.
pub(crate) fn server_of(channel: ServedChannel, clock: Arc<dyn Clock>) -> OrdererServer {
    let server = OrdererServer::builder(clock).build();
    server.add_channel(channel_id(), channel);
    server
}

/// Waits for what must happen.
pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, future).await {
        Ok(value) => value,
        Err(_) => panic!("{what} did not happen within {DEADLINE:?}"),
    }
}
