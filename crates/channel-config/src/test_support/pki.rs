// SPDX-License-Identifier: Apache-2.0
//! Certificate authorities and certificates made on the spot.

use prost::Message;
use protos::msp::{FabricMspConfig, FabricNodeOUs, FabricOuIdentifier, MspConfig};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DnType, IsCa, Issuer,
    KeyIdMethod, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, RevokedCertParams, SerialNumber,
    SignatureAlgorithm, date_time_ymd,
};

use crate::test_support::TestSigner;

/// A certificate authority.
pub(crate) struct TestCa {
    params: CertificateParams,
    key: KeyPair,
    pub(crate) pem: String,
}

/// A certificate with its key.
pub(crate) struct TestCert {
    pub(crate) pem: String,
    pub(crate) key: KeyPair,
}

/// Parameters of a certificate with this common name and these organisational units.
pub(crate) fn params(name: &str, units: &[&str]) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    // rcgen keeps one attribute of each type; a custom type of the same number is another one to it.
    let types = [
        DnType::OrganizationalUnitName,
        DnType::CustomDnType(vec![2, 5, 4, 11]),
    ];
    for (unit, kind) in units.iter().zip(types) {
        params.distinguished_name.push(kind, *unit);
    }
    params.not_before = date_time_ymd(2024, 1, 1);
    params.not_after = date_time_ymd(2034, 1, 1);
    params.use_authority_key_identifier_extension = true;
    params
}

fn ca_params(name: &str) -> CertificateParams {
    let mut params = params(name, &[]);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

impl TestCa {
    pub(crate) fn root(name: &str) -> Self {
        Self::root_with(name, &PKCS_ECDSA_P256_SHA256, |_| {})
    }

    pub(crate) fn root_with(
        name: &str,
        algorithm: &'static SignatureAlgorithm,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Self {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let mut params = ca_params(name);
        change(&mut params);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { params, key, pem }
    }

    pub(crate) fn intermediate(&self, name: &str) -> Self {
        self.intermediate_with(name, |_| {})
    }

    pub(crate) fn intermediate_with(
        &self,
        name: &str,
        change: impl FnOnce(&mut CertificateParams),
    ) -> Self {
        let mut params = ca_params(name);
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let pem = params.signed_by(&key, &self.issuer()).unwrap().pem();
        Self { params, key, pem }
    }

    pub(crate) fn issue(&self, name: &str, units: &[&str]) -> TestCert {
        self.issue_with(params(name, units), &PKCS_ECDSA_P256_SHA256)
    }

    pub(crate) fn issue_with(
        &self,
        params: CertificateParams,
        algorithm: &'static SignatureAlgorithm,
    ) -> TestCert {
        let key = KeyPair::generate_for(algorithm).unwrap();
        TestCert {
            pem: params.signed_by(&key, &self.issuer()).unwrap().pem(),
            key,
        }
    }

    /// A certificate for the key and name of another authority, in PEM.
    pub(crate) fn vouch_for(&self, other: &Self) -> String {
        other
            .params
            .signed_by(&other.key, &self.issuer())
            .unwrap()
            .pem()
    }

    /// A revocation list, in PEM, with this serial number.
    pub(crate) fn revoke(&self, serial: u8) -> String {
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(2024, 1, 1),
            next_update: date_time_ymd(2034, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: vec![RevokedCertParams {
                serial_number: SerialNumber::from_slice(&[serial]),
                revocation_time: date_time_ymd(2024, 1, 1),
                reason_code: None,
                invalidity_date: None,
            }],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(&self.issuer()).unwrap().pem().unwrap()
    }

    fn issuer(&self) -> Issuer<'_, &KeyPair> {
        Issuer::from_params(&self.params, &self.key)
    }
}

impl TestCert {
    pub(crate) fn signer(&self, msp_id: &str) -> TestSigner {
        TestSigner::new(self.key.serialized_der(), msp_id, self.pem.as_bytes())
    }
}

/// The configuration of an MSP whose identities are told apart by the usual units.
pub(crate) fn msp_config(msp_id: &str, roots: &[&TestCa]) -> FabricMspConfig {
    let unit = |name: &str| {
        Some(FabricOuIdentifier {
            organizational_unit_identifier: name.to_owned(),
            ..Default::default()
        })
    };
    FabricMspConfig {
        name: msp_id.to_owned(),
        root_certs: roots.iter().map(|root| root.pem.clone().into()).collect(),
        fabric_node_ous: Some(FabricNodeOUs {
            enable: true,
            client_ou_identifier: unit("client"),
            peer_ou_identifier: unit("peer"),
            admin_ou_identifier: unit("admin"),
            orderer_ou_identifier: unit("orderer"),
        }),
        ..Default::default()
    }
}

pub(crate) fn marshalled(config: &FabricMspConfig) -> Vec<u8> {
    MspConfig {
        r#type: 0,
        config: config.encode_to_vec().into(),
    }
    .encode_to_vec()
}
