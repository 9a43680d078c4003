// SPDX-License-Identifier: Apache-2.0
//! Writing to the two streams that a user sees.

use std::io::{self, Write as _};

use crate::error::CommandError;

/// Writes a result and a line end to standard output. A reader that has gone away wants no more.
pub(crate) fn result(text: &str) -> Result<(), CommandError> {
    let mut out = io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(|error| CommandError::from(error).during("standard output")),
    }
}

/// Writes a line to standard error. Nobody can be told when that fails.
pub(crate) fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Says why a command failed.
pub(crate) fn error(error: &CommandError) {
    note(&error.to_string());
}
