// SPDX-License-Identifier: Apache-2.0
//! Every point at which a machine can stop. What a store does to its disk is recorded; for each
//! operation, the disk is made as it may be when the machine stops there, and the store is opened.

use std::{
    collections::BTreeMap,
    fs,
    num::{NonZeroU64, NonZeroUsize},
    path::PathBuf,
};

use block_api::Block;

use super::*;
use crate::{
    Retention,
    file::{Files, ReadFile, SystemFiles, WriteFile},
};

/// The least that the retention of these tests keeps.
const KEPT: u64 = 5;

/// What was done to a disk, in order.
#[derive(Debug, Default)]
pub(super) struct Log {
    ops: Vec<Op>,
    /// The files by their names as they are at the end of the log.
    names: BTreeMap<PathBuf, usize>,
    /// How long each file is at the end of the log.
    lengths: Vec<u64>,
    /// The files that were there, and durable, before the first operation.
    initial: Vec<(PathBuf, Vec<u8>)>,
}

#[derive(Debug, Clone)]
enum Op {
    Create {
        path: PathBuf,
        file: usize,
    },
    Write {
        file: usize,
        offset: u64,
        bytes: Vec<u8>,
    },
    SetLen {
        file: usize,
        length: u64,
    },
    Sync {
        file: usize,
    },
    Rename {
        from: PathBuf,
        to: PathBuf,
        file: usize,
    },
    Remove {
        path: PathBuf,
    },
    SyncDir,
    /// So far blocks were handed over.
    Submit(u64),
    /// So far blocks were acknowledged.
    Acknowledge(u64),
}

/// What becomes of an operation that was not synced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Done,
    Lost,
    /// Of a write, so many bytes.
    Torn(usize),
    /// Of a write, room with nothing in it.
    Zeroed,
}

/// A disk that writes down what is done to it.
#[derive(Debug, Clone, Default)]
pub(super) struct Recorder {
    log: Arc<std::sync::Mutex<Log>>,
}

#[derive(Debug)]
struct RecordedFile {
    recorder: Recorder,
    id: usize,
    file: Box<dyn WriteFile>,
}

impl Recorder {
    /// A recorder of a directory whose files are durable.
    pub(super) fn of(dir: &Path) -> Self {
        let recorder = Self::default();
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let content = fs::read(&path).unwrap();
            let mut log = recorder.log();
            let id = log.lengths.len();
            log.lengths.push(content.len() as u64);
            log.names.insert(path.clone(), id);
            log.initial.push((path, content));
        }
        recorder
    }

    fn log(&self) -> std::sync::MutexGuard<'_, Log> {
        self.log.lock().unwrap()
    }

    fn note(&self, op: Op) {
        self.log().ops.push(op);
    }

    pub(super) fn take(self) -> Log {
        std::mem::take(&mut *self.log())
    }

    fn wrap(&self, path: &Path, file: Box<dyn WriteFile>) -> Box<dyn WriteFile> {
        let id = self.log().names[path];
        Box::new(RecordedFile {
            recorder: self.clone(),
            id,
            file,
        })
    }

    pub(super) fn open(&self, dir: &Path, config: Config) -> SegmentStore {
        SegmentStore::open_with(dir, config, Arc::new(self.clone()))
            .unwrap()
            .0
    }
}

impl Files for Recorder {
    fn open(&self, path: &Path) -> std::io::Result<Box<dyn ReadFile>> {
        SystemFiles.open(path)
    }

    fn create(&self, path: &Path) -> std::io::Result<Box<dyn WriteFile>> {
        let created = SystemFiles.create(path)?;
        let mut log = self.log();
        let file = log.lengths.len();
        log.lengths.push(0);
        log.names.insert(path.to_owned(), file);
        log.ops.push(Op::Create {
            path: path.to_owned(),
            file,
        });
        drop(log);
        Ok(self.wrap(path, created))
    }

    fn append(&self, path: &Path) -> std::io::Result<Box<dyn WriteFile>> {
        Ok(self.wrap(path, SystemFiles.append(path)?))
    }

    fn edit(&self, path: &Path) -> std::io::Result<Box<dyn WriteFile>> {
        Ok(self.wrap(path, SystemFiles.edit(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> std::io::Result<()> {
        SystemFiles.rename(from, to)?;
        let mut log = self.log();
        let file = log.names.remove(from).unwrap();
        log.names.insert(to.to_owned(), file);
        log.ops.push(Op::Rename {
            from: from.to_owned(),
            to: to.to_owned(),
            file,
        });
        Ok(())
    }

    fn remove(&self, path: &Path) -> std::io::Result<()> {
        SystemFiles.remove(path)?;
        let path = path.to_owned();
        self.log().names.remove(&path);
        self.note(Op::Remove { path });
        Ok(())
    }

    fn sync_dir(&self, _: &Path) -> std::io::Result<()> {
        self.note(Op::SyncDir);
        Ok(())
    }
}

impl WriteFile for RecordedFile {
    fn write_vectored(&mut self, buffers: &[std::io::IoSlice<'_>]) -> std::io::Result<usize> {
        let written = self.file.write_vectored(buffers)?;
        let all = buffers.iter().flat_map(|buffer| buffer.iter().copied());
        let bytes: Vec<u8> = all.take(written).collect();
        let mut log = self.recorder.log();
        let offset = log.lengths[self.id];
        log.lengths[self.id] += written as u64;
        log.ops.push(Op::Write {
            file: self.id,
            offset,
            bytes,
        });
        Ok(written)
    }

    fn write_all_at(&mut self, bytes: &[u8], offset: u64) -> std::io::Result<()> {
        self.file.write_all_at(bytes, offset)?;
        let mut log = self.recorder.log();
        let end = offset + bytes.len() as u64;
        log.lengths[self.id] = log.lengths[self.id].max(end);
        log.ops.push(Op::Write {
            file: self.id,
            offset,
            bytes: bytes.to_vec(),
        });
        Ok(())
    }

    fn sync_data(&self) -> std::io::Result<()> {
        self.recorder.note(Op::Sync { file: self.id });
        Ok(())
    }

    fn sync_all(&self) -> std::io::Result<()> {
        self.sync_data()
    }

    fn set_len(&mut self, length: u64) -> std::io::Result<()> {
        self.file.set_len(length)?;
        let mut log = self.recorder.log();
        log.lengths[self.id] = length;
        log.ops.push(Op::SetLen {
            file: self.id,
            length,
        });
        Ok(())
    }
}

impl Log {
    pub(super) fn len(&self) -> usize {
        self.ops.len()
    }

    /// So far blocks were handed over, and acknowledged, before this operation.
    fn facts(&self, cut: usize) -> (u64, u64) {
        let mut facts = (0, 0);
        for op in &self.ops[..cut] {
            match op {
                Op::Submit(height) => facts.0 = *height,
                Op::Acknowledge(height) => facts.1 = *height,
                _ => {}
            }
        }
        facts
    }

    /// How many bytes the operation writes.
    pub(super) fn written(&self, op: usize) -> Option<usize> {
        match self.ops.get(op)? {
            Op::Write { bytes, .. } => Some(bytes.len()),
            _ => None,
        }
    }

    /// The files after a crash before the operation `cut`. What was not synced meets its fate.
    pub(super) fn crashed(
        &self,
        cut: usize,
        mut fate: impl FnMut(usize, &str) -> Fate,
    ) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut contents: Vec<Vec<u8>> = vec![Vec::new(); self.lengths.len()];
        let mut names = BTreeMap::new();
        for (file, (path, content)) in self.initial.iter().enumerate() {
            contents[file].clone_from(content);
            names.insert(path.clone(), file);
        }
        let mut pending: Vec<usize> = Vec::new();
        for (at, op) in self.ops[..cut].iter().enumerate() {
            match op {
                Op::Sync { file } => {
                    let synced = *file;
                    pending.retain(|&earlier| {
                        let is_synced = self.ops[earlier].content_of() == Some(synced);
                        if is_synced {
                            self.ops[earlier].apply(Fate::Done, &mut contents, &mut names);
                        }
                        !is_synced
                    });
                }
                Op::SyncDir => pending.retain(|&earlier| {
                    let is_name = self.ops[earlier].content_of().is_none();
                    if is_name {
                        self.ops[earlier].apply(Fate::Done, &mut contents, &mut names);
                    }
                    !is_name
                }),
                Op::Submit(_) | Op::Acknowledge(_) => {}
                _ => pending.push(at),
            }
        }
        for at in pending {
            let op = &self.ops[at];
            let kind = match op.content_of() {
                Some(_) => "data",
                None => "name",
            };
            op.apply(fate(at, kind), &mut contents, &mut names);
        }
        names
            .into_iter()
            .map(|(path, file)| (path, contents[file].clone()))
            .collect()
    }
}

impl Op {
    /// The file whose content it changes; `None` when it changes names.
    fn content_of(&self) -> Option<usize> {
        match self {
            Self::Write { file, .. } | Self::SetLen { file, .. } => Some(*file),
            _ => None,
        }
    }

    fn apply(&self, fate: Fate, contents: &mut [Vec<u8>], names: &mut BTreeMap<PathBuf, usize>) {
        match (self, fate) {
            (_, Fate::Lost) => {}
            (
                Self::Write {
                    file,
                    offset,
                    bytes,
                },
                fate,
            ) => {
                let offset = *offset as usize;
                let zeros = vec![0; bytes.len()];
                let bytes = match fate {
                    Fate::Torn(length) => &bytes[..length.min(bytes.len())],
                    Fate::Zeroed => &zeros,
                    _ => bytes,
                };
                let content = &mut contents[*file];
                if content.len() < offset + bytes.len() {
                    content.resize(offset + bytes.len(), 0);
                }
                content[offset..offset + bytes.len()].copy_from_slice(bytes);
            }
            (Self::SetLen { file, length }, _) => contents[*file].resize(*length as usize, 0),
            (Self::Create { path, file }, _) => {
                names.insert(path.clone(), *file);
            }
            (Self::Rename { from, to, file }, _) => {
                names.remove(from);
                names.insert(to.clone(), *file);
            }
            (Self::Remove { path }, _) => {
                names.remove(path);
            }
            _ => {}
        }
    }
}

pub(super) fn memory_dir() -> TempDir {
    tempfile::tempdir_in("/dev/shm")
        .or_else(|_| tempfile::tempdir())
        .unwrap()
}

/// A directory with these files.
pub(super) fn made(files: &BTreeMap<PathBuf, Vec<u8>>) -> TempDir {
    let dir = memory_dir();
    for (path, content) in files {
        fs::write(dir.path().join(path.file_name().unwrap()), content).unwrap();
    }
    dir
}

fn config() -> Config {
    let bytes = |bytes| NonZeroUsize::new(bytes).unwrap();
    Config {
        segment_bytes: bytes(1500),
        index_interval_bytes: bytes(40),
        retention: Retention::Blocks(NonZeroU64::new(KEPT).unwrap()),
        ..Config::new("ch".parse().unwrap())
    }
}

fn chain() -> Vec<Block> {
    let mut chain = TestChain::new("ch");
    (0..24)
        .map(|number| match number {
            0 | 4 | 11 => chain.config(),
            _ => chain.data(30 + 7 * (number % 3)),
        })
        .collect()
}

/// A life of a store: batches, segments that are sealed and dropped, and an end and a beginning
/// between.
async fn life(blocks: &[Block]) -> (TempDir, Log) {
    let dir = memory_dir();
    let recorder = Recorder::default();
    let mut height = 0;
    for batches in [&[1, 2, 1, 3, 2][..], &[1, 1, 3, 2], &[2, 1]] {
        let store = recorder.open(dir.path(), config());
        for batch in batches {
            let next = height + batch;
            recorder.note(Op::Submit(next as u64));
            let info = store.append(verified(&blocks[height..next])).await.unwrap();
            recorder.note(Op::Acknowledge(info.height.get()));
            height = next;
        }
        store.close().await;
    }
    (dir, recorder.take())
}

/// Opens what a crash left, and checks that it is a chain with everything that was acknowledged,
/// which goes on.
async fn check(files: &BTreeMap<PathBuf, Vec<u8>>, blocks: &[Block], facts: (u64, u64)) {
    let (submitted, acknowledged) = facts;
    let dir = made(files);
    let (store, _) = SegmentStore::open(dir.path(), config()).unwrap();
    let info = store.info();
    let height = info.height.get();
    assert!(
        (acknowledged..=submitted).contains(&height),
        "{acknowledged} of {submitted} were acknowledged, {height} are there"
    );
    assert!(info.first.get() <= height.saturating_sub(KEPT));
    check_content(&store, blocks).await;
    let next = height as usize;
    store
        .append(verified(&blocks[next..next + 2]))
        .await
        .unwrap();
    store.close().await;
    let (store, report) = SegmentStore::open(dir.path(), config()).unwrap();
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(store.info().height.get(), height + 2);
    check_content(&store, blocks).await;
    store.close().await;
}

/// Checks that a store has the blocks of a chain from the first one on, and every config block.
pub(super) async fn check_content(store: &SegmentStore, blocks: &[Block]) {
    let info = store.info();
    let mut next = info.first.get() as usize;
    while next < info.height.get() as usize {
        let limits = ReadLimits::new(usize::MAX, usize::MAX);
        let read = store.read(BlockNumber::new(next as u64), limits).await;
        let read = read.unwrap();
        assert!(!read.is_empty());
        for bytes in read {
            assert_eq!(bytes, *blocks[next].raw());
            next += 1;
        }
    }
    let tip = info.height.tip();
    assert_eq!(
        info.tip_hash,
        tip.map(|tip| blocks[tip.get() as usize].header_hash())
    );
    let mut configs = Vec::new();
    let mut below = tip;
    while let Some(config) = below.and_then(|below| store.config_at(below)) {
        let read = store.read(config, ReadLimits::one()).await.unwrap();
        assert_eq!(read, [blocks[config.get() as usize].raw().clone()]);
        configs.insert(0, config.get());
        below = config.previous();
    }
    let expected = [0, 4, 11]
        .into_iter()
        .filter(|number| *number < info.height.get());
    assert_eq!(configs, expected.collect::<Vec<_>>());
}

/// The ways in which a disk may be after a crash, apart from torn writes: what was written and what
/// was named is there, or not.
fn fates() -> impl Iterator<Item = impl Fn(usize, &str) -> Fate + Copy> {
    [(true, true), (true, false), (false, true), (false, false)]
        .into_iter()
        .map(|(data, names)| {
            move |_: usize, kind: &str| match (kind, data, names) {
                ("data", true, _) | ("name", _, true) => Fate::Done,
                _ => Fate::Lost,
            }
        })
}

/// At which bytes a write is torn.
fn tears(length: usize) -> impl Iterator<Item = usize> {
    (0..length).step_by((length / 40).max(1))
}

#[tokio::test]
async fn whatever_a_crash_leaves_is_a_chain_with_everything_acknowledged() {
    let blocks = chain();
    let (dir, log) = life(&blocks).await;
    // The script reaches what it is to reach.
    let dropped = log.ops.iter().filter(|op| matches!(op, Op::Remove { path } if path.extension().is_some_and(|suffix| suffix == "seg")));
    assert!(dropped.count() >= 2);
    assert!(
        log.ops
            .iter()
            .filter(|op| matches!(op, Op::Rename { to, .. } if to.ends_with("configs")))
            .count()
            >= 2
    );
    assert!(fs::read_dir(dir.path()).unwrap().count() >= 4);
    for cut in 0..=log.len() {
        let facts = log.facts(cut);
        for fate in fates() {
            check(&log.crashed(cut, fate), &blocks, facts).await;
        }
        let Some(length) = cut.checked_sub(1).and_then(|last| log.written(last)) else {
            continue;
        };
        for torn in tears(length).map(Fate::Torn).chain([Fate::Zeroed]) {
            let fate = |op, _: &str| if op == cut - 1 { torn } else { Fate::Done };
            check(&log.crashed(cut, fate), &blocks, facts).await;
        }
    }
}

/// What puts a store in order after a crash may be cut off as well.
#[tokio::test]
async fn a_crash_while_a_crash_is_dealt_with_loses_nothing() {
    let blocks = chain();
    let (_dir, log) = life(&blocks).await;
    for cut in 1..=log.len() {
        let half = |op, _: &str| match log.written(op) {
            Some(length) if op == cut - 1 => Fate::Torn(length / 2),
            _ => Fate::Done,
        };
        let lost = |op, kind: &str| match (kind, log.written(op)) {
            ("data", Some(length)) => Fate::Torn(length - length / 3),
            ("data", None) => Fate::Done,
            _ => Fate::Lost,
        };
        for files in [log.crashed(cut, half), log.crashed(cut, lost)] {
            let dir = made(&files);
            let recorder = Recorder::of(dir.path());
            recorder.open(dir.path(), config()).close().await;
            let again = recorder.take();
            for cut_again in 0..again.len() {
                for fate in fates() {
                    check(&again.crashed(cut_again, fate), &blocks, log.facts(cut)).await;
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Of what was not synced, any part may be there.
    #[test]
    fn any_part_of_what_was_not_synced_may_be_there(
        cut in any::<prop::sample::Index>(),
        fates in proptest::collection::vec((0..4u8, any::<prop::sample::Index>()), 40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let blocks = chain();
            let (_dir, log) = life(&blocks).await;
            let cut = cut.index(log.len() + 1);
            let mut fates = fates.iter().cycle();
            let fate = |op, kind: &str| {
                let (fate, torn) = fates.next().unwrap();
                match (kind, fate, log.written(op)) {
                    (_, 0, _) => Fate::Lost,
                    ("data", 1, Some(length)) => Fate::Torn(torn.index(length + 1)),
                    ("data", 2, Some(_)) => Fate::Zeroed,
                    _ => Fate::Done,
                }
            };
            check(&log.crashed(cut, fate), &blocks, log.facts(cut)).await;
        });
    }
}
