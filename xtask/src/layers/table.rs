// SPDX-License-Identifier: Apache-2.0
//! The one table of who may depend on whom.

/// A member of the workspace and what it may depend on.
///
/// A dependency is written `crate` or `crate[feature]`; a feature that is not written may not be asked for.
#[derive(Debug)]
pub(crate) struct Row {
    /// The directory's name, by which the other crates call it.
    pub(crate) name: &'static str,
    pub(crate) package: &'static str,
    /// `None` for what is beside the layers.
    pub(crate) layer: Option<u8>,
    pub(crate) may_use: Allowed,
    /// What its tests may use besides that and besides [`TESTS_MAY_USE`].
    pub(crate) tests_may_use: &'static [&'static str],
    /// Foreign crates that must not be in its tree, however many steps away.
    pub(crate) without: Without,
}

/// The crates of ours that a crate may name.
#[derive(Debug)]
pub(crate) enum Allowed {
    /// Any of them.
    Any,
    Only(&'static [&'static str]),
}

/// What `cargo tree` must not find.
#[derive(Debug)]
pub(crate) struct Without {
    pub(crate) packages: &'static [&'static str],
    /// Whether the rule holds for the tests, too.
    pub(crate) in_tests: bool,
    /// Whether it holds with all features on, or with the default ones only.
    pub(crate) all_features: bool,
}

/// What the tests of every crate may use.
pub(crate) const TESTS_MAY_USE: &[&str] = &["block-api[testing]"];

/// The feature that belongs in tests alone, with the crates that are a test harness as a whole.
pub(crate) const TEST_FEATURE: &str = "testing";
pub(crate) const TEST_HARNESS: &[&str] = &["e2e-tests"];

const NOTHING: Without = without(&[]);
const LIBP2P: Without = without(&["libp2p"]);
const LIBP2P_AND_TONIC: Without = without(&["libp2p", "tonic"]);

const NEITHER_IN_TESTS: Without = Without {
    packages: &["libp2p", "tonic"],
    in_tests: true,
    all_features: true,
};

pub(crate) const TABLE: &[Row] = &[
    Row {
        without: Without {
            packages: &["libp2p", "tonic"],
            in_tests: false,
            all_features: false,
        },
        ..row("protos", "blockcast-protos", 0, &[])
    },
    Row {
        without: LIBP2P_AND_TONIC,
        ..row("block-api", "blockcast-block-api", 0, &[])
    },
    Row {
        without: LIBP2P_AND_TONIC,
        ..row("block-store", "blockcast-block-store", 1, &["block-api"])
    },
    Row {
        without: LIBP2P_AND_TONIC,
        ..row("signer", "blockcast-signer", 1, &["protos", "block-api"])
    },
    Row {
        // Its tests make the signatures that the policies judge.
        tests_may_use: &["signer"],
        without: LIBP2P_AND_TONIC,
        ..row(
            "channel-config",
            "blockcast-channel-config",
            1,
            &["protos", "block-api"],
        )
    },
    Row {
        without: without(&["tonic"]),
        ..row(
            "gossip-libp2p",
            "blockcast-gossip-libp2p",
            1,
            &["protos", "block-api"],
        )
    },
    Row {
        without: LIBP2P_AND_TONIC,
        ..row(
            "gossip-memory",
            "blockcast-gossip-memory",
            1,
            &["block-api"],
        )
    },
    Row {
        // Its tests need a server to talk to.
        tests_may_use: &["channel-config", "dev-orderer", "orderer-server"],
        ..row(
            "orderer-client",
            "blockcast-orderer-client",
            2,
            &["protos[grpc]", "block-api", "signer"],
        )
    },
    Row {
        // Its tests need a client that signs, and the rights that it signs for.
        tests_may_use: &["channel-config", "orderer-client", "signer"],
        ..row(
            "orderer-server",
            "blockcast-orderer-server",
            2,
            &["protos[grpc]", "block-api"],
        )
    },
    Row {
        tests_may_use: &["gossip-memory"],
        without: NEITHER_IN_TESTS,
        ..row(
            "blocks-provider",
            "blockcast-blocks-provider",
            2,
            &["block-api"],
        )
    },
    Row {
        tests_may_use: &["gossip-memory"],
        without: NEITHER_IN_TESTS,
        ..row(
            "deliver-service",
            "blockcast-deliver-service",
            3,
            &["block-api", "blocks-provider"],
        )
    },
    Row {
        // Its tests meet it as its clients do.
        tests_may_use: &["orderer-client"],
        ..row(
            "dev-orderer",
            "blockcast-dev-orderer",
            3,
            &[
                "protos[grpc]",
                "block-api",
                "signer",
                "channel-config",
                "orderer-server",
            ],
        )
    },
    Row {
        may_use: Allowed::Any,
        without: NOTHING,
        ..row("blockcast", "blockcast", 4, &[])
    },
    Row {
        layer: None,
        may_use: Allowed::Any,
        // It calls the fuzz bodies of their parsers.
        tests_may_use: &[
            "block-store[testing]",
            "deliver-service[testing]",
            "gossip-libp2p[testing]",
        ],
        without: NOTHING,
        ..row("e2e-tests", "e2e-tests", 0, &[])
    },
    Row {
        // It is the proof that the crates below it stand one by one.
        layer: None,
        // Its test needs an ordering service to print the blocks of.
        tests_may_use: &["dev-orderer"],
        without: without(&[
            "libp2p",
            "blockcast-blocks-provider",
            "blockcast-deliver-service",
        ]),
        ..row(
            "standalone-consumer",
            "standalone-consumer",
            0,
            &[
                "protos",
                "block-api",
                "signer",
                "channel-config",
                "orderer-client",
            ],
        )
    },
    Row {
        // It is the proof that a gossip backend needs nothing but the seam.
        layer: None,
        // A node runs on it.
        tests_may_use: &["block-api[testing]", "blockcast", "dev-orderer"],
        without: LIBP2P_AND_TONIC,
        ..row("tcp-gossip", "tcp-gossip", 0, &["block-api"])
    },
    tool("xtask"),
    tool("xtask-codegen"),
];

const fn row(
    name: &'static str,
    package: &'static str,
    layer: u8,
    may_use: &'static [&'static str],
) -> Row {
    Row {
        name,
        package,
        layer: Some(layer),
        may_use: Allowed::Only(may_use),
        tests_may_use: &[],
        without: LIBP2P,
    }
}

/// A crate of tooling: it links no member, so that a broken product cannot stop its checks.
const fn tool(name: &'static str) -> Row {
    Row {
        layer: None,
        ..row(name, name, 0, &[])
    }
}

const fn without(packages: &'static [&'static str]) -> Without {
    Without {
        packages,
        in_tests: false,
        all_features: true,
    }
}

/// Splits `crate[feature,feature]` into the crate and its features.
pub(crate) fn parse(entry: &str) -> (&str, Vec<&str>) {
    match entry
        .strip_suffix(']')
        .and_then(|rest| rest.split_once('['))
    {
        Some((name, features)) => (name, features.split(',').collect()),
        None => (entry, Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(name: &str) -> &'static Row {
        TABLE
            .iter()
            .find(|row| row.name == name)
            .unwrap_or_else(|| panic!("{name} is not in the table"))
    }

    #[test]
    fn entries_are_split_into_crate_and_features() {
        assert_eq!(parse("signer"), ("signer", vec![]));
        assert_eq!(parse("protos[grpc]"), ("protos", vec!["grpc"]));
        assert_eq!(parse("a[b,c]"), ("a", vec!["b", "c"]));
    }

    #[test]
    fn every_arrow_points_down() {
        for row in TABLE {
            let Allowed::Only(allowed) = &row.may_use else {
                continue;
            };
            for entry in *allowed {
                let below = find(parse(entry).0);
                if let Some(layer) = row.layer {
                    assert!(below.layer < Some(layer), "{} -> {entry}", row.name);
                }
            }
            for entry in row.tests_may_use {
                find(parse(entry).0);
            }
        }
    }

    #[test]
    fn the_service_crates_are_free_of_networks_even_in_tests() {
        for name in ["blocks-provider", "deliver-service"] {
            let without = &find(name).without;
            assert!(without.in_tests && without.packages == ["libp2p", "tonic"]);
        }
    }
}
