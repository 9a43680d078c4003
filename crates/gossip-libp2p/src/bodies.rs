// SPDX-License-Identifier: Apache-2.0
//! The bodies of announced blocks: who may have them, and how they come.

mod assembly;
mod bits;
mod entries;
mod fetch;
mod hedges;
mod hints;
mod holders;
mod link;
mod making;
#[cfg(any(test, feature = "testing"))]
mod plan;
mod scheduler;
mod serve;
pub(crate) mod shelf;

#[cfg(any(test, feature = "testing"))]
pub use self::plan::{BodyPlan, BodyStep, sizes};
pub(crate) use self::{
    bits::Bits,
    fetch::{Fetcher, Network},
    hints::{BodyId, Hints, Manifest},
    holders::Holders,
    serve::Server,
    shelf::Bodies,
};

/// The most that one requester is sent without asking again.
pub(crate) const LARGEST_PROMISE: usize = hints::WHOLE;

#[cfg(test)]
mod tests;
