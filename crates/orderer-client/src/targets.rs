// SPDX-License-Identifier: Apache-2.0
//! How each endpoint is reached: what was given for it, joined and made ready.

use std::{collections::BTreeMap, mem, sync::Arc};

use block_api::{Clock, Endpoint};
use rustls::pki_types::CertificateDer;

use crate::{
    config::{Config, NotTaken, OrdererEndpoint, Tls},
    connection::Target,
};

/// The endpoints in the order in which they were given, and how each is reached.
#[derive(Debug, Default)]
pub(crate) struct Targets {
    pub(crate) order: Vec<Endpoint>,
    pub(crate) by_endpoint: BTreeMap<Endpoint, Target>,
    /// Where each is dialled and whom it must be: what makes a change of them.
    pub(crate) ways: BTreeMap<Endpoint, Way>,
    /// At which change of the targets each was last reached otherwise.
    pub(crate) since: BTreeMap<Endpoint, u64>,
}

/// An address, and the roots that are trusted there.
pub(crate) type Way = (Endpoint, Vec<CertificateDer<'static>>);

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
            let trusted = match config.tls {
                Tls::Plain => Vec::new(),
                Tls::Server | Tls::Mutual { .. } => roots.iter().copied().cloned().collect(),
            };
            let (roots, unusable) = config.tls.roots(endpoint, &roots);
            not_taken.extend(unusable.into_iter().map(|reason| NotTaken::TlsRoot {
                endpoint: endpoint.clone(),
                reason,
            }));
            match config.tls.for_target(endpoint, address, roots, clock) {
                Ok(tls) => {
                    let target = Target {
                        endpoint: endpoint.clone(),
                        address: address.clone(),
                        tls,
                    };
                    targets.insert(target, (address.clone(), trusted));
                }
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
                    let known = before.by_endpoint.get(&endpoint);
                    match known.zip(before.ways.get(&endpoint)) {
                        Some((target, way)) => {
                            self.insert(target.clone(), way.clone());
                            NotTaken::Change { endpoint, reason }
                        }
                        None => NotTaken::Endpoint { endpoint, reason },
                    }
                }
                other @ (NotTaken::TlsRoot { .. } | NotTaken::Change { .. }) => other,
            });
        }
    }

    /// Takes note of what became another way, at a change with this number.
    pub(crate) fn follow(&mut self, before: &Self, change: u64) {
        for (endpoint, way) in &self.ways {
            let same = before.ways.get(endpoint) == Some(way);
            let since = before.since.get(endpoint).filter(|_| same);
            let since = since.copied().unwrap_or(change);
            self.since.insert(endpoint.clone(), since);
        }
    }

    fn insert(&mut self, target: Target, way: Way) {
        self.order.push(target.endpoint.clone());
        self.ways.insert(target.endpoint.clone(), way);
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
