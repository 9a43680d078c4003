// SPDX-License-Identifier: Apache-2.0
//! Trying one endpoint after the other, and saying why none would do.

use std::fmt;

use block_api::{Endpoint, SourceError};
use rand::{
    SeedableRng as _,
    rngs::{StdRng, SysRng},
    seq::SliceRandom as _,
};

/// No endpoint could be reached.
#[derive(Debug)]
pub struct AllEndpointsFailed {
    causes: Vec<(Endpoint, SourceError)>,
}

impl AllEndpointsFailed {
    pub(crate) fn new(causes: Vec<(Endpoint, SourceError)>) -> Self {
        Self { causes }
    }

    /// Each endpoint with its own cause, in the order in which they were tried.
    pub fn causes(&self) -> &[(Endpoint, SourceError)] {
        &self.causes
    }

    /// Whether another attempt may go well at one of the endpoints.
    pub fn is_retryable(&self) -> bool {
        self.causes.iter().any(|(_, error)| error.is_retryable())
    }
}

impl fmt::Display for AllEndpointsFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.causes.is_empty() {
            return f.write_str("there is no endpoint to connect to: configure one");
        }
        write!(
            f,
            "none of {} endpoints could be reached",
            self.causes.len()
        )?;
        for (index, (_, error)) in self.causes.iter().enumerate() {
            // Each cause names its endpoint.
            write!(f, "{} {error}", if index == 0 { ":" } else { ";" })?;
        }
        Ok(())
    }
}

impl std::error::Error for AllEndpointsFailed {}

/// The endpoints in random order, so that many clients spread over them.
pub(crate) fn shuffled(mut endpoints: Vec<Endpoint>) -> Vec<Endpoint> {
    let mut rng = StdRng::try_from_rng(&mut SysRng).unwrap_or_else(|_| StdRng::seed_from_u64(0));
    endpoints.shuffle(&mut rng);
    endpoints
}
