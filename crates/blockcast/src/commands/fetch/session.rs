// SPDX-License-Identifier: Apache-2.0
//! One request to one orderer.

use std::{fs, path::Path, sync::Arc};

use block_api::{
    BlockNumber, BlockSource as _, Clock, Content, DeliverStatus, Delivery, Endpoint, SourceError,
    StreamRequest, WhenMissing,
};
use futures::StreamExt as _;
use orderer_client::{
    Config, OrdererClient, OrdererEndpoint, Tls, parse_pem_certificates, parse_pem_key,
};
use signer::load_msp_folder;

use crate::commands::{
    fetch::{
        Args,
        error::{Encryption, FetchError, Refusal},
        files::BlockFiles,
        progress::Progress,
        range::{First, Last},
    },
    identity::Claimed,
};

/// A request that is ready to be sent.
#[derive(Debug)]
pub(super) struct Session {
    client: OrdererClient,
    endpoint: Endpoint,
    request: StreamRequest,
    first: First,
    last: Last,
    identity: Option<Claimed>,
    encryption: Encryption,
    clock: Arc<dyn Clock>,
}

impl Session {
    /// Reads all files that the request needs.
    pub(super) fn new(args: &Args, clock: Arc<dyn Clock>) -> Result<Self, FetchError> {
        let signer = load_msp_folder(&args.msp_dir, &args.msp_id)?;
        let identity = Claimed::parse(&signer.identity());
        let tls_roots = match &args.tls_ca {
            Some(file) => from_pem("--tls-ca", file, parse_pem_certificates)?,
            None => Vec::new(),
        };
        let (encryption, tls) = match (&args.client_cert, &args.client_key) {
            _ if args.plaintext => (Encryption::Plain, Tls::Plain),
            (Some(certificate), Some(key)) => {
                let certificates = from_pem("--client-cert", certificate, parse_pem_certificates)?;
                let key = Arc::new(from_pem("--client-key", key, parse_pem_key)?);
                (Encryption::Mutual, Tls::Mutual { certificates, key })
            }
            _ => (Encryption::Server, Tls::Server),
        };
        let config = Config {
            endpoints: vec![OrdererEndpoint {
                endpoint: args.orderer.clone(),
                tls_roots,
            }],
            tls,
            ..Config::default()
        };
        Ok(Self {
            client: OrdererClient::new(config, signer, clock.clone())?,
            endpoint: args.orderer.clone(),
            request: StreamRequest {
                channel: args.channel.clone(),
                start: args.from.start(),
                stop: args.to.stop(),
                content: Content::Blocks,
                when_missing: WhenMissing::Fail,
            },
            first: args.from,
            last: args.to,
            identity,
            encryption,
            clock,
        })
    }

    /// Fetches the blocks, and writes each as it comes.
    ///
    /// When the future is dropped, a block may be written that is not counted.
    pub(super) async fn fetch(
        &self,
        files: &BlockFiles,
        progress: &mut Progress,
    ) -> Result<(), FetchError> {
        let endpoint = || self.endpoint.clone();
        let opened = self.client.open(&self.endpoint, &self.request).await;
        let mut stream = opened.map_err(|failure| self.failed(failure, None))?;
        let mut expected = self.first.number();
        while let Some(delivery) = stream.next().await {
            let block = match delivery.map_err(|failure| self.failed(failure, progress.last()))? {
                Delivery::Block(block) => block,
                Delivery::Status(DeliverStatus::Success) => return self.check_end(progress.last()),
                Delivery::Status(status) => return Err(self.refused(status, progress.last())),
            };
            let number = block.number();
            if let Some(expected) = expected.filter(|expected| *expected != number) {
                return Err(FetchError::OtherBlock {
                    endpoint: endpoint(),
                    number,
                    expected,
                });
            }
            if self.last.number().is_some_and(|last| number > last) {
                return Err(FetchError::PastTheLast {
                    endpoint: endpoint(),
                    number,
                });
            }
            if !block.has_data() {
                return Err(FetchError::NoData {
                    endpoint: endpoint(),
                    number,
                });
            }
            let length = block.raw().len();
            let written = files.write(block, &self.endpoint).await?;
            progress.count(number, length, written);
            expected = number.next();
        }
        Err(FetchError::HungUp {
            endpoint: endpoint(),
            last: progress.last(),
        })
    }

    /// An orderer that says that it is done has sent the last block that was asked for.
    fn check_end(&self, last: Option<BlockNumber>) -> Result<(), FetchError> {
        let wanted = self.last.number();
        if last.is_some() && (wanted.is_none() || last == wanted) {
            return Ok(());
        }
        Err(FetchError::Incomplete {
            endpoint: self.endpoint.clone(),
            last,
            wanted,
        })
    }

    fn failed(&self, failure: SourceError, last: Option<BlockNumber>) -> FetchError {
        FetchError::Orderer {
            failure,
            encryption: self.encryption,
            last,
        }
    }

    fn refused(&self, status: DeliverStatus, last: Option<BlockNumber>) -> FetchError {
        let now = self.clock.now();
        let expired = self
            .identity
            .as_ref()
            .is_some_and(|identity| identity.is_expired(now));
        FetchError::Refused(Box::new(Refusal {
            status,
            endpoint: self.endpoint.clone(),
            channel: self.request.channel.clone(),
            identity: self.identity.clone(),
            last,
            expired,
            encryption: self.encryption,
        }))
    }
}

/// Reads what an option names.
fn from_pem<T>(
    option: &'static str,
    path: &Path,
    parse: impl FnOnce(&[u8]) -> Result<T, orderer_client::PemError>,
) -> Result<T, FetchError> {
    let pem = fs::read(path).map_err(|source| FetchError::Unreadable {
        option,
        path: path.to_owned(),
        source,
    })?;
    parse(&pem).map_err(|source| FetchError::Pem {
        option,
        path: path.to_owned(),
        source,
    })
}
