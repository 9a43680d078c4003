// SPDX-License-Identifier: Apache-2.0
//! An identity of an organisation: its MSP id and a certificate.

use std::fmt;

use aws_lc_rs::digest;
use block_api::BoxError;
use bytes::Bytes;
use ed25519_dalek::pkcs8::spki::der::pem::{self, LineEnding};
use prost::Message as _;
use protos::msp::SerializedIdentity;
use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use x509_parser::{certificate::X509Certificate, prelude::FromDer as _};

use crate::{KeyError, KeyType};

/// The PEM label of a certificate.
const CERTIFICATE: &str = "CERTIFICATE";

/// An identity of an organisation: its MSP id and one X.509 certificate. Cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub struct Identity {
    msp_id: String,
    certificate: Bytes,
    key_type: KeyType,
    public_key: Bytes,
    serialized: Bytes,
}

/// Why there is no identity in what was given.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// The MSP id is empty.
    #[error(
        "the MSP id is empty: give the id that the channel configuration has for the organisation, as in Org1MSP"
    )]
    NoMspId,
    /// There is no certificate.
    #[error("there is no certificate in it: give a PEM section CERTIFICATE")]
    NoCertificate,
    /// There are several certificates.
    #[error(
        "there are {count} certificates in it: give that of the identity alone, without its authorities"
    )]
    SeveralCertificates {
        /// How many.
        count: usize,
    },
    /// The PEM text is broken.
    #[error("the PEM text does not parse: {source}")]
    MalformedPem {
        /// What is wrong with it.
        source: BoxError,
    },
    /// The certificate is broken.
    #[error("the certificate does not parse: {source}")]
    MalformedCertificate {
        /// What is wrong with it.
        source: BoxError,
    },
}

impl Identity {
    /// The identity of an organisation's member, from the PEM text of its certificate.
    ///
    /// Text around the PEM section is dropped: Fabric serializes an identity with the bare section,
    /// in lines of 64 characters.
    ///
    /// # Errors
    ///
    /// When the MSP id is empty or the text does not hold exactly one X.509 certificate.
    pub fn new(
        msp_id: impl Into<String>,
        certificate_pem: impl AsRef<[u8]>,
    ) -> Result<Self, IdentityError> {
        let msp_id = msp_id.into();
        if msp_id.is_empty() {
            return Err(IdentityError::NoMspId);
        }
        let certificates = CertificateDer::pem_slice_iter(certificate_pem.as_ref())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|source| IdentityError::MalformedPem {
                source: source.into(),
            })?;
        match certificates.as_slice() {
            [] => Err(IdentityError::NoCertificate),
            [certificate] => Self::from_der(msp_id, certificate),
            several => Err(IdentityError::SeveralCertificates {
                count: several.len(),
            }),
        }
    }

    fn from_der(msp_id: String, der: &[u8]) -> Result<Self, IdentityError> {
        let malformed = |source: BoxError| IdentityError::MalformedCertificate { source };
        let (rest, parsed) =
            X509Certificate::from_der(der).map_err(|error| malformed(error.to_string().into()))?;
        if !rest.is_empty() {
            return Err(malformed(format!("{} bytes follow it", rest.len()).into()));
        }
        let key = parsed.public_key();
        let curve = key
            .algorithm
            .parameters()
            .and_then(|parameters| parameters.as_oid().ok());
        let key_type = KeyType::of(
            &key.algorithm.oid().to_id_string(),
            curve.map(|curve| curve.to_id_string()).as_deref(),
        );
        let pem = pem::encode_string(CERTIFICATE, LineEnding::LF, der)
            .map_err(|error| malformed(error.to_string().into()))?;
        let serialized = SerializedIdentity {
            mspid: msp_id.clone(),
            id_bytes: pem.into(),
        };
        Ok(Self {
            msp_id,
            certificate: Bytes::copy_from_slice(der),
            key_type,
            public_key: Bytes::copy_from_slice(&key.subject_public_key.data),
            serialized: serialized.encode_to_vec().into(),
        })
    }

    /// The MSP id.
    pub fn msp_id(&self) -> &str {
        &self.msp_id
    }

    /// The certificate in DER.
    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    /// What kind of key is certified.
    pub fn key_type(&self) -> &KeyType {
        &self.key_type
    }

    /// The certified public key: 32 bytes for Ed25519, the uncompressed point for ECDSA.
    pub fn public_key(&self) -> &[u8] {
        &self.public_key
    }

    /// The identity as Fabric puts it on the wire (`msp.SerializedIdentity`, semantics §3.6).
    pub fn serialized(&self) -> Bytes {
        self.serialized.clone()
    }

    /// Refuses a key that is not the certified one, told by its public half.
    pub(crate) fn check_certifies(
        &self,
        key_type: &KeyType,
        public_key: &[u8],
    ) -> Result<(), KeyError> {
        if !self.key_type.is_supported() {
            return Err(KeyError::UnsupportedCertificate {
                found: self.key_type.clone(),
            });
        }
        if self.key_type == *key_type && self.public_key == public_key {
            Ok(())
        } else {
            Err(KeyError::Mismatch)
        }
    }
}

/// Shows the MSP id and the SHA-256 of the certificate.
impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fingerprint = digest::digest(&digest::SHA256, &self.certificate);
        write!(
            f,
            "Identity({}, {} certificate {})",
            self.msp_id,
            self.key_type,
            hex::encode(fingerprint)
        )
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ED25519: &str = include_str!("../tests/data/ed25519.crt");
    const P256: &str = include_str!("../tests/data/p256.crt");

    #[test]
    fn an_identity_is_msp_id_and_bare_pem() {
        let crlf = P256.replace('\n', "\r\n");
        for text in [
            P256.to_owned(),
            crlf,
            format!("Certificate:\n    Data:\n{P256}\ntrailing text\n"),
        ] {
            let identity = Identity::new("Org1MSP", &text).unwrap();
            let serialized = SerializedIdentity::decode(identity.serialized()).unwrap();
            assert_eq!(
                (serialized.mspid.as_str(), serialized.id_bytes.as_ref()),
                ("Org1MSP", P256.as_bytes())
            );
        }
        let identity = Identity::new("Org1MSP", ED25519).unwrap();
        assert_eq!(
            (identity.key_type(), identity.public_key().len()),
            (&KeyType::Ed25519, 32)
        );
        assert_eq!(
            Identity::new("Org1MSP", P256).unwrap().public_key().len(),
            65
        );
        assert_ne!(identity, Identity::new("Org2MSP", ED25519).unwrap());
    }

    #[test]
    fn anything_but_one_certificate_is_refused() {
        let trailing = {
            let mut der = CertificateDer::from_pem_slice(P256.as_bytes())
                .unwrap()
                .to_vec();
            der.push(0);
            pem::encode_string(CERTIFICATE, LineEnding::LF, &der).unwrap()
        };
        let rows = [
            ("", P256.to_owned(), "the MSP id is empty"),
            ("Org1MSP", String::new(), "no certificate in it"),
            (
                "Org1MSP",
                include_str!("../tests/data/ed25519.key").to_owned(),
                "no certificate in it",
            ),
            (
                "Org1MSP",
                format!("{P256}{ED25519}"),
                "2 certificates in it",
            ),
            (
                "Org1MSP",
                P256.replace("END", "STOP"),
                "the PEM text does not parse",
            ),
            (
                "Org1MSP",
                trailing,
                "the certificate does not parse: 1 bytes follow it",
            ),
        ];
        for (msp_id, text, words) in rows {
            let error = Identity::new(msp_id, text).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn debug_tells_certificates_apart() {
        let shown = format!("{:?}", Identity::new("Org1MSP", P256).unwrap());
        assert!(
            shown.starts_with("Identity(Org1MSP, ECDSA P-256 certificate "),
            "{shown}"
        );
        assert_ne!(
            shown,
            format!("{:?}", Identity::new("Org1MSP", ED25519).unwrap())
        );
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_no_identity(bytes: Vec<u8>) {
            prop_assert!(Identity::new("Org1MSP", &bytes).is_err());
            let framed = pem::encode_string(CERTIFICATE, LineEnding::LF, &bytes).unwrap();
            prop_assert!(Identity::new("Org1MSP", framed).is_err());
        }

        #[test]
        fn mutated_certificates_do_not_panic(index: prop::sample::Index, byte: u8, cut: prop::sample::Index) {
            let mut der = CertificateDer::from_pem_slice(P256.as_bytes()).unwrap().to_vec();
            let index = index.index(der.len());
            der[index] = byte;
            let _ = Identity::from_der("Org1MSP".to_owned(), &der);
            der.truncate(cut.index(der.len()));
            prop_assert!(Identity::from_der("Org1MSP".to_owned(), &der).is_err());
        }
    }
}
