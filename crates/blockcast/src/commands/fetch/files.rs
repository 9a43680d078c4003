// SPDX-License-Identifier: Apache-2.0
//! The files that blocks are written to.

use std::{
    fs::{self, File, Permissions},
    io::{self, Read as _, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use block_api::{Block, Endpoint};
use tokio::task::spawn_blocking;

use crate::commands::{block_files::file_name, fetch::error::FetchError};

/// What the user's umask leaves of it are the permissions of a new file.
const MODE: u32 = 0o666;

/// A folder that blocks are written to.
///
/// A file appears under its name when it is whole, and what has the name is replaced in one step.
/// The disk is not waited for: after a power failure the newest files may be empty, which
/// `blockcast verify` finds.
#[derive(Debug, Clone)]
pub(super) struct BlockFiles {
    dir: PathBuf,
    overwrite: bool,
}

/// What the writing of a file did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    New,
    /// The same bytes were there.
    Unchanged,
    Replaced,
}

impl BlockFiles {
    /// Makes the folder, if it is not there.
    pub(super) fn create(dir: &Path, overwrite: bool) -> Result<Self, FetchError> {
        fs::create_dir_all(dir).map_err(|source| FetchError::NoFolder {
            path: dir.to_owned(),
            source,
        })?;
        Ok(Self {
            dir: dir.to_owned(),
            overwrite,
        })
    }

    /// Writes a block that came from an endpoint.
    ///
    /// When the future is dropped, the file is still written.
    pub(super) async fn write(
        &self,
        block: Block,
        endpoint: &Endpoint,
    ) -> Result<Written, FetchError> {
        let (files, endpoint) = (self.clone(), endpoint.clone());
        spawn_blocking(move || files.write_now(&block, endpoint)).await?
    }

    fn write_now(&self, block: &Block, endpoint: Endpoint) -> Result<Written, FetchError> {
        let number = block.number();
        let path = self.dir.join(file_name(number));
        let failed = |source| FetchError::Write {
            path: path.clone(),
            source,
        };
        let written = match holds(&path, block.raw()) {
            Ok(true) => return Ok(Written::Unchanged),
            Ok(false) if self.overwrite => Written::Replaced,
            Ok(false) => {
                return Err(FetchError::OtherContent {
                    path,
                    number,
                    endpoint,
                });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Written::New,
            Err(source) => return Err(failed(source)),
        };
        let mut file = tempfile::Builder::new()
            .prefix(".block_")
            .permissions(Permissions::from_mode(MODE))
            .tempfile_in(&self.dir)
            .map_err(failed)?;
        file.write_all(block.raw()).map_err(failed)?;
        file.persist(&path).map_err(|error| failed(error.error))?;
        Ok(written)
    }
}

/// Whether a file holds these bytes and no others.
fn holds(path: &Path, bytes: &[u8]) -> io::Result<bool> {
    let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
    if fs::metadata(path)?.len() != length {
        return Ok(false);
    }
    let mut there = Vec::with_capacity(bytes.len() + 1);
    File::open(path)?.take(length + 1).read_to_end(&mut there)?;
    Ok(there == bytes)
}
