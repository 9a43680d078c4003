// SPDX-License-Identifier: Apache-2.0
//! `blockcast orderer` and `blockcast run`, as processes of their own.

use std::{fs, path::Path, sync::Arc};

use block_api::{
    BlockNumber, BlockReader as _, ChannelId, Endpoint, Height, ReadLimits, SystemClock,
};
use block_store::SegmentStore;
use orderer_client::{OrdererClient, OrdererEndpoint, Tls, parse_pem_certificates, parse_pem_key};
use protos::common::HeaderType;
use signer::envelope::{EnvelopeHeader, Nonce, transaction_envelope};
use tempfile::TempDir;
use tokio::process::Command;

use crate::process::{Run, command, fixtures, piped, run};

/// Shows each block that is stored.
const LOG: &str = "info,blockcast_deliver_service=debug";

/// An orderer that has written its folder.
pub(crate) async fn orderer(dir: &Path, options: &[&str]) -> Run {
    let mut orderer = command(["orderer", "--listen", "127.0.0.1:0"]);
    orderer.arg("--dir").arg(dir).args(options);
    let mut orderer = Run::start(orderer);
    orderer.stdout.line_with("run a node").await;
    orderer
}

pub(crate) fn node(config: &Path) -> Run {
    let mut node = command(["--log", LOG, "run", "--config"]);
    node.arg(config);
    Run::start(node)
}

/// Waits until a node has stored a block.
pub(crate) async fn stores(node: &mut Run, number: u64) {
    loop {
        let line = node.stderr.line_with("block stored").await;
        // The log may be in colours, so that key and value are not found as one word.
        if line.contains(&format!("block.number={number} ")) {
            return;
        }
    }
}

pub(crate) async fn ends_well(run: Run) {
    run.signal("-TERM").await;
    let ended = run.end().await;
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
}

/// The height of what a node left behind, whose every block must be readable.
pub(crate) async fn kept(dir: &Path, channel: &str) -> u64 {
    let channel: ChannelId = channel.parse().unwrap();
    let dir = dir.join("node/channels").join(channel.as_str());
    let (store, report) = SegmentStore::open(dir, block_store::Config::new(channel)).unwrap();
    assert!(report.damaged.is_empty(), "{report:?}");
    let height = store.info().height;
    let mut next = BlockNumber::GENESIS;
    while next < height.next_block() {
        let read = store
            .read(next, ReadLimits::new(100, 1 << 20))
            .await
            .unwrap();
        next = Height::new(next.get() + read.len() as u64).next_block();
    }
    store.close().await;
    height.get()
}

/// Submits a transaction as `user1`, over mutual TLS.
async fn broadcast(dir: &Path, endpoint: &Endpoint) {
    let file = |path: &str| fs::read(dir.join(path)).unwrap();
    let signer = signer::load_msp_folder(&dir.join("org1/user1/msp"), "Org1MSP").unwrap();
    let tls_roots = parse_pem_certificates(&file("tls-ca.pem")).unwrap();
    let config = orderer_client::Config {
        endpoints: vec![OrdererEndpoint {
            endpoint: endpoint.clone(),
            tls_roots,
        }],
        tls: Tls::Mutual {
            certificates: parse_pem_certificates(&file("org1/user1/tls/client.crt")).unwrap(),
            key: Arc::new(parse_pem_key(&file("org1/user1/tls/client.key")).unwrap()),
        },
        ..orderer_client::Config::default()
    };
    let clock = Arc::new(SystemClock);
    let header = EnvelopeHeader::new(
        HeaderType::Message,
        "mychannel".parse().unwrap(),
        block_api::Clock::now(&*clock),
    );
    let envelope = transaction_envelope(
        &*signer,
        header,
        b"hello".as_slice().into(),
        Nonce::random(),
    );
    let envelope = envelope.await.unwrap();
    let client = OrdererClient::new(config, signer, clock).unwrap();
    let mut session = client.broadcast(endpoint).await.unwrap();
    let ack = session.send(envelope).await.unwrap();
    assert_eq!(ack.status.code(), 200, "{ack:?}");
}

#[tokio::test]
async fn a_node_takes_what_is_ordered_and_both_end_well() {
    let dir = TempDir::new().unwrap();
    let orderer = orderer(dir.path(), &["--tls", "mutual", "--batch-timeout", "10ms"]).await;
    let mut node = node(&dir.path().join("node.toml"));
    node.stderr.line_with("stream opened").await;
    let line = orderer
        .stdout
        .seen
        .iter()
        .find(|line| line.starts_with("orderer"))
        .unwrap();
    let endpoint: Endpoint = line.split_whitespace().last().unwrap().parse().unwrap();
    broadcast(dir.path(), &endpoint).await;
    stores(&mut node, 1).await;

    let config = fs::read_to_string(dir.path().join("node.toml")).unwrap();
    let other = dir.path().join("other.toml");
    fs::write(&other, config).unwrap();
    let second = run(["run".as_ref(), "--config".as_ref(), other.as_os_str()]).await;
    assert_eq!(second.code, Some(1), "{}", second.stderr);
    assert!(
        second.stderr.contains("channels/mychannel is in use by"),
        "{}",
        second.stderr
    );

    // How the channel does is logged whenever that changes, with what to do about it.
    node.stderr.line_with("at-tip: ").await;
    ends_well(orderer).await;
    let told = node.stderr.line_with("the channel is stuck").await;
    assert!(
        told.contains("no-orderer-reachable: ") && told.contains("check that the orderers run"),
        "{told}"
    );
    ends_well(node).await;
    assert_eq!(kept(dir.path(), "mychannel").await, 2);
}

/// A node with many channels has more files open than the usual soft limit lets it.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_limit_of_open_files_is_raised() {
    let dir = TempDir::new().unwrap();
    let orderer = orderer(dir.path(), &[]).await;
    let mut limited = Command::new("sh");
    limited
        .args(["-c", "ulimit -Sn 256 && exec \"$@\"", "sh"])
        .arg(env!("CARGO_BIN_EXE_blockcast"))
        .args(["--log", LOG, "run", "--config"])
        .arg(dir.path().join("node.toml"))
        .env_remove("RUST_LOG");
    let mut node = Run::start(piped(limited));
    node.stderr.line_with("stream opened").await;
    let limits = fs::read_to_string(format!("/proc/{}/limits", node.pid())).unwrap();
    let files = limits
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let words: Vec<&str> = files.unwrap().split_whitespace().collect();
    let ["Max", "open", "files", soft, hard, "files"] = words[..] else {
        panic!("{limits}")
    };
    assert_ne!(hard, "256", "the limit of this machine shows nothing");
    assert_eq!(soft, hard);
    ends_well(node).await;
    ends_well(orderer).await;
}

/// Covers nothing that was acknowledged being lost when the process is killed, and a second start.
#[tokio::test]
async fn a_node_that_was_killed_goes_on_where_it_was() {
    let dir = TempDir::new().unwrap();
    // Slow enough that blocks are still ordered long after the node has found that it is to pull.
    let options = [
        "--blocks",
        "150",
        "--block-bytes",
        "20KiB",
        "--rate",
        "10",
        "--key",
        "ed25519",
    ];
    let orderer = orderer(dir.path(), &options).await;
    let config = dir.path().join("node.toml");
    let mut killed = node(&config);
    stores(&mut killed, 40).await;
    killed.signal("-KILL").await;
    assert_eq!(killed.end().await.code, None);

    let mut node = node(&config);
    let opened = node.stderr.line_with("block store opened").await;
    let height = opened
        .split("height=")
        .nth(1)
        .and_then(|rest| rest.split_whitespace().next());
    assert!(height.unwrap().parse::<u64>().unwrap() > 40, "{opened}");
    stores(&mut node, 150).await;
    ends_well(node).await;
    ends_well(orderer).await;
    assert_eq!(kept(dir.path(), "mychannel").await, 151);
}

/// Two processes over libp2p, the second without a stream of its own.
#[tokio::test]
async fn a_node_that_does_not_pull_is_fed_by_one_that_does() {
    let dir = TempDir::new().unwrap();
    let chain = fixtures("bft");
    let chain = chain.to_str().unwrap();
    let orderer = orderer(dir.path(), &["--replay", chain, "--rate", "100"]).await;
    let text = fs::read_to_string(dir.path().join("node.toml")).unwrap();
    // Nodes give each other blocks by the recorded channel's Readers.
    let member = fixtures("msp/org1/peer0/msp");
    let is_own = |line: &&str| !line.starts_with("msp_id = ") && !line.starts_with("msp_dir = ");
    let text: Vec<&str> = text.lines().filter(is_own).collect();
    let identity = format!(
        "[identity]\nmsp_id = \"Org1MSP\"\nmsp_dir = \"{}\"",
        member.to_str().unwrap()
    );
    let text = text.join("\n").replace("[identity]", &identity);

    fs::write(dir.path().join("first.toml"), &text).unwrap();
    let mut first = node(&dir.path().join("first.toml"));
    let started = first.stderr.line_with("node started").await;
    let address = started
        .split('"')
        .find(|word| word.starts_with("/ip4/127.0.0.1/tcp/"))
        .unwrap();

    let gossip = format!("[gossip]\npeers = [\"{address}\"]");
    let second = text
        .replace("[gossip]", &gossip)
        .replace("data_dir = \"node\"", "data_dir = \"second/node\"")
        .replace("[[channel]]", "[[channel]]\npull = \"never\"");
    fs::write(dir.path().join("second.toml"), second).unwrap();
    let mut second = node(&dir.path().join("second.toml"));
    stores(&mut second, 69).await;
    ends_well(second).await;
    ends_well(first).await;
    ends_well(orderer).await;
    for node in [dir.path().to_owned(), dir.path().join("second")] {
        assert_eq!(kept(&node, "ch-bft").await, 70);
    }
}

/// Two orderers of one chain, which grows while they serve it: the one goes on where the other was
/// killed.
#[tokio::test]
async fn orderers_that_follow_one_folder_serve_one_chain() {
    let dir = TempDir::new().unwrap();
    let chain = dir.path().join("chain");
    fs::create_dir(&chain).unwrap();
    let add = |number: u64| {
        let name = format!("block_{number}.pb");
        fs::copy(fixtures("raft").join(&name), chain.join("new")).unwrap();
        fs::rename(chain.join("new"), chain.join(name)).unwrap();
    };
    (0..5).for_each(add);
    let options = ["--follow", "--replay", chain.to_str().unwrap()];
    let (first, second) = (dir.path().join("first"), dir.path().join("second"));
    let killed = orderer(&first, &options).await;
    let other = orderer(&second, &options).await;
    let mut fed = node(&first.join("node.toml"));
    stores(&mut fed, 4).await;
    (5..8).for_each(add);
    stores(&mut fed, 7).await;
    killed.signal("-KILL").await;
    ends_well(fed).await;

    let mut fed = node(&second.join("node.toml"));
    stores(&mut fed, 7).await;
    (8..10).for_each(add);
    stores(&mut fed, 9).await;
    ends_well(fed).await;
    fs::write(chain.join("block_10.pb"), b"no block").unwrap();
    let ended = other.end().await;
    assert_eq!(ended.code, Some(1));
    assert!(ended.stderr.contains("block_10.pb"), "{}", ended.stderr);
}

#[tokio::test]
async fn the_folder_of_an_earlier_orderer_is_kept() {
    let dir = TempDir::new().unwrap();
    ends_well(orderer(dir.path(), &[]).await).await;
    let genesis = fs::read(dir.path().join("genesis.block")).unwrap();
    let mut again = command(["orderer", "--listen", "127.0.0.1:0", "--dir"]);
    again.arg(dir.path());
    let refused = Run::start(again).end().await;
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("--force"), "{}", refused.stderr);
    assert_eq!(fs::read(dir.path().join("genesis.block")).unwrap(), genesis);
    ends_well(orderer(dir.path(), &["--force"]).await).await;
    assert_ne!(fs::read(dir.path().join("genesis.block")).unwrap(), genesis);

    use std::os::unix::fs::PermissionsExt as _;
    let key = fs::metadata(dir.path().join("org1/user1/msp/keystore/priv_sk")).unwrap();
    assert_eq!(key.permissions().mode() & 0o777, 0o600);
}
