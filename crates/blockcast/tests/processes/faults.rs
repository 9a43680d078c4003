// SPDX-License-Identifier: Apache-2.0
//! What happens to processes and links, drawn from a seed.

use std::time::Duration;

use rand::{Rng, RngExt as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::{
    cluster::{Cluster, HOSTS},
    network::{Fault, Network},
    program::Program,
};

/// The time between two kills, in milliseconds.
const BETWEEN_KILLS: std::ops::Range<u64> = 700..1300;

/// How long something is wrong with a link, and then with none, in milliseconds.
const LINK_FAULT: std::ops::Range<u64> = 200..3000;
const NO_LINK_FAULT: std::ops::Range<u64> = 100..1000;

/// Kills processes so many times, and meanwhile lets links fail, two at a time. On return every link
/// is whole and every process was started.
pub(crate) async fn inflict(cluster: &mut Cluster, rng: &mut StdRng, kills: usize) {
    let Cluster {
        network, programs, ..
    } = cluster;
    let over = CancellationToken::new();
    // Two draw from different hosts, so that none is asked for a fault that it has.
    let mut even = StdRng::from_rng(rng);
    let mut odd = StdRng::from_rng(rng);
    tokio::join!(
        async {
            kill(programs, rng, kills).await;
            over.cancel();
        },
        fail_links(network, (0..HOSTS).step_by(2).collect(), &mut even, &over),
        fail_links(network, (1..HOSTS).step_by(2).collect(), &mut odd, &over),
    );
}

async fn kill(programs: &mut [Program], rng: &mut StdRng, kills: usize) {
    for _ in 0..kills {
        sleep(milliseconds(rng, BETWEEN_KILLS)).await;
        let program = rng.random_range(0..programs.len());
        programs[program].kill().await;
    }
}

async fn fail_links(
    network: &Network,
    hosts: Vec<usize>,
    rng: &mut StdRng,
    over: &CancellationToken,
) {
    while !over.is_cancelled() {
        let host = *hosts.choose(rng).unwrap();
        let fault = *Fault::ALL.choose(rng).unwrap();
        network.inflict(host, fault);
        let _ = timeout(milliseconds(rng, LINK_FAULT), over.cancelled()).await;
        network.heal(host, fault);
        let _ = timeout(milliseconds(rng, NO_LINK_FAULT), over.cancelled()).await;
    }
}

fn milliseconds(rng: &mut impl Rng, range: std::ops::Range<u64>) -> Duration {
    Duration::from_millis(rng.random_range(range))
}
