// SPDX-License-Identifier: Apache-2.0
//! `blockcast channel`, as a user runs it.
#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use block_api::{Block, BlockStore as _, BlockVerifier as _, ChannelId, Standing, VerifiedBlock};
use block_store::{Config, SegmentStore};
use channel_config::ChannelVerifier;
use serde_json::{Value, json};
use tempfile::TempDir;

fn fixtures(path: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures")).join(path)
}

fn channel(arguments: &[&str], path: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_blockcast"))
        .arg("channel")
        .args(arguments)
        .arg(path)
        .env_remove("RUST_LOG")
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// Standard output of a run that went well.
fn succeeded(output: &Output) -> &str {
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(text(&output.stderr), "");
    text(&output.stdout)
}

/// The error of a run that ended with this code.
fn failed(output: &Output, code: i32) -> &str {
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{error}");
    assert_eq!(text(&output.stdout), "");
    assert!(!error.contains("panicked"), "{error}");
    error
}

fn json_of(output: &Output) -> Value {
    serde_json::from_str(succeeded(output)).unwrap()
}

/// A node with these channels, whose first one has the recorded raft chain; the store stays open,
/// as it is while the node runs.
struct Node {
    dir: TempDir,
    _store: SegmentStore,
}

impl Node {
    async fn new(channels: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut config = "[node]\ndata_dir = \"data\"\n[gossip]\nbackend = \"memory\"\n".to_owned();
        for id in channels {
            config += &format!("[[channel]]\nid = \"{id}\"\ngenesis = \"{id}.pb\"\n");
        }
        fs::write(dir.path().join("node.toml"), config).unwrap();
        let read = |number: u64| {
            let file = fixtures("raft").join(format!("block_{number}.pb"));
            Block::parse(fs::read(file).unwrap().into()).unwrap()
        };
        let verifier = ChannelVerifier::from_genesis(&read(0)).unwrap();
        let blocks: Vec<_> = (0..66)
            .map(|number| {
                let block = VerifiedBlock::new(read(number), &verifier, Standing::Linked).unwrap();
                verifier.apply_config(&block).unwrap();
                block
            })
            .collect();
        let channel: ChannelId = channels[0].parse().unwrap();
        let store = dir.path().join("data/channels").join(channel.as_str());
        let (store, _) = SegmentStore::open(store, Config::new(channel)).unwrap();
        store.append(blocks).await.unwrap();
        Self { dir, _store: store }
    }

    fn config(&self) -> PathBuf {
        self.dir.path().join("node.toml")
    }

    fn store(&self) -> PathBuf {
        self.dir.path().join("data/channels/ch-raft")
    }
}

#[tokio::test]
async fn the_configuration_is_read_from_the_store_of_a_running_node() {
    let node = Node::new(&["ch-raft"]).await;
    let arguments = ["config", "--json", "--at", "30"];
    let by_config = json_of(&channel(
        &[&arguments[..], &["--config"]].concat(),
        &node.config(),
    ));
    let by_dir = json_of(&channel(
        &[&arguments[..], &["--dir"]].concat(),
        &node.store(),
    ));
    assert_eq!(by_config, by_dir);
    let mut filed = json_of(&channel(
        &[&arguments[..], &["--dir"]].concat(),
        &fixtures("raft"),
    ));
    assert_eq!(filed["source"], "folder");
    filed["source"] = json!("store");
    assert_eq!(filed, by_dir);

    let keys: Vec<_> = by_dir.as_object().unwrap().keys().collect();
    assert_eq!(
        keys,
        [
            "block",
            "channel",
            "config",
            "config_block",
            "holds_to",
            "replaced_by",
            "source",
            "tip"
        ]
    );
    assert_eq!(by_dir["channel"], "ch-raft");
    let numbers = ["block", "config_block", "holds_to", "replaced_by", "tip"];
    assert_eq!(
        numbers.map(|key| by_dir[key].as_u64().unwrap()),
        [30, 21, 36, 37, 65]
    );
    let config = &by_dir["config"];
    assert_eq!(
        (&config["sequence"], &config["root"]["name"]),
        (&json!(2), &json!("Channel"))
    );
    let values = config["root"]["groups"][1]["values"].as_array().unwrap();
    let timeout = values.iter().find(|value| value["name"] == "BatchTimeout");
    assert_eq!(
        *timeout.unwrap(),
        json!({"name": "BatchTimeout", "version": 1, "mod_policy": "Admins", "lines": ["300ms"]})
    );

    let output = channel(
        &["config", "--channel", "ch-raft", "--config"],
        &node.config(),
    );
    let shown = succeeded(&output);
    let head = format!(
        "channel ch-raft after block 65\n  config block  46\n  in force      after blocks 46..65; block 65 is the newest \
         one\n  blocks from   the store {}, whose blocks the node verified\n\nconfiguration (sequence 4)\n  Channel \
         (version 0, changed by Admins)\n",
        node.store().display()
    );
    assert!(shown.starts_with(&head), "{shown}");
    assert!(
        shown.contains("\n        max_message_count 12\n"),
        "{shown}"
    );
}

#[tokio::test]
async fn what_changed_is_told_for_people_and_programs() {
    let node = Node::new(&["ch-raft"]).await;
    let output = channel(&["diff", "0", "20", "--config"], &node.config());
    let expected = format!(
        "channel ch-raft, from block 0 to block 20\n  config block  0 -> 7\n  blocks from   the store {}, whose blocks \
         the node verified\n\nsequence 0 -> 1\n~ value /Channel/Orderer/BatchTimeout (version 0 -> 1)\n    - 200ms\n    + \
         300ms\n",
        node.store().display()
    );
    assert_eq!(succeeded(&output), expected);
    let diff = |from: &str, to: &str| {
        json_of(&channel(
            &["diff", from, to, "--json", "--config"],
            &node.config(),
        ))
    };
    let side = |version: u64| json!({"version": version, "mod_policy": "Admins"});
    assert_eq!(
        diff("0", "20"),
        json!({
            "channel": "ch-raft",
            "source": "store",
            "from": {"block": 0, "config_block": 0, "sequence": 0},
            "to": {"block": 20, "config_block": 7, "sequence": 1},
            "same": false,
            "changes": [{
                "item": "value", "path": "/Channel/Orderer/BatchTimeout", "change": "changed",
                "from": side(0), "to": side(1), "removed": ["200ms"], "added": ["300ms"],
                "unshown": false
            }]
        })
    );
    let back = diff("20", "0");
    assert_eq!(back["changes"][0]["added"], json!(["200ms"]));
    assert_eq!(back["changes"][0]["from"], side(1));
    let same = diff("50", "60");
    assert_eq!(
        (&same["same"], &same["changes"]),
        (&json!(true), &json!([]))
    );
    let output = channel(&["diff", "50", "60", "--dir"], &fixtures("raft"));
    assert!(
        succeeded(&output).contains("\n  config block  46 is in force after both\n"),
        "{}",
        succeeded(&output)
    );
    assert!(
        succeeded(&output).ends_with("\n\nsequence 4\nnothing differs\n"),
        "{}",
        succeeded(&output)
    );
}

#[tokio::test]
async fn mistakes_are_named_with_what_to_do() {
    let node = Node::new(&["ch-raft", "second"]).await;
    let config = |arguments: &[&str]| {
        let arguments = [&["config"], arguments, &["--config"]].concat();
        channel(&arguments, &node.config())
    };
    let several = config(&[]);
    let message = failed(&several, 1);
    assert!(
        message.contains("has several channels: ch-raft, second"),
        "{message}"
    );
    assert!(
        message.ends_with("hint: say which one with --channel\n"),
        "{message}"
    );
    let unknown = config(&["--channel", "third"]);
    let message = failed(&unknown, 1);
    assert!(
        message.contains("has no channel third, but ch-raft, second"),
        "{message}"
    );
    let absent = config(&["--channel", "second"]);
    let message = failed(&absent, 1);
    assert!(
        message.contains("data/channels/second") && message.contains("when it is first run"),
        "{message}"
    );
    let above = config(&["--channel", "ch-raft", "--at", "66"]);
    assert_eq!(
        failed(&above, 1),
        "error: block 66 is not here yet: the newest block is 65\n"
    );
    let unreadable = channel(&["config", "--config"], &fixtures("none"));
    assert!(failed(&unreadable, 78).contains("cannot be read"));
    let folder = channel(&["config", "--dir"], &fixtures("msp"));
    assert!(failed(&folder, 1).starts_with("error: there is no block in "));
    for arguments in [
        &["config", "--at"][..],
        &["diff", "1", "--dir"],
        &["config", "--channel", "a", "--dir"],
        &["config", "--config", "x", "--dir"],
    ] {
        failed(&channel(arguments, &fixtures("raft")), 2);
    }
}
