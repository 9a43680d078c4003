// SPDX-License-Identifier: Apache-2.0
//! Walks over the records of a segment, and judges what comes behind the last good one.

use std::io;

use block_api::{BlockNumber, HeaderHash};

use crate::{
    error::RecordFault,
    file::ReadAt,
    index::SegmentIndex,
    preamble::{PREAMBLE_LEN, Preamble, SyncBytes},
    record::{RECORD_HEADER_LEN, RecordHeader},
};

/// How much is read at once while walking over headers: small blocks come several at a time, of
/// large ones little more than the header is read.
const WINDOW: usize = 16 * 1024;

/// Records of more bytes than this come one at a time.
const LARGE: u64 = 4 * 1024;

/// How much is read at once where every byte counts.
const CHUNK: usize = 64 * 1024;

/// Reads the headers of records, a window at a time.
#[derive(Debug)]
pub(crate) struct Headers<'a, R: ReadAt + ?Sized> {
    file: &'a R,
    sync: SyncBytes,
    buffer: Vec<u8>,
    /// Where the buffer begins in the file.
    base: u64,
    /// Where the header that was read last begins.
    last: Option<u64>,
}

/// What a scan is to find out.
#[derive(Debug, Clone)]
pub(crate) struct Question {
    /// What is known of the segment's beginning; the walk goes over the rest.
    pub(crate) known: SegmentIndex,
    /// The first block whose bytes are checked, and not its header alone.
    pub(crate) check_from: BlockNumber,
    /// The first block of which nothing says that it was acknowledged.
    pub(crate) unproven_from: BlockNumber,
}

/// What a scan found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Scan {
    /// The good records.
    pub(crate) index: SegmentIndex,
    /// Acknowledged blocks whose bytes are damaged, though their headers are good.
    pub(crate) damaged: Vec<Fault>,
    /// Where the first record that was not proven to be acknowledged begins.
    pub(crate) unproven_offset: Option<u64>,
    /// The header hash of the last block that was proven to be acknowledged; of the block before
    /// the segment, when none is in it.
    pub(crate) proven_hash: Option<HeaderHash>,
    /// Why the walk ended before the end of the file.
    pub(crate) stop: Option<Stop>,
}

/// A record that is not good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) offset: u64,
    pub(crate) number: BlockNumber,
    pub(crate) fault: RecordFault,
}

/// The record at which a walk ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stop {
    pub(crate) fault: Fault,
    /// Whether the block was acknowledged: else this is the torn end of a batch.
    pub(crate) acknowledged: bool,
}

impl<'a, R: ReadAt + ?Sized> Headers<'a, R> {
    pub(crate) fn new(file: &'a R, sync: SyncBytes) -> Self {
        Self {
            file,
            sync,
            buffer: Vec::new(),
            base: 0,
            last: None,
        }
    }

    /// The header of the record of this block, which begins here.
    pub(crate) fn read(
        &mut self,
        offset: u64,
        number: BlockNumber,
    ) -> io::Result<Result<RecordHeader, RecordFault>> {
        if self.buffered(offset).is_none() {
            // Among large blocks a window would have little but bytes that nobody looks at.
            let apart = self.last.and_then(|last| offset.checked_sub(last));
            let wanted = match apart {
                Some(apart) if apart > LARGE => RECORD_HEADER_LEN,
                Some(_) | None => WINDOW,
            };
            self.buffer.resize(wanted, 0);
            let read = self.file.read_full_at(&mut self.buffer, offset)?;
            self.buffer.truncate(read);
            self.base = offset;
        }
        self.last = Some(offset);
        Ok(match self.buffered(offset) {
            Some(bytes) => RecordHeader::decode_expected(bytes, &self.sync, number),
            None => Err(RecordFault::Incomplete),
        })
    }

    fn buffered(&self, offset: u64) -> Option<&[u8; RECORD_HEADER_LEN]> {
        let skip = usize::try_from(offset.checked_sub(self.base)?).ok()?;
        self.buffer.get(skip..)?.first_chunk()
    }
}

/// Walks over a segment of this length.
///
/// A fault ends the walk, unless it is in the bytes of a block that was acknowledged: then the good
/// header says where the next record is. Acknowledged is a block that the head file covers, and
/// one behind which there is the header of a block of a later batch.
pub(crate) fn scan<R: ReadAt + ?Sized>(
    file: &R,
    length: u64,
    preamble: &Preamble,
    question: Question,
) -> io::Result<Scan> {
    let mut scan = Scan {
        proven_hash: question.known.last_hash,
        index: question.known,
        damaged: Vec::new(),
        unproven_offset: None,
        stop: None,
    };
    let mut headers = Headers::new(file, preamble.sync);
    while scan.index.end < length {
        let (offset, number) = (scan.index.end, scan.index.next);
        let rest = length - offset;
        let is_acknowledged = || -> io::Result<bool> {
            Ok(number < question.unproven_from
                || later_batch(file, length, offset, number, preamble.sync)?)
        };
        let read = match headers.read(offset, number)? {
            Ok(header) if header.record_len() > rest => Err(RecordFault::Incomplete),
            read => read,
        };
        let fault = |fault| Fault {
            offset,
            number,
            fault,
        };
        let header = match read {
            Ok(header) => header,
            Err(found) => {
                scan.stop = Some(Stop {
                    fault: fault(found),
                    acknowledged: is_acknowledged()?,
                });
                break;
            }
        };
        if number >= question.check_from
            && payload_checksum(file, offset, &header)? != Some(header.checksum)
        {
            let found = fault(RecordFault::Payload);
            if !is_acknowledged()? {
                scan.stop = Some(Stop {
                    fault: found,
                    acknowledged: false,
                });
                break;
            }
            scan.damaged.push(found);
        }
        if number < question.unproven_from {
            scan.proven_hash = Some(header.header_hash);
        } else {
            scan.unproven_offset.get_or_insert(offset);
        }
        scan.index.push(&header);
    }
    Ok(scan)
}

/// The checksum of the bytes of a block; `None` when the file ends before them.
pub(crate) fn payload_checksum<R: ReadAt + ?Sized>(
    file: &R,
    offset: u64,
    header: &RecordHeader,
) -> io::Result<Option<u32>> {
    let mut at = offset + RECORD_HEADER_LEN as u64;
    let end = offset + header.record_len();
    let mut buffer = vec![0; CHUNK.min(header.length as usize)];
    let mut checksum = 0;
    while at < end {
        let wanted = usize::try_from(end - at)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        buffer.truncate(wanted);
        if file.read_full_at(&mut buffer, at)? < wanted {
            return Ok(None);
        }
        checksum = crc32c::crc32c_append(checksum, &buffer);
        at += wanted as u64;
    }
    Ok(Some(checksum))
}

/// Whether behind `from` there is a header of a batch that begins behind this block. Its bytes were
/// written after the sync of the batch that this block belongs to.
fn later_batch<R: ReadAt + ?Sized>(
    file: &R,
    length: u64,
    from: u64,
    number: BlockNumber,
    sync: SyncBytes,
) -> io::Result<bool> {
    let mut base = from.max(PREAMBLE_LEN as u64);
    let mut buffer = vec![0; CHUNK];
    while base < length {
        let wanted = usize::try_from(length - base)
            .unwrap_or(usize::MAX)
            .min(CHUNK);
        buffer.resize(wanted, 0);
        let read = file.read_full_at(&mut buffer, base)?;
        let bytes = buffer.get(..read).unwrap_or(&buffer);
        let found = bytes.windows(RECORD_HEADER_LEN).any(|window| {
            window.starts_with(sync.as_bytes())
                && window
                    .first_chunk()
                    .and_then(|header| RecordHeader::decode(header, &sync).ok())
                    .is_some_and(|header| header.batch_first > number)
        });
        if found {
            return Ok(true);
        }
        // The next chunk overlaps by what a header that began in this one may still need.
        match read.checked_sub(RECORD_HEADER_LEN - 1) {
            Some(step) if step > 0 => base += step as u64,
            _ => break,
        }
    }
    Ok(false)
}
