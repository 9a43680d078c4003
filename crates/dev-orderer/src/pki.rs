// SPDX-License-Identifier: Apache-2.0
//! Organisations with throw-away authorities, and the identities that they issue.

mod authority;
mod folder;
mod member;
mod public;

use std::{collections::BTreeMap, fmt, mem, sync::Arc, time::SystemTime};

use block_api::BoxError;
use bytes::Bytes;
use prost::Message as _;
use protos::msp::{
    FabricCryptoConfig, FabricMspConfig, FabricNodeOUs, FabricOuIdentifier, MspConfig,
};

use self::{
    authority::Authority,
    member::qualified_name,
    public::{Certificates, TlsRoot},
};
pub use self::{folder::File, member::Member};

/// The names by which a TLS server of the network is reached, beside its own.
const LOOPBACK_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// The kind of key that identities have. TLS keys are ECDSA always.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeyKind {
    /// ECDSA on P-256, which every channel takes.
    #[default]
    EcdsaP256,
    /// Ed25519, which a channel takes from the capability V3_0 on.
    Ed25519,
}

/// What a certificate's organisational unit says of its holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// An application, which reads and writes.
    Client,
    /// A peer, which reads.
    Peer,
    /// An administrator.
    Admin,
    /// A node of the ordering service.
    Orderer,
}

/// An organisation that is to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrganizationSpec {
    /// Its name in the channel configuration, such as `Org1`. The MSP id is the name and `MSP`.
    pub name: String,
    /// The members that it begins with, by name and role.
    pub members: Vec<(String, Role)>,
}

/// An organisation: its authorities, and its members. Clones share the keys.
#[derive(Clone)]
pub struct Organization {
    name: String,
    kind: KeyKind,
    ca: Arc<Authority>,
    /// The newest one.
    tls_ca: Arc<Authority>,
    authorities: Arc<Certificates>,
    members: BTreeMap<String, Member>,
}

/// Keys or certificates could not be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PkiError {
    /// The certificate library refused.
    #[error("a throw-away certificate was not made: {0}")]
    Certificate(#[from] rcgen::Error),
    /// The signer did not take a key that was made here.
    #[error("the signer does not take the key of {member}: {source}")]
    Signer {
        /// The member.
        member: String,
        /// What the signer said.
        source: BoxError,
    },
    /// A name that cannot stand in a certificate or a path.
    #[error("{name:?} is no name for {what}: use letters, digits, dots, dashes and underscores")]
    Name {
        /// What it was to name.
        what: &'static str,
        /// The name.
        name: String,
    },
}

impl Role {
    /// All roles, in the order in which an MSP's configuration names them.
    pub(crate) const ALL: [Self; 4] = [Self::Client, Self::Peer, Self::Admin, Self::Orderer];

    /// The organisational unit that stands for the role.
    pub(crate) fn unit(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Peer => "peer",
            Self::Admin => "admin",
            Self::Orderer => "orderer",
        }
    }
}

impl OrganizationSpec {
    /// An organisation with this name and these members.
    pub fn new<'a>(name: &str, members: impl IntoIterator<Item = (&'a str, Role)>) -> Self {
        Self {
            name: name.to_owned(),
            members: members
                .into_iter()
                .map(|(name, role)| (name.to_owned(), role))
                .collect(),
        }
    }

    /// An organisation that orders, as tests want it: `admin`, and the nodes that it is given.
    pub fn orderer(name: &str) -> Self {
        Self::new(name, [("admin", Role::Admin)])
    }

    /// An application organisation as tests want it: `peer0`, the client `user1` and `admin`.
    pub fn application(name: &str) -> Self {
        Self::new(
            name,
            [
                ("peer0", Role::Peer),
                ("user1", Role::Client),
                ("admin", Role::Admin),
            ],
        )
    }

    pub(crate) fn has_client(&self) -> bool {
        self.members.iter().any(|(_, role)| *role == Role::Client)
    }
}

impl Organization {
    /// Makes the organisation: an authority for identities, one for TLS, and its members.
    ///
    /// Certificates begin the day before `now` and run for ten years.
    ///
    /// # Errors
    ///
    /// When a name cannot stand in a certificate or a path.
    pub fn generate(
        spec: &OrganizationSpec,
        kind: KeyKind,
        now: SystemTime,
    ) -> Result<Self, PkiError> {
        check_name("an organisation", &spec.name)?;
        let domain = format!("{}.test", spec.name.to_lowercase());
        let ca = Authority::new(&domain, &format!("ca.{domain}"), kind, now)?;
        let tls_ca = tls_authority(&domain, now)?;
        let authorities = Arc::new(Certificates {
            msp_id: format!("{}MSP", spec.name),
            ca_pem: ca.certificate_pem(),
            tls_ca: TlsRoot::of(&tls_ca),
            older_tls_cas: Vec::new(),
            domain,
        });
        let mut organization = Self {
            name: spec.name.clone(),
            kind,
            ca: Arc::new(ca),
            tls_ca: Arc::new(tls_ca),
            authorities,
            members: BTreeMap::new(),
        };
        for (name, role) in &spec.members {
            let member = organization.issue(name, *role)?;
            organization.members.insert(name.clone(), member);
        }
        Ok(organization)
    }

    /// Issues an identity and a TLS certificate. The member is the caller's; it does not join
    /// [`members`](Self::members).
    ///
    /// # Errors
    ///
    /// When the name cannot stand in a certificate or a path.
    pub fn issue(&self, name: &str, role: Role) -> Result<Member, PkiError> {
        self.issue_reached_by(name, role, &[])
    }

    /// Issues a member whose TLS certificate has these names beside those of the loopback.
    pub(crate) fn issue_reached_by(
        &self,
        name: &str,
        role: Role,
        names: &[&str],
    ) -> Result<Member, PkiError> {
        check_name("a member", name)?;
        let common_name = qualified_name(name, role, &self.authorities.domain);
        let tls_names: Vec<&str> = match role {
            Role::Client | Role::Admin => Vec::new(),
            Role::Peer | Role::Orderer => {
                let mut all = vec![common_name.as_str(), name];
                all.extend(LOOPBACK_NAMES.iter().chain(names));
                // A name that comes twice is legal and looks odd.
                let mut seen = Vec::new();
                all.retain(|name| {
                    !seen.contains(name) && {
                        seen.push(*name);
                        true
                    }
                });
                all
            }
        };
        let identity = self
            .ca
            .issue_identity(role.unit(), &common_name, self.kind)?;
        let tls = self.tls_ca.issue_tls(&common_name, &tls_names)?;
        Member::new(
            name,
            role,
            self.kind,
            self.authorities.clone(),
            identity,
            tls,
        )
    }

    /// Takes a member in, in the place of one of the same name.
    pub(crate) fn insert(&mut self, member: Member) {
        self.members.insert(member.name().to_owned(), member);
    }

    pub(crate) fn remove(&mut self, member: &str) {
        self.members.remove(member);
    }

    /// Begins a new authority for TLS, which issues from here on; the organisation goes on naming
    /// the older ones.
    pub(crate) fn add_tls_authority(&mut self, now: SystemTime) -> Result<(), PkiError> {
        let tls_ca = tls_authority(&self.authorities.domain, now)?;
        let mut authorities = Certificates::clone(&self.authorities);
        let older = mem::replace(&mut authorities.tls_ca, TlsRoot::of(&tls_ca));
        authorities.older_tls_cas.push(older);
        self.authorities = Arc::new(authorities);
        self.tls_ca = Arc::new(tls_ca);
        Ok(())
    }

    /// Names the newest authority for TLS alone.
    pub(crate) fn remove_older_tls_authorities(&mut self) {
        let mut authorities = Certificates::clone(&self.authorities);
        authorities.older_tls_cas.clear();
        self.authorities = Arc::new(authorities);
    }

    /// The name in the channel configuration.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The MSP id.
    pub fn msp_id(&self) -> &str {
        &self.authorities.msp_id
    }

    /// The members, in the order of their names.
    pub fn members(&self) -> impl Iterator<Item = (&str, &Member)> {
        self.members
            .iter()
            .map(|(name, member)| (name.as_str(), member))
    }

    /// The member of this name, if there is one.
    pub fn member(&self, name: &str) -> Option<&Member> {
        self.members.get(name)
    }

    /// The certificate of the authority for identities, as PEM.
    pub fn ca_pem(&self) -> &str {
        &self.authorities.ca_pem
    }

    /// The certificate of the newest authority for TLS, as PEM.
    pub fn tls_ca_pem(&self) -> &str {
        &self.authorities.tls_ca.pem
    }

    /// The certificate of the newest authority for TLS, as DER.
    pub fn tls_ca_der(&self) -> &[u8] {
        &self.authorities.tls_ca.der
    }

    /// The certificates of all authorities for TLS that the organisation names, as DER, the newest
    /// one first.
    pub fn tls_roots_der(&self) -> impl Iterator<Item = &[u8]> {
        self.authorities.tls_cas().map(|root| root.der.as_slice())
    }

    /// The same certificates as PEM, one after the other.
    pub(crate) fn tls_roots_pem(&self) -> String {
        self.authorities.tls_pem()
    }

    /// The MSP of the organisation, as a channel configuration holds it: with node OUs and no
    /// listed administrators.
    pub fn msp_config(&self) -> MspConfig {
        let ca = Bytes::from(self.authorities.ca_pem.clone());
        let unit = |role: Role| {
            Some(FabricOuIdentifier {
                certificate: ca.clone(),
                organizational_unit_identifier: role.unit().to_owned(),
            })
        };
        let config = FabricMspConfig {
            name: self.authorities.msp_id.clone(),
            root_certs: vec![ca.clone()],
            crypto_config: Some(FabricCryptoConfig {
                signature_hash_family: "SHA2".to_owned(),
                identity_identifier_hash_function: "SHA256".to_owned(),
            }),
            tls_root_certs: self
                .authorities
                .tls_cas()
                .map(|root| Bytes::from(root.pem.clone()))
                .collect(),
            fabric_node_ous: Some(FabricNodeOUs {
                enable: true,
                client_ou_identifier: unit(Role::Client),
                peer_ou_identifier: unit(Role::Peer),
                admin_ou_identifier: unit(Role::Admin),
                orderer_ou_identifier: unit(Role::Orderer),
            }),
            ..FabricMspConfig::default()
        };
        MspConfig {
            r#type: 0,
            config: config.encode_to_vec().into(),
        }
    }

    /// The files of the organisation and its members, private keys among them, below a folder
    /// with the lower-case name of the organisation: `org1/msp/…`, `org1/user1/msp/…`,
    /// `org1/user1/tls/…`.
    pub fn files(&self) -> Vec<File> {
        folder::organization(self)
    }
}

impl fmt::Debug for Organization {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Organization")
            .field("name", &self.name)
            .field("msp_id", &self.authorities.msp_id)
            .field("members", &self.members)
            .finish_non_exhaustive()
    }
}

fn tls_authority(domain: &str, now: SystemTime) -> Result<Authority, PkiError> {
    Authority::new(domain, &format!("tlsca.{domain}"), KeyKind::EcdsaP256, now)
}

fn check_name(what: &'static str, name: &str) -> Result<(), PkiError> {
    let legal = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.is_empty() || name.starts_with('.') || !name.chars().all(legal) {
        return Err(PkiError::Name {
            what,
            name: name.to_owned(),
        });
    }
    Ok(())
}
