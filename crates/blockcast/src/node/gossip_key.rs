// SPDX-License-Identifier: Apache-2.0
//! The key of a node in the gossip network: a file with the seed in hexadecimal.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

use gossip_libp2p::Keypair;
use rand::{TryRng as _, rngs::SysRng};
use tracing::{info, warn};

use super::{GossipKeyError, StartError};

/// Reads the key, or makes one that only this user may read.
pub(crate) fn load_or_make(path: &Path) -> Result<Keypair, StartError> {
    let key = match fs::read_to_string(path) {
        Ok(text) => parse(&text).inspect(|_| warn_if_readable(path)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => make(path),
        Err(error) => Err(GossipKeyError::Unreadable(error)),
    };
    key.map_err(|reason| StartError::GossipKey {
        path: path.to_owned(),
        reason,
    })
}

fn parse(text: &str) -> Result<Keypair, GossipKeyError> {
    let mut seed = [0; 32];
    hex::decode_to_slice(text.trim(), &mut seed).map_err(|_| GossipKeyError::Malformed)?;
    Ok(Keypair::from_seed(seed))
}

fn make(path: &Path) -> Result<Keypair, GossipKeyError> {
    let mut seed = [0; 32];
    SysRng
        .try_fill_bytes(&mut seed)
        .map_err(GossipKeyError::NoRandomness)?;
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let write = || {
        fs::create_dir_all(folder)?;
        // A temporary file is this user's alone, and the key appears under its name whole or not.
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        writeln!(file, "{}", hex::encode(seed))?;
        file.as_file().sync_all()?;
        file.persist_noclobber(path)?;
        Ok(())
    };
    write().map_err(GossipKeyError::NotMade)?;
    info!(path = %path.display(), "gossip key made");
    Ok(Keypair::from_seed(seed))
}

fn warn_if_readable(path: &Path) {
    let mode = fs::metadata(path)
        .map(|metadata| metadata.permissions().mode())
        .unwrap_or_default();
    if mode & 0o077 != 0 {
        warn!(
            path = %path.display(), mode = format_args!("{:o}", mode & 0o777),
            "others than this user may read the gossip key: chmod 600 it"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_made_once_for_this_user_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("below/gossip.key");
        let made = load_or_make(&path).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(load_or_make(&path).unwrap().node_id(), made.node_id());
        fs::remove_file(&path).unwrap();
        assert_ne!(load_or_make(&path).unwrap().node_id(), made.node_id());
    }

    #[test]
    fn what_is_no_key_is_named_and_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gossip.key");
        for text in ["", "xyz", "00ff", "-----BEGIN PRIVATE KEY-----"] {
            fs::write(&path, text).unwrap();
            let error = load_or_make(&path).unwrap_err().to_string();
            assert!(
                error.contains("gossip.key") && error.contains("64 hexadecimal digits"),
                "{error}"
            );
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
        let below = path.join("gossip.key");
        assert!(
            load_or_make(&below)
                .unwrap_err()
                .to_string()
                .contains("cannot be read")
        );
    }
}
