// SPDX-License-Identifier: Apache-2.0
//! The right of one request to read, which is asked again before each block.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use block_api::{Readers, ReadersDenied};
use bytes::Bytes;
use prost::Message as _;
use protos::msp::SerializedIdentity;
use x509_parser::{parse_x509_certificate, pem::parse_x509_pem};

/// What a client signed, and who it says it is.
#[derive(Debug, Clone)]
pub(crate) struct Signed {
    pub(crate) creator: Bytes,
    pub(crate) message: Bytes,
    pub(crate) signature: Bytes,
}

/// The right of one request to read a channel.
#[derive(Debug)]
pub(crate) struct Session {
    readers: Arc<dyn Readers>,
    signed: Signed,
    /// When the creator's certificate expires; `None` for an identity that is no certificate, which
    /// never does.
    expires: Option<SystemTime>,
    /// The generation of `readers` under which the right was granted.
    granted: Option<u64>,
}

impl Session {
    pub(crate) fn new(readers: Arc<dyn Readers>, signed: Signed) -> Self {
        let expires = expiry(&signed.creator);
        Self {
            readers,
            signed,
            expires,
            granted: None,
        }
    }

    /// Whether the client may read now. The certificate's expiry is looked at each time, the policy
    /// only when it may have changed (ACL-01, semantics §3.10).
    pub(crate) fn check(&mut self, now: SystemTime) -> Result<(), ReadersDenied> {
        if self.expires.is_some_and(|expires| now > expires) {
            return Err(ReadersDenied::new("the creator's certificate has expired"));
        }
        // Read before the policy runs, so that a change meanwhile makes it run again.
        let generation = self.readers.generation();
        if self.granted != Some(generation) {
            let Signed {
                creator,
                message,
                signature,
            } = &self.signed;
            self.readers.may_read(creator, message, signature, now)?;
            self.granted = Some(generation);
        }
        Ok(())
    }
}

/// When the certificate of a serialized identity expires; `None` when there is no certificate in it.
fn expiry(creator: &Bytes) -> Option<SystemTime> {
    let identity = SerializedIdentity::decode(creator.clone()).ok()?;
    let (_, pem) = parse_x509_pem(&identity.id_bytes).ok()?;
    let (_, certificate) = parse_x509_certificate(&pem.contents).ok()?;
    let not_after = certificate.validity().not_after.timestamp();
    match u64::try_from(not_after) {
        Ok(seconds) => UNIX_EPOCH.checked_add(Duration::from_secs(seconds)),
        Err(_) => Some(UNIX_EPOCH),
    }
}
