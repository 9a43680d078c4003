// SPDX-License-Identifier: Apache-2.0
//! Chains of certificates, found and judged as Go's verification does it.

use crate::certificate::{Certificate, CertificateError};

/// How many certificate signatures one search checks, the limit of Go.
const MAX_CHECKS: usize = 100;

/// Why there is no chain from a certificate to a root.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChainError {
    /// A certificate is not valid one second after the leaf became valid, the time at which
    /// Fabric looks.
    #[error("the certificate of {subject} is not valid at the time when the identity's begins")]
    Time {
        /// Whose certificate.
        subject: String,
    },
    /// A critical extension is unknown.
    #[error("the certificate of {subject} has the unknown critical extension {oid}")]
    UnknownCritical {
        /// Whose certificate.
        subject: String,
        /// The object identifier of the extension.
        oid: String,
    },
    /// No authority of the MSP signed it.
    #[error("no authority of the MSP vouches for the certificate of {subject}")]
    NoAuthority {
        /// Whose certificate.
        subject: String,
    },
    /// A certificate in the chain is for other uses.
    #[error("the extended key usages in the chain of {subject} leave out server authentication")]
    KeyUsage {
        /// Whose certificate.
        subject: String,
    },
    /// An authority constrains names, and there are names to which that may apply. Constraints are
    /// not evaluated here.
    #[error(
        "an authority of {subject} constrains names, which is not supported where certificates have alternative names"
    )]
    NameConstraints {
        /// Whose certificate.
        subject: String,
    },
    /// More than one chain leads to a root.
    #[error(
        "{count} chains lead from the certificate of {subject} to a root; an MSP takes exactly one"
    )]
    Ambiguous {
        /// Whose certificate.
        subject: String,
        /// How many.
        count: usize,
    },
}

/// The authorities of an MSP.
#[derive(Debug, Clone, Default)]
pub(super) struct Authorities {
    roots: Vec<Certificate>,
    intermediates: Vec<Certificate>,
}

/// A search for the chains from a certificate to a root.
struct Search<'a> {
    /// The time at which all certificates have to be valid.
    at: i64,
    checks: usize,
    /// Whether a way was left because an authority on it constrains names that are there.
    meets_constraints: bool,
    chains: Vec<Vec<&'a Certificate>>,
}

impl Authorities {
    pub(super) fn new(roots: Vec<Certificate>, intermediates: Vec<Certificate>) -> Self {
        let distinct = |certificates: Vec<Certificate>| {
            let mut distinct: Vec<Certificate> = Vec::with_capacity(certificates.len());
            for certificate in certificates {
                if !distinct
                    .iter()
                    .any(|earlier| earlier.der == certificate.der)
                {
                    distinct.push(certificate);
                }
            }
            distinct
        };
        Self {
            roots: distinct(roots),
            intermediates: distinct(intermediates),
        }
    }

    pub(super) fn intermediates(&self) -> &[Certificate] {
        &self.intermediates
    }

    /// All authorities, roots first.
    pub(super) fn all(&self) -> impl Iterator<Item = &Certificate> {
        self.roots.iter().chain(&self.intermediates)
    }

    pub(super) fn has_root(&self, certificate: &Certificate) -> bool {
        self.roots.iter().any(|root| root.der == certificate.der)
    }

    /// The one chain from a certificate, which comes first, to a root (semantics §2.6).
    pub(super) fn chain<'a>(
        &'a self,
        leaf: &'a Certificate,
    ) -> Result<Vec<&'a Certificate>, ChainError> {
        // Fabric looks at this moment, so that expiry does not matter.
        let at = leaf.not_before.saturating_add(1);
        check(leaf, at)?;
        let mut search = Search {
            at,
            checks: 0,
            meets_constraints: false,
            chains: Vec::new(),
        };
        if self.has_root(leaf) {
            search.chains.push(vec![leaf]);
        } else {
            self.extend(&[leaf], &mut search);
        }
        let subject = || leaf.subject.clone();
        if search.meets_constraints {
            return Err(ChainError::NameConstraints { subject: subject() });
        }
        let mut chains = search.chains;
        if chains.is_empty() {
            return Err(ChainError::NoAuthority { subject: subject() });
        }
        chains.retain(|chain| chain.iter().all(|certificate| certificate.usable));
        match chains.len() {
            0 => Err(ChainError::KeyUsage { subject: subject() }),
            1 => Ok(chains.swap_remove(0)),
            count => Err(ChainError::Ambiguous {
                subject: subject(),
                count,
            }),
        }
    }

    /// Finds every way from the last certificate of `chain` to a root. It ends because no authority
    /// comes twice and because the signature checks are counted.
    fn extend<'a>(&'a self, chain: &[&'a Certificate], search: &mut Search<'a>) {
        let Some(child) = chain.last() else { return };
        let roots = self.roots.iter().map(|root| (root, true));
        let intermediates = self
            .intermediates
            .iter()
            .map(|intermediate| (intermediate, false));
        for (parent, is_root) in roots.chain(intermediates) {
            if !child.names_as_issuer(parent)
                || chain.iter().any(|link| link.is_same_authority(parent))
            {
                continue;
            }
            search.checks += 1;
            if search.checks > MAX_CHECKS {
                return;
            }
            let between = chain.len() - 1;
            let fits = child.is_signed_by(parent)
                && check(parent, search.at).is_ok()
                && (is_root || parent.is_ca)
                && parent
                    .max_intermediates
                    .is_none_or(|limit| between <= limit);
            if !fits {
                continue;
            }
            if parent.name_constraints && chain.iter().any(|link| link.has_other_names()) {
                search.meets_constraints = true;
                continue;
            }
            let longer = [chain, &[parent]].concat();
            if is_root {
                search.chains.push(longer);
            } else {
                self.extend(&longer, search);
            }
        }
    }
}

/// What Go checks of every certificate in a chain.
fn check(certificate: &Certificate, at: i64) -> Result<(), ChainError> {
    let subject = || certificate.subject.clone();
    if let Some(oid) = &certificate.unknown_critical {
        return Err(ChainError::UnknownCritical {
            subject: subject(),
            oid: oid.clone(),
        });
    }
    if at < certificate.not_before || at > certificate.not_after {
        return Err(ChainError::Time { subject: subject() });
    }
    Ok(())
}

/// The certificate in its low-S form, for the authority that signed it (semantics §2.6).
pub(super) fn sanitised(
    certificate: Certificate,
    authorities: &Authorities,
) -> Result<Certificate, SanitiseError> {
    if !certificate.is_ecdsa_signed() {
        return Ok(certificate);
    }
    if certificate.is_ca && certificate.is_signed_by(&certificate) {
        let curve = certificate.key.curve();
        let root = certificate.with_low_s(curve)?;
        Authorities::new(vec![root.clone()], Vec::new()).chain(&root)?;
        return Ok(root);
    }
    let curve = match authorities.chain(&certificate)?.get(1) {
        Some(issuer) => issuer.key.curve(),
        None => {
            return Err(ChainError::NoAuthority {
                subject: certificate.subject,
            }
            .into());
        }
    };
    Ok(certificate.with_low_s(curve)?)
}

/// A certificate has no low-S form.
#[derive(Debug, Clone, thiserror::Error)]
pub(super) enum SanitiseError {
    #[error(transparent)]
    Chain(#[from] ChainError),
    #[error(transparent)]
    Certificate(#[from] CertificateError),
}
