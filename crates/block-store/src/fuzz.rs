// SPDX-License-Identifier: Apache-2.0
//! A fuzz body: arbitrary bytes as a segment.

use block_api::BlockNumber;

use crate::{
    index::SegmentIndex,
    preamble::{Identity, Kind, PREAMBLE_LEN, Preamble, SyncBytes},
    scan::{Question, scan},
};

/// Walks over arbitrary bytes as if they were a segment: once as they are, and once behind a
/// preamble that is good, so that the records are reached.
///
/// # Panics
///
/// When the walk breaks a promise of its own: it must end at the end of the bytes or name the
/// place where it stopped.
pub fn fuzz_segment(data: &[u8]) {
    if let Ok(preamble) = Preamble::decode(Kind::Segment, data) {
        walk(data, &preamble);
    }
    let Ok(channel) = "fuzz".parse() else { return };
    let preamble = Preamble {
        kind: Kind::Segment,
        sync: SyncBytes::new(*b"fuzzfuzz"),
        first: BlockNumber::GENESIS,
        previous: None,
        identity: Identity {
            channel,
            genesis: None,
            start: BlockNumber::GENESIS,
            start_previous: None,
        },
    };
    let mut file = preamble.encode();
    file.extend_from_slice(data);
    walk(&file, &preamble);
}

fn walk(file: &[u8], preamble: &Preamble) {
    for (check_from, unproven_from) in [(0, 0), (1, 2), (u64::MAX, u64::MAX)] {
        let question = Question {
            known: SegmentIndex::new(preamble, 64),
            check_from: BlockNumber::new(check_from),
            unproven_from: BlockNumber::new(unproven_from),
        };
        let found =
            scan(file, file.len() as u64, preamble, question).expect("bytes can always be read");
        match found.stop {
            None => assert_eq!(
                found.index.end,
                file.len() as u64,
                "the walk ended before the end"
            ),
            Some(stop) => {
                assert_eq!(
                    found.index.end, stop.fault.offset,
                    "the walk stopped elsewhere"
                );
                assert!(
                    found.index.end >= PREAMBLE_LEN as u64,
                    "the walk stopped before the first record"
                );
            }
        }
    }
}
