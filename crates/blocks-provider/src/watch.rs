// SPDX-License-Identifier: Apache-2.0
//! Whether the source withholds blocks: the decision, and the tasks that gather evidence.

mod plan;
mod scouts;
mod sentry;
mod suspicion;

pub use self::suspicion::Suspicion;
#[cfg(test)]
pub(crate) use self::suspicion::Why;
pub(crate) use self::{
    sentry::{Leave, Sentry},
    suspicion::SourceView,
};
