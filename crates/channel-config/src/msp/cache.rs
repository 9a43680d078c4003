// SPDX-License-Identifier: Apache-2.0
//! The identities that an MSP judged already.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use super::Identity;

/// How many identities of one MSP are remembered; the one that was asked for longest ago makes
/// room for a new one.
const CAPACITY: usize = 512;

/// Bigger ones are judged each time, so that the memory stays bounded.
const MAX_BYTES: usize = 16 * 1024;

/// Identities by the bytes that they came as.
#[derive(Debug, Default)]
pub(super) struct IdentityCache(Mutex<Entries>);

#[derive(Debug, Default)]
struct Entries {
    /// Counts the questions; the entry with the lowest count is the oldest.
    clock: u64,
    identities: BTreeMap<Box<[u8]>, (u64, Arc<Identity>)>,
}

impl IdentityCache {
    pub(super) fn get(&self, bytes: &[u8]) -> Option<Arc<Identity>> {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        entries.clock += 1;
        let clock = entries.clock;
        let (used, identity) = entries.identities.get_mut(bytes)?;
        *used = clock;
        Some(identity.clone())
    }

    pub(super) fn put(&self, bytes: &[u8], identity: &Arc<Identity>) {
        if bytes.len() > MAX_BYTES {
            return;
        }
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if entries.identities.len() >= CAPACITY {
            let oldest = entries.identities.iter().min_by_key(|(_, (used, _))| *used);
            if let Some(oldest) = oldest.map(|(bytes, _)| bytes.clone()) {
                entries.identities.remove(&oldest);
            }
        }
        entries.clock += 1;
        let clock = entries.clock;
        entries
            .identities
            .insert(bytes.into(), (clock, identity.clone()));
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .identities
            .len()
    }
}
