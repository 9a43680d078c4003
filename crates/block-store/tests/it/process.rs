// SPDX-License-Identifier: Apache-2.0
//! The store among processes. The other process is this test binary once more, with a variable in
//! its environment that tells the test `child` what to be.

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Stdio},
};

use block_api::{
    AppendError, BlockNumber, BlockReader, BlockStore, Height, ReadLimits, testing::TestChain,
};
use blockcast_block_store::{Config, OpenError, StorageError, StoreSnapshot};

use crate::common::{channel, open, open_error, raw, read_all, skipped, small, verified};

/// What the other process is to be: a role, a colon, and a directory.
const ROLE: &str = "BLOCKCAST_STORE_TEST_ROLE";

/// Does nothing unless this is the other process.
#[test]
fn child() {
    let Ok(role) = std::env::var(ROLE) else {
        return;
    };
    let (role, dir) = role.split_once(':').unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        match role {
            "hold" => hold(Path::new(dir)),
            "append" => append_for_ever(Path::new(dir)).await,
            "fill" => fill_a_disk(Path::new(dir)).await,
            other => panic!("no such role: {other}"),
        }
    });
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "\nsays {line}").unwrap();
    out.flush().unwrap();
}

/// The command that makes another process of this kind, to be run by a wrapper if one is given.
fn other_process(wrapper: &[&str], role: &str, dir: &Path) -> Command {
    let binary = std::env::current_exe().unwrap();
    let mut command = match wrapper.split_first() {
        Some((program, arguments)) => {
            let mut command = Command::new(program);
            command.args(arguments).arg(binary);
            command
        }
        None => Command::new(binary),
    };
    command
        .args([
            "--exact",
            "process::child",
            "--nocapture",
            "--test-threads=1",
        ])
        .env(ROLE, format!("{role}:{}", dir.display()))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    command
}

/// What another process says, line by line.
fn sayings(child: &mut Child) -> impl Iterator<Item = String> + use<> {
    let out = BufReader::new(child.stdout.take().unwrap());
    out.lines()
        .map_while(Result::ok)
        .filter_map(|line| line.strip_prefix("says ").map(str::to_owned))
}

/// Keeps a store open until its input ends.
fn hold(dir: &Path) {
    let (_store, _) = open(dir, Config::new(channel()));
    say("open");
    let _ = std::io::stdin().read_line(&mut String::new());
}

/// The sizes of the batches that are appended in one life of the appending process.
fn batch(round: u64) -> (usize, usize) {
    match round % 5 {
        0 => (1, 100),
        1 => (7, 3000),
        2 => (1, 200_000),
        3 => (40, 1000),
        _ => (3, 60_000),
    }
}

/// The chain that the appending process makes: its blocks are known from their numbers.
fn grow(chain: &mut TestChain, number: u64) -> block_api::Block {
    let (_, bytes) = batch(number);
    if number.is_multiple_of(50) {
        chain.config()
    } else {
        chain.data(bytes)
    }
}

async fn append_for_ever(dir: &Path) {
    let (store, report) = open(dir, small(1 << 20));
    assert!(report.damaged.is_empty(), "{report:?}");
    let mut chain = TestChain::new("ch");
    let mut number = 0;
    while number < store.info().height.get() {
        grow(&mut chain, number);
        number += 1;
    }
    for round in 0.. {
        let (count, _) = batch(round);
        let blocks: Vec<_> = (number..)
            .take(count)
            .map(|number| grow(&mut chain, number))
            .collect();
        number += count as u64;
        let info = store.append(verified(&blocks)).await.unwrap();
        say(&info.height.to_string());
    }
}

/// Grows a chain on a small disk until it is full, makes room, and goes on.
async fn fill_a_disk(dir: &Path) {
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=400k", "tmpfs"])
        .arg(dir)
        .status();
    if !mounted.is_ok_and(|status| status.success()) {
        return;
    }
    say("mounted");
    let ballast = dir.join("ballast");
    std::fs::write(&ballast, vec![1; 150_000]).unwrap();
    let path = dir.join("store");
    let (store, _) = open(&path, small(50_000));
    let mut chain = TestChain::new("ch");
    let mut blocks = vec![chain.config()];
    store.append(verified(&blocks)).await.unwrap();
    let refused = loop {
        let batch: Vec<_> = (0..3).map(|_| chain.data(7000)).collect();
        let result = store.append(verified(&batch)).await;
        blocks.extend(batch.clone());
        let Err(error) = result else { continue };
        assert!(error.is_retryable());
        let AppendError::Storage { number, source } = error else {
            panic!("not an error of the storage: {error}")
        };
        let source = source.downcast::<StorageError>().unwrap();
        let StorageError::Io { source: cause, .. } = &*source else {
            panic!("not an error of the disk: {source}")
        };
        assert_eq!(cause.kind(), std::io::ErrorKind::StorageFull);
        assert!(
            source.to_string().ends_with("; make room on the disk"),
            "{source}"
        );
        assert_eq!(number, batch[0].number());
        break batch;
    };
    let height = store.info().height;
    assert_eq!(height, Height::new(blocks.len() as u64 - 3));
    assert!(height > Height::new(10), "the disk was full at once");
    assert_eq!(read_all(&store).await, raw(&blocks[..blocks.len() - 3]));
    assert!(store.append(verified(&refused)).await.is_err());
    std::fs::remove_file(&ballast).unwrap();
    store.append(verified(&refused)).await.unwrap();
    store.close().await;
    let (store, report) = open(&path, small(50_000));
    assert!(
        report.torn_tail.is_none() && report.damaged.is_empty(),
        "{report:?}"
    );
    assert_eq!(read_all(&store).await, raw(&blocks));
    say("done");
}

#[test]
fn a_second_process_is_told_who_has_the_store() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = other_process(&[], "hold", dir.path()).spawn().unwrap();
    let mut says = sayings(&mut child);
    assert_eq!(says.next().as_deref(), Some("open"));
    let error = open_error(dir.path(), Config::new(channel()));
    let message = error.to_string();
    let OpenError::Locked { dir: locked, pid } = error else {
        panic!("{message}")
    };
    assert_eq!((locked.as_path(), pid), (dir.path(), Some(child.id())));
    assert_eq!(
        message,
        format!(
            "the block store {} is in use by process {}: stop that process, or give this one a directory of its own",
            dir.path().display(),
            child.id()
        )
    );
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success());
    open(dir.path(), Config::new(channel()));
}

#[test]
fn a_killed_process_leaves_no_lock() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = other_process(&[], "hold", dir.path()).spawn().unwrap();
    let mut says = sayings(&mut child);
    assert_eq!(says.next().as_deref(), Some("open"));
    child.kill().unwrap();
    child.wait().unwrap();
    open(dir.path(), Config::new(channel()));
}

#[tokio::test]
async fn acknowledged_blocks_survive_kill_nine() {
    let dir = tempfile::tempdir().unwrap();
    let mut before = 0;
    for acknowledgements in [1, 2, 3, 5, 8, 4, 13, 6, 9, 21, 7, 10] {
        let mut child = other_process(&[], "append", dir.path()).spawn().unwrap();
        let mut says = sayings(&mut child);
        let mut acknowledged = before;
        for _ in 0..acknowledgements {
            acknowledged = says
                .next()
                .expect("the process appends for ever")
                .parse()
                .unwrap();
        }
        // The next batch is being written.
        child.kill().unwrap();
        // What was said before the end was acknowledged as well.
        for height in says {
            acknowledged = height.parse().unwrap_or(acknowledged);
        }
        child.wait().unwrap();
        assert!(acknowledged > before);

        let (store, report) = open(dir.path(), small(1 << 20));
        let info = store.info();
        assert!(
            info.height >= Height::new(acknowledged),
            "{info:?} after {acknowledged} acknowledged blocks"
        );
        assert!(report.damaged.is_empty(), "{report:?}");
        assert!(report.torn_tail.is_none_or(|torn| {
            torn.certainly_unacknowledged && torn.from_block >= BlockNumber::new(acknowledged)
        }));
        let mut chain = TestChain::new("ch");
        let expected: Vec<_> = (0..info.height.get())
            .map(|number| grow(&mut chain, number))
            .collect();
        assert_eq!(
            info.tip_hash,
            expected.last().map(block_api::Block::header_hash)
        );
        assert_eq!(read_all(&store).await, raw(&expected));
        let newest_config = store.config_at(BlockNumber::new(u64::MAX)).unwrap();
        assert_eq!(newest_config.get(), (info.height.get() - 1) / 50 * 50);
        assert_eq!(
            store
                .read(newest_config, ReadLimits::one())
                .await
                .unwrap()
                .len(),
            1
        );
        before = info.height.get();
        store.close().await;
    }
}

/// Checks that the newest blocks of a snapshot are whole and lead to its tip, and how many there are.
async fn check_newest(snapshot: &StoreSnapshot) -> usize {
    let info = snapshot.info();
    let from = BlockNumber::new(info.height.get().saturating_sub(30));
    let read = snapshot.read(from, ReadLimits::new(100, 1 << 30)).await;
    let read = read.unwrap();
    assert_eq!(read.len() as u64, info.height.get() - from.get());
    let mut tip = None;
    for (number, raw) in (from.get()..).zip(&read) {
        let block = block_api::Block::parse(raw.clone()).unwrap();
        assert_eq!(block.number(), BlockNumber::new(number));
        assert_eq!(block.data_hash().as_ref(), block.header().data_hash);
        assert!(tip.is_none_or(|tip| block.links_to(&tip)));
        tip = Some(block.header_hash());
    }
    assert_eq!(tip, info.tip_hash);
    let newest_config = snapshot.config_at(BlockNumber::new(u64::MAX)).unwrap();
    assert_eq!(newest_config.get(), (info.height.get() - 1) / 50 * 50);
    read.len()
}

#[tokio::test]
async fn a_store_that_another_process_writes_is_read_as_far_as_it_was_acknowledged() {
    let dir = tempfile::tempdir().unwrap();
    let mut child = other_process(&[], "append", dir.path()).spawn().unwrap();
    let mut says = sayings(&mut child);
    // It begins new segments meanwhile: they have a mebibyte.
    let mut before = Height::ZERO;
    for _ in 0..40 {
        let said = says.next().expect("the process appends for ever");
        let acknowledged = Height::new(said.parse().unwrap());
        let snapshot = StoreSnapshot::open(dir.path()).unwrap();
        let height = snapshot.info().height;
        assert!(
            height >= acknowledged.max(before),
            "{height} after {before}, {acknowledged}"
        );
        assert!(check_newest(&snapshot).await > 0);
        before = height;
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let snapshot = StoreSnapshot::open(dir.path()).unwrap();
    check_newest(&snapshot).await;
    let (store, _) = open(dir.path(), small(1 << 20));
    assert!(snapshot.info().height <= store.info().height);
}

/// A full disk needs a small one: a file system in memory, mounted where nobody else sees it.
#[test]
fn a_full_disk_is_survived() {
    let namespaces: [&[&str]; 2] = [
        &["unshare", "--mount"],
        &["unshare", "--map-root-user", "--mount"],
    ];
    for wrapper in namespaces {
        let dir = tempfile::tempdir().unwrap();
        let Ok(mut child) = other_process(wrapper, "fill", dir.path()).spawn() else {
            continue;
        };
        let said: Vec<_> = sayings(&mut child).collect();
        let status = child.wait().unwrap();
        if said.first().is_some_and(|first| first == "mounted") {
            assert!(status.success(), "the other process failed: {said:?}");
            assert_eq!(said, ["mounted", "done"]);
            return;
        }
    }
    skipped("a small file system in memory cannot be mounted here");
}
