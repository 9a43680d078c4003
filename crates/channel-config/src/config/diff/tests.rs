// SPDX-License-Identifier: Apache-2.0
//! Differences: of recorded configurations, and what holds for any two.

use std::collections::BTreeMap;

use proptest::{collection, prelude::*};
use prost::Message;
use protos::{common::Config, etcdraft, orderer::ConsensusType};

use super::*;
use crate::{
    config::ChannelConfig,
    test_support::{block, config_of, group, pki::TestCa, set_value},
};

fn tree(path: &str) -> ConfigTree {
    ChannelConfig::from_block(&block(path)).unwrap().tree()
}

fn shown(old: &str, new: &str) -> String {
    tree(old).diff(&tree(new)).to_string()
}

/// What is different in a changed genesis configuration of the raft chain.
fn changed(change: impl FnOnce(&mut Config)) -> ConfigDiff {
    let mut config = config_of("raft/block_0.pb");
    change(&mut config);
    let new = ChannelConfig::from_config(config, "ch-raft").unwrap();
    tree("raft/block_0.pb").diff(&new.tree())
}

#[test]
fn what_recorded_chains_changed_is_told_part_by_part() {
    assert_eq!(
        shown("raft/block_0.pb", "raft/block_7.pb"),
        "\
sequence 0 -> 1
~ value /Channel/Orderer/BatchTimeout (version 0 -> 1)
    - 200ms
    + 300ms
"
    );
    assert_eq!(
        shown("raft/block_0.pb", "raft/block_46.pb"),
        "\
sequence 0 -> 4
~ value /Channel/Application/Org1/AnchorPeers (version 0 -> 1)
    + peer1.org1.test:20061
~ value /Channel/Orderer/BatchSize (version 0 -> 1)
    - max_message_count 10
    + max_message_count 12
~ value /Channel/Orderer/BatchTimeout (version 0 -> 1)
    - 200ms
    + 300ms
~ value /Channel/Orderer/OrdererOrg/Endpoints (version 0 -> 1)
    + 127.0.0.1:17070
"
    );
    assert_eq!(
        shown("bft/block_37.pb", "bft/block_37.pb"),
        "sequence 3\nnothing differs\n"
    );
}

#[test]
fn an_organisation_that_comes_or_leaves_is_listed_with_all_that_is_in_it() {
    let diff = changed(|config| {
        let application = group(config, &["Application"]);
        let mut third = application.groups["Org2"].clone();
        third.policies.retain(|name, _| name == "Admins");
        application.groups.insert("Org3".to_owned(), third);
        application.version = 1;
    });
    let expected = "\
sequence 0
~ group /Channel/Application (version 0 -> 1)
+ group /Channel/Application/Org3 (version 0, changed by Admins)
+ value /Channel/Application/Org3/AnchorPeers (version 0, changed by Admins)
    + 127.0.0.1:21051
+ value /Channel/Application/Org3/MSP (version 0, changed by Admins)
    + id Org2MSP
    + root [C=US, ST=California, L=San Francisco, O=org2.test, CN=ca.org2.test] serial b16c47e374548e3b56d185295df551ad
    + TLS root [C=US, ST=California, L=San Francisco, O=org2.test, CN=tlsca.org2.test] serial 086fa426ee0252f87b1a62c571b6e719
    + node units on: admin, client, orderer, peer
+ policy /Channel/Application/Org3/Admins (version 0, changed by Admins)
    + Org2MSP.admin
";
    assert_eq!(diff.to_string(), expected);
    let back = diff.inverted().to_string();
    assert!(
        back.contains("\n- group /Channel/Application/Org3 (version 0, changed by Admins)\n"),
        "{back}"
    );
    assert!(back.contains("\n    - id Org2MSP\n"), "{back}");
}

/// Renewing a certificate changes neither subject nor address.
#[test]
fn a_certificate_of_the_same_subject_is_another_one() {
    let with = |server: &[u8], client: &[u8]| {
        let mut config = config_of("raft/block_0.pb");
        let node = etcdraft::Consenter {
            host: "localhost".to_owned(),
            port: 7050,
            server_tls_cert: server.to_vec().into(),
            client_tls_cert: client.to_vec().into(),
        };
        let metadata = etcdraft::ConfigMetadata {
            consenters: vec![node],
            ..Default::default()
        };
        let value = ConsensusType {
            r#type: "etcdraft".to_owned(),
            metadata: metadata.encode_to_vec().into(),
            ..Default::default()
        };
        set_value(
            group(&mut config, &["Orderer"]),
            "ConsensusType",
            Some(value),
        );
        ChannelConfig::from_config(config, "ch-raft")
            .unwrap()
            .tree()
    };
    let authority = TestCa::root("tlsca");
    let issued = || authority.issue("node.test", &["orderer"]).pem.into_bytes();
    let (one, other) = (issued(), issued());
    let text = with(&one, &one).diff(&with(&other, &one)).to_string();
    let lines: Vec<_> = text.lines().skip(2).collect();
    let [removed, added] = lines.as_slice() else {
        panic!("{text}")
    };
    let shown =
        |mark| format!("    {mark} consenter localhost:7050 [CN=node.test, OU=orderer] serial ");
    assert!(removed.starts_with(&shown('-')), "{text}");
    assert!(added.starts_with(&shown('+')), "{text}");
    let text = with(&one, &one).diff(&with(&one, &other)).to_string();
    assert_eq!(
        text,
        "\
sequence 0
~ value /Channel/Orderer/ConsensusType (version 0)
    ~ its content differs in the order of its lines, or in what has no line
"
    );
}

#[test]
fn another_policy_for_changes_and_another_policy_are_told() {
    let diff = changed(|config| {
        let root = config.channel_group.as_mut().unwrap();
        root.mod_policy = String::new();
        let readers = root.groups["Application"].policies["Writers"].clone();
        root.policies.insert("Readers".to_owned(), readers);
        root.values
            .get_mut("HashingAlgorithm")
            .unwrap()
            .mod_policy
            .push('x');
    });
    assert_eq!(
        diff.to_string(),
        "\
sequence 0
~ group /Channel (version 0, changed by Admins -> nobody)
~ value /Channel/HashingAlgorithm (version 0, changed by Admins -> Adminsx)
~ policy /Channel/Readers (version 0)
    - ANY Readers
    + ANY Writers
"
    );
    let marked = diff.with_text(|text| format!("<{text}>"));
    assert_eq!(
        marked.changes[2].to_string(),
        "~ policy /<Channel>/<Readers> (version 0)\n    - <ANY Readers>\n    + <ANY Writers>\n"
    );
}

#[test]
fn lines_are_compared_whatever_their_order_and_number() {
    let lines = |from: u32| (from..from + 200_000).map(|line| line.to_string());
    let (old, new): (Vec<_>, Vec<_>) = (lines(0).collect(), lines(100_000).rev().collect());
    assert_eq!(without(&old, &new).len(), 100_000);
    assert!(without(&new, &new).is_empty());
    let twice = ["a", "a", "b"].map(str::to_owned);
    let once = ["b", "a"].map(str::to_owned);
    assert_eq!(without(&twice, &once), ["a"]);
    assert!(without(&once, &twice).is_empty());
}

fn leaf() -> impl Strategy<Value = ConfigLeaf> {
    let lines = collection::vec("[ab]", 0..4);
    (0..3u64, "[pq]?", lines, 0..2u8).prop_map(|(version, mod_policy, lines, seed)| {
        let text = format!("{lines:?}{seed}");
        let mut digest = [seed; 32];
        for (to, from) in digest.iter_mut().zip(text.bytes()) {
            *to = from;
        }
        ConfigLeaf {
            name: String::new(),
            version,
            mod_policy,
            lines,
            digest,
        }
    })
}

fn leaves() -> impl Strategy<Value = Vec<ConfigLeaf>> {
    collection::btree_map("[xyz]", leaf(), 0..3).prop_map(|leaves| {
        let named = leaves.into_iter();
        named
            .map(|(name, leaf)| ConfigLeaf { name, ..leaf })
            .collect()
    })
}

/// A group without groups in it.
fn bare() -> impl Strategy<Value = ConfigNode> {
    (0..3u64, "[pq]?", leaves(), leaves()).prop_map(|(version, mod_policy, values, policies)| {
        ConfigNode {
            name: "Channel".to_owned(),
            version,
            mod_policy,
            values,
            policies,
            groups: Vec::new(),
        }
    })
}

fn node() -> impl Strategy<Value = ConfigNode> {
    bare().prop_recursive(3, 12, 3, |inner| {
        (bare(), collection::btree_map("[xyz]", inner, 0..3)).prop_map(|(node, groups)| {
            let named = groups.into_iter();
            ConfigNode {
                groups: named
                    .map(|(name, group)| ConfigNode { name, ..group })
                    .collect(),
                ..node
            }
        })
    })
}

fn any_tree() -> impl Strategy<Value = ConfigTree> {
    (node(), 0..3u64).prop_map(|(root, sequence)| ConfigTree {
        channel: "ch".to_owned(),
        sequence,
        root,
    })
}

/// A part without what is in it: everything that can differ.
type Flat = (u64, String, Vec<String>, [u8; 32]);

/// Every part of a tree by kind and path.
fn flat(node: &ConfigNode, above: &str, parts: &mut BTreeMap<(&'static str, String), Flat>) {
    let path = format!("{above}/{}", node.name);
    let own = (node.version, node.mod_policy.clone(), Vec::new(), [0; 32]);
    parts.insert(("group", path.clone()), own);
    for (kind, leaves) in [("value", &node.values), ("policy", &node.policies)] {
        for leaf in leaves {
            let mut lines = leaf.lines.clone();
            lines.sort();
            let own = (leaf.version, leaf.mod_policy.clone(), lines, leaf.digest);
            parts.insert((kind, format!("{path}/{}", leaf.name)), own);
        }
    }
    node.groups
        .iter()
        .for_each(|group| flat(group, &path, parts));
}

proptest! {
    #[test]
    fn a_configuration_does_not_differ_from_itself(tree in any_tree()) {
        let diff = tree.diff(&tree);
        prop_assert!(diff.is_empty());
        prop_assert_eq!(diff.to_string(), format!("sequence {}\nnothing differs\n", tree.sequence));
    }

    #[test]
    fn the_other_way_round_it_is_inverted(one in any_tree(), other in any_tree()) {
        let diff = one.diff(&other);
        prop_assert_eq!(&other.diff(&one), &diff.inverted());
        prop_assert_eq!(&diff.inverted().inverted(), &diff);
        prop_assert_eq!(diff.with_text(str::to_owned), diff);
    }

    /// Exactly the parts that differ are listed, each once, and with its lines the one becomes the
    /// other.
    #[test]
    fn exactly_what_differs_is_listed(one in any_tree(), other in any_tree()) {
        let (mut old, mut new) = (BTreeMap::new(), BTreeMap::new());
        flat(&one.root, "", &mut old);
        flat(&other.root, "", &mut new);
        let diff = one.diff(&other);
        prop_assert_eq!(diff.is_empty(), one == other);
        for change in &diff.changes {
            let key = (change.item.as_str(), change.path_text());
            let (old, new) = (old.remove(&key), new.remove(&key));
            prop_assert_ne!(&old, &new);
            prop_assert_eq!(old.is_some(), change.from.is_some());
            prop_assert_eq!(new.is_some(), change.to.is_some());
            let sorted = |lines: Option<&Flat>| lines.map_or(Vec::new(), |(_, _, lines, _)| lines.clone());
            let mut lines = without(&sorted(old.as_ref()), &change.removed);
            lines.extend(change.added.clone());
            lines.sort();
            prop_assert_eq!(lines, sorted(new.as_ref()));
        }
        prop_assert_eq!(old, new);
    }
}

/// A group of another name at the top is another group.
#[test]
fn roots_of_different_names_have_nothing_in_common() {
    let mut other = tree("raft/block_0.pb");
    other.root.name = "Other".to_owned();
    let diff = tree("raft/block_0.pb").diff(&other);
    assert!(
        diff.changes
            .iter()
            .all(|change| change.from.is_none() != change.to.is_none())
    );
}
