// SPDX-License-Identifier: Apache-2.0
//! A body that comes in pieces, written where it stands in the block.

use std::{collections::BTreeSet, sync::Arc};

use block_api::{Block, DataHashing, NotWellFormed};

use crate::bodies::{
    Bits, Hints,
    entries::{Entries, NotEntries},
    hints::{CHUNK, HintsId, hash},
};

/// The block in the making: one buffer for its relay form. It is as long as the hints say; the system
/// gives it memory as it is written to, so that what does not come costs nothing.
#[derive(Debug)]
pub(crate) struct Assembly {
    buffer: Vec<u8>,
    /// What stands before the data.
    head: usize,
    hints: Hints,
    /// The link to whoever gives it, where it has no manifest.
    giver: u64,
    /// Tells it from one that was given up.
    mark: Arc<()>,
    /// Where the pieces begin that are being written, each by one link.
    claimed: BTreeSet<usize>,
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
    /// The block of an announcement, with room for data as long as the hints say, which this link
    /// told.
    pub(crate) fn new(
        announcement: &Block,
        hints: Hints,
        giver: u64,
        hashing: DataHashing,
    ) -> Self {
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
            giver,
            mark: Arc::default(),
            claimed: BTreeSet::new(),
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

    pub(crate) fn mark(&self) -> &Arc<()> {
        &self.mark
    }

    /// Gives a link that told these hints the right to write a piece to its place. `false` when it is
    /// not one that may come from it now, or another link writes it.
    pub(crate) fn claim(&mut self, link: u64, hints: HintsId, at: usize, length: usize) -> bool {
        let (chunk, size) = ((at / CHUNK) as u32, self.hints.size as usize);
        let may = match self.hints.manifest {
            Some(_) => {
                self.hints.place(chunk) == Some((at, length))
                    && !self.done.contains(chunk)
                    && self.hints.id() == hints
            }
            // Others may write nothing: what is there is not checked before it is whole.
            None => {
                link == self.giver
                    && at == self.hashed
                    && length > 0
                    && at.checked_add(length).is_some_and(|end| end <= size)
            }
        };
        may && self.claimed.insert(at)
    }

    /// Where a piece is written; `None` when it came from another link meanwhile.
    pub(crate) fn place(&mut self, at: usize, have: usize, length: usize) -> Option<&mut [u8]> {
        let begin = self.head + at;
        let place = self.buffer.get_mut(begin + have..begin + length);
        place.filter(|_| self.claimed.contains(&at))
    }

    /// Nobody writes this piece any more.
    pub(crate) fn release(&mut self, at: usize) {
        self.claimed.remove(&at);
    }

    /// Takes a chunk that was written to its place, and checked against the manifest.
    ///
    /// # Errors
    ///
    /// When with it the data is not in its form.
    pub(crate) fn keep_chunk(&mut self, chunk: u32) -> Result<(), False> {
        let (at, _) = self.hints.place(chunk).ok_or(False::Place)?;
        match self.claimed.remove(&at) {
            true => self.take_chunk(chunk),
            false => Ok(()),
        }
    }

    /// Takes the next piece of a body without manifest, which was written to its place.
    ///
    /// # Errors
    ///
    /// When another one was to come, or the data is not in its form.
    pub(crate) fn keep_next(&mut self, at: usize, length: usize) -> Result<(), False> {
        match self.claimed.remove(&at) && at == self.hashed {
            true => self.hash(length),
            false => Err(False::Place),
        }
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
        // Whoever writes it too writes it no longer.
        self.claimed.remove(&at);
        self.take_chunk(chunk)
    }

    fn take_chunk(&mut self, chunk: u32) -> Result<(), False> {
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
    check_hash(hints, chunk, &hash(bytes))
}

/// Checks the hash of a chunk against the manifest.
///
/// # Errors
///
/// When it is not the one that was meant.
pub(crate) fn check_hash(hints: &Hints, chunk: u32, hash: &[u8; 32]) -> Result<(), False> {
    match hints.chunk_hash(chunk) {
        Some(expected) if expected == hash => Ok(()),
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

#[cfg(test)]
mod tests {
    use block_api::{BlockNumber, testing::TestChain};

    use super::*;
    use crate::{
        Keypair,
        bodies::{BodyId, hints::WHOLE},
        topic::TopicId,
    };

    /// A block with so many bytes of data, which are returned too, to come by link 1.
    fn coming(size: usize) -> (Assembly, Vec<u8>) {
        let (mut chain, _) = TestChain::of_blocks("ch", 2, 10);
        let block = chain.data(size);
        let id = BodyId {
            topic: TopicId::new([1; 32]),
            number: BlockNumber::new(1),
            hash: block.header_hash(),
        };
        let data = block.data_bytes().unwrap().to_vec();
        let hints = Hints::make(&id, &data, &Keypair::from_seed([1; 32]));
        let hashing = DataHashing::default();
        let body = Assembly::new(&block.without_data(), hints, 1, hashing);
        (body, data)
    }

    #[test]
    fn a_chunk_is_written_by_one_link_and_not_again_once_it_came() {
        let (mut body, data) = coming(WHOLE + CHUNK);
        let (hints, chunk) = (body.hints().id(), &data[..CHUNK]);
        assert!(body.claim(2, hints, 0, CHUNK) && !body.claim(1, hints, 0, CHUNK));
        body.place(0, 5, CHUNK).unwrap().fill(7);
        // It comes by another way meanwhile.
        body.put_chunk(0, chunk).unwrap();
        assert!(body.place(0, 5, CHUNK).is_none() && !body.claim(1, hints, 0, CHUNK));
        body.keep_chunk(0).unwrap();
        assert_eq!(body.data(0, CHUNK).unwrap(), chunk);
        // Whoever goes away in the middle leaves it to others.
        assert!(body.claim(1, hints, CHUNK, CHUNK));
        body.release(CHUNK);
        body.keep_chunk(1).unwrap();
        assert!(!body.done().contains(1) && body.claim(2, hints, CHUNK, CHUNK));
        let others = coming(WHOLE + 2 * CHUNK).0.hints().id();
        for (hints, at, length) in [
            (others, 2 * CHUNK, CHUNK),
            (hints, 2 * CHUNK + 1, CHUNK),
            (hints, 2 * CHUNK, 1),
            (hints, usize::MAX, CHUNK),
        ] {
            assert!(!body.claim(1, hints, at, length), "{at} {length}");
        }
    }

    #[test]
    fn a_body_without_manifest_is_written_in_order_and_by_its_giver_alone() {
        let (mut body, data) = coming(1000);
        let (hints, size) = (body.hints().id(), data.len());
        for (link, at, length) in [
            (2, 0, 10),
            (1, 10, 10),
            (1, 0, 0),
            (1, 0, size + 1),
            (1, 0, usize::MAX),
        ] {
            assert!(!body.claim(link, hints, at, length), "{link} {at} {length}");
        }
        assert_eq!(body.keep_next(0, 10), Err(False::Place));
        for at in [0, 600] {
            let length = (size - at).min(600);
            assert!(body.claim(1, hints, at, length));
            let place = body.place(at, 0, length).unwrap();
            place.copy_from_slice(&data[at..at + length]);
            body.keep_next(at, length).unwrap();
        }
        assert!(body.is_whole());
        let (block, _) = body.finish(DataHashing::default()).unwrap();
        assert_eq!(block.data_bytes().unwrap(), data);
    }
}
