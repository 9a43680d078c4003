// SPDX-License-Identifier: Apache-2.0
//! Opens a channel: the block that is trusted, its verifier, its store, and the client of its orderers.

use std::{fs, path::Path, sync::Arc};

use block_api::{
    BlockReader as _, BlockStore as _, ChannelId, Clock, Height, Kinship, OwnOrganisation as _,
    Signer,
};
use block_store::{Config as StoreConfig, OpenError, SegmentStore};
use channel_config::{ChannelAccess, ChannelConfig, ChannelVerifier, OwnMsp};
use deliver_service::ChannelParts;
use orderer_client::{
    AddressOverride, OrdererClient, OrdererEndpoint, PemError, Tls, parse_pem_certificates,
    parse_pem_key,
};
use tokio::task::spawn_blocking;
use tracing::{info, warn};

use super::{
    StartError,
    stored::{StoreCheck, check_store},
    trust::Trust,
    verifier::{EndpointFollower, endpoints, follow},
};
use crate::config::{ChannelSection, NodeConfig, OrdererTls, Pull};

/// A channel that is ready to be joined.
pub(super) struct OpenedChannel {
    pub(super) store: SegmentStore,
    pub(super) verifier: ChannelVerifier,
    pub(super) parts: ChannelParts,
    pub(super) pull: Pull,
}

/// Who a node is, as far as channels need it.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    pub(super) signer: Arc<dyn Signer>,
    pub(super) clock: Arc<dyn Clock>,
}

pub(super) async fn open(
    config: &NodeConfig,
    section: &ChannelSection,
    identity: &Identity,
    check: StoreCheck,
) -> Result<OpenedChannel, StartError> {
    let channel = section.id.clone();
    let (trust, verifier) = Trust::read(section)?;
    let client = orderer_client(config, section, &[&verifier.config()], identity)?;
    let store_config = trust.store_config(config)?;
    let dir = config.channel_dir(&channel);
    let store = open_store(&dir, store_config)
        .await
        .map_err(|source| StartError::Store {
            channel: channel.clone(),
            source: Box::new(source),
        })?;
    if store.info().height == Height::ZERO {
        store_genesis(&store, &trust, &channel).await?;
    } else {
        let checked = check_store(Arc::new(store.clone()), trust.verifier(), check).await;
        let blocks = checked.map_err(|source| StartError::Stored {
            channel: channel.clone(),
            dir: dir.clone(),
            source: Box::new(source),
        })?;
        info!(%channel, blocks, ?check, "stored blocks judged");
    }
    let scope = config.readers(section).scope(&identity.signer.identity());
    let readers = Arc::new(ChannelAccess::readers(&verifier).within(scope));
    let organisation = organisation(config, &verifier, identity);
    let extra = extra_orderers(section)?;
    let follower = EndpointFollower::new(verifier.clone(), client.clone(), extra);
    let parts = ChannelParts {
        channel,
        genesis: trust.genesis(),
        store: Arc::new(store.clone()),
        verifier: Arc::new(follower),
        readers,
        signer: identity.signer.clone(),
        organisation: Arc::new(organisation),
        source: Arc::new(client),
    };
    Ok(OpenedChannel {
        store,
        verifier,
        parts,
        pull: section.pull,
    })
}

/// Who is of the organisation of this node, and may pull for it.
fn organisation(config: &NodeConfig, verifier: &ChannelVerifier, identity: &Identity) -> OwnMsp {
    let identity = identity.signer.identity();
    let organisation = OwnMsp::of_identity(verifier, &identity);
    let organisation = match config.delivery.puller_role {
        Some(role) => organisation.pulled_by(role.into()),
        None => organisation,
    };
    let kinship = organisation.kinship(&identity);
    if kinship != Kinship::Puller {
        // It pulls all the same where it is told to, or knows of nobody who may.
        info!(
            channel = %verifier.channel(), ?kinship,
            "the identity of this node is none of those that pull for its organisation"
        );
    }
    organisation
}

/// Opens the store beside the runtime: it reads what is there.
async fn open_store(dir: &Path, config: StoreConfig) -> Result<SegmentStore, OpenError> {
    let (path, channel) = (dir.to_owned(), config.channel.clone());
    let opened = spawn_blocking(move || SegmentStore::open(path, config)).await;
    let (store, report) = match opened {
        Ok(opened) => opened?,
        Err(error) => std::panic::resume_unwind(error.into_panic()),
    };
    let height = store.info().height;
    if report.is_clean() {
        info!(%channel, %height, dir = %dir.display(), "block store opened");
    } else {
        warn!(%channel, %height, dir = %dir.display(), ?report, "block store opened and repaired");
    }
    Ok(store)
}

/// Keeps the genesis block as block 0, judged by itself.
async fn store_genesis(
    store: &SegmentStore,
    trust: &Trust,
    channel: &ChannelId,
) -> Result<(), StartError> {
    let appended = store.append(vec![trust.verified()?]).await;
    appended.map(drop).map_err(|source| StartError::Append {
        channel: channel.clone(),
        source,
    })
}

/// A client of the orderers that these configurations of the channel name.
pub(super) fn orderer_client(
    config: &NodeConfig,
    section: &ChannelSection,
    named_by: &[&ChannelConfig],
    identity: &Identity,
) -> Result<OrdererClient, StartError> {
    let extra = extra_orderers(section)?;
    let named = named_by.iter().rev();
    let endpoints = named.fold(extra.clone(), |more, named| endpoints(named, &more));
    if section.pull != Pull::Never && endpoints.is_empty() {
        return Err(StartError::NoOrderer {
            channel: section.id.clone(),
        });
    }
    // What the operator gives has to work; what the channel names may be mended by the channel.
    let client = orderer_client::Config {
        endpoints: extra,
        tls: client_tls(config)?,
        overrides: overrides(config)?,
        ..config.orderer_client()?
    };
    let client = OrdererClient::new(client, identity.signer.clone(), identity.clock.clone())
        .map_err(|source| StartError::Orderer {
            channel: section.id.clone(),
            source,
        })?;
    follow(&client, &section.id, &endpoints);
    Ok(client)
}

fn extra_orderers(section: &ChannelSection) -> Result<Vec<OrdererEndpoint>, StartError> {
    let extra = section.orderers.iter().map(|orderer| {
        Ok(OrdererEndpoint {
            endpoint: orderer.endpoint.clone(),
            tls_roots: match &orderer.ca {
                Some(path) => read_pem("channel.orderers.ca", path, parse_pem_certificates)?,
                None => Vec::new(),
            },
        })
    });
    extra.collect()
}

fn overrides(config: &NodeConfig) -> Result<Vec<AddressOverride>, StartError> {
    let overrides = config.orderer.overrides.iter().map(|entry| {
        let roots = entry.ca.as_deref();
        let read = |path| read_pem("orderer.overrides.ca", path, parse_pem_certificates);
        Ok(AddressOverride {
            from: entry.from.clone(),
            to: entry.to.clone(),
            tls_roots: roots.map(read).transpose()?,
        })
    });
    overrides.collect()
}

fn client_tls(config: &NodeConfig) -> Result<Tls, StartError> {
    let orderer = &config.orderer;
    match (orderer.tls, &orderer.client_cert, &orderer.client_key) {
        (OrdererTls::None, ..) => Ok(Tls::Plain),
        (OrdererTls::Mutual, Some(certificates), Some(key)) => Ok(Tls::Mutual {
            certificates: read_pem("orderer.client_cert", certificates, parse_pem_certificates)?,
            key: Arc::new(read_pem("orderer.client_key", key, parse_pem_key)?),
        }),
        // Mutual TLS without the two files is refused when the configuration is checked.
        (OrdererTls::Server | OrdererTls::Mutual, ..) => Ok(Tls::Server),
    }
}

fn read_pem<T>(
    key: &'static str,
    path: &Path,
    parse: impl FnOnce(&[u8]) -> Result<T, PemError>,
) -> Result<T, StartError> {
    let bytes = read_file(key, path)?;
    parse(&bytes).map_err(|source| StartError::Pem {
        key,
        path: path.to_owned(),
        source,
    })
}

pub(super) fn read_file(key: &'static str, path: &Path) -> Result<Vec<u8>, StartError> {
    fs::read(path).map_err(|source| StartError::File {
        key,
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::config::OverrideSection;

    fn fixture(path: &str) -> PathBuf {
        PathBuf::from(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../../tests/fixtures/msp"
        ))
        .join(path)
    }

    fn entry(from: &str, ca: Option<PathBuf>) -> OverrideSection {
        OverrideSection {
            from: from.parse().unwrap(),
            to: "127.0.0.1:9050".parse().unwrap(),
            ca,
        }
    }

    /// Covers: CFG-07, CFG-09, CFG-10, CFG-12
    #[test]
    fn overrides_bring_their_roots_or_keep_those_of_the_endpoint() {
        let mut config = NodeConfig::new("data");
        assert_eq!(overrides(&config).unwrap(), []);
        let roots = fixture("orderer/raft0/tls/ca.crt");
        let entries = [entry("a:1", Some(roots)), entry("b:2", None)];
        config.orderer.overrides.extend(entries);
        let read = overrides(&config).unwrap();
        let names: Vec<&str> = read.iter().map(|entry| entry.from.as_str()).collect();
        assert_eq!(names, ["a:1", "b:2"]);
        let roots: Vec<Option<usize>> = read
            .iter()
            .map(|entry| entry.tls_roots.as_ref().map(Vec::len))
            .collect();
        assert_eq!(roots, [Some(1), None]);

        // A file that is named and not there is an error, and not an override less.
        config
            .orderer
            .overrides
            .push(entry("c:3", Some("nowhere.pem".into())));
        let error = overrides(&config).unwrap_err().to_string();
        assert!(
            error.contains("orderer.overrides.ca names nowhere.pem"),
            "{error}"
        );
    }

    /// Covers: CFG-04
    #[test]
    fn the_client_certificate_is_read_for_mutual_tls_alone() {
        let mut config = NodeConfig::new("data");
        config.orderer.client_cert = Some(fixture("org1/user1/tls/client.crt"));
        config.orderer.client_key = Some(fixture("org1/user1/tls/client.key"));
        assert!(matches!(client_tls(&config).unwrap(), Tls::Server));
        config.orderer.tls = OrdererTls::None;
        assert!(matches!(client_tls(&config).unwrap(), Tls::Plain));
        config.orderer.tls = OrdererTls::Mutual;
        assert!(
            matches!(client_tls(&config).unwrap(), Tls::Mutual { certificates, .. } if certificates.len() == 1)
        );
        config.orderer.client_key = Some(fixture("org1/user1/tls/ca.crt"));
        let error = client_tls(&config).unwrap_err().to_string();
        assert!(
            error.contains("orderer.client_key names") && error.contains("no private key"),
            "{error}"
        );
    }
}
