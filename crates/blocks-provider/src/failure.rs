// SPDX-License-Identifier: Apache-2.0
//! Why a stream was given up.

use std::{fmt, time::Duration};

use block_api::{BlockNumber, DeliverStatus, Endpoint, HeaderHash, SourceError};

use crate::HandleError;

/// Why a stream was given up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The source failed.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The source sent a status. A stream without an end has no good one, SUCCESS included
    /// (CFT-30, CFT-31).
    #[error("{endpoint} ended the stream with {status}")]
    Status {
        /// The endpoint.
        endpoint: Endpoint,
        /// The status.
        status: DeliverStatus,
    },
    /// The source hung up without a status.
    #[error("{endpoint} hung up without a status")]
    HungUp {
        /// The endpoint.
        endpoint: Endpoint,
    },
    /// The block is not the next one (VER-16).
    #[error("{endpoint} sent block {actual} where block {expected} was due")]
    WrongNumber {
        /// The endpoint.
        endpoint: Endpoint,
        /// The number that was due.
        expected: BlockNumber,
        /// The number that came.
        actual: BlockNumber,
    },
    /// The block names another predecessor (VER-18).
    #[error(
        "{endpoint} sent block {number}, whose previous hash is not the header hash {expected} of the block before"
    )]
    WrongPreviousHash {
        /// The endpoint.
        endpoint: Endpoint,
        /// The block.
        number: BlockNumber,
        /// The header hash of the block before.
        expected: HeaderHash,
    },
    /// The handler did not take the block.
    #[error("a block from {endpoint}: {source}")]
    Handler {
        /// The endpoint.
        endpoint: Endpoint,
        /// What the handler said.
        source: HandleError,
    },
    /// The source was told to be changed.
    #[error("{endpoint} was given up on request")]
    Changed {
        /// The endpoint.
        endpoint: Endpoint,
    },
    /// The endpoints of the source became others.
    #[error("{endpoint} was left because the endpoints are others than before")]
    EndpointsChanged {
        /// The endpoint.
        endpoint: Endpoint,
    },
    /// The source did not deliver a block that a quorum of the orderers signed (MON-08).
    #[error("{endpoint} did not deliver block {number} within {after:?} although it was proven{}", by(shown_by.as_ref()))]
    Withheld {
        /// The endpoint.
        endpoint: Endpoint,
        /// The block.
        number: BlockNumber,
        /// Who showed its header.
        shown_by: Option<Endpoint>,
        /// For how long the source could have delivered it.
        after: Duration,
    },
    /// The source did not deliver a block that another source had given (H21).
    #[error("{endpoint} did not deliver block {number} within {after:?} although the chain has it")]
    Behind {
        /// The endpoint.
        endpoint: Endpoint,
        /// The block.
        number: BlockNumber,
        /// For how long the source could have delivered it.
        after: Duration,
    },
    /// Somebody hinted at a block, and the source was silent (H21). It may have been a lie.
    #[error("{endpoint} was silent for {after:?} while block {number} may be there{}", by(shown_by.as_ref()))]
    Doubted {
        /// The endpoint.
        endpoint: Endpoint,
        /// The block.
        number: BlockNumber,
        /// Who showed its header.
        shown_by: Option<Endpoint>,
        /// For how long the source could have delivered it.
        after: Duration,
    },
}

/// The kind of a [`Failure`], for health and metrics: few, and the same for every endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// The endpoint could not be reached, or is not trusted.
    Unreachable,
    /// Nothing came in time.
    TimedOut,
    /// The stream broke, or ended without a status.
    Broken,
    /// The endpoint sent what is no answer, or cannot serve such a request.
    Malformed,
    /// The request could not be signed.
    NotSigned,
    /// 503: the orderer has no leader, or its cluster no quorum.
    NoLeader,
    /// 404: the orderer does not know the channel, or has not finished joining it.
    UnknownChannel,
    /// 403: the orderer does not give this identity the channel's blocks: it is none of a reader,
    /// it has expired, or the channel is in maintenance.
    IdentityRefused,
    /// 400: the orderer does not take the request: a clock is off by more than it allows, or the
    /// request does not belong to the TLS certificate.
    RequestRefused,
    /// Any other status.
    OtherStatus,
    /// A block broke a rule, or did not follow.
    InvalidBlock,
    /// The block was not taken over, for no fault of the source.
    NotTaken,
    /// The endpoints became others.
    EndpointsChanged,
    /// The caller wanted another source.
    OnRequest,
    /// The source withheld a block that was proven.
    Withheld,
    /// The source lacked a block that the chain has.
    Behind,
    /// The source was silent while somebody hinted at a block.
    Doubted,
}

impl Failure {
    /// Whether another endpoint may do better.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Source(error) => error.is_retryable(),
            Self::Handler { source, .. } => source.is_retryable(),
            Self::Status { .. }
            | Self::HungUp { .. }
            | Self::WrongNumber { .. }
            | Self::WrongPreviousHash { .. }
            | Self::Changed { .. }
            | Self::EndpointsChanged { .. }
            | Self::Withheld { .. }
            | Self::Behind { .. }
            | Self::Doubted { .. } => true,
        }
    }

    /// Its kind.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Source(error) => Reason::of_source(error),
            Self::Status { status, .. } => Reason::of_status(*status),
            Self::HungUp { .. } => Reason::Broken,
            Self::WrongNumber { .. } | Self::WrongPreviousHash { .. } => Reason::InvalidBlock,
            Self::Handler { source, .. } => match source {
                HandleError::Rejected(_) => Reason::InvalidBlock,
                HandleError::Failed(_) | HandleError::Closed => Reason::NotTaken,
            },
            Self::Changed { .. } => Reason::OnRequest,
            Self::EndpointsChanged { .. } => Reason::EndpointsChanged,
            Self::Withheld { .. } => Reason::Withheld,
            Self::Behind { .. } => Reason::Behind,
            Self::Doubted { .. } => Reason::Doubted,
        }
    }
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 17] = [
        Self::Unreachable,
        Self::TimedOut,
        Self::Broken,
        Self::Malformed,
        Self::NotSigned,
        Self::NoLeader,
        Self::UnknownChannel,
        Self::IdentityRefused,
        Self::RequestRefused,
        Self::OtherStatus,
        Self::InvalidBlock,
        Self::NotTaken,
        Self::EndpointsChanged,
        Self::OnRequest,
        Self::Withheld,
        Self::Behind,
        Self::Doubted,
    ];

    /// A short name, the same in every message and metric.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::TimedOut => "timed-out",
            Self::Broken => "broken",
            Self::Malformed => "malformed",
            Self::NotSigned => "not-signed",
            Self::NoLeader => "no-leader",
            Self::UnknownChannel => "unknown-channel",
            Self::IdentityRefused => "identity-refused",
            Self::RequestRefused => "request-refused",
            Self::OtherStatus => "other-status",
            Self::InvalidBlock => "invalid-block",
            Self::NotTaken => "not-taken",
            Self::EndpointsChanged => "endpoints-changed",
            Self::OnRequest => "on-request",
            Self::Withheld => "withheld",
            Self::Behind => "behind",
            Self::Doubted => "doubted",
        }
    }

    fn of_status(status: DeliverStatus) -> Self {
        match status {
            DeliverStatus::Unavailable => Self::NoLeader,
            DeliverStatus::NotFound => Self::UnknownChannel,
            DeliverStatus::Forbidden => Self::IdentityRefused,
            DeliverStatus::BadRequest => Self::RequestRefused,
            DeliverStatus::Success
            | DeliverStatus::TooLarge
            | DeliverStatus::InternalError
            | DeliverStatus::NotImplemented
            | DeliverStatus::Other(_)
            | _ => Self::OtherStatus,
        }
    }

    fn of_source(error: &SourceError) -> Self {
        match error {
            SourceError::Connect { .. } | SourceError::UnknownEndpoint { .. } => Self::Unreachable,
            SourceError::TimedOut { .. } => Self::TimedOut,
            SourceError::Broken { .. } => Self::Broken,
            SourceError::Malformed { .. }
            | SourceError::MalformedBlock { .. }
            | SourceError::Unsupported { .. } => Self::Malformed,
            SourceError::Sign { .. } => Self::NotSigned,
            _ => Self::Broken,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

fn by(shown_by: Option<&Endpoint>) -> String {
    shown_by
        .map(|endpoint| format!(" by {endpoint}"))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_its_reason() {
        let rows = [
            (200, Reason::OtherStatus),
            (400, Reason::RequestRefused),
            (403, Reason::IdentityRefused),
            (404, Reason::UnknownChannel),
            (413, Reason::OtherStatus),
            (500, Reason::OtherStatus),
            (501, Reason::OtherStatus),
            (503, Reason::NoLeader),
            (999, Reason::OtherStatus),
        ];
        for (code, reason) in rows {
            let failure = Failure::Status {
                endpoint: "orderer:7050".parse().unwrap(),
                status: DeliverStatus::from_code(code),
            };
            assert_eq!(failure.reason(), reason, "{failure}");
            assert!(failure.is_retryable());
        }
    }

    #[test]
    fn reasons_have_names_of_their_own() {
        let names: std::collections::BTreeSet<_> = Reason::ALL.map(Reason::as_str).into();
        assert_eq!(names.len(), Reason::ALL.len());
    }

    #[test]
    fn a_change_of_source_says_what_was_missing_and_who_showed_it() {
        let failure = Failure::Withheld {
            endpoint: "one:7050".parse().unwrap(),
            number: BlockNumber::new(8),
            shown_by: Some("two:7050".parse().unwrap()),
            after: Duration::from_secs(30),
        };
        assert_eq!(
            failure.to_string(),
            "one:7050 did not deliver block 8 within 30s although it was proven by two:7050"
        );
    }
}
