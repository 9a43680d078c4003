// SPDX-License-Identifier: Apache-2.0
//! Reads the signing identity out of an MSP folder, as Fabric's tools lay it out.

use std::{
    fmt, fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use block_api::Signer;
use zeroize::Zeroizing;

use crate::{
    EcdsaP256Signer, Ed25519Signer, Identity, IdentityError, KeyError, KeyType, key::PrivateKey,
};

const SIGNCERTS: &str = "signcerts";
const KEYSTORE: &str = "keystore";

/// More than any certificate or key has; a bigger file is not read.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Why an MSP folder gives no signer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MspFolderError {
    /// A folder or a file in it cannot be read.
    #[error(
        "{} cannot be read: {source}; an MSP folder holds the folders signcerts and keystore, readable for this user",
        path.display()
    )]
    Unreadable {
        /// The folder or file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// There is no certificate in `signcerts`.
    #[error("there is no certificate in {}: put the identity's certificate there, as a PEM file", folder.display())]
    NoCertificate {
        /// The folder.
        folder: PathBuf,
    },
    /// There are several certificates in `signcerts`.
    #[error(
        "there are several certificates in {}: {} and {}; leave that of the identity alone",
        folder.display(), first.display(), second.display()
    )]
    SeveralCertificates {
        /// The folder.
        folder: PathBuf,
        /// A file with a certificate.
        first: PathBuf,
        /// Another one.
        second: PathBuf,
    },
    /// A certificate makes no identity.
    #[error("{} makes no identity: {source}", file.display())]
    Identity {
        /// The file.
        file: PathBuf,
        /// Why not.
        source: IdentityError,
    },
    /// The certificate is for a kind of key that no signer here has.
    #[error(
        "{} is an {found} certificate, which is not supported: use ECDSA on P-256 or Ed25519, or bring a signer of \
         your own",
        file.display()
    )]
    UnsupportedCertificate {
        /// The file.
        file: PathBuf,
        /// The kind.
        found: KeyType,
    },
    /// There is no file in `keystore`.
    #[error(
        "there is no file in {}: put the private key of {} there, in PKCS#8 or SEC1",
        folder.display(), certificate.display()
    )]
    NoKeys {
        /// The folder.
        folder: PathBuf,
        /// The certificate that needs a key.
        certificate: PathBuf,
    },
    /// No file in `keystore` holds the key of the certificate.
    #[error(
        "no file in {} holds the private key of {}: {}",
        folder.display(), certificate.display(), Listed(tried)
    )]
    NoMatchingKey {
        /// The folder.
        folder: PathBuf,
        /// The certificate.
        certificate: PathBuf,
        /// Every file that was tried, by name.
        tried: Vec<TriedKey>,
    },
}

/// A file that does not hold the key that is looked for.
#[derive(Debug, thiserror::Error)]
#[error("{}: {reason}", file.display())]
pub struct TriedKey {
    /// The file.
    pub file: PathBuf,
    /// Why its key is not taken.
    #[source]
    pub reason: KeyFileError,
}

/// Why the key of a file is not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyFileError {
    /// The file cannot be read.
    #[error("it cannot be read: {0}")]
    Unreadable(#[source] io::Error),
    /// What the file holds does not serve.
    #[error(transparent)]
    Key(KeyError),
}

/// Prints what was tried, separated by semicolons.
struct Listed<'a>(&'a [TriedKey]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, tried) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{tried}")?;
        }
        Ok(())
    }
}

/// Reads the signing identity of an MSP folder: the certificate in `signcerts`, and the private key
/// in `keystore` that belongs to it, whatever the files are called. The key decides between
/// [`Ed25519Signer`] and [`EcdsaP256Signer`].
///
/// Folders and hidden files are passed over, as are files in `signcerts` without a certificate.
///
/// # Errors
///
/// When there is not exactly one certificate, or no supported key belongs to it. The message names
/// every file that was tried, with the reason.
pub fn load_msp_folder(dir: &Path, msp_id: &str) -> Result<Arc<dyn Signer>, MspFolderError> {
    let (certificate, identity) = load_identity(&dir.join(SIGNCERTS), msp_id)?;
    if !identity.key_type().is_supported() {
        return Err(MspFolderError::UnsupportedCertificate {
            file: certificate,
            found: identity.key_type().clone(),
        });
    }
    let folder = dir.join(KEYSTORE);
    let mut tried = Vec::new();
    for file in files(&folder)? {
        match load_key(&file, &identity) {
            Ok(signer) => return Ok(signer),
            Err(reason) => tried.push(TriedKey { file, reason }),
        }
    }
    Err(if tried.is_empty() {
        MspFolderError::NoKeys {
            folder,
            certificate,
        }
    } else {
        MspFolderError::NoMatchingKey {
            folder,
            certificate,
            tried,
        }
    })
}

fn load_identity(folder: &Path, msp_id: &str) -> Result<(PathBuf, Identity), MspFolderError> {
    let mut loaded: Option<(PathBuf, Identity)> = None;
    for file in files(folder)? {
        let pem = read(&file).map_err(|source| MspFolderError::Unreadable {
            path: file.clone(),
            source,
        })?;
        let identity = match Identity::new(msp_id, &*pem) {
            Ok(identity) => identity,
            Err(IdentityError::NoCertificate) => continue,
            Err(source) => return Err(MspFolderError::Identity { file, source }),
        };
        match &loaded {
            None => loaded = Some((file, identity)),
            // The same certificate under two names leaves no doubt.
            Some((_, first)) if *first == identity => {}
            Some((first, _)) => {
                return Err(MspFolderError::SeveralCertificates {
                    folder: folder.to_owned(),
                    first: first.clone(),
                    second: file,
                });
            }
        }
    }
    loaded.ok_or_else(|| MspFolderError::NoCertificate {
        folder: folder.to_owned(),
    })
}

fn load_key(file: &Path, identity: &Identity) -> Result<Arc<dyn Signer>, KeyFileError> {
    let bytes = read(file).map_err(KeyFileError::Unreadable)?;
    let key = PrivateKey::parse(&bytes).map_err(KeyFileError::Key)?;
    let identity = identity.clone();
    let signer: Result<Arc<dyn Signer>, KeyError> = match &key {
        PrivateKey::Ed25519(_) => {
            Ed25519Signer::with_key(identity, key).map(|signer| Arc::new(signer) as _)
        }
        PrivateKey::EcdsaP256(_) => {
            EcdsaP256Signer::with_key(identity, key).map(|signer| Arc::new(signer) as _)
        }
    };
    signer.map_err(KeyFileError::Key)
}

/// The files of a folder, in the order of their names. Secrets that Kubernetes mounts are links
/// into a hidden folder, so links are followed and what is hidden is not.
fn files(folder: &Path) -> Result<Vec<PathBuf>, MspFolderError> {
    let unreadable = |source| MspFolderError::Unreadable {
        path: folder.to_owned(),
        source,
    };
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        let hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
        let path = entry.path();
        if !hidden && !path.is_dir() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Reads a file into memory that is wiped when it is dropped.
fn read(file: &Path) -> io::Result<Zeroizing<Vec<u8>>> {
    let opened = fs::File::open(file)?;
    let length = opened.metadata()?.len();
    let too_large = || {
        io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("it has more than {MAX_FILE_BYTES} bytes"),
        )
    };
    if length > MAX_FILE_BYTES {
        return Err(too_large());
    }
    // With all the room from the start the buffer does not move, which would leave a copy behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(length as usize + 1));
    opened.take(length + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}
