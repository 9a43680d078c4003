// SPDX-License-Identifier: Apache-2.0
//! Who an identity is, as far as its own bytes tell: nothing here is checked against a channel.

use std::time::{SystemTime, UNIX_EPOCH};

use channel_config::SerializedIdentity;
use orderer_client::parse_pem_certificates;
use x509_parser::{certificate::X509Certificate, prelude::FromDer as _};

use crate::commands::printable;

/// What a `msp.SerializedIdentity` says of itself, made fit to be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Claimed {
    pub(crate) msp_id: String,
    /// The subject of its certificate; none where it has another kind of credential.
    pub(crate) subject: Option<String>,
    /// Seconds since 1970.
    pub(crate) expires: Option<i64>,
}

impl Claimed {
    /// Takes an identity apart; none when the bytes are no identity.
    pub(crate) fn parse(serialized: &[u8]) -> Option<Self> {
        let identity = SerializedIdentity::parse(serialized).ok()?;
        let certificate = certificate(identity.credential);
        Some(Self {
            msp_id: printable::name(identity.msp_id),
            subject: certificate.as_ref().map(|(subject, _)| subject.clone()),
            expires: certificate.map(|(_, expires)| expires),
        })
    }

    /// Whether its certificate is past its time.
    pub(crate) fn is_expired(&self, now: SystemTime) -> bool {
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        self.expires.is_some_and(|expires| expires < now)
    }
}

/// Subject and last moment of the first certificate in a PEM text.
fn certificate(pem: &[u8]) -> Option<(String, i64)> {
    let certificates = parse_pem_certificates(pem).ok()?;
    let (_, parsed) = X509Certificate::from_der(certificates.first()?).ok()?;
    let subject = printable::name(&parsed.subject().to_string());
    Some((subject, parsed.validity().not_after.timestamp()))
}

#[cfg(test)]
mod tests {
    use std::{fs, time::Duration};

    use proptest::prelude::*;
    use prost::Message as _;
    use protos::msp::SerializedIdentity;

    use super::*;

    /// Covers: PRS-03
    #[test]
    fn an_identity_tells_its_msp_and_its_subject() {
        let folder = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../tests/fixtures/msp/org1/user1/msp/signcerts"
        );
        let file = fs::read_dir(folder).unwrap().next().unwrap().unwrap();
        let identity = SerializedIdentity {
            mspid: "Org1\x07MSP".to_owned(),
            id_bytes: fs::read(file.path()).unwrap().into(),
        };
        let claimed = Claimed::parse(&identity.encode_to_vec()).unwrap();
        assert_eq!(claimed.msp_id, "Org1\\u{7}MSP");
        assert!(
            claimed.subject.as_ref().unwrap().contains("CN="),
            "{claimed:?}"
        );
        let recorded = UNIX_EPOCH + Duration::from_secs(1_795_300_000);
        assert!(!claimed.is_expired(recorded));
        assert!(claimed.is_expired(recorded + Duration::from_secs(12 * 365 * 86_400)));
    }

    /// Covers: PRS-03
    #[test]
    fn what_has_no_certificate_has_no_subject() {
        let identity = SerializedIdentity {
            mspid: "M".to_owned(),
            id_bytes: "no certificate".into(),
        };
        let claimed = Claimed::parse(&identity.encode_to_vec()).unwrap();
        assert_eq!((claimed.msp_id.as_str(), claimed.subject), ("M", None));
        assert_eq!(Claimed::parse(b"\xff"), None);
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken_apart_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Claimed::parse(&bytes);
            let _ = certificate(&bytes);
        }
    }
}
