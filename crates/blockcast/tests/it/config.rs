// SPDX-License-Identifier: Apache-2.0
//! What `blockcast run` says of a configuration that does not serve.

use std::{fs, path::Path};

use tempfile::TempDir;

use crate::process::{Ended, Run, command, fixtures};

/// A configuration on the recorded raft chain; `{name}` stands for what a row changes.
const CONFIG: &str = "\
[node]
data_dir = \"data\"
[identity]
msp_id = \"Org1MSP\"
msp_dir = \"FIXTURES/msp/org1/user1/msp\"
[gossip]
backend = \"memory\"
[orderer]
tls = \"server\"
[[channel]]
id = \"ch-raft\"
genesis = \"FIXTURES/raft/block_0.pb\"
";

async fn run(dir: &Path, text: &str) -> Ended {
    let path = dir.join("node.toml");
    fs::write(
        &path,
        text.replace("FIXTURES", fixtures("").to_str().unwrap()),
    )
    .unwrap();
    let mut run = command(["run", "--config"]);
    run.arg(path);
    Run::start(run).end().await
}

/// Each error names the thing, the reason, and what to do.
#[tokio::test]
async fn what_does_not_serve_is_named() {
    let raft = "id = \"ch-raft\"\ngenesis = \"FIXTURES/raft/block_0.pb\"";
    let rows: &[(&str, &str, &[&str])] = &[
        (
            "[gossip]",
            "[gossip]\nlisten_on = []",
            &["node.toml, line 7", "`listen_on`", "`listen`"],
        ),
        (
            "\"server\"",
            "\"mutual\"",
            &["node.toml", "orderer.client_cert is missing", "\"server\""],
        ),
        (
            "tls = \"server\"",
            "tls = \"mutual\"\nclient_cert = \"no.crt\"\nclient_key = \"no.key\"",
            &["orderer.client_cert names", "no.crt", "No such file"],
        ),
        (
            "tls = \"server\"",
            "tls = \"mutual\"\nclient_cert = \"node.toml\"\nclient_key = \"node.toml\"",
            &[
                "orderer.client_cert names",
                "node.toml",
                "no certificate in the PEM text",
            ],
        ),
        (
            "org1/user1/msp",
            "org1/msp",
            &["identity.msp_dir", "org1/msp", "signcerts"],
        ),
        (
            "[identity]\nmsp_id = \"Org1MSP\"\nmsp_dir = \"FIXTURES/msp/org1/user1/msp\"\n",
            "",
            &["no identity", "[identity]"],
        ),
        (
            "raft/block_0.pb",
            "raft/block_none.pb",
            &["channel.genesis names", "block_none.pb", "No such file"],
        ),
        (
            "raft/block_0.pb",
            "README.md",
            &["ch-raft", "README.md", "is no block"],
        ),
        (
            "raft/block_0.pb",
            "raft/block_3.pb",
            &["ch-raft", "block_3.pb", "genesis"],
        ),
        (
            "raft/block_0.pb",
            "bft/block_0.pb",
            &[
                "channel ch-raft",
                "that of channel ch-bft",
                "correct the id or the file",
            ],
        ),
        (
            raft,
            "id = \"Ch\"\ngenesis = \"g\"",
            &["line 11", "\"Ch\"", "lower-case"],
        ),
        (
            "backend = \"memory\"",
            "backend = \"memory\"\nlisten = [\"127.0.0.1:1\"]",
            &["gossip.listen", "/tcp/7100"],
        ),
        (
            "backend = \"memory\"",
            "key_file = \"node.toml\"",
            &["gossip key", "node.toml", "64 hexadecimal digits"],
        ),
    ];
    for (old, new, words) in rows {
        assert!(CONFIG.contains(old), "{old}");
        let dir = TempDir::new().unwrap();
        let ended = run(dir.path(), &CONFIG.replace(old, new)).await;
        assert_eq!(ended.code, Some(78), "{new}: {}", ended.stderr);
        let error = ended
            .stderr
            .lines()
            .find(|line| line.starts_with("error: "));
        let error = error.unwrap_or_else(|| panic!("{new}: {}", ended.stderr));
        for word in *words {
            assert!(error.contains(word), "{new}: {word:?} is not in: {error}");
        }
    }
}

#[tokio::test]
async fn a_file_that_is_not_there_is_named() {
    let ended = crate::process::run(["run", "--config", "/nowhere/node.toml"]).await;
    assert_eq!(ended.code, Some(78));
    assert!(
        ended.stderr.contains("/nowhere/node.toml"),
        "{}",
        ended.stderr
    );
}

#[tokio::test]
async fn a_filter_that_is_none_is_named() {
    for (arguments, name) in [(&["--log", "a=b=c"][..], "--log"), (&[], "log.filter")] {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("node.toml");
        let text = format!("{CONFIG}[log]\nfilter = \"x=loud\"")
            .replace("FIXTURES", fixtures("").to_str().unwrap());
        fs::write(&path, text).unwrap();
        let mut run = command(arguments);
        run.args(["run", "--config"]).arg(path);
        let ended = Run::start(run).end().await;
        assert_eq!(ended.code, Some(1), "{}", ended.stderr);
        assert!(
            ended.stderr.starts_with(&format!("error: {name} is")),
            "{}",
            ended.stderr
        );
        assert!(ended.stderr.contains("hint:"), "{}", ended.stderr);
    }
}

/// A store belongs to one genesis block: another network may have a channel of the same name.
#[tokio::test]
async fn the_store_of_another_network_is_not_opened() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("node.toml");
    let write = |genesis: &str| {
        let text = CONFIG
            .replace("FIXTURES/raft/block_0.pb", genesis)
            .replace("ch-raft", "mychannel");
        fs::write(
            &path,
            text.replace("FIXTURES", fixtures("").to_str().unwrap()),
        )
        .unwrap();
    };
    for name in ["one", "two"] {
        let mut orderer = command(["orderer", "--listen", "127.0.0.1:0", "--dir"]);
        orderer.arg(dir.path().join(name));
        let mut orderer = Run::start(orderer);
        orderer.stdout.line_with("run a node").await;
        orderer.signal("-TERM").await;
        assert_eq!(orderer.end().await.code, Some(0));
    }
    write("one/genesis.block");
    let mut node = command(["run", "--config"]);
    node.arg(&path);
    let mut node = Run::start(node);
    node.stderr.line_with("channel joined").await;
    node.signal("-INT").await;
    assert_eq!(node.end().await.code, Some(0));

    write("two/genesis.block");
    let ended = crate::process::run(["run".as_ref(), "--config".as_ref(), path.as_os_str()]).await;
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    let words = [
        "block store of channel mychannel",
        "another network",
        "directory of its own",
    ];
    assert!(
        words.iter().all(|word| ended.stderr.contains(word)),
        "{}",
        ended.stderr
    );
}
