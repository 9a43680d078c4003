// SPDX-License-Identifier: Apache-2.0
//! One fuzz body under libFuzzer: the one that the environment variable `BODY` names.
#![no_main]

use std::sync::LazyLock;

use e2e_tests::fuzz::{BODIES, Body};
use libfuzzer_sys::fuzz_target;

static CHOSEN: LazyLock<Body> = LazyLock::new(|| {
    let name = std::env::var("BODY").unwrap_or_default();
    let found = BODIES.iter().find(|(body, _)| *body == name);
    let (_, body) = found.unwrap_or_else(|| {
        let names: Vec<_> = BODIES.iter().map(|(body, _)| *body).collect();
        panic!("BODY is {name:?}, which is none of {}", names.join(", "))
    });
    *body
});

fuzz_target!(|data: &[u8]| CHOSEN(data));
