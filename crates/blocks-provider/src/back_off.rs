// SPDX-License-Identifier: Apache-2.0
//! How long to pause: full jitter below a bound that doubles.

use std::time::Duration;

use rand::{Rng, rngs::StdRng};

/// The pause after so many failures before the last one, as the pull loop makes it: drawn evenly
/// between nothing and a bound that doubles with each of them.
pub fn full_jitter(first: Duration, longest: Duration, failures: u32) -> Duration {
    let mut rng: StdRng = rand::make_rng();
    pause(first, longest, failures, &mut rng)
}

/// The same pause, as a share (from 0 to 1) of its bound that is drawn elsewhere.
pub fn jitter_by_share(first: Duration, longest: Duration, failures: u32, share: f64) -> Duration {
    let factor = 2f64.powi(i32::try_from(failures).unwrap_or(i32::MAX));
    let bound = longest.as_secs_f64().min(first.as_secs_f64() * factor);
    Duration::from_secs_f64(bound * share)
}

/// The pause after so many failures before the last one: drawn evenly between nothing and a bound
/// that doubles with each of them (H17).
pub(crate) fn pause(
    first: Duration,
    longest: Duration,
    failures: u32,
    rng: &mut impl Rng,
) -> Duration {
    let share = f64::from(rng.next_u32()) / f64::from(u32::MAX);
    jitter_by_share(first, longest, failures, share)
}
