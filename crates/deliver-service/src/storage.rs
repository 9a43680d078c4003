// SPDX-License-Identifier: Apache-2.0
//! Why nothing is stored.

use std::{error::Error, fmt, io};

use block_api::{AppendError, ReadError, Rejection};

use crate::JoinError;

/// Why nothing is stored at the moment, or any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageFailure {
    /// Of what kind it is.
    pub kind: StorageFailureKind,
    /// What the store or the verifier said.
    pub message: String,
}

/// What keeps blocks from being stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum StorageFailureKind {
    /// The disk is full. It is tried again, and goes on by itself when there is room.
    Full,
    /// The store failed in another way. It is tried again.
    Failed,
    /// The store takes no more blocks until it is opened anew: the channel has ended.
    Unusable,
    /// A stored configuration cannot be taken into force: the channel has ended.
    ConfigNotApplied,
}

impl StorageFailure {
    pub(crate) fn of_append(error: &AppendError) -> Self {
        let kind = match error {
            AppendError::Storage { .. } if is_full(error) => StorageFailureKind::Full,
            AppendError::Storage { .. } => StorageFailureKind::Failed,
            AppendError::DoesNotLink { .. }
            | AppendError::OtherJudge { .. }
            | AppendError::Unusable { .. }
            | AppendError::Closed
            | _ => StorageFailureKind::Unusable,
        };
        Self {
            kind,
            message: error.to_string(),
        }
    }

    pub(crate) fn of_config(rejection: &Rejection) -> Self {
        Self {
            kind: StorageFailureKind::ConfigNotApplied,
            message: rejection.to_string(),
        }
    }

    pub(crate) fn of_restoring(error: &JoinError) -> Self {
        let kind = match error {
            JoinError::Read {
                source: ReadError::Storage { .. },
                ..
            } => StorageFailureKind::Failed,
            JoinError::Read { .. } => StorageFailureKind::Unusable,
            JoinError::AlreadyJoined { .. }
            | JoinError::Stopping { .. }
            | JoinError::Gossip(_)
            | JoinError::Parse { .. }
            | JoinError::Verify { .. }
            | JoinError::Config { .. } => StorageFailureKind::ConfigNotApplied,
        };
        Self {
            kind,
            message: error.to_string(),
        }
    }
}

impl fmt::Display for StorageFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Whether the system said that there is no room, however deep that is told.
fn is_full(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return matches!(
                error.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
            );
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use block_api::BlockNumber;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("outer")]
    struct Outer(#[source] io::Error);

    #[test]
    fn a_full_disk_is_told_from_one_that_fails() {
        let number = BlockNumber::new(3);
        let io = |kind: io::ErrorKind| Box::new(Outer(kind.into()));
        let rows = [
            (io::ErrorKind::StorageFull, StorageFailureKind::Full),
            (io::ErrorKind::QuotaExceeded, StorageFailureKind::Full),
            (io::ErrorKind::PermissionDenied, StorageFailureKind::Failed),
        ];
        for (kind, expected) in rows {
            let error = AppendError::Storage {
                number,
                source: io(kind),
            };
            assert_eq!(StorageFailure::of_append(&error).kind, expected, "{kind}");
        }
        let said = AppendError::Storage {
            number,
            source: "no room".into(),
        };
        let failure = StorageFailure::of_append(&said);
        assert_eq!(failure.kind, StorageFailureKind::Failed);
        assert_eq!(failure.to_string(), "block 3 was not stored: no room");
        let unusable = AppendError::Unusable {
            number,
            source: io(io::ErrorKind::StorageFull),
        };
        let kind = StorageFailure::of_append(&unusable).kind;
        assert_eq!(kind, StorageFailureKind::Unusable, "no room mends it");
    }
}
