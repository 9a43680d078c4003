// SPDX-License-Identifier: Apache-2.0
//! Opens the store anew under a writer that found the disk full where it cannot go back.
//!
//! A network file system, a quota or a thin volume may say so only when data is synced. What the disk
//! holds is not known then, and is found out as when a store is opened: what was acknowledged must be
//! there, the rest is cut off, or written and synced once more.

use std::{io, path::Path};

use super::{Active, Poison, Writer};
use crate::{
    catalog::{Growth, Shared},
    error::{OpenError, StorageError},
    file::Files,
    recover::{Recovered, recover},
};

impl Writer {
    /// Opens the store anew if it takes no more blocks for want of room. After an error it still
    /// takes none; where that is another one than a want of room, for good.
    pub(super) fn reopen_when_full(&mut self) -> Result<(), StorageError> {
        let Some(poison) = self.poisoned.clone().filter(|poison| poison.is_full) else {
            return Ok(());
        };
        let before = self.info;
        match self.reopen() {
            Ok(()) if self.info == before => Ok(()),
            // What failed is stored after all: whoever appends has to look where the chain ends.
            Ok(()) => Err(poison.error()),
            Err(OpenError::Io {
                action,
                path,
                source,
            }) if is_full(&source) => Err(StorageError::io(action, &path)(source)),
            Err(error) => {
                let poison = Poison {
                    reason: error.to_string(),
                    is_full: false,
                    ..poison
                };
                self.shared.end_growth(Growth::Stopped);
                self.poisoned = Some(poison.clone());
                Err(poison.error())
            }
        }
    }

    fn reopen(&mut self) -> Result<(), OpenError> {
        let Recovered {
            catalog,
            info,
            identity,
            head,
            report: _,
        } = recover(&*self.files, &self.dir, &self.config)?;
        let same_tip = info.height > self.info.height || info.tip_hash == self.info.tip_hash;
        if info.height < self.info.height || !same_tip {
            return Err(OpenError::Lost {
                dir: self.dir.clone(),
                acknowledged: self.info.height,
                found: info.height,
            });
        }
        self.shared.replace(catalog);
        self.active = active(&self.shared, &*self.files)?;
        (self.info, self.identity, self.head) = (info, identity, head);
        self.poisoned = None;
        self.shared.publish(info);
        Ok(())
    }
}

/// The segment that grows, opened for that.
pub(super) fn active(shared: &Shared, files: &dyn Files) -> Result<Option<Active>, OpenError> {
    let last = shared.catalog().last().cloned();
    let opened = last.map(|segment| {
        let file = files.append(&segment.path);
        let file = file.map_err(OpenError::io("open the segment", &segment.path))?;
        Ok(Active::new(&segment, file))
    });
    opened.transpose()
}

impl Poison {
    pub(super) fn new(action: &'static str, path: &Path, source: &io::Error) -> Self {
        Self {
            action,
            path: path.to_owned(),
            reason: source.to_string(),
            is_full: is_full(source),
        }
    }

    pub(super) fn error(self) -> StorageError {
        StorageError::Poisoned {
            action: self.action,
            path: self.path,
            reason: self.reason,
        }
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}
