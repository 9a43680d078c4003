// SPDX-License-Identifier: Apache-2.0
//! `blockcast store`, on what a node left behind.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use crate::{
    node::{ends_well, kept, node, orderer, stores},
    process::{Ended, Run, fixtures, run},
};

/// The folder of a node that has stored the blocks of an orderer, which runs on.
pub(crate) async fn left_behind(
    options: &[&str],
    segment: &str,
    last: u64,
) -> (TempDir, Run, PathBuf) {
    let dir = TempDir::new().unwrap();
    let orderer = orderer(dir.path(), options).await;
    let config = dir.path().join("node.toml");
    let text = fs::read_to_string(&config).unwrap();
    assert!(!text.contains("[store]"));
    // A batch is never split, so that big ones would leave few segments.
    let text = format!("{text}pull = \"always\"\n");
    let small = "[delivery]\nbuffer = \"128KiB\"\ntopic_buffer = \"64KiB\"\n";
    let text = match text.contains("[delivery]\n") {
        true => text.replace("[delivery]\n", small),
        false => format!("{text}\n{small}"),
    };
    let store = format!("[store]\nsegment = \"{segment}\"\n");
    fs::write(&config, format!("{text}\n{store}")).unwrap();
    let mut node = node(&config);
    stores(&mut node, last).await;
    ends_well(node).await;
    (dir, orderer, config)
}

async fn store<S: AsRef<OsStr>>(arguments: &[S]) -> Ended {
    let arguments = arguments.iter().map(AsRef::as_ref);
    run([OsStr::new("store")].into_iter().chain(arguments)).await
}

pub(crate) async fn check(dir: &Path) -> Ended {
    store(&["check".as_ref(), dir.as_os_str()]).await
}

pub(crate) async fn repair(config: &Path, channel: &str, more: &[&OsStr]) -> Ended {
    let mut arguments: Vec<&OsStr> = vec!["repair".as_ref(), "--config".as_ref()];
    arguments.extend([config.as_os_str(), "--channel".as_ref(), channel.as_ref()]);
    arguments.extend(more);
    store(&arguments).await
}

pub(crate) fn segments(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let mut segments: Vec<_> = entries
        .filter(|path| path.extension() == Some("seg".as_ref()))
        .collect();
    segments.sort();
    segments
}

pub(crate) fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[tokio::test]
async fn damaged_segments_are_fetched_again_from_the_ordering_service() {
    let options = ["--blocks", "150", "--block-bytes", "20KiB", "--rate", "200"];
    let options = [&options[..], &["--tls", "mutual", "--key", "ed25519"]].concat();
    let (dir, orderer, config) = left_behind(&options, "1MiB", 150).await;
    let blocks = dir.path().join("node/channels/mychannel");
    let all = segments(&blocks);
    assert!(all.len() >= 3, "{all:?}");

    let checked = check(&blocks).await;
    assert_eq!(checked.code, Some(0), "{}", checked.stderr);
    let expected = format!(
        "ok: channel mychannel, blocks 0..150 in {} segments, 151 blocks",
        all.len()
    );
    assert_eq!(checked.stdout, expected);
    let sound = repair(&config, "mychannel", &[]).await;
    assert_eq!(sound.code, Some(0), "{}", sound.stderr);
    assert_eq!(sound.stdout, "ok: channel mychannel, nothing is damaged");

    fs::remove_file(&all[0]).unwrap();
    flip(&all[1], 700_000);
    let by_config = ["check".as_ref(), "--config".as_ref(), config.as_os_str()];
    let by_config = [
        &by_config[..],
        &["--channel".as_ref(), "mychannel".as_ref()],
    ]
    .concat();
    for checked in [check(&blocks).await, store(&by_config).await] {
        assert_eq!(checked.code, Some(1));
        let lines: Vec<_> = checked.stdout.lines().collect();
        assert_eq!(lines.len(), 2, "{lines:?}");
        let missing = format!(
            "damaged: the segment {} with the blocks 0..",
            all[0].display()
        );
        assert!(
            lines[0].starts_with(&missing) && lines[0].ends_with("it is missing"),
            "{lines:?}"
        );
        assert!(
            lines[1].ends_with("the checksum of the block does not match"),
            "{lines:?}"
        );
        let told = format!("channel mychannel: 2 of {} segments are damaged", all.len());
        assert!(checked.stderr.contains(&told), "{}", checked.stderr);
        assert!(
            checked.stderr.contains("blockcast store repair"),
            "{}",
            checked.stderr
        );
    }

    let repaired = repair(&config, "mychannel", &[]).await;
    assert_eq!(repaired.code, Some(0), "{}", repaired.stderr);
    let lines: Vec<_> = repaired.stdout.lines().collect();
    for (line, segment) in lines.iter().zip(&all[..2]) {
        let begin = format!("repaired: {}, blocks ", segment.display());
        assert!(
            line.starts_with(&begin) && line.contains(" from 127.0.0.1:"),
            "{line}"
        );
    }
    assert_eq!(lines[2..], ["ok: channel mychannel, 2 segments repaired"]);
    assert_eq!(check(&blocks).await.stdout, expected);

    // Nobody has what is missing: the store stays as it is, and the user is told.
    ends_well(orderer).await;
    fs::remove_file(&all[1]).unwrap();
    let failed = repair(&config, "mychannel", &[]).await;
    assert_eq!((failed.code, failed.stdout.as_str()), (Some(1), ""));
    let told = "no peer and no orderer gave the blocks from ";
    assert!(failed.stderr.contains(told), "{}", failed.stderr);
    assert!(failed.stderr.contains("--from-dir"), "{}", failed.stderr);
    assert!(!all[1].exists());
    let refused = repair(&config, "other", &[]).await;
    assert_eq!(refused.code, Some(78), "{}", refused.stderr);
}

/// The recorded chain changes its consenters: each block is judged by the configuration at its place.
#[tokio::test]
async fn a_folder_of_blocks_repairs_a_chain_whose_configuration_changes() {
    let chain = fixtures("bft");
    let replay = ["--replay", chain.to_str().unwrap(), "--rate", "200"];
    let (dir, orderer, config) = left_behind(&replay, "64MiB", 69).await;
    let blocks = dir.path().join("node/channels/ch-bft");
    let [segment] = &segments(&blocks)[..] else {
        panic!()
    };
    let length = usize::try_from(fs::metadata(segment).unwrap().len()).unwrap();

    // From the ordering service, which names endpoints of its own in each configuration.
    flip(segment, length / 2);
    let repaired = repair(&config, "ch-bft", &[]).await;
    assert_eq!(repaired.code, Some(0), "{}", repaired.stderr);
    ends_well(orderer).await;
    assert_eq!(check(&blocks).await.code, Some(0));

    let from = ["--from-dir".as_ref(), chain.as_os_str()];
    flip(segment, length / 3);
    // A block that was tampered with repairs nothing.
    let forged = TempDir::new().unwrap();
    for entry in fs::read_dir(&chain).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            fs::copy(&path, forged.path().join(path.file_name().unwrap())).unwrap();
        }
    }
    let thirty = forged.path().join("block_30.pb");
    let middle = fs::read(&thirty).unwrap().len() / 2;
    flip(&thirty, middle);
    let refused = repair(
        &config,
        "ch-bft",
        &["--from-dir".as_ref(), forged.path().as_os_str()],
    )
    .await;
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("30"), "{}", refused.stderr);
    fs::remove_file(&thirty).unwrap();
    let refused = repair(
        &config,
        "ch-bft",
        &["--from-dir".as_ref(), forged.path().as_os_str()],
    )
    .await;
    assert_eq!(refused.code, Some(1));
    let told = "block 30 did not come: ";
    assert!(refused.stderr.contains(told), "{}", refused.stderr);

    let repaired = repair(&config, "ch-bft", &from).await;
    assert_eq!(repaired.code, Some(0), "{}", repaired.stderr);
    let line = repaired.stdout.lines().next().unwrap();
    assert!(line.ends_with("blocks 0..69"), "{line}");
    assert_eq!(check(&blocks).await.code, Some(0));
    assert_eq!(kept(dir.path(), "ch-bft").await, 70);
}

#[tokio::test]
async fn what_is_no_store_is_not_checked() {
    let dir = TempDir::new().unwrap();
    let checked = check(dir.path()).await;
    assert_eq!(checked.code, Some(1));
    assert!(
        checked.stderr.contains("there is no block store in"),
        "{}",
        checked.stderr
    );
    assert_eq!(store(&["check"]).await.code, Some(2));
    assert_eq!(
        store(&["check", "--config", "node.toml"]).await.code,
        Some(2)
    );
}
