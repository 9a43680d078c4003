// SPDX-License-Identifier: Apache-2.0
//! A body that comes in pieces, written where it stands in the block.

use block_api::{Block, DataHashing, NotWellFormed};

use crate::bodies::{
    Bits, Hints,
    entries::{Entries, NotEntries},
    hints::{CHUNK, hash},
};

/// The block in the making: one buffer for its relay form. It is as long as the hints say; the system
/// gives it memory as it is written to, so that what does not come costs nothing.
#[derive(Debug)]
pub(crate) struct Assembly {
    buffer: Vec<u8>,
    /// What stands before the data.
    head: usize,
    hints: Hints,
    /// Which chunks are there, and true where there is a manifest.
    done: Bits,
    /// So much of the data was hashed.
    hashed: usize,
    entries: Entries,
}

/// What came is not what was announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum False {
    #[error("a chunk does not have the hash in the manifest")]
    Chunk,
    #[error("a piece is not where one was to come")]
    Place,
    #[error("the data does not have the hash in the header")]
    Data,
    #[error(transparent)]
    Form(#[from] NotEntries),
    #[error("the data is not cut into entries as it was: {0}")]
    Cut(#[from] NotWellFormed),
}

impl Assembly {
    /// The block of an announcement, with room for data as long as the hints say.
    pub(crate) fn new(announcement: &Block, hints: Hints, hashing: DataHashing) -> Self {
        let size = hints.size as usize;
        let (head, tail) = announcement.around_data(size);
        let mut buffer = vec![0; head.len() + size + tail.len()];
        if let Some(place) = buffer.get_mut(..head.len()) {
            place.copy_from_slice(&head);
        }
        if let Some(place) = buffer.get_mut(head.len() + size..) {
            place.copy_from_slice(&tail);
        }
        Self {
            buffer,
            head: head.len(),
            done: Bits::none(hints.chunks()),
            hints,
            hashed: 0,
            entries: Entries::new(hashing),
        }
    }

    pub(crate) fn hints(&self) -> &Hints {
        &self.hints
    }

    /// The chunks that are there.
    pub(crate) fn done(&self) -> &Bits {
        &self.done
    }

    /// Whether all of it is there.
    pub(crate) fn is_whole(&self) -> bool {
        self.hashed == self.hints.size as usize
    }

    /// Takes a chunk that was checked against the manifest; what was there already stays.
    ///
    /// # Errors
    ///
    /// When with it the data is not in its form.
    pub(crate) fn put_chunk(&mut self, chunk: u32, bytes: &[u8]) -> Result<(), False> {
        let (at, length) = self.hints.place(chunk).ok_or(False::Place)?;
        if length != bytes.len() {
            return Err(False::Place);
        }
        if self.done.contains(chunk) {
            return Ok(());
        }
        self.write(at, bytes)?;
        self.done.insert(chunk);
        // What is in order by now is hashed while it is at hand.
        while let Some((at, length)) = self.hints.place((self.hashed / CHUNK) as u32)
            && at == self.hashed
            && self.done.contains((at / CHUNK) as u32)
        {
            self.hash(length)?;
        }
        Ok(())
    }

    /// Takes the next piece of a body without manifest.
    ///
    /// # Errors
    ///
    /// When another one was to come, or the data is not in its form.
    pub(crate) fn put_next(&mut self, at: usize, bytes: &[u8]) -> Result<(), False> {
        if at != self.hashed || bytes.is_empty() {
            return Err(False::Place);
        }
        self.write(at, bytes)?;
        self.hash(bytes.len())
    }

    /// A part of the data, from a place on.
    pub(crate) fn data(&self, at: usize, length: usize) -> Option<&[u8]> {
        let begin = self.head.checked_add(at)?;
        self.buffer.get(begin..begin.checked_add(length)?)
    }

    /// The block, when its data is the one that its header stands for: no other has its hash and its
    /// form, so that nobody who judges blocks refuses it for what a node made of it.
    ///
    /// # Errors
    ///
    /// When it has not.
    pub(crate) fn finish(self, hashing: DataHashing) -> Result<(Block, DataHashing), False> {
        let hash = self.entries.finish()?;
        let block = Block::parse(self.buffer.into()).map_err(|_| False::Data)?;
        if block.header().data_hash == hash {
            match hashing {
                // The same hash stands for the same bytes cut elsewhere.
                DataHashing::Concatenated => block.check_well_formed()?,
                DataHashing::LengthPrefixed => {}
            }
            return Ok((block, hashing));
        }
        // A channel has one rule, which the header does not tell.
        match block.has_claimed_data() {
            true => Ok((block, other(hashing))),
            false => Err(False::Data),
        }
    }

    fn write(&mut self, at: usize, bytes: &[u8]) -> Result<(), False> {
        let end = at.checked_add(bytes.len()).ok_or(False::Place)?;
        if end > self.hints.size as usize {
            return Err(False::Place);
        }
        let place = self.buffer.get_mut(self.head + at..self.head + end);
        place.ok_or(False::Place)?.copy_from_slice(bytes);
        Ok(())
    }

    fn hash(&mut self, length: usize) -> Result<(), False> {
        let begin = self.head + self.hashed;
        let next = self.buffer.get(begin..begin + length).unwrap_or_default();
        self.entries.push(next)?;
        self.hashed += length;
        Ok(())
    }
}

/// Checks a chunk against the manifest.
///
/// # Errors
///
/// When it is not the one that was meant.
pub(crate) fn check_chunk(hints: &Hints, chunk: u32, bytes: &[u8]) -> Result<(), False> {
    match hints.chunk_hash(chunk) {
        Some(expected) if *expected == hash(bytes) => Ok(()),
        Some(_) => Err(False::Chunk),
        None => Err(False::Place),
    }
}

fn other(hashing: DataHashing) -> DataHashing {
    match hashing {
        DataHashing::Concatenated => DataHashing::LengthPrefixed,
        DataHashing::LengthPrefixed => DataHashing::Concatenated,
    }
}
