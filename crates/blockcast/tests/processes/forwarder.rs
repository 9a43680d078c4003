// SPDX-License-Identifier: Apache-2.0
//! Delays packets: a TUN device whose packets come back a while later, in their order.
//!
//! It stands for `tc netem`, which many kernels lack.

use std::{sync::Arc, thread, time::Duration};

use tappers::{Interface, Tun};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

/// The first argument of a process that is a forwarder.
pub(crate) const COMMAND: &str = "forward";

/// What it says when the device is there.
pub(crate) const READY: &str = "forwarding";

/// Packets on their way; further ones are lost, as on a line whose queue is full.
const ON_THE_WAY: usize = 4096;

/// No packet is longer.
const LONGEST: usize = 65_536;

/// Forwards until the process is killed.
pub(crate) fn run(name: &str, delay: Duration) {
    let mut tun = Tun::new_named(Interface::new(name).unwrap()).unwrap();
    tun.set_up().unwrap();
    let tun = Arc::new(tun);
    let (sender, mut packets) = mpsc::channel::<(Instant, Vec<u8>)>(ON_THE_WAY);
    let reading = tun.clone();
    thread::spawn(move || {
        let mut packet = vec![0; LONGEST];
        loop {
            let length = reading.recv(&mut packet).unwrap();
            let _ = sender.try_send((Instant::now() + delay, packet[..length].to_vec()));
        }
    });
    println!("{READY}");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    runtime.block_on(async {
        while let Some((due, packet)) = packets.recv().await {
            sleep_until(due).await;
            // A packet that the kernel does not take is lost, as packets are.
            let _ = tun.send(&packet);
        }
    });
}
