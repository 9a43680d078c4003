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
mod many;
#[cfg(test)]
mod member;
#[cfg(test)]
#[path = "../support/raw.rs"]
mod raw;
#[path = "../support/mod.rs"]
#[cfg(test)]
mod support;
