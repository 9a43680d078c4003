// SPDX-License-Identifier: Apache-2.0
//! The block store from outside: as its callers see it, after a crash, and among processes.
#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "a test that meets another error than the expected one shows it and fails"
)]

#[cfg(test)]
mod common;
#[cfg(test)]
mod process;
#[cfg(test)]
mod recovery;
#[cfg(test)]
mod repair;
#[cfg(test)]
mod retention;
#[cfg(test)]
mod snapshot;
#[cfg(test)]
mod store;
