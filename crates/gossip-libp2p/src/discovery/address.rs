// SPDX-License-Identifier: Apache-2.0
//! Which addresses a node dials because another one told it of them.
//!
//! Whoever tells of an address has others knock there. So it must be one that a node can sensibly
//! have, it leads to no service of the operating system, and not into this machine unless the teller
//! is on it too.

use std::net::{IpAddr, Ipv4Addr};

use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};

/// Lower ports belong to services that answer strangers badly: mail, shells, the web.
const LOWEST_PORT: u16 = 1024;

/// The machine that an address leads to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Host {
    Ip(IpAddr),
    /// What it resolves to is known when it is dialled, and may change.
    Name(String),
}

/// The parts of an address that leads to a node directly.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) host: Host,
    pub(super) port: u16,
    pub(super) quic: bool,
    node: Option<PeerId>,
}

impl Place {
    /// The parts of an address over TCP or QUIC; `None` for any other address.
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "of some forty protocols these can be dialled"
    )]
    pub(super) fn of(address: &Multiaddr) -> Option<Self> {
        let mut parts = address.iter();
        let host = match parts.next()? {
            Protocol::Ip4(ip) => Host::Ip(ip.into()),
            Protocol::Ip6(ip) => Host::Ip(IpAddr::from(ip).to_canonical()),
            Protocol::Dns(name) | Protocol::Dns4(name) | Protocol::Dns6(name) => {
                Host::Name(name.to_ascii_lowercase())
            }
            _ => return None,
        };
        let (port, quic) = match parts.next()? {
            Protocol::Tcp(port) => (port, false),
            Protocol::Udp(port) if parts.next()? == Protocol::QuicV1 => (port, true),
            _ => return None,
        };
        let node = match parts.next() {
            None => None,
            Some(Protocol::P2p(node)) => Some(node),
            Some(_) => return None,
        };
        parts.next().is_none().then_some(Self {
            host,
            port,
            quic,
            node,
        })
    }

    /// Whether two addresses lead to one place.
    pub(super) fn same(&self, other: &Self) -> bool {
        (&self.host, self.port, self.quic) == (&other.host, other.port, other.quic)
    }

    fn is_loopback(&self) -> bool {
        match &self.host {
            Host::Ip(ip) => ip.is_loopback(),
            Host::Name(name) => name.trim_end_matches('.') == "localhost",
        }
    }

    /// Whether the address can be that of one node, as others see it.
    fn is_sensible(&self) -> bool {
        let named = match &self.host {
            Host::Ip(IpAddr::V4(ip)) => {
                !(ip.is_unspecified()
                    || ip.is_multicast()
                    || *ip == Ipv4Addr::BROADCAST
                    || ip.is_link_local())
            }
            Host::Ip(IpAddr::V6(ip)) => {
                !(ip.is_unspecified() || ip.is_multicast() || ip.is_unicast_link_local())
            }
            Host::Name(name) => !name.is_empty(),
        };
        named && self.port >= LOWEST_PORT
    }
}

/// Whether an address that another node told of is dialled for `node`, and where it leads then.
/// `here` says that the teller is on this machine.
pub(super) fn dialable(address: &Multiaddr, node: &PeerId, here: bool) -> Option<Host> {
    let place = Place::of(address)?;
    let right_node = place.node.is_none_or(|named| named == *node);
    let spoken = !place.quic || cfg!(feature = "quic");
    (right_node && spoken && place.is_sensible() && (here || !place.is_loopback()))
        .then_some(place.host)
}

/// Whether an address leads into the machine that it is seen on.
pub(crate) fn is_here(address: &Multiaddr) -> bool {
    matches!(
        address.iter().next(),
        Some(Protocol::Ip4(ip)) if ip.is_loopback()
    ) || matches!(
        address.iter().next(),
        Some(Protocol::Ip6(ip)) if IpAddr::from(ip).to_canonical().is_loopback()
    )
}

/// Whether others dial an address that a node tells them of; port 0 stands for the port that it
/// listens on.
///
/// # Errors
///
/// The rule that it breaks.
pub(crate) fn check_told(address: &Multiaddr) -> Result<(), &'static str> {
    let Some(mut place) = Place::of(address) else {
        return Err("write it as /ip4/…/tcp/… or /dns4/…/udp/…/quic-v1");
    };
    if place.node.is_some() {
        return Err("leave /p2p/… away: the record says whose address it is");
    }
    if place.port == 0 {
        place.port = LOWEST_PORT;
    }
    if place.port < LOWEST_PORT {
        return Err("other nodes dial no port below 1024 that they are told of");
    }
    if !place.is_sensible() {
        return Err("it must be the address of one host, as others see it");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Keypair;

    fn node(seed: u8) -> PeerId {
        Keypair::from_seed([seed; 32]).peer_id()
    }

    #[test]
    fn an_address_is_dialled_where_a_node_can_sensibly_be() {
        let (own, other) = (node(1), node(2));
        let rows = [
            ("/ip4/10.1.2.3/tcp/7000", true),
            ("/ip6/2001:db8::1/tcp/7000", true),
            ("/dns4/peer0.example.com/tcp/7000", true),
            ("/ip4/10.1.2.3/udp/7000/quic-v1", cfg!(feature = "quic")),
            ("/ip4/10.1.2.3/tcp/1023", false),
            ("/ip4/10.1.2.3/tcp/0", false),
            ("/ip4/0.0.0.0/tcp/7000", false),
            ("/ip4/169.254.169.254/tcp/8080", false),
            ("/ip6/::ffff:169.254.169.254/tcp/8080", false),
            ("/ip4/224.0.0.1/tcp/7000", false),
            ("/ip4/255.255.255.255/tcp/7000", false),
            ("/ip6/fe80::1/tcp/7000", false),
            ("/ip4/10.1.2.3/udp/7000", false),
            ("/ip4/10.1.2.3/tcp/7000/ws", false),
            ("/memory/7000", false),
            ("/ip4/127.0.0.1/tcp/7000", false),
            ("/ip6/::ffff:127.0.0.1/tcp/7000", false),
            ("/dns4/LOCALHOST./tcp/7000", false),
        ];
        for (text, dialled) in rows {
            let address: Multiaddr = text.parse().unwrap();
            assert_eq!(dialable(&address, &own, false).is_some(), dialled, "{text}");
            let named = address.clone().with(Protocol::P2p(own));
            assert_eq!(dialable(&named, &own, false).is_some(), dialled, "{text}");
            let wrong = address.with(Protocol::P2p(other));
            assert_eq!(dialable(&wrong, &own, false), None, "{text} of another");
        }
    }

    #[test]
    fn an_address_of_this_machine_is_taken_from_this_machine() {
        for text in [
            "/ip4/127.0.0.1/tcp/7000",
            "/ip6/::1/tcp/7000",
            "/dns4/localhost/tcp/7000",
        ] {
            let address: Multiaddr = text.parse().unwrap();
            assert!(dialable(&address, &node(1), true).is_some(), "{text}");
            assert_eq!(dialable(&address, &node(1), false), None, "{text}");
        }
        for (text, here) in [
            ("/ip4/127.0.0.1/tcp/1", true),
            ("/ip6/::1/tcp/1", true),
            ("/ip6/::ffff:127.0.0.1/tcp/1", true),
            ("/ip4/10.0.0.1/tcp/1", false),
            ("/dns4/localhost/tcp/1", false),
        ] {
            assert_eq!(is_here(&text.parse().unwrap()), here, "{text}");
        }
    }

    #[test]
    fn what_others_would_not_dial_is_not_told() {
        for (text, told) in [
            ("/ip4/10.1.2.3/tcp/7000", true),
            ("/ip4/10.1.2.3/tcp/0", true),
            ("/dns4/peer0.example.com/udp/7000/quic-v1", true),
            ("/ip4/10.1.2.3/tcp/443", false),
            ("/ip4/0.0.0.0/tcp/7000", false),
            ("/memory/1", false),
        ] {
            let address: Multiaddr = text.parse().unwrap();
            assert_eq!(check_told(&address).is_ok(), told, "{text}");
            let named = address.with(Protocol::P2p(node(1)));
            assert!(check_told(&named).is_err(), "{text}");
        }
    }
}
