// SPDX-License-Identifier: Apache-2.0
//! The connections of a node to which faults may happen: bytes go through a relay, which can
//! refuse a connection or cut it.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncWriteExt as _, copy_bidirectional},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::faults::{Fault, Script};

/// What was sent before a cut has so long to reach the client.
const GRACE: Duration = Duration::from_millis(50);

/// After an accept that failed for want of descriptors, so long a pause.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a client gets that a TLS handshake is refused to.
const NO_TLS: &[u8] = b"this is no TLS\r\n";

/// The connections that go through a gate, by the address that the server sees.
#[derive(Debug, Clone, Default)]
pub(crate) struct Connections(Arc<Mutex<BTreeMap<SocketAddr, CancellationToken>>>);

impl Connections {
    /// What cuts the connection that comes from this address; nothing if there is none.
    pub(crate) fn cut(&self, peer: Option<SocketAddr>) -> CancellationToken {
        peer.and_then(|peer| self.lock().get(&peer).cloned())
            .unwrap_or_default()
    }

    /// Notes a connection from this address, which the token cuts, for as long as `connection` takes.
    pub(crate) async fn during(&self, peer: SocketAddr, connection: impl Future<Output = ()>) {
        let cut = CancellationToken::new();
        self.lock().insert(peer, cut.clone());
        tokio::select! {
            biased;
            () = connection => {}
            () = async { cut.cancelled().await; sleep(GRACE).await } => {}
        }
        self.lock().remove(&peer);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<SocketAddr, CancellationToken>> {
        // Nothing panics while it holds the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Relays connections to a server until that has ended. They are not limited here: the server
/// limits them, and this is for tests.
pub(crate) async fn relay(
    listener: TcpListener,
    server: SocketAddr,
    script: Script,
    connections: Connections,
    ended: CancellationToken,
) {
    let mut tasks = JoinSet::new();
    let mut index = 0_u64;
    loop {
        tokio::select! {
            biased;
            () = ended.cancelled() => break,
            Some(_) = tasks.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((client, _)) => {
                    let faults = script.faults(index);
                    index = index.saturating_add(1);
                    let connections = connections.clone();
                    tasks.spawn(async move {
                        if let Err(err) = serve(client, server, &faults, &connections).await {
                            debug!(%err, "relayed connection ended");
                        }
                    });
                }
                Err(err) => {
                    debug!(%err, "connection not accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
            },
        }
    }
    drop(listener);
    // The last words of the server are on their way.
    let drained = async { while tasks.join_next().await.is_some() {} };
    if timeout(GRACE, drained).await.is_err() {
        tasks.shutdown().await;
    }
}

async fn serve(
    mut client: TcpStream,
    server: SocketAddr,
    faults: &[Fault],
    connections: &Connections,
) -> io::Result<()> {
    if faults.contains(&Fault::RefuseConnection) {
        return client.set_zero_linger();
    }
    if faults.contains(&Fault::RefuseTls) {
        client.write_all(NO_TLS).await?;
        return client.shutdown().await;
    }
    let mut inner = TcpStream::connect(server).await?;
    client.set_nodelay(true)?;
    inner.set_nodelay(true)?;
    let address = inner.local_addr()?;
    let cut = CancellationToken::new();
    connections.lock().insert(address, cut.clone());
    let done = tokio::select! {
        done = copy_bidirectional(&mut client, &mut inner) => done.map(drop),
        () = async { cut.cancelled().await; sleep(GRACE).await } => client.set_zero_linger(),
    };
    connections.lock().remove(&address);
    done
}
