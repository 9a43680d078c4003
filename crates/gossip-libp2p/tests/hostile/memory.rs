// SPDX-License-Identifier: Apache-2.0
//! How much memory an attack takes.

use std::{env, fs};

/// How much the honest nodes and the client may take beside what they had when the attack began: far
/// below what it asks for, and far above what its bounds come to.
pub(crate) const ROOM: u64 = 96 << 20;

/// What the process had at one time.
pub(crate) struct Memory(Option<u64>);

impl Memory {
    pub(crate) fn now() -> Self {
        Self(of_process("VmRSS:"))
    }

    /// By how much the process was bigger at its height, in bytes; `None` where it cannot be told.
    fn growth(&self) -> Option<u64> {
        Some(of_process("VmHWM:")?.saturating_sub(self.0?))
    }

    /// Nothing that came since made the process grow by more than [`ROOM`].
    pub(crate) fn was_enough(&self) {
        match self.growth() {
            Some(growth) => assert!(growth <= ROOM, "{growth} bytes were taken"),
            None => println!("SKIPPED: the memory of this test alone cannot be told"),
        }
    }
}

/// A figure about this process, if it runs one test alone.
fn of_process(name: &str) -> Option<u64> {
    env::var_os("NEXTEST")?;
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib << 10)
}

#[test]
fn what_was_taken_and_given_back_is_seen() {
    let before = Memory::now();
    let taken = vec![1u8; 2 << 26];
    assert_eq!(taken.last(), Some(&1));
    drop(taken);
    if let Some(growth) = before.growth() {
        assert!(growth > ROOM, "{growth}");
    }
}
