// SPDX-License-Identifier: Apache-2.0
//! The node seen from outside: its HTTP service against a real node and a real orderer.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use block_api::{Clock, FixedClock, Height, SystemClock};
use blockcast::{
    Node, NodeConfig, StartError, StuckReason,
    config::{ChannelSection, GossipBackend, HumanDuration, OrdererTls},
};
use dev_orderer::{Config, DevOrderer, Fault, Pace, Script, TlsMode, When};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use crate::{disk::SmallDisk, process::DEADLINE};

/// What came back.
#[derive(Debug)]
struct Answer {
    code: u16,
    head: String,
    body: String,
}

struct Cluster {
    orderer: Option<DevOrderer>,
    node: Node,
    _dir: TempDir,
}

/// The machine's clock, moved on by so many seconds.
#[derive(Debug, Default)]
struct MovedClock(AtomicU64);

impl Clock for MovedClock {
    fn now(&self) -> SystemTime {
        SystemClock.now() + Duration::from_secs(self.0.load(Ordering::SeqCst))
    }
}

impl Answer {
    fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// The reason of the only failed check.
    fn reason(&self) -> String {
        let json = self.json();
        let failed = json["failed_checks"].as_array().unwrap();
        assert_eq!(failed.len(), 1, "{json}");
        assert_eq!(failed[0]["component"], "channel/seen");
        failed[0]["reason"].as_str().unwrap().to_owned()
    }
}

impl Cluster {
    async fn start(faults: Vec<Script>, clocks: [Arc<dyn Clock>; 2]) -> Self {
        Self::start_in(faults, clocks, None).await
    }

    /// Starts a node that keeps what it has there.
    async fn start_in(
        faults: Vec<Script>,
        clocks: [Arc<dyn Clock>; 2],
        data: Option<&Path>,
    ) -> Self {
        let [orderers, nodes] = clocks;
        let mut settings = Config::new("seen".parse().unwrap(), orderers);
        settings.nodes.faults = faults;
        // TLS certificates would expire with the clocks.
        settings.nodes.tls = TlsMode::Plain;
        let orderer = DevOrderer::start(settings).await.unwrap();
        let dir = TempDir::new().unwrap();
        let mut config = config(&orderer, dir.path());
        if let Some(data) = data {
            config.node.data_dir = data.join("node");
        }
        let node = Node::builder(config)
            .signer(orderer.client().unwrap().signer())
            .clock(nodes);
        Self {
            node: node.start().await.unwrap(),
            orderer: Some(orderer),
            _dir: dir,
        }
    }

    async fn well() -> Self {
        Self::start(Vec::new(), [Arc::new(SystemClock), Arc::new(SystemClock)]).await
    }

    fn address(&self) -> SocketAddr {
        self.node.operations_address().unwrap()
    }

    async fn get(&self, path: &str) -> Answer {
        ask(self.address(), &format!("GET {path}")).await
    }

    /// Asks until the answer is of this kind.
    async fn until(&self, path: &str, what: &str, is_so: impl Fn(&Answer) -> bool) -> Answer {
        let mut last = None;
        let asked = async {
            loop {
                let answer = self.get(path).await;
                if is_so(&answer) {
                    return answer;
                }
                last = Some(answer);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let asked = timeout(DEADLINE, asked).await;
        asked.unwrap_or_else(|_| panic!("{what}: {last:?}"))
    }

    async fn is_stuck(&self, reason: StuckReason) -> String {
        let start = format!("{}: ", reason.as_str());
        let stuck = |answer: &Answer| answer.code == 503 && answer.reason().starts_with(&start);
        let answer = self.until("/healthz", reason.as_str(), stuck).await;
        let told = answer.reason();
        assert!(told.ends_with(reason.remedy()), "{told}");
        assert_eq!(answer.json()["status"], "Service Unavailable");
        let ready = self.get("/readyz").await;
        assert_eq!(ready.code, 503);
        told
    }

    async fn stop(self) {
        timeout(DEADLINE, self.node.stop()).await.unwrap();
        if let Some(orderer) = self.orderer {
            orderer.stop().await;
        }
    }
}

fn config(orderer: &DevOrderer, dir: &Path) -> NodeConfig {
    let genesis = dir.join("genesis.block");
    std::fs::write(&genesis, orderer.genesis().raw()).unwrap();
    let mut config = NodeConfig::new(dir.join("node"));
    let section = ChannelSection::new(orderer.channel().clone(), genesis);
    config.channels.push(section);
    config.gossip.backend = GossipBackend::Libp2p;
    config.orderer.tls = OrdererTls::None;
    config.orderer.longest_back_off = HumanDuration::from_millis(200);
    config.operations.listen = Some("127.0.0.1:0".parse().unwrap());
    config.operations.grace = HumanDuration::from_secs(3);
    config
}

/// Sends a request and reads the whole answer: the service closes after it.
async fn ask(address: SocketAddr, request: &str) -> Answer {
    let asked = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("{request} HTTP/1.1\r\nHost: node\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let answer = timeout(DEADLINE, asked).await.expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let code = head.split(' ').nth(1).unwrap();
    Answer {
        code: code.parse().unwrap(),
        head: head.to_ascii_lowercase(),
        body: body.to_owned(),
    }
}

/// The samples of a page by name, with their labels; every line has to be understood.
fn parse(page: &str) -> BTreeMap<String, Vec<(String, f64)>> {
    let mut samples: BTreeMap<String, Vec<(String, f64)>> = BTreeMap::new();
    let mut lines = page.lines();
    assert_eq!(lines.next_back(), Some("# EOF"));
    for line in lines {
        if let Some(about) = line.strip_prefix("# ") {
            let keyword = about.split(' ').next().unwrap();
            assert!(["HELP", "TYPE", "UNIT"].contains(&keyword), "{line}");
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap();
        let (name, labels) = match series.split_once('{') {
            Some((name, labels)) => (name, labels.strip_suffix('}').unwrap()),
            None => (series, ""),
        };
        let value = value.parse().unwrap_or_else(|_| panic!("{line}"));
        let series = samples.entry(name.to_owned()).or_default();
        series.push((labels.to_owned(), value));
    }
    samples
}

fn value(page: &str, name: &str, labels: &str) -> f64 {
    let samples = parse(page);
    let series = samples.get(name).unwrap_or_else(|| panic!("no {name}"));
    let found = series.iter().find(|(found, _)| found == labels);
    found.unwrap_or_else(|| panic!("{name}: {series:?}")).1
}

/// Covers: STA-19
#[tokio::test]
async fn a_node_that_is_well_says_so_and_what_it_measures() {
    let cluster = Cluster::well().await;
    cluster
        .until("/readyz", "ready", |answer| answer.code == 200)
        .await;
    let healthy = cluster.get("/healthz").await;
    assert_eq!(
        (healthy.code, healthy.json()["status"].as_str()),
        (200, Some("OK"))
    );
    assert!(healthy.head.contains("content-type: application/json"));
    let time = healthy.json()["time"].as_str().unwrap().to_owned();
    assert!(time.contains('T') && time.ends_with('Z'), "{time}");
    let version = cluster.get("/version").await;
    assert_eq!(version.json()["Version"], env!("CARGO_PKG_VERSION"));

    let page = cluster.get("/metrics").await;
    assert!(
        page.head
            .contains("content-type: application/openmetrics-text; version=1.0.0")
    );
    let channel = "channel=\"seen\"";
    assert_eq!(
        value(&page.body, "blockcast_channel_height_blocks", channel),
        1.0
    );
    let orderer = cluster.orderer.as_ref().unwrap();
    orderer.generate(20, 1000, Pace::AllAtOnce).await.unwrap();
    let reached = cluster
        .node
        .wait_for_height(orderer.channel(), Height::new(21));
    assert!(timeout(DEADLINE, reached).await.unwrap());
    let page = cluster.get("/metrics").await.body;
    let of = |name: &str, labels: &str| value(&page, &format!("blockcast_{name}"), labels);
    let with = |label: &str, value: &str| format!("{channel},{label}=\"{value}\"");
    assert_eq!(of("channel_height_blocks", channel), 21.0);
    assert_eq!(of("channel_lag_blocks", channel), 0.0);
    assert_eq!(of("channel_pulling", channel), 1.0);
    assert_eq!(of("channel_buffer_bytes", channel), 0.0);
    assert!(of("channel_store_bytes", channel) > 20_000.0);
    assert!(of("channel_appends_total", channel) >= 1.0);
    assert!(of("channel_append_time_seconds_total", channel) > 0.0);
    assert_eq!(
        of("channel_stored_blocks_total", &with("origin", "orderer")),
        20.0
    );
    assert_eq!(
        of("channel_verdicts_total", &with("verdict", "stored")),
        20.0
    );
    assert_eq!(of("channel_health", &with("state", "at-tip")), 1.0);
    assert_eq!(of("channel_health", &with("state", "stuck")), 0.0);
    assert_eq!(
        of(
            "channel_source",
            &with("endpoint", orderer.endpoint().as_str())
        ),
        1.0
    );
    assert_eq!(cluster.node.metrics().lines().count(), page.lines().count());

    // Every metric of the table is on the page, and gossipsub's are beside them.
    let table = include_str!("../../../../docs/operations.md");
    let described: BTreeSet<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("# HELP ")?.split(' ').next())
        .collect();
    let names = table.lines().filter_map(|line| {
        let name = line.strip_prefix("| `blockcast_")?.split('`').next()?;
        Some(format!("blockcast_{}", name.trim_end_matches("_total")))
    });
    let mut rows = 0;
    for name in names {
        assert!(described.contains(&*name), "{name}");
        rows += 1;
    }
    assert!(rows > 20, "{rows}");
    assert!(
        described
            .iter()
            .any(|name| name.starts_with("libp2p_gossipsub_"))
    );
    cluster.stop().await;
}

#[tokio::test]
async fn only_what_is_there_is_answered_and_only_when_it_is_asked_for() {
    let cluster = Cluster::well().await;
    let address = cluster.address();
    for path in ["/", "/healthz/", "/metrics/x", "/logspec"] {
        assert_eq!(cluster.get(path).await.code, 404, "{path}");
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "NONSENSE"] {
        let refused = ask(address, &format!("{method} /healthz")).await;
        assert_eq!(refused.code, 405, "{method}");
        assert!(
            refused.head.contains("allow: get, head"),
            "{}",
            refused.head
        );
    }
    let head = ask(address, "HEAD /version").await;
    assert_eq!((head.code, head.body.as_str()), (200, ""));
    let asked = ask(address, "GET /version?x=1").await;
    assert_eq!(asked.code, 200);
    cluster.stop().await;
}

/// Clients that send nothing, half a head, or a head without end hold nobody up for long.
#[tokio::test]
async fn clients_that_say_nothing_hold_nobody_up() {
    let cluster = Cluster::well().await;
    let mut silent = Vec::new();
    // So many that waiting for each of them would take too long.
    for index in 0..480 {
        let mut stream = TcpStream::connect(cluster.address()).await.unwrap();
        if index % 2 == 0 {
            stream.write_all(b"GET /metrics HT").await.unwrap();
        }
        silent.push(stream);
    }
    assert_eq!(cluster.get("/version").await.code, 200);
    // Each of them was told that its time is over.
    let mut end = Vec::new();
    let mut first = silent.swap_remove(0);
    let first = first.read_to_end(&mut end);
    timeout(DEADLINE, async { drop(first.await) })
        .await
        .unwrap();
    let mut endless = TcpStream::connect(cluster.address()).await.unwrap();
    let flood = async {
        endless.write_all(b"GET / HTTP/1.1\r\nx: ").await?;
        loop {
            endless.write_all(&[b'a'; 4096]).await?;
        }
    };
    let cut: std::io::Result<()> = timeout(DEADLINE, flood).await.unwrap();
    assert!(cut.is_err());
    // Stopping does not wait for any of them.
    cluster.stop().await;
}

/// What an orderer answers is told with its reason, and the node is well again when it answers.
#[tokio::test]
async fn what_the_orderer_answers_is_told() {
    let script = Script::new();
    let clocks: [Arc<dyn Clock>; 2] = [Arc::new(SystemClock), Arc::new(SystemClock)];
    let cluster = Cluster::start(vec![script.clone()], clocks).await;
    cluster
        .until("/readyz", "ready", |answer| answer.code == 200)
        .await;
    let rows = [
        (403, StuckReason::IdentityRefused),
        (503, StuckReason::NoQuorum),
        (404, StuckReason::UnknownChannel),
        (500, StuckReason::OrderersFail),
    ];
    // The stream that is open ends, and those after it are refused.
    for (status, reason) in rows {
        script.clear();
        script.add(When::Always, Fault::Refuse { status });
        script.add(When::Always, Fault::Status { after: 0, status });
        cluster.is_stuck(reason).await;
    }
    script.clear();
    cluster
        .until("/healthz", "well again", |answer| answer.code == 200)
        .await;
    let page = cluster.get("/metrics").await.body;
    let restarts = parse(&page);
    let restarts = &restarts["blockcast_channel_stream_restarts_total"];
    for reason in [
        "identity-refused",
        "no-leader",
        "unknown-channel",
        "other-status",
    ] {
        let labels = format!("channel=\"seen\",reason=\"{reason}\"");
        assert!(
            restarts
                .iter()
                .any(|(found, count)| *found == labels && *count > 0.0),
            "{labels}"
        );
    }
    cluster.stop().await;
}

#[tokio::test]
async fn an_orderer_that_is_gone_is_told() {
    let mut cluster = Cluster::well().await;
    cluster
        .until("/readyz", "ready", |answer| answer.code == 200)
        .await;
    cluster.orderer.take().unwrap().stop().await;
    let told = cluster.is_stuck(StuckReason::NoOrdererReachable).await;
    assert!(told.contains("no connection to"), "{told}");
    let page = cluster.get("/metrics").await.body;
    let labels = "channel=\"seen\",reason=\"no-orderer-reachable\"";
    assert_eq!(value(&page, "blockcast_channel_stuck", labels), 1.0);
    cluster.stop().await;
}

/// A clock that is off is told from an identity that is refused, and that from one that has expired.
#[tokio::test]
async fn a_clock_that_is_off_and_an_identity_that_has_expired_are_told() {
    let now = SystemClock.now();
    let hour = Duration::from_secs(3600);
    let at = |time: SystemTime| -> Arc<dyn Clock> { Arc::new(FixedClock(time)) };
    let skewed = Cluster::start(Vec::new(), [at(now), at(now + hour)]).await;
    skewed.is_stuck(StuckReason::ClockSkew).await;
    skewed.stop().await;

    let clock = Arc::new(MovedClock::default());
    let expired = Cluster::start(Vec::new(), [clock.clone(), clock.clone()]).await;
    expired
        .until("/readyz", "ready", |answer| answer.code == 200)
        .await;
    clock.0.store(200 * 365 * 24 * 3600, Ordering::SeqCst);
    // The orderer looks at the certificate before each block.
    let orderer = expired.orderer.as_ref().unwrap();
    orderer.generate(1, 100, Pace::AllAtOnce).await.unwrap();
    expired.is_stuck(StuckReason::IdentityExpired).await;
    expired.stop().await;
}

/// A disk that fills up is told, and the node goes on by itself when there is room.
#[tokio::test]
async fn a_full_disk_is_told_until_there_is_room() {
    let dir = TempDir::new().unwrap();
    let Some(disk) = SmallDisk::mount(dir.path(), 12) else {
        return;
    };
    // 8 MB of blocks and 4 MiB of room.
    let filler = dir.path().join("filler");
    std::fs::write(&filler, vec![1; 8 << 20]).unwrap();
    let clocks: [Arc<dyn Clock>; 2] = [Arc::new(SystemClock), Arc::new(SystemClock)];
    let cluster = Cluster::start_in(Vec::new(), clocks, Some(dir.path())).await;
    cluster
        .until("/readyz", "ready", |answer| answer.code == 200)
        .await;
    let orderer = cluster.orderer.as_ref().unwrap();
    orderer
        .generate(80, 100_000, Pace::AllAtOnce)
        .await
        .unwrap();
    let told = cluster.is_stuck(StuckReason::DiskFull).await;
    assert!(told.contains("No space left on device"), "{told}");
    std::fs::remove_file(&filler).unwrap();
    let reached = cluster
        .node
        .wait_for_height(orderer.channel(), Height::new(81));
    assert!(timeout(DEADLINE, reached).await.unwrap());
    cluster
        .until("/healthz", "well again", |answer| answer.code == 200)
        .await;
    cluster.stop().await;
    drop(disk);
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let cluster = Cluster::well().await;
    let dir = TempDir::new().unwrap();
    let orderer = cluster.orderer.as_ref().unwrap();
    let mut config = config(orderer, dir.path());
    config.operations.listen = Some(cluster.address());
    let signer = orderer.client().unwrap().signer();
    let error = Node::builder(config)
        .signer(signer)
        .start()
        .await
        .unwrap_err();
    assert!(matches!(error, StartError::Operations { .. }), "{error}");
    assert!(error.to_string().contains(&cluster.address().to_string()));
    cluster.stop().await;
}
