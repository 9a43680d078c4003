// SPDX-License-Identifier: Apache-2.0
//! Why blocks were not fetched, and what to do about it.

use std::{io, path::PathBuf};

use block_api::{BlockNumber, ChannelId, DeliverStatus, Endpoint, SourceError};
use orderer_client::{ConfigError, PemError, TransportError};
use signer::MspFolderError;
use tokio::task::JoinError;

use crate::{
    commands::{
        identity::Claimed,
        printable::{self, printable},
    },
    error::CommandError,
};

/// Blocks were not fetched, or not all of them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(super) enum FetchError {
    #[error("--from is {from} and --to is {to}: the first block must not come after the last")]
    Backwards { from: BlockNumber, to: BlockNumber },
    #[error("{option}: {} cannot be read: {source}", path.display())]
    Unreadable {
        option: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("{option}: {} does not serve: {source}", path.display())]
    Pem {
        option: &'static str,
        path: PathBuf,
        source: PemError,
    },
    #[error("--msp-dir: {0}")]
    Msp(#[from] MspFolderError),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error("--out: the folder {} cannot be made: {source}", path.display())]
    NoFolder { path: PathBuf, source: io::Error },
    #[error("{} cannot be written: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("{} is there and holds other bytes than {endpoint} sent for block {number}", path.display())]
    OtherContent {
        path: PathBuf,
        number: BlockNumber,
        endpoint: Endpoint,
    },
    // Its cause is no `source`: the orderer wrote some of it, and its message tells all.
    #[error("{}", printable(&failure.to_string(), printable::REASON))]
    Orderer {
        failure: SourceError,
        encryption: Encryption,
        last: Option<BlockNumber>,
    },
    #[error(transparent)]
    Refused(Box<Refusal>),
    #[error("{endpoint} hung up without a word{}", after(*.last))]
    HungUp {
        endpoint: Endpoint,
        last: Option<BlockNumber>,
    },
    #[error("{endpoint} said that it was done{}, but {}", after(*.last), missing(*.wanted))]
    Incomplete {
        endpoint: Endpoint,
        last: Option<BlockNumber>,
        wanted: Option<BlockNumber>,
    },
    #[error("{endpoint} sent block {number} where block {expected} comes")]
    OtherBlock {
        endpoint: Endpoint,
        number: BlockNumber,
        expected: BlockNumber,
    },
    #[error("{endpoint} sent block {number}, past the last one that was asked for")]
    PastTheLast {
        endpoint: Endpoint,
        number: BlockNumber,
    },
    #[error("{endpoint} sent block {number} without its data")]
    NoData {
        endpoint: Endpoint,
        number: BlockNumber,
    },
    #[error("the writing of a file did not end: {0}")]
    Task(#[from] JoinError),
}

/// How the connection is protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encryption {
    Plain,
    Server,
    Mutual,
}

/// The orderer ended the request with a status other than SUCCESS.
#[derive(Debug, thiserror::Error)]
#[error("{}", self.message())]
pub(super) struct Refusal {
    pub(super) status: DeliverStatus,
    pub(super) endpoint: Endpoint,
    pub(super) channel: ChannelId,
    /// Who asked.
    pub(super) identity: Option<Claimed>,
    /// The newest block that came before the status.
    pub(super) last: Option<BlockNumber>,
    /// Whether the certificate of who asked is past its time.
    pub(super) expired: bool,
    pub(super) encryption: Encryption,
}

impl FetchError {
    pub(super) fn into_command_error(self) -> CommandError {
        let hint = self.hint();
        let error = CommandError::from(self);
        match hint {
            Some(hint) => error.hint(hint),
            None => error,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::OtherContent { .. } => Some(
                "choose another folder, or replace the file with --overwrite; copies of one block from different \
                 orderers differ in their signatures"
                    .to_owned(),
            ),
            Self::Refused(refusal) => Some(refusal.hint()),
            Self::Orderer { last: Some(_), .. } | Self::HungUp { .. } | Self::Incomplete { .. } => {
                Some("ask again with --from at the first block that is missing".to_owned())
            }
            Self::Orderer {
                failure: SourceError::Connect { source, .. } | SourceError::Broken { source, .. },
                encryption,
                last: None,
            } => transport_hint(source.downcast_ref()?, *encryption).map(str::to_owned),
            Self::Backwards { .. }
            | Self::Unreadable { .. }
            | Self::Pem { .. }
            | Self::Msp(_)
            | Self::Config(_)
            | Self::NoFolder { .. }
            | Self::Write { .. }
            | Self::Orderer { .. }
            | Self::OtherBlock { .. }
            | Self::PastTheLast { .. }
            | Self::NoData { .. }
            | Self::Task(_) => None,
        }
    }
}

impl Refusal {
    fn message(&self) -> String {
        let Self {
            status,
            endpoint,
            channel,
            ..
        } = self;
        let after = after(self.last);
        match (*status, self.last) {
            (DeliverStatus::Forbidden, _) => {
                format!(
                    "{endpoint} does not let {} read channel {channel}{after}: {status}",
                    self.who()
                )
            }
            (DeliverStatus::NotFound, None) => {
                format!(
                    "{endpoint} has no channel {channel}, or not the first block that is asked for: {status}"
                )
            }
            (DeliverStatus::NotFound, Some(last)) => {
                format!("channel {channel} ends with block {last} on {endpoint}: {status}")
            }
            (DeliverStatus::BadRequest, _) => {
                format!("{endpoint} does not take the request: {status}")
            }
            (DeliverStatus::Unavailable, _) => {
                format!("{endpoint} cannot serve channel {channel} at the moment{after}: {status}")
            }
            (_, _) => format!("{endpoint} ended the request{after}: {status}"),
        }
    }

    fn hint(&self) -> String {
        match self.status {
            DeliverStatus::Forbidden if self.expired => {
                "the certificate of this identity has expired: enroll it again".to_owned()
            }
            DeliverStatus::Forbidden => "it must satisfy the channel's policy /Channel/Readers: check that --msp-id is \
                the id that the channel has for the organisation, that the organisation's CA issued the certificate in \
                --msp-dir, and that the organisation is in the channel"
                .to_owned(),
            DeliverStatus::NotFound if self.last.is_some() => {
                "fetch up to the newest block with --to newest".to_owned()
            }
            DeliverStatus::NotFound => "check --channel and that this orderer has joined it; --from must not be above \
                the newest block, which --from newest gives"
                .to_owned(),
            DeliverStatus::BadRequest if self.encryption == Encryption::Mutual => {
                "the clocks may be more than 15 minutes apart, --from above --to, or --client-cert not the certificate \
                 that reaches the orderer, as behind a proxy"
                    .to_owned()
            }
            DeliverStatus::BadRequest => {
                "the clocks of this machine and the orderer may be more than 15 minutes apart, or --from above --to"
                    .to_owned()
            }
            DeliverStatus::Unavailable => {
                "it may have no leader, or have just started: try again in some seconds, or another orderer".to_owned()
            }
            DeliverStatus::Success
            | DeliverStatus::TooLarge
            | DeliverStatus::InternalError
            | DeliverStatus::NotImplemented
            | DeliverStatus::Other(_)
            | _ => "its log says why".to_owned(),
        }
    }

    fn who(&self) -> String {
        let Some(identity) = &self.identity else {
            return "this identity".to_owned();
        };
        match &identity.subject {
            Some(subject) => format!("{} [{subject}]", identity.msp_id),
            None => identity.msp_id.clone(),
        }
    }
}

/// What a connection needs, in the words of the options.
fn transport_hint(error: &TransportError, encryption: Encryption) -> Option<&'static str> {
    match (error, encryption) {
        (TransportError::Dial { .. }, _) => Some("check --orderer, and that the orderer runs"),
        (TransportError::ServerCertificate { .. }, _) => Some(
            "--tls-ca names the file with the roots that are trusted, --orderer the host that the certificate must be \
             for",
        ),
        (TransportError::TooLarge { .. } | TransportError::Status { .. }, _) => None,
        (_, Encryption::Plain) => {
            Some("if the orderer uses TLS, give --tls-ca instead of --plaintext")
        }
        (_, Encryption::Server) => Some(
            "if the orderer asks for a client certificate, give --client-cert and --client-key; if it does not use \
             TLS, --plaintext instead of --tls-ca",
        ),
        (_, Encryption::Mutual) => {
            Some("the orderer must trust the authority that issued --client-cert")
        }
    }
}

fn after(last: Option<BlockNumber>) -> String {
    match last {
        Some(last) => format!(" after block {last}"),
        None => String::new(),
    }
}

fn missing(wanted: Option<BlockNumber>) -> String {
    match wanted {
        Some(wanted) => format!("block {wanted} did not come"),
        None => "no block came".to_owned(),
    }
}
