// SPDX-License-Identifier: Apache-2.0
//! Two network namespaces with a long fat link between them.

use std::{
    env, fs,
    net::Ipv4Addr,
    path::Path,
    process::{self, Stdio},
};

use anyhow::{Context as _, Result, bail};
use e2e_tests::bench::Role;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

use crate::forwarder;

/// What every namespace of this benchmark is called, up to the id of the process that made it.
const PREFIX: &str = "blockcast-link-";

/// What the link carries in a second, in Mbit, and how long a packet is under way, in milliseconds,
/// each way.
pub(crate) const MBIT_PER_S: f64 = 1000.0;
const RATE: &str = "1gbit";
const DELAY_MS: &str = "25";

/// Jumbo frames: a forwarder in user space has to take up each packet by itself, and with 1500 bytes
/// these would be 83,000 a second.
const MTU: &str = "9000";

/// How many packets wait for the forwarder, so that none is lost when it does not run for a while.
const QUEUE: &str = "4096";

/// What a socket may buffer: several times what is on the way. The default of Linux, 4 MiB to send
/// and 6 MiB to receive, would bound any connection to less than the link carries.
const SOCKET_BUFFERS: &str = "4096 262144 67108864";

/// The two ends of the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Host {
    Orderer,
    Node,
}

/// The namespaces, removed when it is dropped.
#[derive(Debug)]
pub(crate) struct Network {
    prefix: String,
    forwarder: Option<Child>,
}

impl Host {
    const ALL: [Self; 2] = [Self::Orderer, Self::Node];

    pub(crate) fn address(self) -> Ipv4Addr {
        match self {
            Self::Orderer => Ipv4Addr::new(10, 78, 0, 1),
            Self::Node => Ipv4Addr::new(10, 78, 0, 2),
        }
    }

    /// Of its namespace, and of its device.
    fn name(self) -> &'static str {
        match self {
            Self::Orderer => "orderer",
            Self::Node => "node",
        }
    }
}

impl Network {
    /// Makes the network, or says why this machine does not let it.
    pub(crate) async fn make() -> Result<Self> {
        if !Path::new("/dev/net/tun").exists() {
            bail!("there is no /dev/net/tun");
        }
        remove_stale().await?;
        let mut network = Self {
            prefix: format!("{PREFIX}{}-", process::id()),
            forwarder: None,
        };
        for host in Host::ALL {
            ip(&["netns", "add", &network.namespace(host)]).await?;
        }
        network.forward().await?;
        // The devices come into being where the forwarder runs, and stay with it when they move.
        let [orderer, node] = Host::ALL;
        let moved = network.namespace(node);
        let node_device = node.name();
        ip(&[
            "-n",
            &network.namespace(orderer),
            "link",
            "set",
            node_device,
            "netns",
            &moved,
        ])
        .await?;
        for (host, other) in [(orderer, node), (node, orderer)] {
            network.attach(host, other).await?;
        }
        Ok(network)
    }

    /// This program again, in a role on a host.
    pub(crate) fn command(&self, host: Host, role: &str, arguments: &[&str]) -> Result<Command> {
        let mut command = Command::new("ip");
        command
            .args(["netns", "exec", &self.namespace(host)])
            .arg(env::current_exe()?)
            .args([Role::FIRST, role])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true);
        Ok(command)
    }

    fn namespace(&self, host: Host) -> String {
        format!("{}{}", self.prefix, host.name())
    }

    async fn forward(&mut self) -> Result<()> {
        let [orderer, node] = Host::ALL;
        let arguments = [orderer.name(), node.name(), DELAY_MS];
        let mut forwarder = self
            .command(orderer, forwarder::FORWARDER, &arguments)?
            .spawn()?;
        let stdout = forwarder.stdout.take().context("its output")?;
        self.forwarder = Some(forwarder);
        let said = BufReader::new(stdout).lines().next_line().await?;
        if said.as_deref() != Some(forwarder::READY) {
            bail!("no TUN device can be made, as is said above");
        }
        Ok(())
    }

    /// Gives a host its end of the link, which carries so much and no more.
    async fn attach(&self, host: Host, other: Host) -> Result<()> {
        let namespace = self.namespace(host);
        let (address, peer) = (host.address().to_string(), other.address().to_string());
        let device = host.name();
        let inside = |words: &[&str]| {
            let words: Vec<_> = ["-n", &namespace]
                .iter()
                .chain(words)
                .map(ToString::to_string)
                .collect();
            async move { ip(&words.iter().map(String::as_str).collect::<Vec<_>>()).await }
        };
        inside(&["link", "set", "lo", "up"]).await?;
        inside(&["link", "set", device, "mtu", MTU, "txqueuelen", QUEUE, "up"]).await?;
        inside(&["addr", "add", &address, "peer", &peer, "dev", device]).await?;
        // The queue before the link holds a tenth of a second, about as much as is on the way.
        run(&[
            "tc", "-n", &namespace, "qdisc", "add", "dev", device, "root", "tbf", "rate", RATE,
            "burst", "256kb", "latency", "100ms",
        ])
        .await?;
        for key in ["tcp_rmem", "tcp_wmem"] {
            let write = format!("echo {SOCKET_BUFFERS} > /proc/sys/net/ipv4/{key}");
            run(&["ip", "netns", "exec", &namespace, "sh", "-c", &write]).await?;
        }
        Ok(())
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        if let Some(forwarder) = &mut self.forwarder {
            let _ = forwarder.start_kill();
        }
        for host in Host::ALL {
            let _ = process::Command::new("ip")
                .args(["netns", "del", &self.namespace(host)])
                .status();
        }
    }
}

/// Removes what runs of this benchmark left behind that did not come to their end, with the processes
/// in there.
async fn remove_stale() -> Result<()> {
    for line in run(&["ip", "netns", "list"]).await?.lines() {
        let namespace = line.split_whitespace().next().unwrap_or_default();
        let maker = namespace
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split('-').next());
        let Some(maker) = maker.filter(|maker| maker.parse::<u32>().is_ok()) else {
            continue;
        };
        if fs::exists(format!("/proc/{maker}")).is_ok_and(|exists| exists) {
            continue;
        }
        for pid in run(&["ip", "netns", "pids", namespace]).await?.lines() {
            // One that has ended meanwhile is no loss.
            let _ = run(&["kill", "-KILL", pid]).await;
        }
        ip(&["netns", "del", namespace]).await?;
    }
    Ok(())
}

async fn ip(arguments: &[&str]) -> Result<()> {
    run(&[&["ip"], arguments].concat()).await.map(drop)
}

/// What a command says.
async fn run(words: &[&str]) -> Result<String> {
    let told = words.join(" ");
    let (program, arguments) = words.split_first().context("a command")?;
    let ended = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .await
        .with_context(|| format!("`{told}` cannot be run"))?;
    if !ended.status.success() {
        bail!(
            "`{told}` failed: {}",
            String::from_utf8_lossy(&ended.stderr).trim()
        );
    }
    Ok(String::from_utf8(ended.stdout)?)
}
