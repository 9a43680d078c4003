// SPDX-License-Identifier: Apache-2.0
//! Nodes over TCP on loopback.

#[cfg(test)]
mod access;
#[cfg(test)]
mod blocks;
#[cfg(test)]
mod bodies;
#[cfg(test)]
mod credentials;
#[cfg(test)]
mod discovery;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod identity;
#[cfg(test)]
mod life;
#[cfg(test)]
mod many;
#[cfg(test)]
mod mates;
#[cfg(test)]
mod member;
#[cfg(all(test, feature = "mdns"))]
mod nearby;
#[path = "../support/raw.rs"]
#[cfg(test)]
#[expect(dead_code, reason = "another test binary needs the rest of it")]
mod raw;
#[cfg(test)]
mod rights;
#[cfg(test)]
mod session;
#[cfg(test)]
mod strangers;
#[path = "../support/mod.rs"]
#[cfg(test)]
mod support;
