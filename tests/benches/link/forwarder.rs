// SPDX-License-Identifier: Apache-2.0
//! The long way between two hosts: what goes into a TUN device comes out of the other one a while
//! later, in its order.
//!
//! It stands for `tc netem`, which many kernels lack.

use std::{sync::Arc, thread, time::Duration};

use anyhow::{Context as _, Result};
use tappers::{Interface, Tun};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

/// The role of the forwarder.
pub(crate) const FORWARDER: &str = "forward";

/// What it says when the devices are there.
pub(crate) const READY: &str = "forwarding";

/// Packets on their way in one direction; further ones are lost, as on a line whose queue is full.
const ON_THE_WAY: usize = 4096;

/// No packet is longer.
const LONGEST: usize = 65_536;

/// Forwards until the process is killed.
pub(crate) fn run(devices: [String; 2], milliseconds: u64) -> Result<()> {
    let delay = Duration::from_millis(milliseconds);
    let open = |name: String| -> Result<Arc<Tun>> {
        let tun = Tun::new_named(Interface::new(name.as_str())?).context("a TUN device")?;
        Ok(Arc::new(tun))
    };
    let [near, far] = devices.map(open);
    let (near, far) = (near?, far?);
    println!("{READY}");
    let there = carry(near.clone(), far.clone(), delay);
    let back = carry(far, near, delay);
    let ended = [there, back].map(thread::JoinHandle::join);
    anyhow::bail!("the devices are gone: {ended:?}")
}

/// Carries packets from one device to the other, on threads of its own.
fn carry(from: Arc<Tun>, to: Arc<Tun>, delay: Duration) -> thread::JoinHandle<()> {
    let (sender, mut packets) = mpsc::channel::<(Instant, Vec<u8>)>(ON_THE_WAY);
    thread::spawn(move || {
        let mut packet = vec![0; LONGEST];
        loop {
            // A device whose namespace has not brought it up yet has nothing to say.
            let length = from.recv(&mut packet).unwrap_or_default();
            if let Some(packet) = packet.get(..length).filter(|packet| !packet.is_empty()) {
                let _ = sender.try_send((Instant::now() + delay, packet.to_vec()));
            }
        }
    });
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .expect("a runtime that has timers only");
        runtime.block_on(async {
            while let Some((due, packet)) = packets.recv().await {
                sleep_until(due).await;
                // A packet that the kernel does not take is lost, as packets are.
                let _ = to.send(&packet);
            }
        });
    })
}
