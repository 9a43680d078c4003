// SPDX-License-Identifier: Apache-2.0
//! Configurations looked up in recorded chains, in made ones, and where there is none.

use std::{
    fs,
    num::NonZeroUsize,
    path::{Path, PathBuf},
};

use block_api::{
    Block, BlockStore as _,
    testing::{TestChain, TestVerifier},
};
use block_store::{Config as StoreConfig, SegmentStore, Start};
use prost::Message as _;
use protos::common::{
    Capabilities, Capability, Config, ConfigEnvelope, Envelope, OrdererAddresses, Payload,
};
use tempfile::TempDir;

use super::{chain::Held, *};
use crate::commands::block_files;

const CONFIGS: [(&str, u64, [u64; 5]); 2] = [
    ("raft", 65, [0, 7, 21, 37, 46]),
    ("bft", 69, [0, 1, 21, 37, 46]),
];

fn fixtures(path: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures")).join(path)
}

fn block(folder: &str, number: u64) -> Block {
    let name = block_files::file_name(BlockNumber::new(number));
    block_files::read(&fixtures(folder).join(name)).unwrap()
}

/// The same header and data, in a form that the verifier of the tests takes.
fn marked(block: &Block, judged_by: u64) -> Block {
    let header = block.header();
    let entries: Vec<&[u8]> = block.data().collect();
    let mark = TestVerifier::mark(block, BlockNumber::GENESIS, BlockNumber::new(judged_by));
    Block::assemble(header.number, header.previous_hash, &entries, &[mark])
}

/// A store with blocks of a recorded chain, in several segments. It stays open.
async fn store(folder: &str, from: u64, last: u64) -> (TempDir, SegmentStore) {
    let dir = tempfile::tempdir().unwrap();
    let config = StoreConfig {
        segment_bytes: NonZeroUsize::new(300_000).unwrap(),
        start: match from.checked_sub(1) {
            None => Start::Genesis,
            Some(before) => Start::After {
                number: BlockNumber::new(before),
                hash: block(folder, before).header_hash(),
            },
        },
        ..StoreConfig::new(format!("ch-{folder}").parse().unwrap())
    };
    let (store, _) = SegmentStore::open(dir.path(), config).unwrap();
    let (_, _, configs) = CONFIGS
        .into_iter()
        .find(|(name, ..)| *name == folder)
        .unwrap();
    let judge = |number| configs.into_iter().rfind(|config| *config < number);
    let blocks: Vec<_> = (from..=last)
        .map(|number| {
            let marked = marked(&block(folder, number), judge(number).unwrap_or_default());
            TestChain::verified(&marked)
        })
        .collect();
    store.append(blocks).await.unwrap();
    (dir, store)
}

/// A folder with these blocks in files of these numbers.
fn folder<'a>(blocks: impl IntoIterator<Item = (u64, &'a Block)>) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (number, block) in blocks {
        let name = block_files::file_name(BlockNumber::new(number));
        fs::write(dir.path().join(name), block.raw()).unwrap();
    }
    dir
}

/// A recorded config block with another configuration in it.
fn changed(block: &Block, change: impl FnOnce(&mut Config)) -> Block {
    let mut envelope = Envelope::decode(block.data().next().unwrap()).unwrap();
    let mut payload = Payload::decode(envelope.payload).unwrap();
    let mut content = ConfigEnvelope::decode(payload.data).unwrap();
    change(content.config.as_mut().unwrap());
    payload.data = content.encode_to_vec().into();
    envelope.payload = payload.encode_to_vec().into();
    let header = block.header();
    let no_slots: [&[u8]; 0] = [];
    Block::assemble(
        header.number,
        header.previous_hash,
        &[envelope.encode_to_vec()],
        &no_slots,
    )
}

async fn error(dir: &Path, at: u64) -> String {
    let chain = Chain::in_dir(dir).unwrap();
    let at = Some(BlockNumber::new(at));
    config(&chain, at).await.unwrap_err().to_string()
}

fn open_error(dir: &Path) -> String {
    Chain::in_dir(dir).unwrap_err().to_string()
}

#[tokio::test]
async fn every_block_has_the_configuration_of_the_newest_config_block_up_to_it() {
    for (name, tip, configs) in CONFIGS {
        let (dir, _open) = store(name, 0, tip).await;
        let stored = Chain::in_dir(dir.path()).unwrap();
        let filed = Chain::in_dir(&fixtures(name)).unwrap();
        assert_eq!((stored.source(), filed.source()), ("store", "folder"));
        for chain in [&stored, &filed] {
            assert_eq!(chain.tip(), BlockNumber::new(tip));
            for at in (0..=tip).filter(|at| chain.source() == "store" || at % 7 < 2) {
                let expected = *configs.iter().rfind(|number| **number <= at).unwrap();
                let next = configs.iter().find(|number| **number > at).copied();
                let at = BlockNumber::new(at);
                let found = chain.config_at(at).await.unwrap();
                assert_eq!(found.number, BlockNumber::new(expected), "{name} {at}");
                assert_eq!(found.config.channel().as_str(), format!("ch-{name}"));
                let sequence = configs.iter().position(|number| *number == expected);
                assert_eq!(found.config.sequence(), sequence.unwrap() as u64);
                let held = Held {
                    to: BlockNumber::new(next.map_or(tip, |next| next - 1)),
                    replaced_by: next.map(BlockNumber::new),
                };
                assert_eq!(chain.held(&found, at).unwrap(), held, "{name} {at}");
            }
        }
    }
}

#[tokio::test]
async fn what_is_not_there_is_named_with_what_is() {
    let (dir, _open) = store("raft", 9, 30).await;
    let rows = [
        (31, "block 31 is not here yet: the newest block is 30"),
        (8, "block 8 is not kept here: the oldest block is 9"),
        (
            20,
            "the configuration in force after block 20 is not here: there is no config block from the oldest block, 9, \
             up to it",
        ),
    ];
    for (at, message) in rows {
        assert_eq!(error(dir.path(), at).await, message);
    }
    let chain = Chain::in_dir(dir.path()).unwrap();
    let newest = config(&chain, None).await.unwrap();
    let newest = serde_json::to_value(newest).unwrap();
    assert_eq!(
        (&newest["block"], &newest["config_block"]),
        (&30.into(), &21.into())
    );
    let other = Chain::of_store(dir.path(), &"other".parse().unwrap());
    assert!(
        other
            .unwrap_err()
            .to_string()
            .ends_with("is that of channel ch-raft, not of other")
    );

    let empty = tempfile::tempdir().unwrap();
    assert!(open_error(empty.path()).starts_with("there is no block in "));
    let config = StoreConfig::new("ch".parse().unwrap());
    let (_store, _) = SegmentStore::open(empty.path(), config).unwrap();
    assert!(open_error(empty.path()).ends_with(" has no block yet"));
}

#[tokio::test]
async fn a_folder_with_a_gap_says_what_is_known() {
    let blocks: Vec<_> = (0..30).map(|number| block("raft", number)).collect();
    let without = |missing: &[u64]| {
        folder(
            (0..)
                .zip(&blocks)
                .filter(|(number, _)| !missing.contains(number)),
        )
    };
    let dir = without(&[10, 25]);
    let chain = Chain::in_dir(dir.path()).unwrap();
    let at = async |at| config(&chain, Some(BlockNumber::new(at))).await;
    let text = at(8).await.unwrap().text();
    assert!(
        text.contains(
            "\n  in force      after blocks 7..9; block 10 is missing, the newest is 29\n"
        ),
        "{text}"
    );
    for (asked, missing) in [(10, 10), (20, 10), (25, 25), (29, 25)] {
        let message = at(asked).await.unwrap_err().to_string();
        assert!(
            message.starts_with(&format!("block {missing} is missing in "))
                && message.ends_with(&format!("is in force after block {asked}")),
            "{message}"
        );
    }
    assert!(at(21).await.is_ok() && at(24).await.is_ok());

    let dir = without(&[0, 1, 2, 3, 4, 5, 6, 7]);
    assert!(
        error(dir.path(), 15)
            .await
            .starts_with("the configuration in force after block 15")
    );
    let mixed = folder([(0, &blocks[0]), (1, &blocks[7])]);
    assert!(
        error(mixed.path(), 1)
            .await
            .ends_with("block_1.pb has block 7 in it")
    );
    let name = block_files::file_name(BlockNumber::new(1));
    fs::write(mixed.path().join(name), "no block").unwrap();
    assert!(error(mixed.path(), 1).await.starts_with("block 1: "));
    // How long it holds cannot be said either.
    assert!(error(mixed.path(), 0).await.starts_with("block 1: "));
}

#[tokio::test]
async fn a_capability_that_is_not_known_is_named() {
    let unknown = changed(&block("raft", 7), |config| {
        let root = config.channel_group.as_mut().unwrap();
        let capabilities = Capabilities {
            capabilities: [("V9_\x1b[2J".to_owned(), Capability {})].into(),
        };
        root.values.get_mut("Capabilities").unwrap().value = capabilities.encode_to_vec().into();
    });
    let dir = folder([(7, &unknown)]);
    assert_eq!(
        error(dir.path(), 7).await,
        "the configuration in block 7 cannot be used: the capability V9_\\u{1b}[2J of /Channel is not known: this \
         needs a newer release of blockcast"
    );
}

#[tokio::test]
async fn blocks_of_two_channels_are_not_compared() {
    let dir = folder([(0, &block("raft", 0)), (1, &block("bft", 1))]);
    let chain = Chain::in_dir(dir.path()).unwrap();
    let error = diff(&chain, BlockNumber::new(0), BlockNumber::new(1)).await;
    assert_eq!(
        error.unwrap_err().to_string(),
        "block 0 is of channel ch-raft, block 1 is of channel ch-bft"
    );
}

#[tokio::test]
async fn hostile_text_is_escaped() {
    let hostile = "\x1b]0;owned\x07\u{202e}\n".repeat(400);
    let bad = changed(&block("raft", 7), |config| {
        let root = config.channel_group.as_mut().unwrap();
        root.mod_policy = hostile.clone();
        let orderer = root.groups.get_mut("Orderer").unwrap();
        let organisation = orderer.groups.get_mut("OrdererOrg").unwrap();
        let addresses = OrdererAddresses {
            addresses: vec![hostile.clone(); 3],
        };
        organisation.values.get_mut("Endpoints").unwrap().value = addresses.encode_to_vec().into();
        let policy = root.policies["Admins"].clone();
        root.policies.insert(hostile.clone(), policy);
    });
    let dir = folder([(6, &block("raft", 0)), (7, &bad)]);
    let name = |number| {
        dir.path()
            .join(block_files::file_name(BlockNumber::new(number)))
    };
    fs::rename(name(6), name(0)).unwrap();
    let between: Vec<_> = (1..7)
        .map(|number| (number, block("raft", number)))
        .collect();
    for (number, block) in &between {
        fs::write(name(*number), block.raw()).unwrap();
    }
    let chain = Chain::in_dir(dir.path()).unwrap();
    let shown = config(&chain, None).await.unwrap();
    let differs = diff(&chain, BlockNumber::new(0), BlockNumber::new(7)).await;
    let differs = differs.unwrap();
    assert!(differs.text().contains("owned"), "{}", differs.text());
    for text in [
        shown.text(),
        serde_json::to_string(&shown).unwrap(),
        differs.text(),
        serde_json::to_string(&differs).unwrap(),
    ] {
        let bad = text
            .chars()
            .find(|c| (c.is_control() && *c != '\n') || *c == '\u{202e}');
        assert_eq!(bad, None);
        assert!(text.contains("bytes more"), "{text}");
        assert!(text.len() < 60_000, "{}", text.len());
    }
}
