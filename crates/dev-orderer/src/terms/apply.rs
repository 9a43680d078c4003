// SPDX-License-Identifier: Apache-2.0
//! Making changes to what is in force.

use std::{time::SystemTime, vec};

use block_api::Endpoint;

use super::{OrdererNode, Terms, V3_0};
use crate::{
    change::{CapabilityGroup, Change, ChangeError},
    config::{ConfigError, Consensus},
    pki::{Organization, OrganizationSpec, Role},
};

// The kinds of organisation, for errors.
const ORDERER: &str = "orderer";
const APPLICATION: &str = "application";

/// What changes need from outside.
pub(crate) struct Supply {
    /// One for each node that comes or moves.
    pub(crate) endpoints: vec::IntoIter<Endpoint>,
    pub(crate) now: SystemTime,
}

impl Supply {
    fn endpoint(&mut self) -> Endpoint {
        self.endpoints
            .next()
            .expect("invariant: there is an endpoint for each node that comes or moves")
    }
}

impl Terms {
    /// What is in force after changes, made in their order.
    pub(crate) fn changed(
        &self,
        changes: &[Change],
        mut supply: Supply,
    ) -> Result<Self, ChangeError> {
        let mut changed = self.clone();
        for change in changes {
            changed.apply(change, &mut supply)?;
        }
        changed.check()?;
        Ok(changed)
    }

    fn apply(&mut self, change: &Change, supply: &mut Supply) -> Result<(), ChangeError> {
        match change {
            Change::AddOrderers {
                organization,
                nodes,
            } => {
                let made = self.new_organization(organization, supply.now)?;
                self.orderers.push(made);
                for _ in 0..*nodes {
                    self.add_node(&organization.name, supply.endpoint())?;
                }
            }
            Change::RemoveOrderers { organization } => {
                remove(&mut self.orderers, ORDERER, organization)?;
                self.nodes.retain(|node| node.organization != *organization);
            }
            Change::AddNode { organization } => {
                find(&mut self.orderers, ORDERER, organization)?;
                self.add_node(organization, supply.endpoint())?;
            }
            Change::RemoveNode { node } => {
                let removed = self.node(*node)?.clone();
                self.nodes.retain(|kept| kept.id != *node);
                find(&mut self.orderers, ORDERER, &removed.organization)?
                    .remove(removed.member.name());
            }
            Change::ReplaceCertificates { node } => self.issue_again(*node)?,
            Change::MoveNode { node } => {
                let endpoint = supply.endpoint();
                let moved = self.node(*node)?;
                let other_host = moved.endpoint.host() != endpoint.host();
                moved.endpoint = endpoint;
                if other_host {
                    // The TLS certificate is good for the hosts that it names.
                    self.issue_again(*node)?;
                }
            }
            Change::AddTlsAuthority { organization } => self
                .any_organization(organization)?
                .add_tls_authority(supply.now)?,
            Change::RemoveOldTlsAuthorities { organization } => self
                .any_organization(organization)?
                .remove_older_tls_authorities(),
            Change::AddApplication { organization } => {
                let made = self.new_organization(organization, supply.now)?;
                self.applications.push(made);
            }
            Change::RemoveApplication { organization } => {
                remove(&mut self.applications, APPLICATION, organization)?;
            }
            Change::SetCapability { group, name } => {
                let capability = match group {
                    CapabilityGroup::Channel => &mut self.capabilities.channel,
                    CapabilityGroup::Orderer => &mut self.capabilities.orderer,
                    CapabilityGroup::Application => &mut self.capabilities.application,
                };
                capability.clone_from(name);
            }
            Change::SetBatch(batch) => self.batch = batch.clone(),
            Change::EnterMaintenance => self.maintenance = true,
            Change::MigrateToBft => {
                if !self.maintenance {
                    return Err(ChangeError::NotInMaintenance);
                }
                if self.capabilities.channel != V3_0 {
                    return Err(ChangeError::NeedsCapability {
                        capability: self.capabilities.channel.clone(),
                    });
                }
                self.consensus = Consensus::Bft;
            }
            Change::LeaveMaintenance => self.maintenance = false,
        }
        Ok(())
    }

    /// What must be so however it came about.
    fn check(&self) -> Result<(), ConfigError> {
        self.batch.validate()?;
        if self.nodes.is_empty() {
            return Err(ConfigError::NoOrderer);
        }
        for organization in &self.orderers {
            if self.nodes_of(organization.name()).next().is_none() {
                return Err(ConfigError::OrganizationWithoutNode {
                    name: organization.name().to_owned(),
                });
            }
        }
        if self.client().is_none() {
            return Err(ConfigError::NoClient);
        }
        Ok(())
    }

    fn new_organization(
        &self,
        spec: &OrganizationSpec,
        now: SystemTime,
    ) -> Result<Organization, ChangeError> {
        let same = |other: &Organization| other.name().eq_ignore_ascii_case(&spec.name);
        if self.orderers.iter().chain(&self.applications).any(same) {
            return Err(ConfigError::DuplicateOrganization {
                name: spec.name.clone(),
            }
            .into());
        }
        Ok(Organization::generate(spec, self.key_kind, now)?)
    }

    fn any_organization(&mut self, name: &str) -> Result<&mut Organization, ChangeError> {
        if self.orderers.iter().any(|orderer| orderer.name() == name) {
            return find(&mut self.orderers, ORDERER, name);
        }
        find(&mut self.applications, "orderer or application", name)
    }

    fn node(&mut self, id: u32) -> Result<&mut OrdererNode, ChangeError> {
        self.nodes
            .iter_mut()
            .find(|node| node.id == id)
            .ok_or(ChangeError::UnknownNode { node: id })
    }

    /// New certificates for a node, under its name.
    fn issue_again(&mut self, id: u32) -> Result<(), ChangeError> {
        let node = self.node(id)?.clone();
        let organization = find(&mut self.orderers, ORDERER, &node.organization)?;
        let member = organization.issue_reached_by(
            node.member.name(),
            Role::Orderer,
            &[node.endpoint.host()],
        )?;
        organization.insert(member.clone());
        self.node(id)?.member = member;
        Ok(())
    }
}

fn find<'a>(
    organizations: &'a mut [Organization],
    what: &'static str,
    name: &str,
) -> Result<&'a mut Organization, ChangeError> {
    organizations
        .iter_mut()
        .find(|organization| organization.name() == name)
        .ok_or_else(|| unknown(what, name))
}

fn remove(
    organizations: &mut Vec<Organization>,
    what: &'static str,
    name: &str,
) -> Result<(), ChangeError> {
    let index = organizations
        .iter()
        .position(|organization| organization.name() == name)
        .ok_or_else(|| unknown(what, name))?;
    organizations.remove(index);
    Ok(())
}

fn unknown(what: &'static str, name: &str) -> ChangeError {
    ChangeError::UnknownOrganization {
        what,
        name: name.to_owned(),
    }
}
