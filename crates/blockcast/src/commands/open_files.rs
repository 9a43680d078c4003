// SPDX-License-Identifier: Apache-2.0
//! The limit of open files: a node with many channels needs more than the usual soft one.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tracing::{debug, warn};

/// Raises the soft limit to the hard one. The node starts all the same where that is refused: with
/// few channels it gets by.
pub(crate) fn raise_limit() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: maximum,
        maximum,
    };
    match setrlimit(Resource::Nofile, raised) {
        // `None` is no limit at all.
        Ok(()) => debug!(before = ?current, limit = ?maximum, "limit of open files"),
        Err(error) => warn!(
            %error,
            limit = ?current,
            wanted = ?maximum,
            "the limit of open files cannot be raised; raise it for the service where the node has many channels"
        ),
    }
}
