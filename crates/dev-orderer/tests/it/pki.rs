// SPDX-License-Identifier: Apache-2.0
//! The organisations' files, as others read them.

use std::{collections::BTreeSet, fs, path::Path};

use block_api::Clock as _;
use block_api::SystemClock;
use blockcast_dev_orderer::{
    File, KeyKind, Network, NetworkConfig, Organization, OrganizationSpec, Role,
};
use channel_config::{ChannelConfig, Role as JudgedRole, SignedData};
use signer::load_msp_folder;

use crate::support::network_config;

fn network(key_kind: KeyKind) -> Network {
    let config = NetworkConfig {
        key_kind,
        ..network_config()
    };
    Network::generate(
        config,
        &["orderer.example.com:7050".parse().unwrap()],
        SystemClock.now(),
    )
    .unwrap()
}

fn write(files: Vec<File>, root: &Path) {
    for (path, content) in files {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
}

#[tokio::test]
async fn msp_folders_load_and_their_signatures_satisfy_the_channel() {
    for kind in [KeyKind::EcdsaP256, KeyKind::Ed25519] {
        let network = network(kind);
        let folder = tempfile::tempdir().unwrap();
        write(network.files(), folder.path());
        assert_eq!(
            fs::read(folder.path().join("genesis.block")).unwrap(),
            *network.genesis().raw()
        );
        assert_eq!(
            fs::read_to_string(folder.path().join("tls-ca.pem")).unwrap(),
            network.tls_ca_pem()
        );

        let config = ChannelConfig::from_block(network.genesis()).unwrap();
        for (member, msp_id, role, writes) in [
            ("org1/user1", "Org1MSP", JudgedRole::Client, true),
            ("org1/peer0", "Org1MSP", JudgedRole::Peer, false),
            ("org1/admin", "Org1MSP", JudgedRole::Admin, true),
            ("orderer/orderer0", "OrdererMSP", JudgedRole::Orderer, true),
        ] {
            let signer = load_msp_folder(&folder.path().join(member).join("msp"), msp_id).unwrap();
            let (identity, message) = (signer.identity(), b"a message");
            let signature = signer.sign(message).await.unwrap();
            let signed = SignedData::by(&identity, message, &signature);
            let known = signed.identity(config.msps()).unwrap();
            assert_eq!(known.validity(), Ok(()), "{member}");
            assert_eq!(known.role(), role, "{member}");
            assert!(config.satisfies("/Channel/Readers", &[signed]), "{member}");
            assert_eq!(
                config.satisfies("/Channel/Writers", &[signed]),
                writes,
                "{member}"
            );
        }
    }
}

#[test]
fn a_members_folder_is_laid_out_as_fabrics_tools_do() {
    let network = network(KeyKind::EcdsaP256);
    let paths: BTreeSet<String> = network.files().into_iter().map(|(path, _)| path).collect();
    let of = |prefix: &str| {
        paths
            .iter()
            .filter(|path| path.starts_with(prefix))
            .cloned()
            .collect::<Vec<_>>()
    };
    assert_eq!(
        of("org1/user1/"),
        [
            "org1/user1/msp/cacerts/ca.org1.test-cert.pem",
            "org1/user1/msp/config.yaml",
            "org1/user1/msp/keystore/priv_sk",
            "org1/user1/msp/signcerts/user1@org1.test-cert.pem",
            "org1/user1/msp/tlscacerts/tlsca.org1.test-cert.pem",
            "org1/user1/tls/ca.crt",
            "org1/user1/tls/client.crt",
            "org1/user1/tls/client.key",
        ]
    );
    assert_eq!(of("orderer/orderer0/tls/").len(), 3);
    assert!(paths.contains("orderer/orderer0/tls/server.key"));
    assert_eq!(of("org1/msp/").len(), 3);

    let (_, yaml) = network
        .files()
        .into_iter()
        .find(|(path, _)| path == "org1/user1/msp/config.yaml")
        .unwrap();
    let fixture = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../../tests/fixtures/msp/org1/user1/msp/config.yaml"
    );
    assert_eq!(
        String::from_utf8(yaml).unwrap(),
        fs::read_to_string(fixture).unwrap()
    );
}

#[test]
fn debug_shows_no_key() {
    let network = network(KeyKind::EcdsaP256);
    let key = network
        .client()
        .key_pem()
        .lines()
        .nth(1)
        .unwrap()
        .to_owned();
    let shown = format!(
        "{network:?} {:?} {:?}",
        network.client(),
        network.applications()
    );
    assert!(shown.contains("user1"));
    assert!(!shown.contains(&key) && !shown.contains("PRIVATE"));
}

#[test]
fn names_that_cannot_stand_in_a_path_are_refused() {
    for name in ["", "..", "a/b", "user 1", ".hidden"] {
        let spec = OrganizationSpec::new("Org1", [(name, Role::Client)]);
        let error =
            Organization::generate(&spec, KeyKind::EcdsaP256, SystemClock.now()).unwrap_err();
        assert!(error.to_string().contains("a member"), "{name:?}: {error}");
        let spec = OrganizationSpec::new(name, []);
        assert!(
            Organization::generate(&spec, KeyKind::EcdsaP256, SystemClock.now()).is_err(),
            "{name:?}"
        );
    }
}

#[test]
fn configurations_that_contradict_themselves_are_refused() {
    type Change = fn(&mut NetworkConfig);
    let rows: [(Change, &str); 5] = [
        (
            |config| config.batch.preferred_max_bytes = u32::MAX.try_into().unwrap(),
            "preferred_max_bytes",
        ),
        (
            |config| config.batch.timeout = std::time::Duration::ZERO,
            "timeout",
        ),
        (
            |config| {
                config
                    .applications
                    .push(OrganizationSpec::application("org1"))
            },
            "twice",
        ),
        (
            |config| {
                config
                    .applications
                    .push(OrganizationSpec::application("Orderer"))
            },
            "twice",
        ),
        (|config| config.applications.clear(), "client"),
    ];
    for (change, text) in rows {
        let mut config = network_config();
        change(&mut config);
        let error = Network::generate(
            config,
            &["localhost:7050".parse().unwrap()],
            SystemClock.now(),
        )
        .unwrap_err();
        assert!(error.to_string().contains(text), "{error}");
    }
    let error = Network::generate(network_config(), &[], SystemClock.now()).unwrap_err();
    assert!(error.to_string().contains("one node at least"), "{error}");
}
