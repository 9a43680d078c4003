// SPDX-License-Identifier: Apache-2.0
//! Nodes over TCP on loopback.

mod access;
mod blocks;
mod bodies;
#[cfg(test)]
mod discovery;
#[cfg(test)]
mod hostile;
mod identity;
mod life;
mod many;
#[cfg(test)]
mod member;
#[cfg(all(test, feature = "mdns"))]
mod nearby;
#[cfg(test)]
mod raw;
mod rights;
#[cfg(test)]
mod session;
mod strangers;
#[path = "../support/mod.rs"]
#[cfg(test)]
mod support;
