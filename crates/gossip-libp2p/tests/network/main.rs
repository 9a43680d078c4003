// SPDX-License-Identifier: Apache-2.0
//! Nodes over TCP on loopback.

mod access;
mod blocks;
#[cfg(test)]
mod discovery;
#[cfg(test)]
mod hostile;
mod identity;
mod life;
#[cfg(test)]
mod member;
#[cfg(all(test, feature = "mdns"))]
mod nearby;
#[cfg(test)]
#[path = "../support/raw.rs"]
mod raw;
#[path = "../support/mod.rs"]
#[cfg(test)]
mod support;
