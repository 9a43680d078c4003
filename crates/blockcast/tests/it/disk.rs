// SPDX-License-Identifier: Apache-2.0
//! A node whose disk is full: a file system in memory with room for a part of the chain.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;

use crate::node::{ends_well, kept, node, orderer, stores};

const MIB: usize = 1 << 20;

/// A file system of a few MiB, which goes with this.
pub(crate) struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None`, with the reason on standard output, where this user may not mount one.
    pub(crate) fn mount(at: &Path, mib: usize) -> Option<Self> {
        fs::create_dir_all(at).unwrap();
        let size = format!("size={mib}m");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(at)
            .output();
        let reason = match mounted {
            Ok(output) if output.status.success() => return Some(Self(at.to_owned())),
            Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            Err(error) => error.to_string(),
        };
        let must_run = std::env::var("BLOCKCAST_REQUIRE_ALL").is_ok_and(|value| value == "1");
        assert!(!must_run, "BLOCKCAST_REQUIRE_ALL is set, but: {reason}");
        println!("SKIPPED: no file system can be mounted: {reason}");
        None
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // What holds it open ends with the test; then it goes.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// The channel stops with an error that says why, nothing that was stored is lost, and it goes on
/// when there is room, without a restart.
#[tokio::test]
async fn a_full_disk_stops_the_channel_until_there_is_room() {
    let dir = TempDir::new().unwrap();
    let options = ["--blocks", "60", "--block-bytes", "100KiB", "--rate", "100"];
    let orderer = orderer(dir.path(), &options).await;
    let data = dir.path().join("node");
    let Some(disk) = SmallDisk::mount(&data, 12) else {
        return;
    };
    // 6 MB of blocks and 4 MiB of room.
    let filler = data.join("filler");
    fs::write(&filler, vec![1; 8 * MIB]).unwrap();
    let mut node = node(&dir.path().join("node.toml"));
    let line = node
        .stderr
        .line_with("the store failed; trying again")
        .await;
    assert!(line.contains("os error 28"), "{line}");
    // It is not given up.
    node.stderr
        .line_with("the store failed; trying again")
        .await;
    fs::remove_file(&filler).unwrap();
    node.stderr.line_with("the store works again").await;
    stores(&mut node, 60).await;
    ends_well(node).await;
    ends_well(orderer).await;
    assert_eq!(kept(dir.path(), "mychannel").await, 61);
    drop(disk);
}
