// SPDX-License-Identifier: Apache-2.0
//! Nodes over TCP on loopback.

mod access;
mod blocks;
#[cfg(test)]
mod bodies;
#[cfg(test)]
mod discovery;
#[cfg(test)]
mod hostile;
mod identity;
mod life;
#[cfg(test)]
mod member;
#[cfg(test)]
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
