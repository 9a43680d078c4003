// SPDX-License-Identifier: Apache-2.0
//! Reads a range of blocks: one buffer per segment that it touches, and slices of it.

use std::{ops::Range, path::Path};

use block_api::{BlockNumber, ChainInfo, ReadError, ReadLimits};
use bytes::Bytes;

use crate::{
    catalog::{Place, Shared},
    error::{DamagedRecord, RecordFault, StorageError},
    file::ReadAt,
    record::{RECORD_HEADER_LEN, RecordHeader},
    scan::Headers,
};

/// What may still be read.
#[derive(Debug, Clone, Copy)]
struct Budget {
    blocks: usize,
    bytes: u64,
    /// Whether the next block is given whatever its size.
    first: bool,
}

/// The part of a segment that was read.
#[derive(Debug)]
struct Run<'a, R: ReadAt + ?Sized> {
    file: &'a R,
    /// Where the buffer begins in the file.
    base: u64,
    /// Where the last record of the segment ends.
    end: u64,
    /// Up to where it is read at once, if the budget allows.
    ahead: u64,
    buffer: Vec<u8>,
}

/// Reads blocks below the height, as many as the limits allow. Damage ends the range before the
/// damaged block; when that is the first one, it is an error. Below the oldest block that is kept
/// there are config blocks, which are given one by one.
pub(crate) fn read_range(
    shared: &Shared,
    info: ChainInfo,
    from: BlockNumber,
    limits: ReadLimits,
) -> Result<Vec<Bytes>, ReadError> {
    if from < info.first {
        return read_archived(shared, from, info.first);
    }
    let read = read_kept(shared, info, from, limits);
    // What was there when the reading began may have been dropped meanwhile.
    let first = shared.info().first;
    match read {
        Err(ReadError::Storage { .. }) if from < first => read_archived(shared, from, first),
        read => read,
    }
}

/// A config block below the oldest block that is kept, alone.
fn read_archived(
    shared: &Shared,
    number: BlockNumber,
    first: BlockNumber,
) -> Result<Vec<Bytes>, ReadError> {
    let archive = shared.catalog().archive().cloned();
    match archive.and_then(|archive| archive.read(number)) {
        Some(Ok(block)) => Ok(vec![block]),
        Some(Err(source)) => Err(ReadError::Storage {
            number,
            source: source.into(),
        }),
        None => Err(ReadError::Gone { number, first }),
    }
}

fn read_kept(
    shared: &Shared,
    info: ChainInfo,
    from: BlockNumber,
    limits: ReadLimits,
) -> Result<Vec<Bytes>, ReadError> {
    let mut blocks = Vec::new();
    let mut budget = Budget {
        blocks: limits.blocks.get(),
        bytes: limits.bytes.get() as u64,
        first: true,
    };
    let mut number = from;
    while number.height() <= info.height && budget.blocks > 0 {
        let upto = number.get().saturating_add(budget.blocks as u64);
        let place = shared.catalog().locate(number, BlockNumber::new(upto));
        let Some(place) = place else {
            if blocks.is_empty() {
                return Err(ReadError::Storage {
                    number,
                    source: "no segment holds the block".into(),
                });
            }
            break;
        };
        let wanted = number.get()..info.height.get().min(place.next.get());
        let found = read_segment(shared, &place, wanted.clone(), &mut budget, &mut blocks);
        if let Err(source) = found {
            if blocks.is_empty() {
                return Err(ReadError::Storage {
                    number: from,
                    source: source.into(),
                });
            }
            // The blocks before the damage are good; who goes on behind them meets the error.
            break;
        }
        let reached = from.get().saturating_add(blocks.len() as u64);
        if reached < wanted.end {
            break;
        }
        number = BlockNumber::new(reached);
    }
    Ok(blocks)
}

/// Reads the wanted blocks of one segment, as far as the budget allows.
fn read_segment(
    shared: &Shared,
    place: &Place,
    wanted: Range<u64>,
    budget: &mut Budget,
    blocks: &mut Vec<Bytes>,
) -> Result<(), StorageError> {
    let io = |source| StorageError::io("read the segment", &place.path)(source);
    let file = shared
        .file(place)
        .map_err(StorageError::io("open the segment", &place.path))?;
    let mut headers = Headers::new(&*file, place.sync);
    let (mut number, mut offset) = (place.entry.number, place.entry.offset);
    while number.get() < wanted.start {
        let header = headers
            .read(offset, number)
            .map_err(io)?
            .map_err(|fault| damaged(&place.path, offset, number, fault))?;
        offset += header.record_len();
        number = number.height().next_block();
    }
    let mut run = Run {
        file: &*file,
        base: offset,
        end: place.end,
        ahead: place.ahead,
        buffer: Vec::new(),
    };
    let mut spans: Vec<(Range<usize>, RecordHeader)> = Vec::new();
    let mut at = 0;
    let mut stopped = None;
    for number in wanted.map(BlockNumber::new) {
        if budget.blocks == 0 {
            break;
        }
        let offset = run.base + at as u64;
        let header = match run.header(at, number, budget, place).map_err(io)? {
            Ok(header) => header,
            Err(fault) => {
                stopped = Some(damaged(&place.path, offset, number, fault));
                break;
            }
        };
        let length = u64::from(header.length);
        if !budget.first && length > budget.bytes {
            budget.blocks = 0;
            break;
        }
        let start = at + RECORD_HEADER_LEN;
        let end = start + header.length as usize;
        if !run.fill(end, budget).map_err(io)? {
            stopped = Some(damaged(
                &place.path,
                offset,
                number,
                RecordFault::Incomplete,
            ));
            break;
        }
        *budget = Budget {
            blocks: budget.blocks - 1,
            bytes: budget.bytes.saturating_sub(length),
            first: false,
        };
        spans.push((start..end, header));
        at = end;
    }
    let buffer = run.into_bytes(at);
    for (span, header) in spans {
        let offset = offset + (span.start - RECORD_HEADER_LEN) as u64;
        let block = buffer.slice(span);
        if crc32c::crc32c(&block) != header.checksum {
            return Err(damaged(
                &place.path,
                offset,
                header.number,
                RecordFault::Payload,
            ));
        }
        blocks.push(block);
    }
    stopped.map_or(Ok(()), Err)
}

fn damaged(segment: &Path, offset: u64, block: BlockNumber, fault: RecordFault) -> StorageError {
    DamagedRecord {
        segment: segment.to_owned(),
        offset,
        block,
        fault,
    }
    .into()
}

impl<R: ReadAt + ?Sized> Run<'_, R> {
    /// The header of the record that begins at this place of the buffer.
    fn header(
        &mut self,
        at: usize,
        number: BlockNumber,
        budget: &Budget,
        place: &Place,
    ) -> std::io::Result<Result<RecordHeader, RecordFault>> {
        if !self.fill(at + RECORD_HEADER_LEN, budget)? {
            return Ok(Err(RecordFault::Incomplete));
        }
        Ok(
            match self.buffer.get(at..).and_then(|rest| rest.first_chunk()) {
                Some(bytes) => RecordHeader::decode_expected(bytes, &place.sync, number),
                None => Err(RecordFault::Incomplete),
            },
        )
    }

    /// Reads on until the buffer has so many bytes; `false` when the file has less. All that the
    /// budget lets be given is read at once, into room that need not grow.
    fn fill(&mut self, needed: usize, budget: &Budget) -> std::io::Result<bool> {
        let have = self.buffer.len();
        let Some(missing) = needed.checked_sub(have).filter(|missing| *missing > 0) else {
            return Ok(true);
        };
        let reached = self.base + have as u64;
        let ahead = if budget.blocks > 1 {
            // Small blocks have headers that count beside them.
            let most = budget.bytes.saturating_add(budget.bytes / 16);
            self.ahead.saturating_sub(reached).min(most)
        } else {
            0
        };
        let rest = self.end.saturating_sub(reached);
        let wanted = (missing as u64).max(ahead).min(rest);
        let Some(target) = usize::try_from(wanted)
            .ok()
            .filter(|wanted| *wanted >= missing)
        else {
            return Ok(false);
        };
        if have == 0 {
            // Memory that comes zeroed need not be zeroed again.
            self.buffer = vec![0; target];
        } else {
            self.buffer.resize(have + target, 0);
        }
        let read = match self.buffer.get_mut(have..) {
            Some(room) => self.file.read_full_at(room, reached)?,
            None => 0,
        };
        self.buffer.truncate(have + read);
        Ok(read >= missing)
    }

    /// What was used of the buffer. Blocks keep the whole buffer alive, so what was read ahead in
    /// vain is given back where it is more than a little.
    fn into_bytes(mut self, used: usize) -> Bytes {
        self.buffer.truncate(used);
        if self.buffer.capacity() > used + used / 8 + RECORD_HEADER_LEN {
            self.buffer.shrink_to_fit();
        }
        self.buffer.into()
    }
}
