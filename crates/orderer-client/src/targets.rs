// SPDX-License-Identifier: Apache-2.0
//! How each endpoint is reached: what was given for it, joined and made ready.

use std::{collections::BTreeMap, mem, sync::Arc};

use block_api::{Clock, Endpoint};
use rustls::pki_types::CertificateDer;

use crate::{
    config::{Config, NotTaken, OrdererEndpoint},
    connection::Target,
};

/// The endpoints in the order in which they were given, and how each is reached.
#[derive(Debug, Default)]
pub(crate) struct Targets {
    pub(crate) order: Vec<Endpoint>,
    pub(crate) by_endpoint: BTreeMap<Endpoint, Target>,
}

impl Targets {
    /// Those that can be used, and what cannot.
    pub(crate) fn resolve(
        endpoints: &[OrdererEndpoint],
        config: &Config,
        clock: &Arc<dyn Clock>,
    ) -> (Self, Vec<NotTaken>) {
        let mut targets = Self::default();
        let mut not_taken = Vec::new();
        for (endpoint, roots) in joined(endpoints) {
            let found = config
                .overrides
                .iter()
                .find(|entry| entry.from == *endpoint);
            let address = found.map_or(endpoint, |entry| &entry.to);
            let roots = match found.and_then(|entry| entry.tls_roots.as_ref()) {
                Some(roots) => roots.iter().collect(),
                None => roots,
            };
            let (roots, unusable) = config.tls.roots(endpoint, &roots);
            not_taken.extend(unusable.into_iter().map(|reason| NotTaken::TlsRoot {
                endpoint: endpoint.clone(),
                reason,
            }));
            match config.tls.for_target(endpoint, address, roots, clock) {
                Ok(tls) => targets.insert(Target {
                    endpoint: endpoint.clone(),
                    address: address.clone(),
                    tls,
                }),
                Err(reason) => not_taken.push(NotTaken::Endpoint {
                    endpoint: endpoint.clone(),
                    reason,
                }),
            }
        }
        (targets, not_taken)
    }

    /// Takes endpoints that could not be used as they were before, where they were.
    pub(crate) fn keep(&mut self, before: &Self, not_taken: &mut Vec<NotTaken>) {
        for entry in mem::take(not_taken) {
            not_taken.push(match entry {
                NotTaken::Endpoint { endpoint, reason } => {
                    match before.by_endpoint.get(&endpoint) {
                        Some(target) => {
                            self.insert(target.clone());
                            NotTaken::Change { endpoint, reason }
                        }
                        None => NotTaken::Endpoint { endpoint, reason },
                    }
                }
                other => other,
            });
        }
    }

    fn insert(&mut self, target: Target) {
        self.order.push(target.endpoint.clone());
        self.by_endpoint.insert(target.endpoint.clone(), target);
    }
}

/// Each endpoint once, where it was given first, with the roots of all who gave it.
fn joined(
    endpoints: &[OrdererEndpoint],
) -> impl Iterator<Item = (&Endpoint, Vec<&CertificateDer<'static>>)> {
    let mut order = Vec::new();
    let mut roots: BTreeMap<&Endpoint, Vec<&CertificateDer<'static>>> = BTreeMap::new();
    for given in endpoints {
        let known = roots.entry(&given.endpoint).or_insert_with(|| {
            order.push(&given.endpoint);
            Vec::new()
        });
        for root in &given.tls_roots {
            if !known.contains(&root) {
                known.push(root);
            }
        }
    }
    order
        .into_iter()
        .map(move |endpoint| (endpoint, roots.remove(endpoint).unwrap_or_default()))
}
