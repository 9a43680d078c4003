// SPDX-License-Identifier: Apache-2.0
//! `blockcast fetch`, as a user runs it, from a dev orderer in this process.
#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::Arc,
    time::Duration,
};

use block_api::{Block, SystemClock};
use bytes::Bytes;
use channel_config::{ChannelAccess, ChannelVerifier};
use dev_orderer::{
    Config, DevOrderer, Fault, KeyKind, Member, NodesConfig, OrganizationSpec, Pace, RecordedChain,
    Role, Script, TlsMode, When,
};
use tempfile::TempDir;
use tokio::{task::spawn_blocking, time::timeout};

/// No run takes longer.
const DEADLINE: Duration = Duration::from_secs(60);

fn fixtures(path: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures")).join(path)
}

fn recorded(folder: &str, number: u64) -> Vec<u8> {
    fs::read(fixtures(folder).join(format!("block_{number}.pb"))).unwrap()
}

/// What a run is told, beside what all of them are.
struct Fetch {
    arguments: Vec<OsString>,
    home: TempDir,
}

impl Fetch {
    /// From the first node of an orderer, over TLS, as `user1` of the recorded Org1.
    fn of(orderer: &DevOrderer) -> Self {
        let home = tempfile::tempdir().unwrap();
        let roots = home.path().join("tls-ca.pem");
        fs::write(&roots, orderer.ordering_organization().tls_ca_pem()).unwrap();
        Self {
            arguments: vec!["fetch".into()],
            home,
        }
        .with("--orderer", orderer.endpoint().as_str())
        .with("--channel", orderer.channel().as_str())
        .with("--tls-ca", roots)
        .with("--msp-dir", fixtures("msp/org1/user1/msp"))
        .with("--msp-id", "Org1MSP")
    }

    /// The same with an option, instead of what it had.
    fn with(mut self, option: &str, value: impl Into<OsString>) -> Self {
        self = self.without(option);
        self.arguments.extend([option.into(), value.into()]);
        self
    }

    fn without(mut self, option: &str) -> Self {
        if let Some(at) = self
            .arguments
            .iter()
            .position(|argument| argument == option)
        {
            self.arguments.drain(at..at + 2);
        }
        self
    }

    fn flag(mut self, flag: &str) -> Self {
        self.arguments.push(flag.into());
        self
    }

    /// With the identity or the TLS certificate of a member.
    fn with_files(self, member: &Member) -> Self {
        for (path, content) in member.files() {
            let path = self.home.path().join("member").join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        self
    }

    fn signing_as(self, member: &Member) -> Self {
        let this = self.with_files(member);
        let msp = this.home.path().join("member/msp");
        this.with("--msp-dir", msp)
            .with("--msp-id", member.msp_id())
    }

    fn with_tls_of(self, member: &Member) -> Self {
        let this = self.with_files(member);
        let tls = this.home.path().join("member/tls");
        this.with("--client-cert", tls.join("client.crt"))
            .with("--client-key", tls.join("client.key"))
    }

    fn range(self, from: &str, to: &str) -> Self {
        self.with("--from", from).with("--to", to)
    }

    fn out(&self) -> PathBuf {
        self.home.path().join("out")
    }

    async fn run(&self) -> Run {
        let mut command = Command::new(env!("CARGO_BIN_EXE_blockcast"));
        command.args(&self.arguments).arg("--out").arg(self.out());
        command.env_remove("RUST_LOG").stdin(Stdio::null());
        let run = spawn_blocking(move || command.output().unwrap());
        Run(timeout(DEADLINE, run).await.unwrap().unwrap())
    }
}

/// How a run ended.
struct Run(Output);

impl Run {
    #[track_caller]
    fn succeeded(&self) -> &str {
        assert_eq!(self.0.status.code(), Some(0), "{}", self.error());
        str::from_utf8(&self.0.stdout).unwrap().trim_end()
    }

    #[track_caller]
    fn failed(&self, parts: &[&str]) {
        let error = self.error();
        assert_eq!(self.0.status.code(), Some(1), "{error}");
        assert_eq!(self.0.stdout, b"", "{error}");
        assert!(
            error.contains("error: ") && !error.contains("panicked"),
            "{error}"
        );
        for part in parts {
            assert!(error.contains(part), "{part}\n--- in ---\n{error}");
        }
    }

    fn error(&self) -> &str {
        str::from_utf8(&self.0.stderr).unwrap()
    }
}

/// Serves a recorded chain to the members that its own rules admit.
async fn replay(folder: &str, tls: TlsMode, script: Option<Script>) -> DevOrderer {
    let count = fs::read_dir(fixtures(folder)).unwrap().count();
    let blocks = (0..u64::try_from(count).unwrap())
        .map_while(|number| fs::read(fixtures(folder).join(format!("block_{number}.pb"))).ok())
        .map(Bytes::from);
    let chain = RecordedChain::new(blocks.collect()).unwrap();
    let verifier = ChannelVerifier::from_genesis(chain.blocks().first().unwrap()).unwrap();
    let readers = Arc::new(ChannelAccess::readers(&verifier));
    let mut nodes = NodesConfig::new(Arc::new(SystemClock));
    nodes.tls = tls;
    nodes.faults.extend(script);
    DevOrderer::replay(chain, Pace::AllAtOnce, readers, nodes)
        .await
        .unwrap()
}

#[track_caller]
fn assert_holds(dir: &Path, folder: &str, numbers: impl IntoIterator<Item = u64>) {
    let mut names: Vec<String> = numbers
        .into_iter()
        .map(|number| {
            let name = format!("block_{number}.pb");
            assert_eq!(
                fs::read(dir.join(&name)).unwrap(),
                recorded(folder, number),
                "block {number}"
            );
            name
        })
        .collect();
    let mut there: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    there.sort();
    assert_eq!(there, names);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_is_fetched_over_tls_byte_for_byte() {
    let orderer = replay("raft", TlsMode::Server, None).await;
    let fetch = Fetch::of(&orderer).range("oldest", "newest");
    let expected = |more: &str| {
        format!(
            "66 blocks (0..65, 3,372,009 bytes{more}) from {} in {}",
            orderer.endpoint(),
            fetch.out().display()
        )
    };
    assert_eq!(fetch.run().await.succeeded(), expected(""));
    assert_holds(&fetch.out(), "raft", 0..66);
    // It may be asked again.
    assert_eq!(
        fetch.run().await.succeeded(),
        expected(", all there before")
    );
    orderer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chain_is_fetched_over_mutual_tls_byte_for_byte() {
    let orderer = replay("bft", TlsMode::Mutual, None).await;
    let member = orderer
        .ordering_organization()
        .issue("client", Role::Client)
        .unwrap();
    let fetch = Fetch::of(&orderer)
        .with_tls_of(&member)
        .range("0", "newest");
    assert!(
        fetch
            .run()
            .await
            .succeeded()
            .starts_with("70 blocks (0..69, 3,382,086 bytes) from ")
    );
    assert_holds(&fetch.out(), "bft", 0..70);

    // Without a certificate the orderer does not talk.
    let without = Fetch::of(&orderer).range("0", "newest");
    without
        .run()
        .await
        .failed(&["--client-cert and --client-key"]);
    assert!(fs::read_dir(without.out()).unwrap().next().is_none());
    orderer.stop().await;
}

/// A channel that is ordered while it is fetched verifies by its own genesis block.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_fetched_from_a_dev_orderer_verifies() {
    for (tls, key_kind) in [
        (TlsMode::Mutual, KeyKind::Ed25519),
        (TlsMode::Plain, KeyKind::EcdsaP256),
    ] {
        let mut config = Config::new("dev".parse().unwrap(), Arc::new(SystemClock));
        config.network.key_kind = key_kind;
        config.nodes.tls = tls;
        let orderer = DevOrderer::start(config).await.unwrap();
        orderer.generate(5, 1024, Pace::AllAtOnce).await.unwrap();
        let client = orderer.client().unwrap();
        let mut fetch = Fetch::of(&orderer)
            .signing_as(client)
            .range("oldest", "newest");
        fetch = match tls {
            TlsMode::Plain => fetch.without("--tls-ca").flag("--plaintext"),
            TlsMode::Server | TlsMode::Mutual => fetch.with_tls_of(client),
        };
        assert!(
            fetch
                .run()
                .await
                .succeeded()
                .starts_with("6 blocks (0..5, ")
        );
        let genesis = fetch.home.path().join("genesis.block");
        fs::write(&genesis, orderer.genesis().raw()).unwrap();
        let mut verify = Command::new(env!("CARGO_BIN_EXE_blockcast"));
        verify
            .arg("verify")
            .arg("--genesis")
            .arg(genesis)
            .arg(fetch.out());
        let verified = Run(spawn_blocking(move || verify.output().unwrap())
            .await
            .unwrap());
        let newest = fs::read(fetch.out().join("block_5.pb")).unwrap();
        let tip = Block::parse(newest.into()).unwrap().header_hash();
        let expected = format!("ok: channel dev, blocks 0..5, tip {tip}\n");
        assert!(
            verified.succeeded().starts_with(&expected),
            "{}",
            verified.succeeded()
        );
        orderer.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_range_is_fetched_as_it_is_asked_for() {
    let orderer = replay("raft", TlsMode::Server, None).await;
    let rows = [
        ("3", "5", 3..=5),
        ("12", "12", 12..=12),
        ("oldest", "1", 0..=1),
        ("newest", "newest", 65..=65),
    ];
    for (from, to, numbers) in rows {
        let fetch = Fetch::of(&orderer).range(from, to);
        let run = fetch.run().await;
        let expected = format!("({}..{}, ", numbers.start(), numbers.end());
        assert!(run.succeeded().contains(&expected), "{}", run.succeeded());
        assert_holds(&fetch.out(), "raft", numbers);
    }
    orderer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_with_other_content_is_kept_unless_asked() {
    let orderer = replay("raft", TlsMode::Server, None).await;
    let fetch = Fetch::of(&orderer).range("0", "2");
    fs::create_dir(fetch.out()).unwrap();
    let file = fetch.out().join("block_1.pb");
    // The same block, as another node signed it.
    fs::write(&file, recorded("raft-other-node", 1)).unwrap();
    fetch.run().await.failed(&[
        "1 block (0..0, 23,048 bytes) are in ",
        "block_1.pb is there and holds other bytes than ",
        "--overwrite",
    ]);
    assert_eq!(fs::read(&file).unwrap(), recorded("raft-other-node", 1));
    let fetch = fetch.flag("--overwrite");
    assert!(fetch.run().await.succeeded().contains("(0..2, "));
    assert_holds(&fetch.out(), "raft", 0..3);
    orderer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_explained() {
    let orderer = replay("raft", TlsMode::Server, None).await;
    let fetch = || Fetch::of(&orderer).range("0", "newest");
    let stranger = dev_orderer::Organization::generate(
        &OrganizationSpec::application("Org1"),
        KeyKind::EcdsaP256,
        block_api::Clock::now(&SystemClock),
    )
    .unwrap();
    let stranger = stranger.member("user1").unwrap();
    let no_folder = fixtures("msp/none");
    let rows: [(Fetch, &[&str]); 12] = [
        // Of an organisation with the right name, but of another CA.
        (
            fetch().signing_as(stranger),
            &[
                "does not let Org1MSP [",
                "FORBIDDEN (403)",
                "/Channel/Readers",
                "--msp-id",
            ],
        ),
        (
            fetch().with("--msp-id", "Org9MSP"),
            &["does not let Org9MSP [", "FORBIDDEN (403)"],
        ),
        (
            fetch().with("--channel", "other"),
            &["has no channel other", "NOT_FOUND (404)", "--channel"],
        ),
        (
            fetch().range("66", "70"),
            &["NOT_FOUND (404)", "--from newest"],
        ),
        (
            fetch().range("64", "70"),
            &[
                "2 blocks (64..65, ",
                "channel ch-raft ends with block 65",
                "NOT_FOUND (404)",
                "--to newest",
            ],
        ),
        (fetch().range("7", "3"), &["--from is 7 and --to is 3"]),
        (
            fetch().with("--tls-ca", fixtures("msp/relay0/ca.crt")),
            &[
                "the TLS certificate of ",
                "is not accepted",
                "hint: --tls-ca names the file",
            ],
        ),
        (
            fetch().with("--tls-ca", fixtures("raft/blocks.txt")),
            &["--tls-ca: ", "there is no certificate"],
        ),
        (
            fetch().with("--tls-ca", fixtures("none.pem")),
            &["--tls-ca: ", "none.pem cannot be read"],
        ),
        (
            fetch().with("--msp-dir", &no_folder),
            &["--msp-dir: ", "signcerts cannot be read"],
        ),
        (
            fetch().without("--tls-ca").flag("--plaintext"),
            &["give --tls-ca instead of --plaintext"],
        ),
        (
            fetch().with("--orderer", "127.0.0.1:1"),
            &["no connection to 127.0.0.1:1", "check --orderer"],
        ),
    ];
    for (fetch, parts) in rows {
        fetch.run().await.failed(parts);
    }
    let usage = fetch().without("--tls-ca").run().await;
    assert_eq!(usage.0.status.code(), Some(2));
    assert!(
        usage.error().contains("<--tls-ca <FILE>|--plaintext>"),
        "{}",
        usage.error()
    );
    orderer.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_before_a_failure_stays_and_is_told() {
    let script = Script::new();
    let orderer = replay("raft", TlsMode::Server, Some(script.clone())).await;
    let fetch = Fetch::of(&orderer).range("0", "newest");
    let unavailable = Fault::Status {
        after: 2,
        status: 503,
    };
    let done = Fault::Status {
        after: 3,
        status: 200,
    };
    let rows: [(Fault, u64, &[&str]); 4] = [
        (
            Fault::Refuse { status: 503 },
            0,
            &["at the moment: SERVICE_UNAVAILABLE (503)", "try again"],
        ),
        (
            unavailable,
            2,
            &[
                "2 blocks (0..1, ",
                "at the moment after block 1: SERVICE_UNAVAILABLE (503)",
            ],
        ),
        (
            Fault::Cut { after: 4 },
            4,
            &[
                "blocks (0..3, ",
                "error: the stream from ",
                "hint: ask again with --from",
            ],
        ),
        (
            Fault::Unset { after: 5 },
            5,
            &["blocks (0..4, ", "does not parse"],
        ),
    ];
    for (fault, count, parts) in rows {
        script.clear();
        script.add(When::Always, fault);
        fetch.run().await.failed(parts);
        assert_holds(&fetch.out(), "raft", 0..count);
    }
    // An orderer that says that it is done before it is.
    script.clear();
    script.add(When::Always, done);
    let short = Fetch::of(&orderer).range("0", "9");
    short.run().await.failed(&[
        "said that it was done after block 2, but block 9 did not come",
        "--from",
    ]);
    script.clear();
    assert!(
        fetch
            .run()
            .await
            .succeeded()
            .contains("5 of them there before")
    );
    orderer.stop().await;
}
