// SPDX-License-Identifier: Apache-2.0
//! The bodies of announced blocks: who may have them, and how they come.

mod holders;

pub(crate) use self::holders::Holders;
