// SPDX-License-Identifier: Apache-2.0
//! The lock by which one store at a time has a directory open.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{Read, Seek, Write},
    path::Path,
    process,
};

use crate::{dir, error::OpenError};

/// An exclusive advisory lock on a file in the directory. The kernel releases it when the file is
/// closed, be it by the end of the process, so nothing stale can stay behind.
#[derive(Debug)]
pub(crate) struct DirLock {
    _file: File,
}

impl DirLock {
    pub(crate) fn acquire(dir: &Path) -> Result<Self, OpenError> {
        let path = dir::lock_path(dir);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(OpenError::io("open the lock file", &path))?;
        match file.try_lock() {
            Ok(()) => {
                // The number is for another process' message only: that it is not there is no
                // reason not to open the store.
                let _ = file
                    .set_len(0)
                    .and_then(|()| file.rewind())
                    .and_then(|()| write!(file, "{}", process::id()));
                Ok(Self { _file: file })
            }
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let pid = file
                    .read_to_string(&mut text)
                    .ok()
                    .and_then(|_| text.trim().parse().ok());
                Err(OpenError::Locked {
                    dir: dir.to_owned(),
                    pid,
                })
            }
            Err(TryLockError::Error(source)) => Err(OpenError::io("lock the file", &path)(source)),
        }
    }
}
