// SPDX-License-Identifier: Apache-2.0
//! A channel whose orderers change their addresses and their TLS authorities, by its config blocks.

use std::{collections::BTreeSet, time::SystemTime};

use block_api::Endpoint;
use dev_orderer::{ChainMaker, Change, NetworkConfig, OrganizationSpec};
use orderer_client::{AddressOverride, Tls, parse_pem_certificates};
use prost::Message as _;
use protos::common::{ConfigGroup, ConfigValue, OrdererAddresses};
use tokio::sync::watch;

use super::*;

const ADDRESSES: &str = "OrdererAddresses";

/// A chain, the client that follows it, and what it told of changes.
struct Followed {
    maker: ChainMaker,
    follower: EndpointFollower,
    client: OrdererClient,
    changes: watch::Receiver<u64>,
}

impl Followed {
    /// `Left` orders at ports 1 and 3, `Right` at 2 and 4.
    fn new(overrides: Vec<AddressOverride>) -> Self {
        let config = NetworkConfig {
            orderers: ["Left", "Right"].map(OrganizationSpec::orderer).to_vec(),
            ..NetworkConfig::new("sources".parse().unwrap())
        };
        let endpoints: Vec<Endpoint> = (1..=4).map(at).collect();
        let maker = ChainMaker::new(config, &endpoints, SystemTime::UNIX_EPOCH).unwrap();
        let config = Config {
            tls: Tls::Server,
            overrides,
            ..Config::default()
        };
        let clock = FixedClock(SystemTime::UNIX_EPOCH);
        let client =
            OrdererClient::new(config, Arc::new(TestSigner("node")), Arc::new(clock)).unwrap();
        let genesis = maker.network().genesis().clone();
        let verifier = ChannelVerifier::from_genesis(&genesis).unwrap();
        let named = endpoints_of(&verifier);
        follow(&client, verifier.channel(), &named);
        let changes = client.endpoint_changes().unwrap();
        Self {
            maker,
            follower: EndpointFollower::new(verifier, client.clone(), Vec::new()),
            client,
            changes,
        }
    }

    /// The next block edits the configuration.
    async fn edit(&mut self, edit: impl FnOnce(&mut ConfigGroup)) -> Changed {
        let block = self.maker.config_block(edit).await.unwrap();
        self.take(block)
    }

    async fn change(&mut self, change: Change) -> Changed {
        let block = self.maker.change(&[change]).await.unwrap();
        self.take(block)
    }

    fn take(&mut self, block: Block) -> Changed {
        let before = self.versions();
        self.changes.mark_unchanged();
        let block = VerifiedBlock::new(block, &self.follower, Standing::Linked).unwrap();
        self.follower.apply_config(&block).unwrap();
        let after = self.versions();
        Changed {
            told: self.changes.has_changed().unwrap(),
            ports: ports(&self.client.endpoints()),
            left: before.difference(&after).map(|(port, _)| *port).collect(),
        }
    }

    fn versions(&self) -> BTreeSet<(u16, Option<u64>)> {
        let endpoints = self.client.endpoints();
        let version = |endpoint: &Endpoint| self.client.endpoint_version(endpoint);
        endpoints
            .iter()
            .map(|endpoint| (port(endpoint), version(endpoint)))
            .collect()
    }

    /// How many TLS roots an endpoint has.
    fn roots(&self, of: u16) -> usize {
        let named = endpoints_of(&self.follower.verifier);
        let found = named.iter().find(|named| named.endpoint == at(of)).unwrap();
        found.tls_roots.len()
    }
}

/// What a config block changed.
#[derive(Debug, PartialEq, Eq)]
struct Changed {
    told: bool,
    ports: Vec<u16>,
    /// The ports whose streams do not stay open.
    left: Vec<u16>,
}

impl Changed {
    fn to(ports: &[u16], left: &[u16]) -> Self {
        Self {
            told: true,
            ports: ports.to_vec(),
            left: left.to_vec(),
        }
    }

    fn nothing(ports: &[u16]) -> Self {
        Self {
            told: false,
            ..Self::to(ports, &[])
        }
    }
}

fn endpoints_of(verifier: &ChannelVerifier) -> Vec<OrdererEndpoint> {
    endpoints(&verifier.config(), &[])
}

fn at(port: u16) -> Endpoint {
    format!("127.0.0.1:{port}").parse().unwrap()
}

fn port(endpoint: &Endpoint) -> u16 {
    let (_, port) = endpoint.as_str().rsplit_once(':').unwrap();
    port.parse().unwrap()
}

fn ports(endpoints: &[Endpoint]) -> Vec<u16> {
    let ports: BTreeSet<u16> = endpoints.iter().map(port).collect();
    ports.into_iter().collect()
}

fn addresses(ports: &[u16]) -> ConfigValue {
    let addresses = ports.iter().map(|port| at(*port).to_string()).collect();
    ConfigValue {
        value: OrdererAddresses { addresses }.encode_to_vec().into(),
        ..ConfigValue::default()
    }
}

fn orderers(tree: &mut ConfigGroup) -> &mut ConfigGroup {
    tree.groups.get_mut("Orderer").unwrap()
}

/// Gives an organisation these addresses.
fn own(tree: &mut ConfigGroup, organisation: &str, ports: &[u16]) {
    let group = orderers(tree).groups.get_mut(organisation).unwrap();
    let value = group.values.get_mut("Endpoints").unwrap();
    value.value = addresses(ports).value;
}

/// Gives the channel these old addresses.
fn global(tree: &mut ConfigGroup, ports: &[u16]) {
    let before = tree.values.remove(ADDRESSES).unwrap_or_default();
    let value = ConfigValue {
        value: addresses(ports).value,
        mod_policy: "Admins".to_owned(),
        ..before
    };
    tree.values.insert(ADDRESSES.to_owned(), value);
}

/// Only a stream whose own endpoint is reached otherwise is left.
///
/// Covers: SRC-01, SRC-02, SRC-06, SRC-07, SRC-08, SRC-10, SRC-11, SRC-12
#[tokio::test]
async fn endpoints_of_organisations_follow_each_config_block() {
    let mut chain = Followed::new(Vec::new());
    assert_eq!(ports(&chain.client.endpoints()), [1, 2, 3, 4]);
    assert!(!chain.changes.has_changed().unwrap(), "nothing at first");
    let named = endpoints_of(&chain.follower.verifier);
    let roots = |of| {
        let found = named.iter().find(|named| named.endpoint == at(of));
        &found.unwrap().tls_roots
    };
    assert_eq!(roots(1), roots(3), "both are Left's");
    assert_eq!(roots(2), roots(4), "both are Right's");
    assert_ne!(roots(1), roots(2));

    let all = [1, 2, 3, 4];
    let changed = chain.edit(|_| {}).await;
    assert_eq!(changed, Changed::nothing(&all), "the same again");
    let changed = chain.edit(|tree| global(tree, &[90])).await;
    assert_eq!(changed, Changed::nothing(&all), "old addresses are hidden");
    let organization = "Left".to_owned();
    let changed = chain.change(Change::AddTlsAuthority { organization }).await;
    assert_eq!(changed, Changed::to(&all, &[1, 3]), "other roots");
    assert_eq!((chain.roots(1), chain.roots(2)), (2, 1));
    let changed = chain.edit(|tree| own(tree, "Left", &[1, 30])).await;
    let others = [1, 2, 4, 30];
    assert_eq!(changed, Changed::to(&others, &[3]), "another address");

    let mut right = None;
    let changed = chain
        .edit(|tree| right = orderers(tree).groups.remove("Right"))
        .await;
    assert_eq!(changed, Changed::to(&[1, 30], &[2, 4]), "one goes");
    let back = |tree: &mut ConfigGroup| {
        let right = right.take().unwrap();
        orderers(tree).groups.insert("Right".to_owned(), right);
    };
    let changed = chain.edit(back).await;
    assert_eq!(changed, Changed::to(&others, &[]), "and returns");
    assert_eq!(chain.roots(4), 1);
}

/// Covers: SRC-13, SRC-14, SRC-15, SRC-16, SRC-17, SRC-19
#[tokio::test]
async fn old_addresses_count_while_no_organisation_has_its_own() {
    let ca = std::fs::read(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/fixtures/msp/orderer/raft0/tls/ca.crt"
    ));
    let overridden = AddressOverride {
        from: at(91),
        to: at(9100),
        tls_roots: Some(parse_pem_certificates(&ca.unwrap()).unwrap()),
    };
    let mut chain = Followed::new(vec![overridden]);
    let globals = |tree: &mut ConfigGroup| {
        own(tree, "Left", &[]);
        own(tree, "Right", &[]);
        global(tree, &[90, 91]);
    };
    let changed = chain.edit(globals).await;
    assert_eq!(changed, Changed::to(&[90, 91], &[1, 2, 3, 4]));
    assert_eq!(chain.roots(90), 2, "the roots of all");

    let changed = chain.edit(|tree| global(tree, &[90, 91, 92])).await;
    assert_eq!(changed, Changed::to(&[90, 91, 92], &[]), "it grows");
    let changed = chain.edit(|tree| global(tree, &[90, 91])).await;
    assert_eq!(changed, Changed::to(&[90, 91], &[92]), "it shrinks");
    let changed = chain.edit(|tree| global(tree, &[89, 91])).await;
    assert_eq!(changed, Changed::to(&[89, 91], &[90]), "it is modified");
    let organization = "Left".to_owned();
    let changed = chain.change(Change::AddTlsAuthority { organization }).await;
    assert_eq!(
        changed,
        Changed::to(&[89, 91], &[89]),
        "the roots of an override stay"
    );
    let changed = chain.edit(|tree| own(tree, "Right", &[2])).await;
    assert_eq!(changed, Changed::to(&[2], &[89, 91]), "one has its own");
}
