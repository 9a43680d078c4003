// SPDX-License-Identifier: Apache-2.0
//! Walks over every record and every block of a segment.

use block_api::BlockNumber;

use crate::{
    error::{RecordFault, SegmentFault},
    index::SegmentIndex,
    recover::damage,
    scan::{Fault, Headers, Question, payload_checksum, scan},
    segment_file::SegmentFile,
};

/// What a walk over all records of a segment found.
pub(super) enum Walked {
    /// They are good, up to the end that was looked for, or that of the file.
    Good(SegmentIndex),
    Bad(SegmentFault),
}

/// Walks over every record and every block of a segment, up to this block, which it need not reach.
pub(super) fn walk(opened: &SegmentFile, until: BlockNumber, interval: u64) -> Walked {
    let mut index = SegmentIndex::new(&opened.preamble, interval);
    let mut headers = Headers::new(&*opened.file, opened.preamble.sync);
    while index.next < until && index.end < opened.length {
        let (offset, number) = (index.end, index.next);
        let read = match headers.read(offset, number) {
            Ok(read) => read,
            Err(error) => return Walked::Bad(unreadable(&error)),
        };
        let header = match read {
            Ok(header) if header.record_len() <= opened.length - offset => Ok(header),
            Ok(_) => Err(RecordFault::Incomplete),
            Err(fault) => Err(fault),
        };
        let checked = match header {
            Ok(header) => match payload_checksum(&*opened.file, offset, &header) {
                Ok(checksum) if checksum == Some(header.checksum) => Ok(header),
                Ok(_) => Err(RecordFault::Payload),
                Err(error) => return Walked::Bad(unreadable(&error)),
            },
            Err(fault) => Err(fault),
        };
        match checked {
            Ok(header) => index.push(&header),
            Err(fault) => {
                let fault = Fault {
                    offset,
                    number,
                    fault,
                };
                return Walked::Bad(SegmentFault::Record(damage(&opened.path, fault)));
            }
        }
    }
    Walked::Good(index)
}

/// The same for the newest segment where nothing tells what was acknowledged but the records.
pub(super) fn walk_unbounded(opened: &SegmentFile, interval: u64) -> Walked {
    let question = Question {
        known: SegmentIndex::new(&opened.preamble, interval),
        check_from: BlockNumber::GENESIS,
        unproven_from: BlockNumber::GENESIS,
    };
    let found = match scan(&*opened.file, opened.length, &opened.preamble, question) {
        Ok(found) => found,
        Err(error) => return Walked::Bad(unreadable(&error)),
    };
    let stop = found.stop.filter(|stop| stop.acknowledged);
    let fault = found
        .damaged
        .first()
        .copied()
        .or(stop.map(|stop| stop.fault));
    match fault {
        Some(fault) => Walked::Bad(SegmentFault::Record(damage(&opened.path, fault))),
        None => Walked::Good(found.index),
    }
}

pub(super) fn unreadable(error: &std::io::Error) -> SegmentFault {
    SegmentFault::Unreadable {
        reason: error.to_string(),
    }
}
