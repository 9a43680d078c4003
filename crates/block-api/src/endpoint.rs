// SPDX-License-Identifier: Apache-2.0
//! The names of those who give blocks.

use std::{fmt, str::FromStr, sync::Arc};

/// Where blocks can be had: `host:port` of an orderer, or the id of a gossip node.
///
/// Endpoints are compared as text, as Fabric does with the addresses of a channel configuration.
/// Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint(Arc<str>);

/// The id of a node in the gossip network, as its backend writes it. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(Arc<str>);

/// Why a text is no `host:port`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no endpoint: {reason}; write HOST:PORT, as in orderer.example.com:7050")]
pub struct InvalidEndpoint {
    text: String,
    reason: &'static str,
}

impl Endpoint {
    /// The endpoint that stands for a gossip node as a source of blocks.
    pub fn of_node(node: &NodeId) -> Self {
        Self(node.0.clone())
    }

    /// The endpoint as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part before the last colon, without the brackets of an IPv6 address.
    pub fn host(&self) -> &str {
        let host = self.0.rsplit_once(':').map_or(&*self.0, |(host, _)| host);
        host.strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host)
    }

    /// The port; `None` for the name of a gossip node.
    pub fn port(&self) -> Option<u16> {
        self.0
            .rsplit_once(':')
            .and_then(|(_, port)| port.parse().ok())
    }
}

impl FromStr for Endpoint {
    type Err = InvalidEndpoint;

    fn from_str(text: &str) -> Result<Self, InvalidEndpoint> {
        let invalid = |reason| InvalidEndpoint {
            text: text.to_owned(),
            reason,
        };
        let (host, port) = text
            .rsplit_once(':')
            .ok_or_else(|| invalid("it has no port"))?;
        if host.is_empty() {
            return Err(invalid("its host is empty"));
        }
        let bracketed = host.starts_with('[') && host.ends_with(']');
        let legal = |c: char| {
            c.is_ascii_alphanumeric() || "-._".contains(c) || (bracketed && ":[]%".contains(c))
        };
        if !host.chars().all(legal) {
            return Err(invalid("its host has a character that no host name has"));
        }
        if !matches!(port.parse::<u16>(), Ok(port) if port != 0) {
            return Err(invalid("its port is no number from 1 to 65535"));
        }
        Ok(Self(text.into()))
    }
}

impl NodeId {
    /// The node with this id.
    pub fn new(id: impl Into<Arc<str>>) -> Self {
        Self(id.into())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({})", self.0)
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeId({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_are_host_and_port() {
        let endpoint: Endpoint = "orderer.example.com:7050".parse().unwrap();
        assert_eq!(
            (endpoint.host(), endpoint.port()),
            ("orderer.example.com", Some(7050))
        );
        let v6: Endpoint = "[::1]:7050".parse().unwrap();
        assert_eq!((v6.host(), v6.port()), ("::1", Some(7050)));
        for bad in [
            "",
            "host",
            "host:",
            "host:0",
            "host:99999",
            ":7050",
            "a b:1",
            "http://x:1",
            "::1:7050",
        ] {
            let error = bad.parse::<Endpoint>().unwrap_err().to_string();
            assert!(error.contains("HOST:PORT"), "{bad}: {error}");
        }
    }
}
