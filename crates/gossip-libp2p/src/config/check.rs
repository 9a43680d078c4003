// SPDX-License-Identifier: Apache-2.0
//! Whether the settings of a node hold together.

use std::collections::BTreeSet;

use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};

use super::{Admission, Config, MeshSize, ValidConfig, WireLimits};
use crate::{
    access::Others,
    bodies,
    discovery::{MAX_ADDRESSES, check_told},
    error::ConfigError,
    identity::{peer_address, peer_id},
};

impl Config {
    pub(crate) fn into_valid(self) -> Result<ValidConfig, ConfigError> {
        let wrong = |field, value: &dyn std::fmt::Debug, reason| {
            Err(ConfigError::Value {
                field,
                value: format!("{value:?}"),
                reason,
            })
        };
        let MeshSize { low, target, high } = self.mesh;
        if low == 0 || low > target || target > high {
            return wrong(
                "mesh",
                &self.mesh,
                "it must hold that 1 <= low <= target <= high",
            );
        }
        for (field, value) in [
            ("heartbeat", self.heartbeat),
            ("validation_timeout", self.validation_timeout),
            ("status_interval", self.status_interval),
            ("silence_limit", self.silence_limit),
            ("ping_interval", self.ping_interval),
            ("ping_timeout", self.ping_timeout),
            ("connect_timeout", self.connect_timeout),
            ("prove_timeout", self.prove_timeout),
            ("open_timeout", self.open_timeout),
            ("initial_timeout", self.initial_timeout),
            ("idle_timeout", self.idle_timeout),
            ("serve_timeout", self.serve_timeout),
            ("redial_base", self.redial_base),
            ("stop_timeout", self.stop_timeout),
            ("ban_time", self.ban_time),
        ] {
            if value.is_zero() {
                return wrong(field, &value, "it must be longer than zero");
            }
        }
        if self.redial_cap < self.redial_base {
            return wrong(
                "redial_cap",
                &self.redial_cap,
                "it must not be shorter than redial_base",
            );
        }
        if self.max_block < self.inline_limit {
            return wrong(
                "max_block",
                &self.max_block,
                "it must not be smaller than inline_limit",
            );
        }
        // The length of a frame has four bytes.
        if u32::try_from(self.max_block.get()).is_err() {
            return wrong("max_block", &self.max_block, "it must be less than 4 GiB");
        }
        if self.inline_limit.get() > 16 * 1024 * 1024 {
            return wrong(
                "inline_limit",
                &self.inline_limit,
                "it must be at most 16 MiB: bigger blocks are pulled",
            );
        }
        if self.max_body_bytes < self.max_block {
            return wrong(
                "max_body_bytes",
                &self.max_body_bytes,
                "it must not be smaller than max_block",
            );
        }
        if self.serve_bytes_per_peer.get() < bodies::LARGEST_PROMISE {
            return wrong(
                "serve_bytes_per_peer",
                &self.serve_bytes_per_peer,
                "it must be at least 4 MiB, which one peer may be sent at once",
            );
        }
        if self.serve_bytes < self.serve_bytes_per_peer {
            return wrong(
                "serve_bytes",
                &self.serve_bytes,
                "it must not be smaller than serve_bytes_per_peer",
            );
        }
        if self.max_topics.get() > 65536 {
            return wrong("max_topics", &self.max_topics, "it must be at most 65536");
        }
        if self.network.is_empty() || self.network.len() > 255 {
            return wrong("network", &self.network, "it must have 1 to 255 bytes");
        }
        for (field, addresses) in [
            ("external_addrs", &self.external_addrs),
            ("internal_addrs", &self.internal_addrs),
        ] {
            if addresses.len() > MAX_ADDRESSES {
                return wrong(field, addresses, "a node has at most 8 addresses of a kind");
            }
            for address in addresses {
                if let Err(reason) = check_told(address) {
                    return wrong(field, address, reason);
                }
            }
        }
        if self.mdns && !cfg!(feature = "mdns") {
            return wrong("mdns", &self.mdns, "this build is without the feature mdns");
        }
        for (field, addresses) in [("listen", &self.listen), ("peers", &self.peers)] {
            let quic = addresses.iter().find(|address| is_quic(address));
            if let (Some(address), false) = (quic, cfg!(feature = "quic")) {
                return wrong(field, address, "this build is without the feature quic");
            }
        }

        let own = self.identity.peer_id();
        let mut peers = Vec::new();
        for address in &self.peers {
            let (peer, address) = peer_address(address)?;
            // One list for all nodes of a network names each of them too.
            if peer != own {
                peers.push((peer, address));
            }
        }
        let mut listed: BTreeSet<PeerId> = peers.iter().map(|(peer, _)| *peer).collect();
        let others = match &self.admission {
            Admission::Members => Others::Members,
            Admission::Anyone => Others::All,
            Admission::AllowList(nodes) => {
                for node in nodes {
                    match peer_id(node) {
                        Some(peer) => listed.insert(peer),
                        None => return wrong("admission", node, "it is no id of a libp2p node"),
                    };
                }
                Others::None
            }
        };
        let limits = WireLimits::of(&self);
        Ok(ValidConfig {
            config: self,
            peers,
            listed,
            others,
            limits,
        })
    }
}

fn is_quic(address: &Multiaddr) -> bool {
    address.iter().any(|part| part == Protocol::QuicV1)
}
