// SPDX-License-Identifier: Apache-2.0
//! A network of the test's own: a namespace for each host, and one in the middle through which all
//! of them reach each other.

use std::{
    env, fs,
    io::{BufRead as _, BufReader},
    net::Ipv4Addr,
    path::Path,
    process::{self, Child, Command, Stdio},
};

use crate::forwarder;

/// What every namespace of this test is called, up to the id of the process that made it.
const PREFIX: &str = "blockcast-test-";

/// The device of the forwarder, and the routing table that leads there.
const FAR: &str = "far";
const FAR_TABLE: &str = "100";

/// How long a packet is under way on a far link, in milliseconds, each way.
const FAR_MS: &str = "60";

/// What a slow link carries. The burst is a few packets, the queue less than what TCP would fill.
const SLOW: [&str; 7] = ["tbf", "rate", "4mbit", "burst", "32kb", "latency", "300ms"];

/// The namespaces, removed when it is dropped.
#[derive(Debug)]
pub(crate) struct Network {
    prefix: String,
    hosts: usize,
    forwarder: Option<Child>,
}

/// What may be wrong with the link of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The link is down: `ip link`.
    Cut,
    /// Nothing reaches the host: a blackhole route.
    Deaf,
    /// Nothing leaves the host: nft.
    Mute,
    /// The link carries little: tbf, both ways.
    Slow,
    /// The link is long: the forwarder, both ways.
    Far,
}

impl Fault {
    pub(crate) const ALL: [Self; 5] = [Self::Cut, Self::Deaf, Self::Mute, Self::Slow, Self::Far];
}

impl Network {
    /// Makes a network of so many hosts, or says why this machine does not let it.
    pub(crate) fn make(hosts: usize) -> Result<Self, String> {
        remove_stale()?;
        let mut network = Self {
            prefix: format!("{PREFIX}{}-", process::id()),
            hosts,
            forwarder: None,
        };
        let core = network.core();
        ip(&["netns", "add", &core])?;
        sysctl(&core, "net.ipv4.ip_forward=1")?;
        // A packet that was sent around through the forwarder comes from where its route does not lead.
        sysctl(&core, "net.ipv4.conf.all.rp_filter=0")?;
        sysctl(&core, "net.ipv4.conf.default.rp_filter=0")?;
        for host in 0..hosts {
            network.add(host)?;
        }
        let nft = "add table inet test; add set inet test mute { type ipv4_addr; }; \
            add chain inet test forward { type filter hook forward priority 0; }; \
            add rule inet test forward ip saddr @mute drop";
        command(&["ip", "netns", "exec", &core, "nft", nft])?;
        network.forward()?;
        Ok(network)
    }

    /// The name of a host's namespace.
    pub(crate) fn namespace(&self, host: usize) -> String {
        format!("{}{host}", self.prefix)
    }

    /// The address of a host.
    pub(crate) fn address(host: usize) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, u8::try_from(host).unwrap(), 2)
    }

    /// Lets something be wrong with the link of a host.
    pub(crate) fn inflict(&self, host: usize, fault: Fault) {
        self.change(host, fault, true).unwrap();
    }

    /// Ends what is wrong with the link of a host.
    pub(crate) fn heal(&self, host: usize, fault: Fault) {
        self.change(host, fault, false).unwrap();
    }

    fn change(&self, host: usize, fault: Fault, on: bool) -> Result<(), String> {
        let core = self.core();
        let (link, address) = (link(host), Self::address(host).to_string());
        let add = if on { "add" } else { "del" };
        match fault {
            Fault::Cut => {
                let state = if on { "down" } else { "up" };
                ip(&["-n", &core, "link", "set", &link, state])
            }
            Fault::Deaf => ip(&["-n", &core, "route", add, "blackhole", &address]),
            Fault::Mute => {
                let what = if on { "add" } else { "delete" };
                let nft = format!("{what} element inet test mute {{ {address} }}");
                command(&["ip", "netns", "exec", &core, "nft", &nft])
            }
            Fault::Slow => {
                for (namespace, device) in [
                    (core.as_str(), link.as_str()),
                    (&self.namespace(host), "eth0"),
                ] {
                    let mut words =
                        vec!["tc", "-n", namespace, "qdisc", add, "dev", device, "root"];
                    if on {
                        words.extend(SLOW);
                    }
                    command(&words)?;
                }
                Ok(())
            }
            Fault::Far => {
                for side in [["iif", &link], ["to", &address]] {
                    let mut words = vec!["-n", &core, "rule", add, "pref", "20"];
                    words.extend(side);
                    words.extend(["lookup", FAR_TABLE]);
                    ip(&words)?;
                }
                Ok(())
            }
        }
    }

    fn core(&self) -> String {
        format!("{}core", self.prefix)
    }

    /// A host with its link to the middle.
    fn add(&self, host: usize) -> Result<(), String> {
        let (core, namespace, link) = (self.core(), self.namespace(host), link(host));
        let address = format!("{}/30", Self::address(host));
        let [a, b, c, _] = Self::address(host).octets();
        let gateway = Ipv4Addr::new(a, b, c, 1).to_string();
        ip(&["netns", "add", &namespace])?;
        let pair = ["type", "veth", "peer", "name", "eth0", "netns", &namespace];
        ip(&[&["-n", &core, "link", "add", &link][..], &pair].concat())?;
        ip(&[
            "-n",
            &core,
            "addr",
            "add",
            &format!("{gateway}/30"),
            "dev",
            &link,
        ])?;
        ip(&["-n", &core, "link", "set", &link, "up"])?;
        ip(&["-n", &namespace, "addr", "add", &address, "dev", "eth0"])?;
        ip(&["-n", &namespace, "link", "set", "eth0", "up"])?;
        ip(&["-n", &namespace, "link", "set", "lo", "up"])?;
        ip(&["-n", &namespace, "route", "add", "default", "via", &gateway])
    }

    /// Starts the forwarder. What comes out of it goes its usual way; what goes in, the rules of far
    /// links decide.
    fn forward(&mut self) -> Result<(), String> {
        let core = self.core();
        if !Path::new("/dev/net/tun").exists() {
            return Err("there is no /dev/net/tun".to_owned());
        }
        let this = env::current_exe().map_err(|error| error.to_string())?;
        let mut forwarder = Command::new("ip")
            .args(["netns", "exec", &core])
            .arg(this)
            .args([forwarder::COMMAND, FAR, FAR_MS])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("ip netns exec: {error}"))?;
        let mut line = String::new();
        let said = forwarder
            .stdout
            .take()
            .map(|stdout| BufReader::new(stdout).read_line(&mut line));
        self.forwarder = Some(forwarder);
        if !matches!(said, Some(Ok(_))) || line.trim() != forwarder::READY {
            return Err("no TUN device can be made, as is said above".to_owned());
        }
        ip(&[
            "-n", &core, "route", "add", "default", "dev", FAR, "table", FAR_TABLE,
        ])?;
        ip(&[
            "-n", &core, "rule", "add", "pref", "10", "iif", FAR, "lookup", "main",
        ])
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        if let Some(mut forwarder) = self.forwarder.take() {
            let _ = forwarder.kill();
            let _ = forwarder.wait();
        }
        for host in 0..self.hosts {
            let _ = ip(&["netns", "del", &self.namespace(host)]);
        }
        let _ = ip(&["netns", "del", &self.core()]);
    }
}

/// The end of a host's link in the middle.
fn link(host: usize) -> String {
    format!("host{host}")
}

/// Removes what runs of this test left behind that did not come to their end, with the processes in
/// there.
fn remove_stale() -> Result<(), String> {
    for namespace in output(&["ip", "netns", "list"])?.lines() {
        let namespace = namespace.split_whitespace().next().unwrap_or_default();
        let maker = namespace
            .strip_prefix(PREFIX)
            .and_then(|rest| rest.split('-').next());
        let Some(maker) = maker.filter(|maker| maker.parse::<u32>().is_ok()) else {
            continue;
        };
        if fs::exists(format!("/proc/{maker}")).is_ok_and(|exists| exists) {
            continue;
        }
        for pid in output(&["ip", "netns", "pids", namespace])?.lines() {
            let _ = command(&["kill", "-KILL", pid]);
        }
        ip(&["netns", "del", namespace])?;
    }
    Ok(())
}

fn sysctl(namespace: &str, setting: &str) -> Result<(), String> {
    let (key, value) = setting.split_once('=').unwrap();
    let path = format!("/proc/sys/{}", key.replace('.', "/"));
    let write = format!("echo {value} > {path}");
    command(&["ip", "netns", "exec", namespace, "sh", "-c", &write])
}

fn ip(arguments: &[&str]) -> Result<(), String> {
    command(&[&["ip"], arguments].concat())
}

fn command(words: &[&str]) -> Result<(), String> {
    output(words).map(drop)
}

/// Runs a command, and gives what it says on standard output.
fn output(words: &[&str]) -> Result<String, String> {
    let told = words.join(" ");
    let ended = Command::new(words[0])
        .args(&words[1..])
        .stdin(Stdio::null())
        .output();
    let ended = ended.map_err(|error| format!("`{told}` cannot be run: {error}"))?;
    if !ended.status.success() {
        let said = String::from_utf8_lossy(&ended.stderr);
        return Err(format!("`{told}` failed: {}", said.trim()));
    }
    Ok(String::from_utf8_lossy(&ended.stdout).into_owned())
}
