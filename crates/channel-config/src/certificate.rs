// SPDX-License-Identifier: Apache-2.0
//! X.509 certificates and revocation lists, taken apart once into what the rules ask.

use std::{collections::BTreeSet, ops::Range};

use x509_parser::{
    certificate::X509Certificate,
    extensions::{ExtendedKeyUsage, GeneralName, NameConstraints, ParsedExtension, X509Extension},
    prelude::FromDer,
    revocation_list::CertificateRevocationList,
    x509::{X509Name, X509Version},
};

use crate::{
    der::{self, BIT_STRING, EcdsaSignature, Element, SEQUENCE},
    key::{Curve, KeyError, PublicKey, SignatureAlgorithm},
    pem,
};

/// The tag of the version of a certificate, which need not be there.
const VERSION: u8 = 0xa0;

/// Why bytes are no certificate that can be judged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// There is no PEM block.
    #[error("there is no PEM block")]
    NoPem,
    /// The content of the PEM block is no certificate.
    #[error("the PEM block holds no X.509 certificate: {reason}")]
    Malformed {
        /// What is wrong with it.
        reason: String,
    },
    /// The key in it cannot be used.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The ECDSA signature of the certificate cannot be brought into its canonical form.
    #[error("the signature of the certificate is malformed")]
    Signature,
}

/// A certificate.
#[derive(Debug, Clone)]
pub(crate) struct Certificate {
    pub(crate) der: Box<[u8]>,
    pub(crate) subject: String,
    pub(crate) units: Vec<String>,
    pub(crate) serial: Box<[u8]>,
    /// Seconds since 1970, as all times here.
    pub(crate) not_before: i64,
    pub(crate) not_after: i64,
    pub(crate) key: PublicKey,
    pub(crate) is_ca: bool,
    pub(crate) subject_key_id: Option<Box<[u8]>>,
    /// A critical extension that nobody here understands.
    pub(crate) unknown_critical: Option<String>,
    pub(crate) name_constraints: bool,
    pub(crate) max_intermediates: Option<usize>,
    /// Whether the extended key usages, when there are any, have `serverAuth` or `any` among them:
    /// the ones that Go asks for when it is told nothing (semantics §2.6).
    pub(crate) usable: bool,
    raw_subject: Box<[u8]>,
    raw_issuer: Box<[u8]>,
    subject_names: Option<Box<[u8]>>,
    signature_algorithm: SignatureAlgorithm,
    signature: Box<[u8]>,
    tbs: Range<usize>,
    may_sign_certificates: bool,
}

/// A certificate revocation list.
#[derive(Debug, Clone)]
pub(crate) struct RevocationList {
    pub(crate) authority_key_id: Option<Box<[u8]>>,
    revoked: Vec<Box<[u8]>>,
    tbs: Box<[u8]>,
    algorithm: SignatureAlgorithm,
    signature: Box<[u8]>,
}

impl Certificate {
    /// Reads the certificate in the first PEM block.
    pub(crate) fn from_pem(text: &[u8]) -> Result<Self, CertificateError> {
        let (der, _) = pem::first_block(text).ok_or(CertificateError::NoPem)?;
        Self::from_der(der)
    }

    pub(crate) fn from_der(der: Vec<u8>) -> Result<Self, CertificateError> {
        let malformed = |reason: String| CertificateError::Malformed { reason };
        let (rest, parsed) =
            X509Certificate::from_der(&der).map_err(|error| malformed(short_reason(&error)))?;
        if !rest.is_empty() {
            return Err(malformed("there are bytes behind it".to_owned()));
        }
        let (tbs, _, _) = parts(&der).ok_or_else(|| malformed("it is not in DER".to_owned()))?;
        if !has_one_form(&der) {
            return Err(malformed(
                "what its signature does not cover is not in its one form".to_owned(),
            ));
        }
        let extensions = Extensions::read(parsed.extensions()).map_err(malformed)?;
        let is_v3 = parsed.version() == X509Version::V3;
        let is_ca = extensions.basic_constraints.is_some_and(|(ca, _)| ca);
        let ca_flag_permits = match extensions.basic_constraints {
            Some((ca, _)) => ca,
            None => !is_v3,
        };
        let certificate = Self {
            subject: parsed.subject().to_string(),
            units: units(parsed.subject()),
            serial: parsed.tbs_certificate.serial.to_bytes_be().into(),
            not_before: parsed.validity().not_before.timestamp(),
            not_after: parsed.validity().not_after.timestamp(),
            key: PublicKey::parse(parsed.public_key())?,
            is_ca,
            subject_key_id: extensions.subject_key_id,
            unknown_critical: extensions.unknown_critical,
            name_constraints: extensions.name_constraints,
            max_intermediates: extensions.basic_constraints.and_then(|(_, length)| length),
            usable: extensions.usable,
            raw_subject: parsed.subject().as_raw().into(),
            raw_issuer: parsed.issuer().as_raw().into(),
            subject_names: extensions.subject_names,
            signature_algorithm: SignatureAlgorithm::of(&parsed.signature_algorithm),
            signature: (&*parsed.signature_value.data).into(),
            tbs,
            may_sign_certificates: ca_flag_permits && extensions.may_sign_certificates,
            der: Box::default(),
        };
        Ok(Self {
            der: der.into(),
            ..certificate
        })
    }

    pub(crate) fn is_ecdsa_signed(&self) -> bool {
        self.signature_algorithm.is_ecdsa()
    }

    /// Whether the issuer of this certificate has the name of `other`.
    pub(crate) fn names_as_issuer(&self, other: &Self) -> bool {
        self.raw_issuer == other.raw_subject
    }

    /// Whether two certificates stand for the same authority: name, alternative names and key.
    pub(crate) fn is_same_authority(&self, other: &Self) -> bool {
        self.raw_subject == other.raw_subject
            && self.key == other.key
            && self.subject_names == other.subject_names
    }

    /// Whether it has alternative names of its subject, which an authority may constrain.
    pub(crate) fn has_other_names(&self) -> bool {
        self.subject_names.is_some()
    }

    /// Whether `issuer` may sign certificates and signed this one.
    pub(crate) fn is_signed_by(&self, issuer: &Self) -> bool {
        let tbs = self
            .der
            .get(self.tbs.clone())
            .expect("invariant: the range was found in these bytes");
        issuer.may_sign_certificates
            && issuer
                .key
                .signed(self.signature_algorithm, tbs, &self.signature)
    }

    /// The certificate with the lower of the two possible values of S in its signature. Fabric
    /// compares and hashes certificates in this form (semantics §2.6).
    pub(crate) fn with_low_s(self, issuer_curve: Option<Curve>) -> Result<Self, CertificateError> {
        let curve = issuer_curve.ok_or(CertificateError::Signature)?;
        let low = EcdsaSignature::parse(&self.signature)
            .and_then(|signature| signature.to_low_s(curve))
            .ok_or(CertificateError::Signature)?;
        if *low == *self.signature {
            return Ok(self);
        }
        Self::from_der(with_signature(&self.der, &low).ok_or(CertificateError::Signature)?)
    }
}

impl RevocationList {
    /// Reads a list in PEM or DER.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let decoded = bytes
            .starts_with(b"-----BEGIN X509 CRL")
            .then(|| pem::first_block(bytes))
            .flatten();
        let der = decoded.as_ref().map_or(bytes, |(content, _)| content);
        let (rest, list) = CertificateRevocationList::from_der(der).ok()?;
        if !rest.is_empty() {
            return None;
        }
        let algorithm = SignatureAlgorithm::of(&list.signature_algorithm);
        let signature = &*list.signature_value.data;
        let signature = if algorithm.is_ecdsa() {
            EcdsaSignature::parse(signature)?.with_der(<[u8]>::to_vec)
        } else {
            signature.to_vec()
        };
        let mut authority_key_id = None;
        for extension in list.extensions() {
            if let ParsedExtension::AuthorityKeyIdentifier(id) = extension.parsed_extension() {
                authority_key_id =
                    Some(id.key_identifier.as_ref().map_or(&[][..], |id| id.0).into());
            }
        }
        Some(Self {
            authority_key_id,
            revoked: list
                .iter_revoked_certificates()
                .map(|entry| entry.serial().to_bytes_be().into())
                .collect(),
            tbs: list.tbs_cert_list.as_ref().into(),
            algorithm,
            signature: signature.into(),
        })
    }

    /// Whether the list has this serial number and is signed by this authority.
    pub(crate) fn revokes(&self, serial: &[u8], authority: &Certificate) -> bool {
        self.revoked.iter().any(|revoked| **revoked == *serial)
            && authority
                .key
                .signed(self.algorithm, &self.tbs, &self.signature)
    }
}

/// What the extensions of a certificate say.
#[derive(Default)]
struct Extensions {
    basic_constraints: Option<(bool, Option<usize>)>,
    subject_key_id: Option<Box<[u8]>>,
    subject_names: Option<Box<[u8]>>,
    unknown_critical: Option<String>,
    name_constraints: bool,
    usable: bool,
    may_sign_certificates: bool,
}

impl Extensions {
    fn read(extensions: &[X509Extension<'_>]) -> Result<Self, String> {
        let mut found = Self {
            usable: true,
            may_sign_certificates: true,
            ..Self::default()
        };
        let mut seen = BTreeSet::new();
        for extension in extensions {
            if !seen.insert(extension.oid.as_bytes()) {
                return Err(format!("the extension {} comes twice", extension.oid));
            }
            found.take(extension)?;
        }
        Ok(found)
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the other extensions are unknown to Go, too"
    )]
    fn take(&mut self, extension: &X509Extension<'_>) -> Result<(), String> {
        match extension.parsed_extension() {
            ParsedExtension::ParseError { .. } => {
                return Err(format!("the extension {} does not parse", extension.oid));
            }
            ParsedExtension::BasicConstraints(constraints) => {
                let length = constraints
                    .path_len_constraint
                    .and_then(|length| usize::try_from(length).ok());
                self.basic_constraints = Some((constraints.ca, length));
            }
            ParsedExtension::KeyUsage(usage) => {
                // No bit at all counts as no extension.
                self.may_sign_certificates = usage.flags == 0 || usage.key_cert_sign();
            }
            ParsedExtension::ExtendedKeyUsage(usage) => {
                self.usable = usage.any || usage.server_auth || is_empty(usage)
            }
            ParsedExtension::SubjectKeyIdentifier(id) => self.subject_key_id = Some(id.0.into()),
            ParsedExtension::SubjectAlternativeName(_) => {
                self.subject_names = Some(extension.value.into())
            }
            ParsedExtension::NameConstraints(constraints) => {
                self.name_constraints = true;
                // Of other kinds of names Go says that it does not understand them.
                if extension.critical && !are_understood(constraints) {
                    self.unknown_critical = Some(extension.oid.to_id_string());
                }
            }
            ParsedExtension::AuthorityKeyIdentifier(_)
            | ParsedExtension::CertificatePolicies(_)
            | ParsedExtension::PolicyMappings(_)
            | ParsedExtension::PolicyConstraints(_)
            | ParsedExtension::InhibitAnyPolicy(_)
            | ParsedExtension::CRLDistributionPoints(_)
            | ParsedExtension::AuthorityInfoAccess(_) => {}
            _ if extension.critical => self.unknown_critical = Some(extension.oid.to_id_string()),
            _ => {}
        }
        Ok(())
    }
}

/// Whether only names of the kinds that Go knows are constrained.
fn are_understood(constraints: &NameConstraints<'_>) -> bool {
    let subtrees = [
        &constraints.permitted_subtrees,
        &constraints.excluded_subtrees,
    ];
    subtrees.into_iter().flatten().flatten().all(|subtree| {
        matches!(
            subtree.base,
            GeneralName::DNSName(_)
                | GeneralName::RFC822Name(_)
                | GeneralName::URI(_)
                | GeneralName::IPAddress(_)
        )
    })
}

/// Whether the extension names no usage at all, which Go takes as if there were no extension.
fn is_empty(usage: &ExtendedKeyUsage<'_>) -> bool {
    let named = [
        usage.client_auth,
        usage.code_signing,
        usage.email_protection,
        usage.time_stamping,
        usage.ocsp_signing,
        !usage.other.is_empty(),
    ];
    !named.contains(&true)
}

/// The subject of a certificate, if it is one.
pub(crate) fn subject_of(der: &[u8]) -> Option<String> {
    let (_, parsed) = X509Certificate::from_der(der).ok()?;
    Some(parsed.subject().to_string())
}

/// A certificate as it stands, and in the other forms that it may have with a low S, one for each
/// curve that its issuer's key may be on.
pub(crate) fn low_s_forms(certificate: Vec<u8>) -> Vec<Box<[u8]>> {
    let low = |curve| {
        let (_, _, signature) = parts(&certificate)?;
        let signature = Element::expect(certificate.get(signature)?, BIT_STRING)?;
        let (_, signature) = signature.content.split_first()?;
        let low = EcdsaSignature::parse(signature)?.to_low_s(curve)?;
        with_signature(&certificate, &low)
    };
    let low = [Curve::P256, Curve::P384, Curve::P521].map(low);
    let mut forms: Vec<Box<[u8]>> = vec![certificate.into()];
    for form in low.into_iter().flatten() {
        if forms.iter().all(|known| **known != *form) {
            forms.push(form.into());
        }
    }
    forms
}

/// A certificate with another signature.
fn with_signature(certificate: &[u8], signature: &[u8]) -> Option<Vec<u8>> {
    let (tbs, algorithm, _) = parts(certificate)?;
    let mut content = Vec::with_capacity(certificate.len());
    for range in [tbs, algorithm] {
        content.extend_from_slice(certificate.get(range)?);
    }
    // The first byte of a bit string says how many bits of the last byte are unused.
    der::put(&mut content, BIT_STRING, &[&[0], signature].concat());
    let mut rebuilt = Vec::with_capacity(content.len() + 4);
    der::put(&mut rebuilt, SEQUENCE, &content);
    Some(rebuilt)
}

/// Where the signed part, the algorithm and the signature of a certificate stand.
fn parts(der: &[u8]) -> Option<(Range<usize>, Range<usize>, Range<usize>)> {
    let outer = Element::expect(der, SEQUENCE)?;
    let start = outer.whole.len() - outer.content.len();
    let tbs = Element::read(outer.content)?;
    let algorithm = Element::read(tbs.rest)?;
    let signature = Element::read(algorithm.rest)?;
    let tbs_end = start + tbs.whole.len();
    let algorithm_end = tbs_end + algorithm.whole.len();
    Some((
        start..tbs_end,
        tbs_end..algorithm_end,
        algorithm_end..algorithm_end + signature.whole.len(),
    ))
}

/// Whether what the signature of a certificate does not cover has the only form that it can have: the
/// algorithm is the one that is covered, the signature has whole bytes, and nothing follows it. Else
/// one certificate could be had in many forms, each of which would count as an identity of its own.
fn has_one_form(der: &[u8]) -> bool {
    let check = || {
        let outer = Element::expect(der, SEQUENCE)?;
        let tbs = Element::expect(outer.content, SEQUENCE)?;
        let algorithm = Element::expect(tbs.rest, SEQUENCE)?;
        let signature = Element::expect(algorithm.rest, BIT_STRING)?;
        let first = Element::read(tbs.content)?;
        let serial = match first.tag {
            VERSION => Element::read(first.rest)?,
            _ => first,
        };
        let covered = Element::expect(serial.rest, SEQUENCE)?;
        let whole_bytes = signature.content.first() == Some(&0);
        Some(whole_bytes && signature.rest.is_empty() && covered.whole == algorithm.whole)
    };
    check().unwrap_or(false)
}

fn units(name: &X509Name<'_>) -> Vec<String> {
    name.iter_organizational_unit()
        .filter_map(|unit| unit.as_str().ok())
        .map(str::to_owned)
        .collect()
}

/// The reason of a parser in a few words: its own text may quote the whole input.
fn short_reason(error: &impl std::fmt::Display) -> String {
    let mut text: String = error.to_string().chars().take(80).collect();
    if text.is_empty() {
        text.push_str("it does not parse");
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::test_support::fixture;

    /// What the signature of a certificate does not cover cannot be changed either: one certificate
    /// in two forms would be two identities of one key.
    #[test]
    fn a_certificate_has_one_form() {
        let pem = fixture("msp/orderer/raft0/msp/signcerts/raft0.orderer.test-cert.pem");
        let (der, _) = pem::first_block(&pem).unwrap();
        let (tbs, algorithm, signature) = parts(&der).unwrap();
        let [tbs, algorithm, signature] = [tbs, algorithm, signature].map(|range| &der[range]);
        let sequence = |parts: &[&[u8]]| {
            let mut out = Vec::new();
            der::put(&mut out, SEQUENCE, &parts.concat());
            out
        };
        assert_eq!(sequence(&[tbs, algorithm, signature]), der);
        assert!(Certificate::from_der(der.clone()).is_ok());
        let algorithm_with_null = {
            let oid = Element::expect(algorithm, SEQUENCE).unwrap().content;
            sequence(&[oid, &[5, 0]])
        };
        let with_unused_bits = |unused: u8| {
            let mut bits = signature.to_vec();
            bits[2] = unused;
            *bits.last_mut().unwrap() &= 0xff << unused;
            bits
        };
        let mut long_length = der.clone();
        long_length.splice(1..4, [0x83, 0, der[2], der[3]]);
        let rows = [
            (
                "parameters",
                sequence(&[tbs, &algorithm_with_null, signature]),
            ),
            (
                "unused bits",
                sequence(&[tbs, algorithm, &with_unused_bits(1)]),
            ),
            (
                "more unused bits",
                sequence(&[tbs, algorithm, &with_unused_bits(7)]),
            ),
            (
                "something behind",
                sequence(&[tbs, algorithm, signature, &[5, 0]]),
            ),
            ("a long length", long_length),
            ("a tail", [der.as_slice(), &[0]].concat()),
        ];
        let mut taken = Vec::new();
        for (name, bytes) in rows {
            assert_ne!(bytes, der, "{name}");
            if Certificate::from_der(bytes).is_ok() {
                taken.push(name);
            }
        }
        assert_eq!(taken, [""; 0]);
    }

    proptest! {
        #[test]
        fn never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            drop(Certificate::from_der(bytes.clone()));
            drop(Certificate::from_pem(&bytes));
            drop(RevocationList::parse(&bytes));
        }
    }
}
