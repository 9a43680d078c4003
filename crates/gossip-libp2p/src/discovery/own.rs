// SPDX-License-Identifier: Apache-2.0
//! What a node says of itself: its records, signed anew before they expire.

use libp2p::{Multiaddr, multiaddr::Protocol};

use super::{
    address::Place,
    record::{LIFETIME, Record, Scope},
};
use crate::identity::Keypair;

/// The records of this node.
#[derive(Debug, Default)]
pub(crate) struct Own {
    external: Vec<Multiaddr>,
    internal: Vec<Multiaddr>,
    /// The MSP id of its organisation.
    organisation: Option<String>,
    /// Where it listens, when they were signed.
    listening: Vec<Multiaddr>,
    records: Vec<Record>,
}

impl Own {
    /// Tells these addresses, and of which organisation it is; port 0 stands for the port that the
    /// node listens on.
    pub(crate) fn new(
        external: Vec<Multiaddr>,
        internal: Vec<Multiaddr>,
        organisation: Option<String>,
    ) -> Self {
        Self {
            external,
            internal,
            organisation,
            ..Self::default()
        }
    }

    pub(crate) fn record(&self, scope: Scope) -> Option<&Record> {
        self.records.iter().find(|record| record.scope == scope)
    }

    /// Signs the records anew, if it is time or the node listens elsewhere; `true` when they are
    /// others than before.
    pub(crate) fn renew(&mut self, keypair: &Keypair, listening: &[Multiaddr], unix: u64) -> bool {
        let lifetime = u64::try_from(LIFETIME.as_millis()).unwrap_or(u64::MAX);
        let issued = self.records.first().map(|record| record.issued);
        // A clock that was put back is a reason too.
        let is_fresh = issued.is_some_and(|issued| issued <= unix && unix - issued < lifetime / 3);
        if is_fresh && self.listening == listening {
            return false;
        }
        // Each record is later than the one before, whatever the clock does.
        let issued = issued.map_or(unix, |issued| unix.max(issued.saturating_add(1)));
        let mut records = Vec::new();
        for (scope, addresses) in [
            (Scope::External, &self.external),
            (Scope::Internal, &self.internal),
        ] {
            let told: Vec<Multiaddr> = addresses
                .iter()
                .filter_map(|address| with_port(address, listening))
                .collect();
            if !told.is_empty() {
                let organisation = self.organisation.as_deref();
                records.extend(Record::sign(keypair, scope, issued, told, organisation));
            }
        }
        self.listening = listening.to_vec();
        let told = !records.is_empty() || !self.records.is_empty();
        self.records = records;
        told
    }
}

/// The address with the port that is listened on, where it has port 0; `None` where nothing listens.
fn with_port(address: &Multiaddr, listening: &[Multiaddr]) -> Option<Multiaddr> {
    let told = Place::of(address)?;
    if told.port != 0 {
        return Some(address.clone());
    }
    let port = listening
        .iter()
        .filter_map(Place::of)
        .find(|place| place.quic == told.quic)?
        .port;
    address.replace(1, |_| {
        Some(if told.quic {
            Protocol::Udp(port)
        } else {
            Protocol::Tcp(port)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNIX: u64 = 1_700_000_000_000;

    fn address(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    #[test]
    fn records_are_signed_anew_in_time_and_each_is_later() {
        let key = Keypair::from_seed([1; 32]);
        let mut own = Own::new(vec![address("/ip4/10.0.0.1/tcp/7000")], vec![], None);
        assert!(own.renew(&key, &[], UNIX));
        assert!(!own.renew(&key, &[], UNIX + 1));
        let first = own.record(Scope::External).unwrap().clone();
        assert_eq!((first.issued, own.record(Scope::Internal)), (UNIX, None));
        let third = LIFETIME.as_millis() as u64 / 3;
        assert!(own.renew(&key, &[], UNIX + third));
        assert_eq!(own.record(Scope::External).unwrap().issued, UNIX + third);
        assert!(own.renew(&key, &[], UNIX));
        assert!(own.record(Scope::External).unwrap().issued > UNIX + third);
    }

    #[test]
    fn port_0_is_the_one_that_is_listened_on() {
        let key = Keypair::from_seed([1; 32]);
        let internal = ["/dns4/inside/tcp/0", "/ip4/10.0.0.1/udp/0/quic-v1"].map(address);
        let external = vec![address("/ip4/10.0.0.1/tcp/0")];
        let organisation = Some("Org1MSP".to_owned());
        let mut own = Own::new(external, internal.to_vec(), organisation.clone());
        assert!(!own.renew(&key, &[], UNIX), "nothing to tell");
        let listening = ["/ip4/0.0.0.0/udp/7001/quic-v1", "/ip4/0.0.0.0/tcp/7002"].map(address);
        assert!(own.renew(&key, &listening, UNIX));
        let told = |own: &Own, scope| {
            let record = own.record(scope).unwrap();
            assert_eq!(record.organisation, organisation);
            record.addresses.clone()
        };
        assert_eq!(
            told(&own, Scope::External),
            [address("/ip4/10.0.0.1/tcp/7002")]
        );
        assert_eq!(
            told(&own, Scope::Internal),
            ["/dns4/inside/tcp/7002", "/ip4/10.0.0.1/udp/7001/quic-v1"].map(address)
        );
    }

    #[test]
    fn who_has_nothing_to_tell_has_no_record() {
        let mut own = Own::default();
        assert!(!own.renew(
            &Keypair::from_seed([1; 32]),
            &[address("/ip4/10.0.0.1/tcp/1")],
            UNIX
        ));
        assert_eq!(own.record(Scope::External), None);
    }
}
