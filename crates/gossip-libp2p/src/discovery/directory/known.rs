// SPDX-License-Identifier: Apache-2.0
//! What is known of one node that others told of.

use std::collections::BTreeMap;

use libp2p::{Multiaddr, PeerId};
use tokio::time::Instant;

use crate::discovery::{
    address::{Host, dialable},
    record::{Record, Scope},
};

/// After so many attempts that failed a node is not dialled until it says that it is elsewhere.
pub(super) const HOPELESS: u32 = 10;

#[derive(Debug)]
pub(super) struct Known {
    /// Who told of it.
    pub(super) teller: PeerId,
    pub(super) records: BTreeMap<Scope, Record>,
    /// Where to dial it, and where each address leads.
    pub(super) addresses: Vec<(Multiaddr, Option<Host>)>,
    pub(super) state: State,
    /// Where the addresses lead that were dialled last, each as often as it was.
    pub(super) dialled: Vec<Host>,
    /// Attempts since a connection last held.
    pub(super) attempts: u32,
    /// Whether a record says that it is of the own organisation.
    pub(super) claims: bool,
    /// Whether it proved to be of another one.
    pub(super) disproved: bool,
    /// Whether it was dialled for what it claims.
    pub(super) as_mate: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Waiting(Instant),
    Dialling,
    Connected(Instant),
    /// Nobody is where it is said to be.
    Hopeless,
}

impl Known {
    pub(super) fn new(teller: PeerId, state: State) -> Self {
        Self {
            teller,
            records: BTreeMap::new(),
            addresses: Vec::new(),
            state,
            dialled: Vec::new(),
            attempts: 0,
            claims: false,
            disproved: false,
            as_mate: false,
        }
    }

    /// Whether it is of the own organisation, as far as it says and nothing speaks against it.
    pub(super) fn is_mate(&self) -> bool {
        self.claims && !self.disproved
    }

    pub(super) fn is_other(&self) -> bool {
        !self.is_mate()
    }

    /// Takes from the records whether it claims to be of this organisation.
    pub(super) fn note_claim(&mut self, own: Option<&str>) {
        let claims = |record: &Record| own.is_some() && record.organisation.as_deref() == own;
        self.claims = self.records.values().any(claims);
    }

    /// Whether it is neither connected nor being dialled.
    pub(super) fn is_absent(&self) -> bool {
        matches!(self.state, State::Waiting(_) | State::Hopeless)
    }

    /// Takes the addresses from the records. Where they changed, the node is dialled again that
    /// nobody was found at before.
    pub(super) fn place(&mut self, here: bool, due: Instant) {
        let mut addresses = Vec::new();
        for record in self.records.values() {
            for address in &record.addresses {
                let host = dialable(address, &record.node, here);
                if host.is_some() && !addresses.iter().any(|(there, _)| there == address) {
                    addresses.push((address.clone(), host));
                }
            }
        }
        if addresses != self.addresses {
            self.addresses = addresses;
            self.revive(due);
        }
    }

    /// Where it is changed: it is dialled again if nobody was found before.
    pub(super) fn revive(&mut self, due: Instant) {
        if self.state == State::Hopeless {
            // The pace stays what it was: who changes its mind often is not asked more often.
            self.attempts = HOPELESS - 1;
            self.state = State::Waiting(due);
        }
    }
}
