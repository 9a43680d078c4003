// SPDX-License-Identifier: Apache-2.0
//! Organisational units: how an MSP tells its identities apart.

use aws_lc_rs::digest::{Algorithm, Context};
use protos::msp::{FabricNodeOUs, FabricOuIdentifier};

use crate::{
    certificate::Certificate,
    msp::{Msp, MspError, MspVersion, chain::sanitised},
};

/// The organisational unit of a role, and the hash over the chain of who must certify it.
#[derive(Debug, Clone)]
pub(super) struct Unit {
    pub(super) name: String,
    /// Empty when anyone may.
    pub(super) certifiers: Box<[u8]>,
}

/// How identities are told apart by organisational unit.
#[derive(Debug, Clone, Default)]
pub(super) struct NodeUnits {
    pub(super) enforced: bool,
    pub(super) client: Option<Unit>,
    pub(super) peer: Option<Unit>,
    pub(super) admin: Option<Unit>,
    pub(super) orderer: Option<Unit>,
}

impl NodeUnits {
    /// The unit of a role with this name. Where two roles share a name the later one counts, as
    /// for Fabric.
    pub(super) fn find(&self, name: &str) -> Option<&Unit> {
        let units = [&self.orderer, &self.admin, &self.peer, &self.client];
        units.into_iter().flatten().find(|unit| unit.name == name)
    }
}

impl Msp {
    pub(super) fn node_units_of(
        &self,
        config: Option<&FabricNodeOUs>,
    ) -> Result<NodeUnits, MspError> {
        let Some(config) = config else {
            return Ok(NodeUnits::default());
        };
        let unit = |unit: &Option<FabricOuIdentifier>| -> Result<Option<Unit>, MspError> {
            let Some(unit) = unit else { return Ok(None) };
            let certifiers = if unit.certificate.is_empty() {
                Box::default()
            } else {
                self.certifiers_of(unit)?
            };
            Ok(Some(Unit {
                name: unit.organizational_unit_identifier.clone(),
                certifiers,
            }))
        };
        let client = unit(&config.client_ou_identifier)?;
        let peer = unit(&config.peer_ou_identifier)?;
        if self.version < MspVersion::V1_4_3 {
            let named =
                |unit: &Option<Unit>| unit.as_ref().is_some_and(|unit| !unit.name.is_empty());
            if !named(&client) || !named(&peer) {
                return Err(MspError::NodeOus {
                    msp_id: self.owned_id(),
                });
            }
            return Ok(NodeUnits {
                enforced: config.enable,
                client,
                peer,
                ..NodeUnits::default()
            });
        }
        let admin = unit(&config.admin_ou_identifier)?;
        let orderer = unit(&config.orderer_ou_identifier)?;
        let some = [&client, &peer, &admin, &orderer]
            .into_iter()
            .any(Option::is_some);
        Ok(NodeUnits {
            enforced: config.enable && some,
            client,
            peer,
            admin,
            orderer,
        })
    }

    /// The hash over the chain of the authority that must certify an organisational unit.
    pub(super) fn certifiers_of(&self, unit: &FabricOuIdentifier) -> Result<Box<[u8]>, MspError> {
        let name = &unit.organizational_unit_identifier;
        let unknown = || MspError::UnitIssuer {
            msp_id: self.owned_id(),
            unit: name.clone(),
        };
        let certificate = Certificate::from_pem(&unit.certificate).map_err(|_| unknown())?;
        let certificate = sanitised(certificate, &self.authorities).map_err(|_| unknown())?;
        if !self
            .authorities
            .all()
            .any(|authority| authority.der == certificate.der)
        {
            return Err(unknown());
        }
        if self.authorities.has_root(&certificate) {
            return Ok(hash_chain(self.identity_hash, [&certificate]));
        }
        if self.issuers_of_authorities.contains(&certificate.der) {
            return Err(unknown());
        }
        let chain = self
            .authorities
            .chain(&certificate)
            .map_err(|_| unknown())?;
        Ok(hash_chain(self.identity_hash, chain))
    }
}

/// The hash that says which authorities certified something: over the certificates of the chain.
pub(super) fn hash_chain<'a>(
    algorithm: &'static Algorithm,
    chain: impl IntoIterator<Item = &'a Certificate>,
) -> Box<[u8]> {
    let mut hash = Context::new(algorithm);
    for certificate in chain {
        hash.update(&certificate.der);
    }
    hash.finish().as_ref().into()
}
