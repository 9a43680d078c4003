// SPDX-License-Identifier: Apache-2.0
//! A certificate authority that lives as long as the process.

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_ED25519,
    PublicKeyData, SignatureAlgorithm, SigningKey, date_time_ymd,
};

use super::{KeyKind, PkiError};
use crate::ecdsa;

/// How many years a certificate is good for.
const YEARS: i32 = 10;

/// A key and its certificate.
#[derive(Debug, Clone)]
pub(super) struct Certified {
    pub(super) certificate_pem: String,
    pub(super) certificate_der: Vec<u8>,
    /// PKCS#8.
    pub(super) key: Key,
}

/// A private key as PKCS#8, in both encodings.
#[derive(Clone)]
pub(super) struct Key {
    pub(super) pem: String,
    pub(super) der: Vec<u8>,
}

/// A self-signed authority and its key.
#[derive(Debug)]
pub(super) struct Authority {
    issuer: CertifiedIssuer<'static, LowS>,
    not_before: SystemTime,
}

/// A key that signs certificates in the lower form, so that Fabric's normalisation of ECDSA
/// certificates leaves them as they are.
#[derive(Debug)]
struct LowS(KeyPair);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Key(..)")
    }
}

impl Authority {
    pub(super) fn new(
        organisation: &str,
        common_name: &str,
        kind: KeyKind,
        now: SystemTime,
    ) -> Result<Self, PkiError> {
        // A client whose clock runs behind ours still takes the certificates.
        let not_before = now.checked_sub(Duration::from_secs(86_400)).unwrap_or(now);
        let mut params = params(not_before);
        params.distinguished_name = subject(Some(organisation), None, common_name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyEncipherment,
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
        ];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ClientAuth,
            ExtendedKeyUsagePurpose::ServerAuth,
        ];
        let issuer = CertifiedIssuer::self_signed(params, LowS(generate(kind)?))?;
        Ok(Self { issuer, not_before })
    }

    pub(super) fn certificate_pem(&self) -> String {
        self.issuer.pem()
    }

    pub(super) fn certificate_der(&self) -> &[u8] {
        self.issuer.der()
    }

    /// A certificate that proves an identity: an organisational unit, no names, no extended usage.
    pub(super) fn issue_identity(
        &self,
        unit: &str,
        common_name: &str,
        kind: KeyKind,
    ) -> Result<Certified, PkiError> {
        let mut params = params(self.not_before);
        params.distinguished_name = subject(None, Some(unit), common_name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        self.issue(params, kind)
    }

    /// A certificate for either end of a TLS connection. The key is ECDSA whatever the identities
    /// are, since every TLS library takes it.
    pub(super) fn issue_tls(
        &self,
        common_name: &str,
        names: &[&str],
    ) -> Result<Certified, PkiError> {
        let mut params = params(self.not_before);
        params.distinguished_name = subject(None, None, common_name);
        params.subject_alt_names = CertificateParams::new(
            names
                .iter()
                .map(|&name| name.to_owned())
                .collect::<Vec<_>>(),
        )?
        .subject_alt_names;
        params.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyEncipherment,
        ];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        self.issue(params, KeyKind::EcdsaP256)
    }

    fn issue(&self, mut params: CertificateParams, kind: KeyKind) -> Result<Certified, PkiError> {
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        let key = generate(kind)?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok(Certified {
            certificate_pem: certificate.pem(),
            certificate_der: certificate.der().to_vec(),
            key: Key {
                pem: key.serialize_pem(),
                der: key.serialize_der(),
            },
        })
    }
}

impl PublicKeyData for LowS {
    fn der_bytes(&self) -> &[u8] {
        self.0.der_bytes()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.0.algorithm()
    }
}

impl SigningKey for LowS {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let signature = self.0.sign(message)?;
        // Ed25519 signatures are 64 bytes that are no DER sequence of this length.
        if self.0.algorithm() == &PKCS_ECDSA_P256_SHA256 {
            return ecdsa::low_s(&signature).ok_or(rcgen::Error::RemoteKeyError);
        }
        Ok(signature)
    }
}

fn generate(kind: KeyKind) -> Result<KeyPair, PkiError> {
    Ok(KeyPair::generate_for(match kind {
        KeyKind::EcdsaP256 => &PKCS_ECDSA_P256_SHA256,
        KeyKind::Ed25519 => &PKCS_ED25519,
    })?)
}

fn params(not_before: SystemTime) -> CertificateParams {
    let (year, month, day) = date(not_before);
    let mut params = CertificateParams::default();
    params.not_before = date_time_ymd(year, month, day);
    // A leap day has no anniversary.
    params.not_after = date_time_ymd(year.saturating_add(YEARS), month, day.min(28));
    params
}

fn subject(organisation: Option<&str>, unit: Option<&str>, common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CountryName, "US");
    for (kind, value) in [
        (DnType::OrganizationName, organisation),
        (DnType::OrganizationalUnitName, unit),
    ] {
        if let Some(value) = value {
            name.push(kind, value);
        }
    }
    name.push(DnType::CommonName, common_name);
    name
}

/// The day of a time, in the Gregorian calendar; a time before 1970 counts as its first day.
fn date(time: SystemTime) -> (i32, u8, u8) {
    let seconds = time
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    // Years begin in March here, so that the leap day is the last day of its year, and days are
    // counted from 1 March of the year 0.
    let days = seconds / 86_400 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    // The casts keep everything: a month is 12 at most, a day 31, and a year has to stay within
    // what a certificate can say.
    (year.min(9_000) as i32, month as u8, day as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_become_dates() {
        let at = |days: u64| date(SystemTime::UNIX_EPOCH + Duration::from_secs(days * 86_400));
        assert_eq!(at(0), (1970, 1, 1));
        assert_eq!(at(58), (1970, 2, 28));
        assert_eq!(at(59), (1970, 3, 1));
        assert_eq!(at(11_016), (2000, 2, 29));
        assert_eq!(at(20_779), (2026, 11, 22));
        assert_eq!(at(47_540), (2100, 2, 28));
        assert_eq!(at(47_541), (2100, 3, 1));
    }

    #[test]
    fn ecdsa_certificates_are_signed_in_the_lower_form() {
        let key = LowS(generate(KeyKind::EcdsaP256).unwrap());
        for round in 0..16_u8 {
            assert_eq!(ecdsa::is_low_s(&key.sign(&[round]).unwrap()), Some(true));
        }
    }
}
