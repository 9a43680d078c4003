// SPDX-License-Identifier: Apache-2.0
//! Certificates and keys out of PEM text, which is given as a value: this crate opens no file.

use rustls::pki_types::{
    CertificateDer, PrivateKeyDer,
    pem::{Error, PemObject as _},
};

/// PEM text without what was wanted of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PemError {
    /// There is no such section.
    #[error("there is no {what} in the PEM text")]
    Nothing {
        /// What was looked for.
        what: &'static str,
    },
    /// A section is damaged.
    #[error("the PEM text does not parse: {source}")]
    Malformed {
        /// What is wrong.
        source: Error,
    },
}

/// Every certificate of a PEM text, in order; one at least.
///
/// # Errors
///
/// When there is none, or the text is damaged.
pub fn parse_pem_certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let certificates = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|source| PemError::Malformed { source })?;
    if certificates.is_empty() {
        return Err(PemError::Nothing {
            what: "certificate",
        });
    }
    Ok(certificates)
}

/// The first private key of a PEM text, in PKCS#8, SEC1 or PKCS#1.
///
/// # Errors
///
/// When there is none, or the text is damaged.
pub fn parse_pem_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, PemError> {
    match PrivateKeyDer::from_pem_slice(pem) {
        Ok(key) => Ok(key),
        Err(Error::NoItemsFound) => Err(PemError::Nothing {
            what: "private key",
        }),
        Err(source) => Err(PemError::Malformed { source }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Not a certificate, but PEM.
    const SECTION: &str = "-----BEGIN CERTIFICATE-----\nAQIDBAUGBwgJ\n-----END CERTIFICATE-----\n";

    proptest! {
        #[test]
        fn any_text_is_parsed_or_refused(data in prop::collection::vec(any::<u8>(), 0..512)) {
            drop(parse_pem_certificates(&data));
            drop(parse_pem_key(&data));
        }

        #[test]
        fn a_section_with_any_byte_changed_is_parsed_or_refused(
            at in 0..SECTION.len(),
            byte in any::<u8>(),
        ) {
            let mut data = SECTION.as_bytes().to_vec();
            let parsed = parse_pem_certificates(&data).unwrap();
            prop_assert_eq!(parsed[0].as_ref(), &[1, 2, 3, 4, 5, 6, 7, 8, 9]);
            data[at] = byte;
            if let Ok(certificates) = parse_pem_certificates(&data) {
                prop_assert!(!certificates.is_empty());
            }
        }
    }
}
