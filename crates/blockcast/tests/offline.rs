// SPDX-License-Identifier: Apache-2.0
//! `blockcast verify` and `blockcast inspect`, as a user runs them.
#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use block_api::{Block, DataHashing};
use serde_json::{Value, json};
use tempfile::TempDir;

fn fixtures(path: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures")).join(path)
}

fn blockcast(arguments: &[&str], paths: &[&Path]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_blockcast"))
        .args(arguments)
        .args(paths)
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

/// The error of a run that failed.
fn failed(output: &Output) -> &str {
    let error = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.starts_with("error: "), "{error}");
    assert!(!error.contains("panicked"), "{error}");
    error
}

fn verify(genesis: &Path, dir: &Path, more: &[&str]) -> Output {
    let arguments = [&["verify"], more, &["--genesis"]].concat();
    blockcast(&arguments, &[genesis, dir])
}

/// The header hash of a block by the table of its chain.
fn header_hash(folder: &str, number: u64) -> String {
    let table = fs::read_to_string(fixtures(folder).join("blocks.txt")).unwrap();
    let is_number = |line: &&str| line.split_whitespace().nth(1) == Some(&*number.to_string());
    let mut words = table.lines().find(is_number).unwrap().split_whitespace();
    words
        .find_map(|word| word.strip_prefix("header_hash="))
        .unwrap()
        .to_owned()
}

/// The first blocks of a chain in a folder of their own.
fn copy(folder: &str, count: u64) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for number in 0..count {
        let name = format!("block_{number}.pb");
        fs::copy(fixtures(folder).join(&name), dir.path().join(&name)).unwrap();
    }
    dir
}

/// Covers: VER-16, VER-17, VER-18, VER-19
#[test]
fn a_recorded_chain_verifies_up_to_its_tip() {
    for (folder, of, last, config_blocks) in [
        ("raft", "raft", 65, 5),
        ("bft", "bft", 69, 5),
        // The same chains as other orderers signed and kept them.
        ("raft-other-node", "raft", 18, 2),
        ("bft-other-node", "bft", 18, 2),
    ] {
        let dir = fixtures(folder);
        let genesis = dir.join("block_0.pb");
        let output = verify(&genesis, &dir, &[]);
        let tip = header_hash(of, last);
        let first = succeeded(&output).lines().next().unwrap();
        assert_eq!(
            first,
            format!("ok: channel ch-{of}, blocks 0..{last}, tip {tip}")
        );
        let output = verify(&genesis, &dir, &["--json"]);
        let json: Value = serde_json::from_str(succeeded(&output)).unwrap();
        assert_eq!(json["ok"], true);
        assert_eq!(json["channel"], format!("ch-{of}"));
        assert_eq!((&json["first"], &json["last"]), (&json!(0), &json!(last)));
        assert_eq!(json["config_blocks"], config_blocks);
        assert_eq!(json["tip_hash"], tip);
    }
}

/// Covers: VER-17, VER-18, VER-19
#[test]
fn a_flipped_byte_makes_verify_fail_and_name_block_file_and_rule() {
    let dir = copy("raft", 14);
    let genesis = fixtures("raft/block_0.pb");
    let file = dir.path().join("block_12.pb");
    let good = fs::read(&file).unwrap();
    // The first metadata slot ends where the second, of four bytes, begins.
    let slot = good
        .windows(2)
        .rposition(|pair| pair == [0x0a, 0x04])
        .unwrap();
    let rows = [
        (12, "previous-hash"),
        (good.len() / 2, "data-hash"),
        (slot - 1, "signatures"),
        (0, "format"),
    ];
    for (at, rule) in rows {
        let mut bad = good.clone();
        bad[at] ^= 1;
        fs::write(&file, &bad).unwrap();
        let output = verify(&genesis, dir.path(), &[]);
        let expected = format!(
            "error: block 12 ({}) breaks the rule {rule}: ",
            file.display()
        );
        assert!(
            failed(&output).starts_with(&expected),
            "{}",
            failed(&output)
        );
        assert_eq!(text(&output.stdout), "");

        let output = verify(&genesis, dir.path(), &["--json"]);
        assert!(
            failed(&output).starts_with(&expected),
            "{}",
            failed(&output)
        );
        let json: Value = serde_json::from_str(text(&output.stdout)).unwrap();
        assert_eq!(
            (&json["ok"], &json["block"], &json["rule"]),
            (&json!(false), &json!(12), &json!(rule))
        );
        assert_eq!(json["file"], file.display().to_string());
    }
    fs::write(&file, &good).unwrap();
    succeeded(&verify(&genesis, dir.path(), &[]));
}

#[test]
fn verify_says_what_is_wrong_with_its_input() {
    let dir = copy("raft", 3);
    let genesis = fixtures("raft/block_0.pb");
    fs::remove_file(dir.path().join("block_1.pb")).unwrap();
    let gap = verify(&genesis, dir.path(), &["--json"]);
    assert!(
        failed(&gap).contains("block 1 is missing"),
        "{}",
        failed(&gap)
    );
    let json: Value = serde_json::from_str(text(&gap.stdout)).unwrap();
    assert_eq!((&json["ok"], &json["block"]), (&json!(false), &Value::Null));
    let rows = [
        (
            verify(&fixtures("none"), dir.path(), &[]),
            "none cannot be read",
        ),
        (
            verify(&genesis, &fixtures("none"), &[]),
            "none cannot be read",
        ),
        (
            verify(&fixtures("raft/blocks.txt"), dir.path(), &[]),
            "holds no block",
        ),
        (verify(&fixtures("raft"), dir.path(), &[]), "is not a file"),
    ];
    for (output, part) in rows {
        assert!(failed(&output).contains(part), "{}", failed(&output));
    }
    let usage = blockcast(&["verify", "dir"], &[]);
    assert_eq!(usage.status.code(), Some(2));
    assert!(
        text(&usage.stderr).contains("--genesis <FILE>"),
        "{}",
        text(&usage.stderr)
    );
}

#[test]
fn inspect_shows_a_block_and_its_configuration() {
    let output = blockcast(&["inspect"], &[&fixtures("bft/block_0.pb")]);
    let shown = succeeded(&output);
    assert!(
        shown.starts_with("genesis block 0 of ch-bft, 31,495 bytes, 1 transaction\n"),
        "{shown}"
    );
    assert!(
        shown.contains("\n      Orderers:\n        1: 127.0.0.1:18050 OrdererMSP ["),
        "{shown}"
    );

    let output = blockcast(
        &["inspect", "--json", "--genesis"],
        &[&fixtures("bft/block_0.pb"), &fixtures("bft/block_4.pb")],
    );
    let json: Value = serde_json::from_str(succeeded(&output)).unwrap();
    assert_eq!(json["number"], 4);
    let ids: Vec<_> = json["signers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|signer| &signer["consenter"])
        .collect();
    assert_eq!(ids, [4, 3, 1]);
    assert!(
        json["signers"]
            .as_array()
            .unwrap()
            .iter()
            .all(|signer| signer["valid"] == true)
    );
    assert_eq!(json["transactions"][0]["type"], "ENDORSER_TRANSACTION");
    assert_eq!(json["transactions"][0]["creator"]["msp_id"], "Org1MSP");
}

#[test]
fn inspect_says_what_is_wrong_with_its_input() {
    let rows = [
        (
            blockcast(&["inspect"], &[&fixtures("none.pb")]),
            "none.pb cannot be read",
        ),
        (
            blockcast(&["inspect"], &[&fixtures("raft/blocks.txt")]),
            "blocks.txt holds no block",
        ),
        (
            blockcast(&["inspect"], &[&fixtures("raft")]),
            "is not a file",
        ),
        (
            blockcast(
                &["inspect", "--genesis"],
                &[&fixtures("raft/block_0.pb"), &fixtures("bft/block_4.pb")],
            ),
            "is of channel ch-raft, the block is of channel ch-bft",
        ),
    ];
    for (output, part) in rows {
        assert!(failed(&output).contains(part), "{}", failed(&output));
    }
}

/// A reader that has seen enough is no failure.
#[test]
fn a_closed_pipe_ends_inspect_quietly() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_blockcast"))
        .arg("inspect")
        .arg(fixtures("raft/block_0.pb"))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), ""));
}

/// A channel of Fabric-X: the length of each transaction is hashed with it.
#[test]
fn a_folder_may_be_hashed_as_fabric_x_does_it() {
    let recorded = fs::read(fixtures("raft/block_0.pb")).unwrap();
    let recorded = Block::parse(recorded.into()).unwrap();
    let entries: Vec<&[u8]> = recorded.data().collect();
    let genesis = Block::assemble_hashing::<_, &[u8]>(
        DataHashing::LengthPrefixed,
        recorded.number(),
        &[],
        &entries,
        &[],
    );
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("block_0.pb");
    fs::write(&file, genesis.raw()).unwrap();
    succeeded(&verify(&file, dir.path(), &["--data-hash", "fabric-x"]));
    let other = verify(&file, dir.path(), &[]);
    assert_eq!(other.status.code(), Some(1));
    let other = verify(&file, dir.path(), &["--data-hash", "sha3"]);
    assert_eq!(other.status.code(), Some(2));
    let text = String::from_utf8(other.stderr).unwrap();
    assert!(text.contains("there are fabric and fabric-x"), "{text}");
}
