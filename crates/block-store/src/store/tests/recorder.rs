// SPDX-License-Identifier: Apache-2.0
//! A disk that writes down what is done to it, and makes of that what a crash may leave.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "most operations are of no matter to most questions"
)]

use std::{collections::BTreeMap, fs, path::PathBuf};

use super::*;
use crate::file::{Files, ReadFile, SystemFiles, WriteFile};

/// What was done to a disk, in order.
#[derive(Debug, Default)]
pub(super) struct Log {
    pub(super) ops: Vec<Op>,
    /// The files by their names as they are at the end of the log.
    names: BTreeMap<PathBuf, usize>,
    /// How long each file is at the end of the log.
    lengths: Vec<u64>,
    /// The files that were there, and durable, before the first operation.
    initial: Vec<(PathBuf, Vec<u8>)>,
}

#[derive(Debug, Clone)]
pub(super) enum Op {
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

    pub(super) fn note(&self, op: Op) {
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
    pub(super) fn facts(&self, cut: usize) -> (u64, u64) {
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
