// SPDX-License-Identifier: Apache-2.0
//! How a node is seen from outside.

use std::net::SocketAddr;

use serde::Deserialize;

use super::{HumanDuration, InvalidConfig, check::out_of_range};

/// A stream that is refused is so within a part of this.
const SHORTEST_GRACE: HumanDuration = HumanDuration::from_secs(3);

/// `[operations]`
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OperationsSection {
    /// The loopback address of the HTTP service with `/healthz`, `/readyz`, `/metrics` and
    /// `/version`; port 0 takes a free one. Default: none, so that there is no such service.
    pub listen: Option<SocketAddr>,
    /// How long nobody may give the blocks of a channel before it counts as stuck; 3 s at
    /// least. Default: 5 s.
    pub grace: HumanDuration,
    /// How many blocks that are proven to be there a channel may lack and count as ready. Default: 10.
    pub ready_lag: u64,
}

impl Default for OperationsSection {
    fn default() -> Self {
        Self {
            listen: None,
            grace: HumanDuration::from_secs(5),
            ready_lag: 10,
        }
    }
}

impl OperationsSection {
    pub(super) fn check(&self) -> Result<(), InvalidConfig> {
        if self.grace < SHORTEST_GRACE {
            return Err(out_of_range(
                "operations.grace",
                self.grace,
                &format!(
                    "it must be {SHORTEST_GRACE} at least: a stream has to last for a while to be known for a good one"
                ),
            ));
        }
        match self.listen {
            Some(listen) if !listen.ip().is_loopback() => Err(out_of_range(
                "operations.listen",
                listen,
                "it must be a loopback address, as in \"127.0.0.1:9443\": there is neither TLS nor a check of who asks; \
                 let a proxy on this machine serve others",
            )),
            Some(_) | None => Ok(()),
        }
    }
}
