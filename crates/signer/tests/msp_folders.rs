// SPDX-License-Identifier: Apache-2.0
//! MSP folders: those that Fabric's tools laid out, unusual ones that load, and broken ones.
#![expect(
    clippy::unwrap_used,
    reason = "a test fails by panicking, in its helpers too"
)]

use std::{
    fs,
    path::{Path, PathBuf},
};

use aws_lc_rs::{
    encoding::{AsDer as _, EcPrivateKeyRfc5915Der},
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING,
        ECDSA_P521_SHA512_ASN1_SIGNING, ED25519, EcdsaKeyPair, UnparsedPublicKey,
        VerificationAlgorithm,
    },
};
use blockcast_signer::{Identity, KeyType, MspFolderError, Signer, load_msp_folder};
use prost::Message as _;
use protos::msp::SerializedIdentity;
use rcgen::{
    CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519,
};
use tempfile::TempDir;

/// The folders of the fixtures, and the MSP ids that they belong to.
const FIXTURES: [(&str, &str); 11] = [
    ("org1/user1", "Org1MSP"),
    ("org1/admin", "Org1MSP"),
    ("org1/peer0", "Org1MSP"),
    ("org2/user1", "Org2MSP"),
    ("org2/peer0", "Org2MSP"),
    ("orderer/raft0", "OrdererMSP"),
    ("orderer/raft1", "OrdererMSP"),
    ("orderer/bft0", "OrdererMSP"),
    ("orderer/bft1", "OrdererMSP"),
    ("orderer/bft2", "OrdererMSP"),
    ("orderer/bft3", "OrdererMSP"),
];

/// An MSP folder to be filled.
struct Folder(TempDir);

/// A certificate with its key, both PEM.
struct Pair {
    certificate: String,
    key: String,
}

#[tokio::test]
async fn folders_of_fabrics_tools_load_and_sign() {
    for (folder, msp_id) in FIXTURES {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../../tests/fixtures/msp")
            .join(folder)
            .join("msp");
        let signer =
            load_msp_folder(&dir, msp_id).unwrap_or_else(|error| panic!("{folder}: {error}"));
        assert_signs(signer.as_ref(), msp_id, folder).await;
        let file = fs::read_dir(dir.join("signcerts"))
            .unwrap()
            .next()
            .unwrap()
            .unwrap()
            .path();
        let serialized = SerializedIdentity::decode(signer.identity()).unwrap();
        assert_eq!(
            serialized.id_bytes,
            fs::read(file).unwrap(),
            "{folder}: Fabric's tools write what goes on the wire"
        );
    }
}

#[tokio::test]
async fn every_supported_form_of_a_key_loads_from_any_file() {
    let p256 = pair(&PKCS_ECDSA_P256_SHA256);
    let ed25519 = pair(&PKCS_ED25519);
    let sec1_der = sec1(&p256.key);
    let rows: Vec<(&str, &str, Vec<u8>)> = vec![
        (
            "P-256 in PKCS#8",
            &p256.certificate,
            p256.key.clone().into(),
        ),
        (
            "P-256 in SEC1",
            &p256.certificate,
            pem("EC PRIVATE KEY", &sec1_der).into(),
        ),
        // Fabric looks at the bytes, not at the label.
        (
            "P-256 in SEC1 under the label of PKCS#8",
            &p256.certificate,
            pem("PRIVATE KEY", &sec1_der).into(),
        ),
        ("P-256 in SEC1 as DER", &p256.certificate, sec1_der.clone()),
        (
            "P-256 of OpenSSL, with its curve in front",
            include_str!("data/p256.crt"),
            data("p256_sec1.key"),
        ),
        (
            "P-256 with Windows line ends",
            &p256.certificate,
            p256.key.replace('\n', "\r\n").into(),
        ),
        (
            "P-256 behind its certificate",
            &p256.certificate,
            format!("{}{}", p256.certificate, p256.key).into(),
        ),
        (
            "Ed25519 in PKCS#8",
            &ed25519.certificate,
            ed25519.key.clone().into(),
        ),
        (
            "Ed25519 of OpenSSL",
            include_str!("data/ed25519.crt"),
            data("ed25519.key"),
        ),
    ];
    for (name, certificate, key) in rows {
        let folder = Folder::new()
            .with("signcerts/any name", certificate)
            .with("keystore/0a1b_sk", &key);
        let signer = folder
            .load()
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_signs(signer.as_ref(), "Org1MSP", name).await;
    }
}

#[tokio::test]
async fn the_key_is_found_among_others() {
    let (wanted, other, ed25519) = (
        pair(&PKCS_ECDSA_P256_SHA256),
        pair(&PKCS_ECDSA_P256_SHA256),
        pair(&PKCS_ED25519),
    );
    let folder = Folder::new()
        .with("signcerts/cert.pem", &wanted.certificate)
        // The same certificate once more, text that is none, and what is no file of the folder.
        .with(
            "signcerts/copy.pem",
            format!("Certificate:\n  some text\n{}", wanted.certificate),
        )
        .with("signcerts/README", "put the certificate here")
        .with("signcerts/.hidden", &other.certificate)
        .with("signcerts/..data/cert.pem", &other.certificate)
        .with("keystore/a", &other.key)
        .with("keystore/b", data("p256_encrypted_pkcs8.key"))
        .with("keystore/c", "no key")
        .with("keystore/d", &ed25519.key)
        .with("keystore/e", &wanted.key)
        .with("keystore/sub/f", "a folder");
    assert_signs(folder.load().unwrap().as_ref(), "Org1MSP", "among others").await;
}

#[cfg(unix)]
#[tokio::test]
async fn links_are_followed_as_kubernetes_mounts_secrets() {
    let pair = pair(&PKCS_ED25519);
    let folder = Folder::new()
        .with("..data/cert.pem", &pair.certificate)
        .with("..data/key.pem", &pair.key)
        .with("signcerts/.keep", "")
        .with("keystore/.keep", "");
    for (link, target) in [
        ("signcerts/cert.pem", "../..data/cert.pem"),
        ("keystore/key.pem", "../..data/key.pem"),
    ] {
        std::os::unix::fs::symlink(target, folder.path(link)).unwrap();
    }
    assert_signs(folder.load().unwrap().as_ref(), "Org1MSP", "links").await;
}

/// Every way in which a folder can be broken, with the words that its message must have: the file,
/// the reason and, where there is one, the remedy.
#[test]
fn broken_folders_name_file_reason_and_remedy() {
    let (pair256, other, pair384) = (
        pair(&PKCS_ECDSA_P256_SHA256),
        pair(&PKCS_ECDSA_P256_SHA256),
        pair(&PKCS_ECDSA_P384_SHA384),
    );
    let certified = || Folder::new().with("signcerts/cert.pem", &pair256.certificate);
    let with_key = |key: &dyn AsRef<[u8]>| certified().with("keystore/priv_sk", key);
    let cut = &pair256.certificate[..pair256.certificate.len() / 2];
    let rows: Vec<(&str, Folder, &[&str])> = vec![
        (
            "nothing",
            Folder::new(),
            &[
                "signcerts cannot be read",
                "holds the folders signcerts and keystore",
            ],
        ),
        (
            "no certificate",
            Folder::new().with("signcerts/note", "none"),
            &["no certificate in", "signcerts", "put"],
        ),
        (
            "two certificates",
            certified().with("signcerts/other.pem", &other.certificate),
            &[
                "several certificates",
                "cert.pem and",
                "other.pem",
                "leave that of the identity alone",
            ],
        ),
        (
            "two certificates in one file",
            Folder::new().with(
                "signcerts/both.pem",
                format!("{}{}", pair256.certificate, other.certificate),
            ),
            &["both.pem", "2 certificates", "without its authorities"],
        ),
        (
            "a certificate that is cut",
            Folder::new().with("signcerts/cut.pem", cut),
            &["cut.pem", "does not parse"],
        ),
        (
            "a certificate that is none",
            Folder::new().with("signcerts/x.pem", pem("CERTIFICATE", b"no certificate")),
            &["x.pem", "the certificate does not parse"],
        ),
        (
            "a certificate for a curve that is not supported",
            Folder::new()
                .with("signcerts/c.pem", &pair384.certificate)
                .with("keystore/k", &pair384.key),
            &[
                "c.pem",
                "ECDSA P-384",
                "not supported",
                "ECDSA on P-256 or Ed25519",
            ],
        ),
        ("no keystore", certified(), &["keystore cannot be read"]),
        (
            "an empty keystore",
            certified().with("keystore/.keep", ""),
            &["no file in", "keystore", "cert.pem", "put"],
        ),
        (
            "another's key",
            with_key(&other.key),
            &["priv_sk", "cert.pem", "does not belong to the certificate"],
        ),
        (
            "a key of another kind",
            with_key(&pair(&PKCS_ED25519).key),
            &["priv_sk", "does not belong to the certificate"],
        ),
        (
            "a key that is encrypted",
            with_key(&data("p256_encrypted_pkcs8.key")),
            &["priv_sk", "encrypted", "openssl"],
        ),
        (
            "a key that is encrypted in the older form",
            with_key(&data("p256_encrypted_sec1.key")),
            &["priv_sk", "encrypted", "openssl"],
        ),
        (
            "a P-384 key",
            with_key(&pair384.key),
            &["priv_sk", "ECDSA P-384", "not supported"],
        ),
        (
            "a P-384 key in SEC1",
            with_key(&older(&ECDSA_P384_SHA384_ASN1_SIGNING)),
            &["priv_sk", "ECDSA P-384", "not supported"],
        ),
        (
            "a P-521 key in SEC1",
            with_key(&older(&ECDSA_P521_SHA512_ASN1_SIGNING)),
            &["priv_sk", "ECDSA P-521", "not supported"],
        ),
        (
            "an RSA key in PKCS#8",
            with_key(&rsa()),
            &["priv_sk", "RSA", "not supported"],
        ),
        (
            "an RSA key in PKCS#1",
            with_key(&rsa_pkcs1()),
            &["priv_sk", "RSA", "not supported"],
        ),
        (
            "an empty file",
            with_key(&""),
            &["priv_sk", "no private key"],
        ),
        (
            "a certificate for a key",
            with_key(&pair256.certificate),
            &["priv_sk", "no private key"],
        ),
        (
            "text for a key",
            with_key(&"secret"),
            &["priv_sk", "does not parse", "neither PKCS#8 nor SEC1"],
        ),
        (
            "a key that is cut",
            with_key(&&pair256.key[..pair256.key.len() / 2]),
            &["priv_sk", "does not parse"],
        ),
        (
            "two keys in a file",
            with_key(&format!("{}{}", pair256.key, other.key)),
            &["priv_sk", "2 private keys", "give one"],
        ),
        (
            "a file without end",
            with_key(&vec![b'x'; (1 << 20) + 1]),
            &["priv_sk", "more than 1048576 bytes"],
        ),
        (
            "several that do not fit",
            with_key(&other.key).with("keystore/locked", data("p256_encrypted_pkcs8.key")),
            &[
                "locked: the private key is encrypted",
                "; ",
                "priv_sk: the private key does not belong",
            ],
        ),
    ];
    for (name, folder, words) in rows {
        let message = folder.load().expect_err(name).to_string();
        for word in words {
            assert!(message.contains(word), "{name}: {message:?} lacks {word:?}");
        }
        assert!(
            message.contains(&folder.0.path().display().to_string()),
            "{name}: {message:?} names no path"
        );
        assert!(
            !message.ends_with('.') && message.lines().count() == 1,
            "{name}: {message:?}"
        );
    }
}

#[test]
fn an_empty_msp_id_is_refused() {
    let pair = pair(&PKCS_ED25519);
    let folder = Folder::new()
        .with("signcerts/c", &pair.certificate)
        .with("keystore/k", &pair.key);
    let error = load_msp_folder(folder.0.path(), "").unwrap_err();
    assert!(error.to_string().contains("the MSP id is empty"), "{error}");
}

#[cfg(unix)]
#[test]
fn a_link_into_nothing_is_named() {
    let pair = pair(&PKCS_ED25519);
    let folder = Folder::new()
        .with("signcerts/c", &pair.certificate)
        .with("keystore/.keep", "");
    std::os::unix::fs::symlink("nowhere", folder.path("keystore/lost_sk")).unwrap();
    let error = folder.load().unwrap_err();
    assert!(
        matches!(&error, MspFolderError::NoMatchingKey { tried, .. } if tried.len() == 1),
        "{error}"
    );
    assert!(
        error.to_string().contains("lost_sk: it cannot be read"),
        "{error}"
    );
    std::os::unix::fs::symlink("nowhere", folder.path("signcerts/lost.pem")).unwrap();
    let error = folder.load().unwrap_err();
    assert!(
        matches!(&error, MspFolderError::Unreadable { path, .. } if path.ends_with("lost.pem")),
        "{error}"
    );
}

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn with(self, path: &str, content: impl AsRef<[u8]>) -> Self {
        let path = self.path(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        self
    }

    fn path(&self, path: &str) -> PathBuf {
        self.0.path().join(path)
    }

    fn load(&self) -> Result<std::sync::Arc<dyn Signer>, MspFolderError> {
        load_msp_folder(self.0.path(), "Org1MSP")
    }
}

/// Checks that a signer signs with the key of the certificate that it shows.
async fn assert_signs(signer: &dyn Signer, msp_id: &str, name: &str) {
    let serialized = SerializedIdentity::decode(signer.identity()).unwrap();
    assert_eq!(serialized.mspid, msp_id, "{name}");
    let identity = Identity::new(msp_id, &serialized.id_bytes).unwrap();
    assert_eq!(identity.serialized(), signer.identity(), "{name}");
    let signature = signer.sign(b"message").await.unwrap();
    let algorithm: &'static dyn VerificationAlgorithm = if *identity.key_type() == KeyType::Ed25519
    {
        &ED25519
    } else {
        &ECDSA_P256_SHA256_ASN1
    };
    let verified =
        UnparsedPublicKey::new(algorithm, identity.public_key()).verify(b"message", &signature);
    assert!(verified.is_ok(), "{name}");
}

fn pair(algorithm: &'static rcgen::SignatureAlgorithm) -> Pair {
    let key = KeyPair::generate_for(algorithm).unwrap();
    let certificate = CertificateParams::new(Vec::new())
        .unwrap()
        .self_signed(&key)
        .unwrap();
    Pair {
        certificate: certificate.pem(),
        key: key.serialize_pem(),
    }
}

/// The SEC1 DER of a P-256 key in PKCS#8.
fn sec1(pkcs8_pem: &str) -> Vec<u8> {
    let der = KeyPair::from_pem(pkcs8_pem).unwrap().serialize_der();
    let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &der).unwrap();
    let der: EcPrivateKeyRfc5915Der<'_> = key.private_key().as_der().unwrap();
    der.as_ref().to_vec()
}

/// A new key in SEC1, as PEM.
fn older(algorithm: &'static aws_lc_rs::signature::EcdsaSigningAlgorithm) -> String {
    let key = EcdsaKeyPair::generate(algorithm).unwrap();
    let der: EcPrivateKeyRfc5915Der<'_> = key.private_key().as_der().unwrap();
    pem("EC PRIVATE KEY", der.as_ref())
}

fn rsa_der() -> Vec<u8> {
    let key = aws_lc_rs::rsa::KeyPair::generate(KeySize::Rsa2048).unwrap();
    let der: aws_lc_rs::encoding::Pkcs8V1Der<'_> = key.as_der().unwrap();
    der.as_ref().to_vec()
}

fn rsa() -> String {
    pem("PRIVATE KEY", &rsa_der())
}

/// An RSA key in PKCS#1: what is left of PKCS#8 behind version, algorithm and the octet string's
/// tag and length.
fn rsa_pkcs1() -> String {
    pem("RSA PRIVATE KEY", rsa_der().get(26..).unwrap())
}

fn pem(label: &str, der: &[u8]) -> String {
    ed25519_dalek::pkcs8::spki::der::pem::encode_string(
        label,
        ed25519_dalek::pkcs8::spki::der::pem::LineEnding::LF,
        der,
    )
    .unwrap()
}

fn data(file: &str) -> Vec<u8> {
    fs::read(
        Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/data")
            .join(file),
    )
    .unwrap()
}
