// SPDX-License-Identifier: Apache-2.0
//! What is known already costs no memory.
#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests, where clippy.toml allows it, stand outside the test functions"
)]

use std::{fs, path::Path};

use block_api::{Block, BlockVerifier as _, Standing, Verdict};
use blockcast_channel_config::{ChannelConfig, ChannelVerifier, SerializedIdentity};

fn block(path: &str) -> Block {
    let fixtures = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures"));
    Block::parse(fs::read(fixtures.join(path)).unwrap().into()).unwrap()
}

fn is_accepted(verifier: &ChannelVerifier, block: &Block) -> bool {
    matches!(
        verifier.verify(block, Standing::Linked),
        Verdict::Accepted(_)
    )
}

/// How many allocations something makes.
fn allocations(work: impl FnOnce()) -> u64 {
    allocation_counter::measure(work).count_total
}

#[test]
fn an_identity_that_was_judged_before_allocates_nothing() {
    let config = ChannelConfig::from_block(&block("bft/block_0.pb")).unwrap();
    let consenters = config.orderer().consenters();
    assert_eq!(consenters.len(), 4);
    for consenter in consenters {
        let serialized = SerializedIdentity {
            msp_id: &consenter.msp_id,
            credential: &consenter.identity,
        };
        let mut judged = None;
        let first = allocations(|| judged = config.msps().identity_of(serialized).ok());
        assert!(first > 0 && judged.is_some(), "it counts");
        let again = allocations(|| judged = config.msps().identity_of(serialized).ok());
        assert_eq!(again, 0);
        assert!(judged.unwrap().validity().is_ok());
    }
}

/// Once its signer is known, a block takes as many allocations whatever is in it.
#[test]
fn a_block_of_a_known_signer_allocates_the_same_however_big_it_is() {
    let pairs = [
        // Ten transactions, and five.
        (0, [1, 6]),
        // A transaction of one kilobyte, and one of a hundred.
        (7, [8, 12]),
    ];
    for (trusted, numbers) in pairs {
        let trusted = block(&format!("raft/block_{trusted}.pb"));
        let verifier = ChannelVerifier::from_trusted(&trusted).unwrap();
        let counts = numbers.map(|number| {
            let block = block(&format!("raft/block_{number}.pb"));
            assert!(is_accepted(&verifier, &block));
            allocations(|| assert!(is_accepted(&verifier, &block)))
        });
        assert_eq!(counts[0], counts[1]);
        assert!((1..20).contains(&counts[0]), "{counts:?}");
    }
}
