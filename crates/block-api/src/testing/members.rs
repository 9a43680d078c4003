// SPDX-License-Identifier: Apache-2.0
//! Identities of organisations, and readers that check that a signature is by whom it is said to be.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

use async_trait::async_trait;
use bytes::Bytes;

use crate::{
    Readers, ReadersDenied, SignError, Signer,
    wire::{Fields, Value, put_bytes},
};

/// The key of a member of an organisation. Its signature says who signed what, and is worth nothing
/// for anything else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemberKey {
    /// The MSP id of the organisation.
    pub organisation: &'static str,
    /// The name of the member, which stands for its certificate.
    pub name: &'static str,
}

/// Lets members of some organisations read. Whom it lets can be changed, as by a config block.
#[derive(Debug, Default)]
pub struct MemberReaders {
    generation: AtomicU64,
    rules: Mutex<Rules>,
}

#[derive(Debug, Default)]
struct Rules {
    organisations: BTreeSet<String>,
    revoked: BTreeSet<Vec<u8>>,
    expire: BTreeMap<Vec<u8>, SystemTime>,
}

impl MemberKey {
    /// The bytes of its `msp.SerializedIdentity`.
    pub fn serialized(&self) -> Vec<u8> {
        let mut identity = Vec::new();
        put_bytes(&mut identity, 1, self.organisation.as_bytes());
        put_bytes(&mut identity, 2, self.name.as_bytes());
        identity
    }

    /// What it signs a message with.
    pub fn signature(&self, message: &[u8]) -> Vec<u8> {
        signature(&self.serialized(), message)
    }
}

impl MemberReaders {
    /// Lets the members of these organisations read.
    pub fn of(organisations: &[&str]) -> Self {
        let readers = Self::default();
        for organisation in organisations {
            readers.add(organisation);
        }
        readers
    }

    /// A configuration adds an organisation.
    pub fn add(&self, organisation: &str) {
        self.change(|rules| rules.organisations.insert(organisation.to_owned()));
    }

    /// A configuration removes an organisation.
    pub fn remove(&self, organisation: &str) {
        self.change(|rules| rules.organisations.remove(organisation));
    }

    /// A configuration revokes the certificate of a member.
    pub fn revoke(&self, member: &MemberKey) {
        self.change(|rules| rules.revoked.insert(member.serialized()));
    }

    /// The last moment of the certificate of a member, which no configuration changes.
    pub fn set_expiry(&self, member: &MemberKey, at: SystemTime) {
        self.rules().expire.insert(member.serialized(), at);
    }

    fn change(&self, change: impl FnOnce(&mut Rules) -> bool) {
        if change(&mut self.rules()) {
            self.generation.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn rules(&self) -> MutexGuard<'_, Rules> {
        self.rules
            .lock()
            .expect("invariant: no holder of this lock panics")
    }
}

#[async_trait]
impl Signer for MemberKey {
    fn identity(&self) -> Bytes {
        self.serialized().into()
    }

    async fn sign(&self, message: &[u8]) -> Result<Bytes, SignError> {
        Ok(self.signature(message).into())
    }
}

impl Readers for MemberReaders {
    fn may_read(
        &self,
        identity: &[u8],
        message: &[u8],
        made: &[u8],
        now: SystemTime,
    ) -> Result<(), ReadersDenied> {
        let rules = self.rules();
        let organisation = Fields::new(identity).find_map(|field| {
            let Value::Bytes(name, _) = field.ok()?.value else {
                return None;
            };
            Some(String::from_utf8_lossy(name).into_owned())
        });
        if made != signature(identity, message) {
            return Err(ReadersDenied::new("the signature is not by this identity"));
        }
        if organisation.is_none_or(|name| !rules.organisations.contains(&name)) {
            return Err(ReadersDenied::new("the organisation may not read"));
        }
        if rules.revoked.contains(identity) {
            return Err(ReadersDenied::new("the certificate is revoked"));
        }
        match rules.expire.get(identity) {
            Some(at) if *at < now => Err(ReadersDenied::new("the certificate expired")),
            _ => Ok(()),
        }
    }

    fn generation(&self) -> u64 {
        self.generation.load(Ordering::SeqCst)
    }

    fn expires(&self, identity: &[u8]) -> Option<SystemTime> {
        self.rules().expire.get(identity).copied()
    }
}

fn signature(identity: &[u8], message: &[u8]) -> Vec<u8> {
    [b"signed by ", identity, b": ", message].concat()
}
