// SPDX-License-Identifier: Apache-2.0
//! Tests of the configuration: its defaults, its example file, and what it says of mistakes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use block_api::{HeaderHash, testing::TestSigner};

use super::*;

const EXAMPLE: &str = include_str!("../../node.example.toml");

const MINIMAL: &str = "\
[node]
data_dir = \"data\"
[[channel]]
id = \"ch\"
genesis = \"ch.block\"
";

/// The example with every key in force, those that show a default too.
fn uncommented() -> String {
    let is_key = |line: &str| {
        line.split_once(" = ")
            .is_some_and(|(key, _)| key.chars().all(|c| c.is_ascii_lowercase() || c == '_'))
    };
    let lines = EXAMPLE.lines().map(|line| {
        line.strip_prefix("# ")
            .filter(|rest| is_key(rest))
            .unwrap_or(line)
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Covers: CFG-02, GSV-12
#[test]
fn the_defaults_are_these() {
    let config = NodeConfig::from_toml(MINIMAL).unwrap();
    let expected = "\
        NodeConfig { node: NodeSection { name: \"node\", data_dir: \"data\" }, identity: None, \
        gossip: GossipSection { backend: Libp2p, network: \"blockcast\", listen: [], peers: [], \
        admission: Members, allow: [], readers: Channel, key_file: None, external_addrs: [], internal_addrs: [], \
        target_peers: 16, mdns: false, inline_limit: 64KiB, max_block: 104MiB, body_budget: 208MiB, \
        serve_budget: 256MiB, serve_budget_per_peer: 16MiB, max_peers: 256, \
        max_peers_per_org: None, max_peers_per_identity: 4, max_memory: None, ban_time: 10min, status_interval: 1s }, \
        orderer: OrdererSection { tls: Server, client_cert: None, client_key: None, overrides: [], \
        connect_timeout: 3s, initial_timeout: 30s, keepalive_interval: 1min, max_message: 100MiB, \
        longest_back_off: 10s, censorship_timeout: 30s, idle_limit: 30s }, \
        delivery: DeliverySection { buffer: 256MiB, total_buffer: 1GiB, topic_buffer: 64MiB, catch_up_buffer: 24MiB, \
        publish_before_durable: false, window: 1024, \
         catch_up_patience: 1s, pullers: 1, takeover: 3s, puller_role: None }, \
        store: StoreSection { sync: EveryBatch, segment: 256MiB, keep: All }, log: LogSection { filter: \"info\" }, \
         operations: OperationsSection { listen: None, grace: 5s, ready_lag: 10 }, \
         channels: [ChannelSection { id: ChannelId(ch), genesis: Some(\"ch.block\"), \
             genesis_hash: None, config_block: None, start_after: None, pull: Elected, \
             data_hash: Fabric, readers: None, orderers: [] }] }";
    assert_eq!(format!("{config:?}"), expected);
    config.validate().unwrap();
    let built = NodeConfig {
        channels: vec![ChannelSection::new("ch".parse().unwrap(), "ch.block")],
        ..NodeConfig::new("data")
    };
    assert_eq!(built, config);
}

#[test]
fn the_defaults_are_those_of_the_parts() {
    let config = NodeConfig::from_toml(MINIMAL).unwrap();
    assert_eq!(
        config.delivery_service().unwrap(),
        deliver_service::Config::default()
    );
    let key = || gossip_libp2p::Keypair::from_seed([7; 32]);
    let signer = || Arc::new(TestSigner("node"));
    let gossip = config.libp2p(key(), signer()).unwrap();
    assert_eq!(
        format!("{gossip:?}"),
        format!("{:?}", gossip_libp2p::Config::new(key(), signer()))
    );
    let client = config.orderer_client().unwrap();
    assert_eq!(
        format!("{client:?}"),
        format!("{:?}", orderer_client::Config::default())
    );
    let channel: ChannelId = "ch".parse().unwrap();
    let genesis = HeaderHash::new([1; 32]);
    let store = config.block_store(&channel, genesis).unwrap();
    let default = block_store::Config::new(channel);
    assert_eq!(
        store,
        block_store::Config {
            genesis: Some(genesis),
            ..default
        }
    );
}

/// Covers: CFG-01, GSV-12
#[test]
fn explicit_values_reach_the_parts() {
    let text = format!(
        "{MINIMAL}
        [orderer]
        tls = \"none\"
        connect_timeout = \"10s\"
        initial_timeout = \"7s\"
        keepalive_interval = \"2min\"
        max_message = \"8MiB\"
        longest_back_off = \"25s\"
        censorship_timeout = \"45s\"
        idle_limit = \"15s\"
        [delivery]
        buffer = \"9MiB\"
        total_buffer = \"90MiB\"
        topic_buffer = \"3MiB\"
        catch_up_buffer = \"2MiB\"
        publish_before_durable = true
        window = 17
        catch_up_patience = \"110ms\"
        pullers = 2
        takeover = \"4s\"
        puller_role = \"admin\"
        [gossip]
        inline_limit = \"1KiB\"
        max_block = \"5MiB\"
        max_peers = 3
        status_interval = \"2s\"
        listen = [\"/ip4/127.0.0.1/tcp/0\"]
        [store]
        sync = \"never\"
        segment = \"2MiB\"
        keep = \"1000 blocks\"
        [operations]
        listen = \"[::1]:9443\"
        grace = \"9s\"
        ready_lag = 3"
    );
    let config = NodeConfig::from_toml(&text).unwrap();
    config.validate().unwrap();
    let millis = std::time::Duration::from_millis;
    let client = config.orderer_client().unwrap();
    assert_eq!(client.connect_timeout, millis(10_000));
    assert_eq!(client.initial_timeout, Some(millis(7000)));
    assert_eq!(client.keepalive_interval, millis(120_000));
    assert_eq!(client.max_message_bytes.get(), 8 << 20);
    let delivery = config.delivery_service().unwrap();
    assert_eq!(delivery.provider.longest_back_off, millis(25_000));
    assert_eq!(delivery.provider.censorship_timeout, millis(45_000));
    assert_eq!(delivery.provider.idle_limit, millis(15_000));
    assert_eq!(delivery.health_grace, millis(9000));
    assert_eq!(config.operations.ready_lag, 3);
    assert!(config.operations.listen.is_some());
    let bytes = (
        delivery.buffer_bytes.get(),
        delivery.total_buffer_bytes.get(),
        delivery.topic_buffer_bytes.get(),
    );
    assert_eq!(bytes, (9 << 20, 90 << 20, 3 << 20));
    assert_eq!(delivery.catch_up_buffer_bytes.get(), 2 << 20);
    assert!(delivery.publish_before_durable);
    assert_eq!(
        (delivery.window, delivery.catch_up_patience),
        (17, millis(110))
    );
    assert_eq!(
        (delivery.pullers.get(), delivery.takeover),
        (2, millis(4000))
    );
    assert_eq!(config.delivery.puller_role, Some(PullerRole::Admin));
    let gossip = config
        .libp2p(
            gossip_libp2p::Keypair::from_seed([7; 32]),
            Arc::new(TestSigner("node")),
        )
        .unwrap();
    let sizes = (
        gossip.inline_limit.get(),
        gossip.max_block.get(),
        gossip.max_peers.get(),
    );
    assert_eq!(sizes, (1 << 10, 5 << 20, 3));
    assert_eq!(
        (gossip.status_interval, gossip.listen.len()),
        (millis(2000), 1)
    );
    assert_eq!(gossip.silence_limit, delivery.takeover);
    let channel = config.channels[0].id.clone();
    let store = config
        .block_store(&channel, HeaderHash::new([1; 32]))
        .unwrap();
    assert_eq!(
        (store.sync, store.segment_bytes.get()),
        (block_store::SyncPolicy::Never, 2 << 20)
    );
    let kept = block_store::Retention::Blocks(1000.try_into().unwrap());
    assert_eq!(store.retention, kept);
}

#[test]
fn the_example_serves_as_it_is_and_shows_the_defaults() {
    let example = NodeConfig::from_toml(EXAMPLE).unwrap();
    example.validate().unwrap();
    let mut full = NodeConfig::from_toml(&uncommented()).unwrap();
    // These show another way to join.
    let channel = &mut full.channels[0];
    assert!(channel.genesis_hash.take().is_some() && channel.config_block.take().is_some());
    assert!(channel.start_after.take().is_some());
    assert_eq!(channel.readers.take(), Some(ReaderRule::OwnOrganisation));
    // And this one another way to let nodes in.
    assert!(!full.gossip.allow.is_empty());
    full.gossip.allow.clear();
    full.validate().unwrap();
    // These have no default to show.
    full.operations.listen = None;
    full.gossip.key_file = None;
    full.gossip.external_addrs.clear();
    full.gossip.internal_addrs.clear();
    full.gossip.max_peers_per_org = None;
    full.gossip.max_memory = None;
    full.delivery.puller_role = None;
    assert_eq!(full, example);
}

/// The schema is asked by a key that nothing has: the error lists the keys that there are.
fn schema(table: &str) -> BTreeSet<String> {
    let text = match table {
        "" => "nothing_has_this = 1".to_owned(),
        table if table.starts_with("[[") => format!("{MINIMAL}\n{table}\nnothing_has_this = 1"),
        "[node]" => "[node]\nnothing_has_this = 1".to_owned(),
        table => format!("{table}\nnothing_has_this = 1\n{MINIMAL}"),
    };
    let error = NodeConfig::from_toml(&text).unwrap_err().to_string();
    let (_, keys) = error
        .split_once("expected")
        .unwrap_or_else(|| panic!("{table}: {error}"));
    let names = keys.split('`').skip(1).step_by(2);
    names.map(str::to_owned).collect()
}

#[test]
fn the_example_has_every_key_of_the_schema() {
    let mut in_example: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut table = String::new();
    for line in uncommented().lines() {
        if line.starts_with('[') {
            table = line.to_owned();
            in_example.entry(table.clone()).or_default();
        } else if let Some((key, _)) = line.split_once(" = ").filter(|_| !line.starts_with('#')) {
            in_example
                .entry(table.clone())
                .or_default()
                .insert(key.to_owned());
        }
    }
    // A table below another one is a key of it.
    for (parent, key) in [("[orderer]", "overrides"), ("[[channel]]", "orderers")] {
        in_example.get_mut(parent).unwrap().insert(key.to_owned());
    }
    let tables = in_example.keys().filter(|table| !table.contains('.'));
    let top: BTreeSet<String> = tables
        .map(|table| table.trim_matches(['[', ']']).to_owned())
        .collect();
    assert_eq!(top, schema(""));
    for (table, keys) in &in_example {
        assert_eq!(*keys, schema(table), "{table}");
    }
}

#[test]
fn paths_are_meant_from_the_folder_of_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("node.toml");
    std::fs::write(&path, EXAMPLE).unwrap();
    let config = NodeConfig::load(&path).unwrap();
    let at = |relative: &str| dir.path().join(relative);
    assert_eq!(config.node.data_dir, Path::new("/var/lib/blockcast"));
    assert_eq!(config.identity.as_ref().unwrap().msp_dir, at("msp"));
    assert_eq!(
        config.orderer.client_cert.as_deref(),
        Some(&*at("tls/client.crt"))
    );
    assert_eq!(
        config.orderer.overrides[0].ca.as_deref(),
        Some(&*at("tls/other-ca.pem"))
    );
    assert_eq!(config.channels[0].genesis, Some(at("mychannel.block")));
    assert_eq!(
        config.channels[0].orderers[0].ca.as_deref(),
        Some(&*at("tls/orderer9-ca.pem"))
    );
    assert_eq!(
        config.gossip_key_file(),
        Path::new("/var/lib/blockcast/gossip.key")
    );
}

/// Covers: CFG-06, CFG-11
///
/// Each mistake is answered with the key, the reason, and what would be right.
#[test]
fn mistakes_are_named_with_their_remedy() {
    let rows: &[(&str, &[&str])] = &[
        (
            "[gossip]\nlisten_on = []",
            &["line 2", "listen_on", "expected one of", "`listen`"],
        ),
        (
            "[gossip]\nlisten = \"/ip4/0.0.0.0/tcp/1\"",
            &["invalid type: string", "sequence"],
        ),
        (
            "[gossip]\nbackend = \"nats\"",
            &["nats", "`libp2p`", "`memory`"],
        ),
        (
            "[gossip]\nlisten = [\"0.0.0.0:7100\"]",
            &["gossip.listen", "0.0.0.0:7100", "/ip4/0.0.0.0/tcp/7100"],
        ),
        (
            "[gossip]\npeers = [\"nonsense\"]",
            &["gossip.peers", "nonsense", "/p2p/"],
        ),
        (
            "[gossip]\npeers = [\"/ip4/192.0.2.7/tcp/1\"]",
            &["/ip4/192.0.2.7/tcp/1", "id of a peer"],
        ),
        (
            "[gossip]\nadmission = \"list\"\nallow = [\"node-2\"]",
            &["gossip.allow", "node-2", "12D3Koo"],
        ),
        (
            "[gossip]\nallow = [\"12D3KooWH3uVF6wv47WnArKHk5p6cvgCJEb74UTmxztmQDc298L3\"]",
            &["gossip.allow has no effect", "\"members\"", "\"list\""],
        ),
        (
            "[gossip]\nadmission = \"anyone\"",
            &["anyone", "`members`", "`list`"],
        ),
        (
            "[gossip]\nreaders = \"everyone\"",
            &[
                "everyone",
                "`channel`",
                "`application`",
                "`own-organisation`",
            ],
        ),
        (
            "[gossip]\nnetwork = \"\"",
            &["gossip: network", "1 to 255 bytes"],
        ),
        (
            "[gossip]\nmax_peers_per_org = 0",
            &["gossip.max_peers_per_org", "1 at least"],
        ),
        (
            "[gossip]\nexternal_addrs = [\"node1:7100\"]",
            &["gossip.external_addrs", "node1:7100", "/dns4/"],
        ),
        (
            "[gossip]\ninternal_addrs = [\"/ip4/10.0.0.1/tcp/80\"]",
            &["gossip: internal_addrs", "80"],
        ),
        (
            "[gossip]\nmax_block = \"300MiB\"",
            &["gossip.body_budget", "208MiB", "gossip.max_block", "300MiB"],
        ),
        (
            "[gossip]\nserve_budget = \"8MiB\"",
            &[
                "gossip.serve_budget is 8MiB",
                "serve_budget_per_peer",
                "16MiB",
            ],
        ),
        (
            "[gossip]\nserve_budget_per_peer = \"1MiB\"",
            &["gossip.serve_budget_per_peer is 1MiB", "4MiB"],
        ),
        (
            "[gossip]\nmax_memory = 0",
            &["gossip.max_memory", "1 byte at least"],
        ),
        (
            "[gossip]\ninline_limit = \"64k\"",
            &["\"64k\"", "\"64MiB\""],
        ),
        (
            "[gossip]\ninline_limit = \"17MiB\"",
            &["inline_limit", "16 MiB"],
        ),
        (
            "[gossip]\nmax_peers = 0",
            &["gossip.max_peers", "1 at least"],
        ),
        (
            "[orderer]\nconnect_timeout = 3",
            &["duration with its unit", "\"3s\""],
        ),
        (
            "[orderer]\nconnect_timeout = \"0s\"",
            &["orderer.connect_timeout", "longer than zero"],
        ),
        (
            "[orderer]\nkeepalive_interval = \"5s\"",
            &["orderer.keepalive_interval", "5s", "\"60s\""],
        ),
        (
            "[orderer]\nlongest_back_off = \"1ms\"",
            &["orderer.longest_back_off", "100ms"],
        ),
        (
            "[orderer]\nmax_message = \"0B\"",
            &["orderer.max_message", "1 byte"],
        ),
        (
            "[orderer]\ntls = \"on\"",
            &["on", "`none`", "`server`", "`mutual`"],
        ),
        (
            "[orderer]\ntls = \"mutual\"",
            &["orderer.client_cert is missing", "\"server\""],
        ),
        (
            "[orderer]\nclient_key = \"k\"",
            &["orderer.client_key has no effect", "\"mutual\""],
        ),
        (
            "[orderer]\ntls = \"none\"\n[[orderer.overrides]]\nfrom = \"a:1\"\nto = \"b:1\"\nca = \"c\"",
            &["orderer.overrides.ca"],
        ),
        (
            "[[orderer.overrides]]\nfrom = \"orderer\"\nto = \"b:1\"",
            &["\"orderer\"", "HOST:PORT"],
        ),
        (
            "[delivery]\nbuffer = \"1MiB\"",
            &[
                "delivery.topic_buffer",
                "64MiB",
                "delivery.buffer, which is 1MiB",
            ],
        ),
        ("[delivery]\nwindow = 0", &["delivery.window", "1 block"]),
        (
            "[delivery]\npullers = 0",
            &["delivery.pullers", "\"never\""],
        ),
        (
            "[delivery]\ntakeover = \"10ms\"",
            &["delivery.takeover", "1s at least"],
        ),
        (
            "[delivery]\npuller_role = \"king\"",
            &["king", "`peer`", "`member`"],
        ),
        (
            "[[channel]]\nid = \"b\"\ngenesis = \"g\"\npull = \"maybe\"",
            &["maybe", "`elected`", "`always`", "`never`"],
        ),
        (
            "[store]\nsegment = \"1KiB\"",
            &["store.segment", "1MiB at least"],
        ),
        (
            "[store]\nsync = \"always\"",
            &["always", "`every-batch`", "`never`"],
        ),
        (
            "[[channel]]\nid = \"ch\"\ngenesis = \"g\"",
            &["channel ch has two"],
        ),
        (
            "[[channel]]\nid = \"Ch\"\ngenesis = \"g\"",
            &["\"Ch\"", "lower-case letter"],
        ),
        (
            "[[channel]]\nid = \"b\"",
            &["channel.genesis is missing", "channel.config_block"],
        ),
        (
            "[[channel]]\nid = \"b\"\nconfig_block = \"c\"",
            &["channel.genesis_hash is missing", "header hash"],
        ),
        (
            "[[channel]]\nid = \"b\"\nstart_after = { number = 1, hash = \"HASH\" }",
            &["channel.genesis_hash is missing"],
        ),
        (
            "[[channel]]\nid = \"b\"\ngenesis_hash = \"HASH\"",
            &["channel.config_block is missing", "you trust"],
        ),
        (
            "[[channel]]\nid = \"b\"\ngenesis = \"g\"\ngenesis_hash = \"HASH\"",
            &["channel.genesis_hash has no effect", "leave one"],
        ),
        (
            "[[channel]]\nid = \"b\"\ngenesis = \"g\"\nconfig_block = \"c\"",
            &["channel.config_block has no effect", "leave one"],
        ),
        (
            "[[channel]]\nid = \"b\"\ngenesis_hash = \"12\"",
            &["64 hexadecimal digits", "\"12\""],
        ),
        (
            "[[channel]]\nid = \"b\"\nstart_after = { number = 1 }",
            &["missing field `hash`"],
        ),
        (
            "[[channel]]\nid = \"b\"\nstart_after = { number = -1, hash = \"HASH\" }",
            &["-1"],
        ),
        (
            "[[channel]]\nid = \"b\"\ngenesis = \"g\"\norderers = [{ endpoint = \"a:1\" }]",
            &["channel.orderers.ca is missing", "TLS roots"],
        ),
        (
            "[identity]\nmsp_id = \"Org1MSP\"",
            &["missing field `msp_dir`"],
        ),
        (
            "[operations]\nlisten = \"0.0.0.0:9443\"",
            &["operations.listen", "0.0.0.0:9443", "127.0.0.1:9443", "TLS"],
        ),
        (
            "[operations]\nlisten = \"localhost\"",
            &["line 2", "socket address"],
        ),
        (
            "[operations]\ngrace = \"1s\"",
            &["operations.grace", "3s at least"],
        ),
        ("[log", &["line 1"]),
    ];
    let mut wrong = Vec::new();
    for (addition, words) in rows {
        let addition = addition.replace("HASH", &"5a".repeat(32));
        let text = format!("{addition}\n{MINIMAL}");
        let error = match NodeConfig::from_toml(&text) {
            Ok(config) => config
                .validate()
                .err()
                .map(|error| error.to_string())
                .unwrap_or_default(),
            Err(error) => error.to_string(),
        };
        assert!(!error.contains('\n'), "one line: {error}");
        wrong.extend(
            words
                .iter()
                .filter(|word| !error.contains(**word))
                .map(|word| format!("{addition}: {word:?} is not in: {error}")),
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let channelless = NodeConfig::from_toml("[node]\ndata_dir = \"d\"").unwrap();
    assert!(
        channelless
            .validate()
            .unwrap_err()
            .to_string()
            .contains("[[channel]]")
    );
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = NodeConfig::load(Path::new("/nowhere/node.toml"))
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("/nowhere/node.toml") && error.contains("No such file"),
        "{error}"
    );
}

proptest::proptest! {
    #[test]
    fn arbitrary_text_is_no_panic(text in ".*") {
        let _ = NodeConfig::from_toml(&text);
        let _ = NodeConfig::from_toml(&format!("{MINIMAL}\n{text}"));
    }
}
