// SPDX-License-Identifier: Apache-2.0
//! Many channels, and many nodes.

#[cfg(test)]
mod channels;
#[path = "../network/member.rs"]
#[cfg(test)]
#[expect(dead_code, reason = "lines are for the tests of few nodes")]
mod member;
#[cfg(test)]
mod nodes;
#[path = "../support/mod.rs"]
#[cfg(test)]
mod support;
