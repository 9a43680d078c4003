// SPDX-License-Identifier: Apache-2.0
//! Verifies the recorded chains, and copies of them in which something is wrong.

use std::{
    fs,
    ops::Range,
    path::{Path, PathBuf},
};

use block_api::{
    Block, DataHashing,
    wire::{Field, Fields, Value},
};
use bytes::Bytes;

use super::{folder::Broken, *};

fn fixtures(folder: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures")).join(folder)
}

fn block_file(folder: &str, number: u64) -> PathBuf {
    fixtures(folder).join(format!("block_{number}.pb"))
}

fn open(folder: &str) -> FolderVerifier {
    open_at(&block_file(folder, 0), &fixtures(folder)).unwrap()
}

fn open_at(genesis: &Path, dir: &Path) -> Result<FolderVerifier, VerifyFolderError> {
    FolderVerifier::open(genesis, dir, DataHashing::default())
}

fn verify_all(mut folder: FolderVerifier) -> Result<VerifiedChain, VerifyFolderError> {
    while folder.verify_next()? {}
    Ok(folder.finish())
}

/// The last line of a chain's table: number and header hash.
fn tip(folder: &str) -> (u64, String) {
    let table = fs::read_to_string(fixtures(folder).join("blocks.txt")).unwrap();
    let line = table.lines().last().unwrap();
    let words: Vec<&str> = line.split_whitespace().collect();
    let hash = words
        .iter()
        .find_map(|word| word.strip_prefix("header_hash="));
    (words[1].parse().unwrap(), hash.unwrap().to_owned())
}

/// Covers: VER-16, VER-17, VER-18, VER-19
#[test]
fn the_recorded_chains_are_good_up_to_their_tips() {
    for (folder, channel, config_blocks) in [("raft", "ch-raft", 5), ("bft", "ch-bft", 5)] {
        let chain = verify_all(open(folder)).unwrap();
        let (last, hash) = tip(folder);
        assert_eq!(chain.channel.as_str(), channel);
        assert_eq!((chain.first.get(), chain.last.get()), (0, last));
        assert_eq!(chain.blocks, last + 1);
        assert_eq!(chain.config_blocks, config_blocks);
        assert_eq!(chain.tip_hash.to_string(), hash);
        assert!(
            summary(&chain).starts_with(&format!(
                "ok: channel {channel}, blocks 0..{last}, tip {hash}\n"
            )),
            "{}",
            summary(&chain)
        );
    }
    for (folder, of) in [("raft-other-node", "raft"), ("bft-other-node", "bft")] {
        let chain = verify_all(open(folder)).unwrap();
        let same = open_at(&block_file(of, 0), &fixtures(folder)).unwrap();
        assert_eq!(chain, verify_all(same).unwrap());
    }
}

/// The parts of a block that its hashes or signatures cover, as ranges of its bytes.
fn covered(raw: &[u8], has_signatures: bool) -> Vec<(&'static str, Range<usize>)> {
    let fields = |message, base| -> Vec<Field<'_>> {
        Fields::nested(message, base)
            .collect::<Result<_, _>>()
            .unwrap()
    };
    let mut parts = Vec::new();
    for field in fields(raw, 0) {
        let Value::Bytes(content, at) = field.value else {
            panic!("a block has three messages")
        };
        match field.number {
            1 => parts.push(("header", field.span)),
            2 => parts.push(("data", field.span)),
            3 if has_signatures => {
                parts.push(("signatures", fields(content, at).swap_remove(0).span))
            }
            3 => {}
            other => panic!("a block has no field {other}"),
        }
    }
    parts
}

/// Places all over a range, its ends among them.
fn places(range: &Range<usize>, count: usize) -> impl Iterator<Item = usize> {
    let (start, steps) = (range.start, count.min(range.len()) - 1);
    let last = range.len() - 1;
    (0..=steps).map(move |step| start + last * step / steps)
}

/// Every block of the chains, with one byte flipped at places all over what is covered: each is
/// told by its number, its file and a rule, and the true block passes after it.
///
/// Covers: VER-16, VER-17, VER-18, VER-19
#[test]
fn a_flipped_byte_in_header_data_or_signatures_is_found_in_every_block() {
    for folder in ["raft", "bft"] {
        let mut verifier = open(folder);
        let dir = tempfile::tempdir().unwrap();
        verifier.move_to(dir.path());
        for number in 0..=tip(folder).0 {
            let name = format!("block_{number}.pb");
            let good = fs::read(fixtures(folder).join(&name)).unwrap();
            let file = dir.path().join(&name);
            for (part, range) in covered(&good, number > 0) {
                for (index, at) in places(&range, 7).enumerate() {
                    let mut bad = good.clone();
                    bad[at] ^= [0x01, 0x80, 0xff, 0x10][index % 4];
                    fs::write(&file, &bad).unwrap();
                    let context = format!("{folder} block {number}: {part}, byte {at}");
                    let error = verifier.verify_again().expect_err(&context);
                    let VerifyFolderError::Broken(broken) = &error else {
                        panic!("{context}: {error}")
                    };
                    assert_eq!(broken.number.get(), number, "{context}");
                    let text = error.to_string();
                    let start = format!(
                        "block {number} ({}) breaks the rule {}: ",
                        file.display(),
                        broken.rule
                    );
                    assert!(text.starts_with(&start), "{context}: {text}");
                    assert!(
                        !broken.rule.is_empty() && text.len() > start.len(),
                        "{context}"
                    );
                }
            }
            fs::write(&file, &good).unwrap();
            assert!(verifier.verify_next().unwrap());
        }
        assert_eq!(verifier.finish().tip_hash.to_string(), tip(folder).1);
    }
}

/// Which rule it is that a flipped byte breaks.
#[test]
fn the_rule_is_the_one_that_the_part_is_covered_by() {
    let mut verifier = open("raft");
    for _ in 0..12 {
        assert!(verifier.verify_next().unwrap());
    }
    let good = fs::read(block_file("raft", 12)).unwrap();
    let dir = tempfile::tempdir().unwrap();
    verifier.move_to(dir.path());
    let parts = covered(&good, true);
    let of = |name: &str| {
        parts
            .iter()
            .find(|(part, _)| *part == name)
            .unwrap()
            .1
            .clone()
    };
    let (header, data, signatures) = (of("header"), of("data"), of("signatures"));
    let rows = [
        // The header: tag and length, tag and number, tag and length, the previous hash …
        (header.start + 3, "number"),
        (header.start + 10, "previous-hash"),
        (header.end - 1, "data-hash"),
        (data.start + data.len() / 2, "data-hash"),
        (signatures.end - 1, "signatures"),
        (0, "format"),
    ];
    for (at, rule) in rows {
        let mut bad = good.clone();
        bad[at] ^= 1;
        fs::write(dir.path().join("block_12.pb"), &bad).unwrap();
        let error = verifier.verify_again().unwrap_err();
        let VerifyFolderError::Broken(broken) = error else {
            panic!("byte {at}: {error}")
        };
        assert_eq!(broken.rule, rule, "byte {at}: {broken}");
    }
}

/// Copies blocks of a chain into a folder.
fn copy(folder: &str, numbers: impl IntoIterator<Item = u64>) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for number in numbers {
        let from = block_file(folder, number);
        fs::copy(&from, dir.path().join(from.file_name().unwrap())).unwrap();
    }
    dir
}

#[test]
fn a_folder_may_begin_with_the_block_after_the_genesis_block() {
    let dir = copy("bft", 1..=4);
    let chain = open_at(&block_file("bft", 0), dir.path()).unwrap();
    assert_eq!(chain.remaining(), 4);
    let chain = verify_all(chain).unwrap();
    assert_eq!(
        (chain.first.get(), chain.last.get(), chain.blocks),
        (1, 4, 4)
    );
    // Block 1 of another channel does not link to this genesis block.
    let error = open_at(&block_file("raft", 0), dir.path())
        .and_then(verify_all)
        .unwrap_err();
    assert!(
        error.to_string().contains("breaks the rule previous-hash"),
        "{error}"
    );
}

#[test]
fn a_folder_that_cannot_be_judged_is_refused_with_what_to_do() {
    let genesis = block_file("raft", 0);
    let refused = |genesis: &PathBuf, dir: &tempfile::TempDir| {
        open_at(genesis, dir.path())
            .and_then(verify_all)
            .unwrap_err()
            .to_string()
    };
    let late = copy("raft", 2..5);
    let swapped = copy("raft", [0, 1]);
    fs::copy(block_file("raft", 3), swapped.path().join("block_2.pb")).unwrap();
    let other = copy("bft", [0]);
    let headless = copy("raft", [0]);
    let block = Block::parse(Bytes::from(fs::read(block_file("raft", 1)).unwrap())).unwrap();
    let file = headless.path().join("block_1.pb");
    fs::write(&file, block.without_data().raw()).unwrap();
    let unreadable = copy("raft", [0]);
    fs::create_dir(unreadable.path().join("block_1.pb")).unwrap();
    let rows = [
        (&copy("raft", []), "there is no block in "),
        (&late, "must begin with block 0, or with block 1"),
        (
            &copy("raft", [0, 1, 3]),
            "block 2 is missing: there is no file block_2.pb",
        ),
        (&swapped, "block 2 ("),
        (
            &swapped,
            "breaks the rule number: the block has the number 3, expected was 2",
        ),
        (&other, "block 0 ("),
        (&other, "breaks the rule genesis"),
        (&headless, "breaks the rule well-formed"),
        (&unreadable, "block 1: "),
        (&unreadable, "is not a file"),
    ];
    for (dir, text) in rows {
        let error = refused(&genesis, dir);
        assert!(error.contains(text), "{error}");
    }
    let good = copy("raft", [0, 1]);
    let rows = [
        (
            block_file("raft", 1),
            "cannot be trusted to judge blocks by: block 1 is no genesis block",
        ),
        (block_file("raft", 7), "block 7 is no genesis block"),
        (fixtures("raft").join("blocks.txt"), "holds no block"),
        (fixtures("raft").join("none"), "cannot be read"),
    ];
    for (genesis, text) in rows {
        let error = refused(&genesis, &good);
        assert!(
            error.starts_with("the genesis block") && error.contains(text),
            "{error}"
        );
    }
    let missing = open_at(&genesis, &good.path().join("none")).unwrap_err();
    assert!(missing.to_string().contains("cannot be read"), "{missing}");
}

#[test]
fn the_json_has_the_fields_that_the_help_names() {
    let chain = verify_all(open("raft-other-node")).unwrap();
    let json: serde_json::Value =
        serde_json::from_str(&Outcome::of_chain(&chain).json().unwrap()).unwrap();
    assert_eq!(
        json,
        serde_json::json!({
            "ok": true, "channel": "ch-raft", "first": 0, "last": 18, "blocks": 19, "config_blocks": 2,
            "bytes": chain.bytes, "tip_hash": chain.tip_hash.to_string(),
        })
    );
    let broken = VerifyFolderError::from(Broken {
        number: 12.into(),
        file: "d/block_12.pb".into(),
        rule: "data-hash",
        reason: "r".to_owned(),
    });
    assert_eq!(
        Outcome::of_error(&broken).json().unwrap(),
        r#"{"ok":false,"block":12,"file":"d/block_12.pb","rule":"data-hash","reason":"r"}"#
    );
    let other = VerifyFolderError::NoBlocks { dir: "d".into() };
    let json: serde_json::Value =
        serde_json::from_str(&Outcome::of_error(&other).json().unwrap()).unwrap();
    assert!(json["block"].is_null() && json["reason"].as_str().unwrap().contains("no block in d"));
}
