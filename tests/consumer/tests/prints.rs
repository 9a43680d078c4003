// SPDX-License-Identifier: Apache-2.0
//! The consumer as a program, against an ordering service that has a recorded chain.
#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "helpers of tests, where clippy.toml allows it, stand outside the test functions"
)]

use std::{fs, path::Path, process::Output, sync::Arc};

use block_api::{Block, SystemClock};
use channel_config::{ChannelAccess, ChannelVerifier};
use dev_orderer::{DevOrderer, NodesConfig, Pace, RecordedChain};
use tokio::process::Command;

/// The last line of `blocks.txt` of a recorded chain: number and header hash.
fn tip(folder: &Path) -> (String, String) {
    let text = fs::read_to_string(folder.join("blocks.txt")).unwrap();
    let words: Vec<&str> = text.lines().last().unwrap().split_whitespace().collect();
    let hash = words
        .iter()
        .find_map(|word| word.strip_prefix("header_hash="))
        .unwrap();
    (words[1].to_owned(), hash.to_owned())
}

async fn consume(name: &str, msp_id: &str) -> (Output, (String, String)) {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures");
    let folder = fixtures.join(name);
    let mut blocks = Vec::new();
    while let Ok(bytes) = fs::read(folder.join(format!("block_{}.pb", blocks.len()))) {
        blocks.push(bytes.into());
    }
    let chain = RecordedChain::new(blocks).unwrap();
    let genesis: &Block = &chain.blocks()[0];
    let verifier = ChannelVerifier::from_genesis(genesis).unwrap();
    let channel = verifier.channel().to_string();
    let readers = Arc::new(ChannelAccess::readers(&verifier));
    let nodes = NodesConfig::new(Arc::new(SystemClock));
    let orderer = DevOrderer::replay(chain, Pace::AllAtOnce, readers, nodes)
        .await
        .unwrap();
    let dir = tempfile::tempdir().unwrap();
    let ca = dir.path().join("tls-ca.pem");
    fs::write(&ca, orderer.ordering_organization().tls_ca_pem()).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_standalone-consumer"))
        .arg(orderer.endpoint().as_str())
        .arg(&channel)
        .arg(folder.join("block_0.pb"))
        .arg(fixtures.join("msp/org1/user1/msp"))
        .arg(msp_id)
        .arg(&ca)
        .output()
        .await
        .unwrap();
    orderer.stop().await;
    (output, tip(&folder))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_verified_block_is_printed() {
    for name in ["raft", "bft"] {
        let (output, (number, hash)) = consume(name, "Org1MSP").await;
        let printed = String::from_utf8(output.stdout).unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        assert_eq!(
            printed.lines().count().to_string(),
            (number.parse::<u64>().unwrap() + 1).to_string()
        );
        assert_eq!(printed.lines().last().unwrap(), format!("{number} {hash}"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_read_is_told() {
    let (output, _) = consume("raft", "Org2MSP").await;
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && output.stdout.is_empty());
    assert!(
        told.starts_with("error: ") && told.contains("FORBIDDEN (403)"),
        "{told}"
    );
}
