// SPDX-License-Identifier: Apache-2.0
//! Finds out what a directory holds, and brings it into the state in which blocks can be appended.

use std::path::Path;

use block_api::{BlockNumber, ChainInfo, Height};

use crate::{
    catalog::{Catalog, Segment},
    config::ValidConfig,
    dir::{self, WholeError},
    error::{Damage, DamagedRecord, OpenError, SegmentFault},
    file::Files,
    head::{Head, HeadFile},
    index::SegmentIndex,
    origin::{Origin, check_archive, configs_aside, finish_drop},
    preamble::Identity,
    report::{HeadState, OpenReport, TornTail},
    scan::{Fault, Question, Scan, scan},
    segment_file::{SegmentFile, check_identity},
    settle::settle,
};

/// What a directory holds.
#[derive(Debug)]
pub(crate) struct Recovered {
    pub(crate) catalog: Catalog,
    pub(crate) info: ChainInfo,
    pub(crate) identity: Identity,
    pub(crate) head: HeadFile,
    pub(crate) report: OpenReport,
}

/// Looks through a directory whose lock is held.
struct Recovery<'a> {
    files: &'a dyn Files,
    dir: &'a Path,
    interval: u64,
    identity: Identity,
    beginning: ChainInfo,
    /// What the head file says was acknowledged.
    acknowledged: Option<ChainInfo>,
    report: OpenReport,
}

/// Reads what is in the directory, cuts a torn tail off, makes anew what is missing or damaged and
/// can be made anew, and makes durable what is kept.
pub(crate) fn recover(
    files: &dyn Files,
    dir: &Path,
    config: &ValidConfig,
) -> Result<Recovered, OpenError> {
    let mut listing = dir::list(dir)?;
    for path in &listing.temporary {
        files
            .remove(path)
            .map_err(OpenError::io("remove the unfinished file", path))?;
    }
    let is_new = listing.segments.is_empty();
    let (state, head) = Head::load(files, dir, is_new)?;
    let beginning = config.beginning();
    let mut recovery = Recovery {
        files,
        dir,
        interval: config.get().index_interval_bytes.get() as u64,
        identity: Identity::new(config.get().channel.clone(), config.genesis(), &beginning),
        beginning,
        acknowledged: head.as_ref().and_then(|head| head.info),
        report: OpenReport::new(state),
    };
    let is_empty = match &head {
        Some(head) => !recovery.check_head(head, is_new)?,
        None => is_new,
    };
    let start = config.get().start_config.as_ref();
    let archive = configs_aside(files, dir, &recovery.identity, start, is_empty)?;
    check_archive(
        dir,
        archive.as_ref(),
        recovery.acknowledged,
        &recovery.identity,
    )?;
    if let Some(archive) = &archive {
        recovery.learn_genesis(archive.identity());
        finish_drop(files, dir, &mut listing, archive.first())?;
    }
    let origin = Origin::new(&recovery.identity, archive.as_ref());
    let segments = recovery.segments(&listing.segments, origin)?;
    let info = recovery.info(&segments);
    recovery.check_acknowledged(&info)?;
    if info.height == beginning.height {
        // A genesis block that was not stored, though a segment was begun for it, binds nobody.
        recovery.identity.genesis = config.genesis();
    }
    let head = recovery.head_file(head, &info)?;
    Ok(Recovered {
        catalog: Catalog::new(segments, archive),
        info,
        identity: recovery.identity,
        head,
        report: recovery.report,
    })
}

impl Recovery<'_> {
    /// Checks that the head file is that of the configured chain. A store without a block has
    /// nothing that another beginning could contradict. Says whether it has one.
    fn check_head(&mut self, head: &Head, is_new: bool) -> Result<bool, OpenError> {
        let path = dir::head_path(self.dir);
        let has_blocks = !is_new
            || head
                .info
                .is_some_and(|info| info.height.next_block() != head.identity.start);
        if has_blocks {
            self.check_identity(&path, &head.identity)?;
            return Ok(true);
        }
        self.acknowledged = None;
        if head.identity.channel == self.identity.channel {
            return Ok(false);
        }
        Err(OpenError::OtherChannel {
            path,
            kept: head.identity.channel.clone(),
            asked: self.identity.channel.clone(),
        })
    }

    fn check_identity(&mut self, path: &Path, kept: &Identity) -> Result<(), OpenError> {
        check_identity(path, kept, &self.identity)?;
        self.learn_genesis(kept);
        Ok(())
    }

    fn learn_genesis(&mut self, kept: &Identity) {
        self.identity.genesis = self.identity.genesis.or(kept.genesis);
    }

    /// Looks through the segments that are kept, oldest first.
    fn segments(
        &mut self,
        firsts: &[BlockNumber],
        origin: Origin,
    ) -> Result<Vec<Segment>, OpenError> {
        let mut segments: Vec<Segment> = Vec::with_capacity(firsts.len());
        let mut following = firsts.iter().copied().skip(1);
        for &first in firsts {
            let next = following.next();
            // The last block is what the names of the files tell, or the head file.
            let last = match (next, self.acknowledged) {
                (Some(next), _) => next.previous(),
                (None, Some(info)) => info.height.tip().filter(|tip| *tip >= first),
                (None, None) => None,
            };
            let opened = SegmentFile::open(self.files, self.dir, first, last, &self.identity)?;
            self.learn_genesis(&opened.preamble.identity);
            self.check_place(&opened, segments.last(), origin)?;
            let index = match next {
                Some(_) => self.sealed_index(&opened, last)?,
                None => self.active_index(&opened, last)?,
            };
            segments.push(Segment {
                path: opened.path.into(),
                preamble: opened.preamble,
                index,
            });
        }
        Ok(segments)
    }

    /// Checks that a segment follows the one before it, or that nothing is missing before it.
    fn check_place(
        &self,
        opened: &SegmentFile,
        before: Option<&Segment>,
        origin: Origin,
    ) -> Result<(), OpenError> {
        let first = opened.preamble.first;
        let (expected, previous) = match before {
            Some(before) => (before.index.next, Some(before.index.last_hash)),
            None => (
                origin.first,
                (first == origin.first).then_some(origin.previous),
            ),
        };
        if first > expected {
            return Err(OpenError::DamagedSegment {
                damage: Damage {
                    segment: dir::segment_path(self.dir, expected),
                    from: expected,
                    to: first.previous(),
                    fault: SegmentFault::Missing,
                },
            });
        }
        if first < expected && before.is_some()
            || previous.is_some_and(|previous| opened.preamble.previous != previous)
        {
            return Err(OpenError::Unlinked {
                path: opened.path.clone(),
                before: first.previous(),
            });
        }
        Ok(())
    }

    /// The index of a segment behind which there is another one: from its file, or made anew.
    fn sealed_index(
        &mut self,
        opened: &SegmentFile,
        last: Option<BlockNumber>,
    ) -> Result<SegmentIndex, OpenError> {
        let known = match opened.load_index(self.files, self.dir, self.interval)? {
            Some(index) if index.end == opened.length => return Ok(index),
            // The last one is written when the segment is sealed, and nobody waits for it: after a
            // power loss there may be the one before. The walk goes on from where it ends.
            known => known,
        };
        // A segment is sealed when all of it is durable: whatever is wrong with it is damage.
        let everything = BlockNumber::new(u64::MAX);
        let found = self.scan(opened, known, everything, everything)?;
        if let Some(stop) = found.stop {
            return Err(damaged_segment(opened, last, stop.fault));
        }
        let path = dir::index_path(self.dir, opened.preamble.first);
        let content = found.index.encode(&opened.preamble);
        dir::write_whole(self.files, self.dir, &path, &content)
            .map_err(WholeError::opening(&path))?;
        self.report.rebuilt_indexes.push(path);
        Ok(found.index)
    }

    /// The index of the segment that grows, whose tail may be torn.
    fn active_index(
        &mut self,
        opened: &SegmentFile,
        last: Option<BlockNumber>,
    ) -> Result<SegmentIndex, OpenError> {
        let unproven_from = self
            .acknowledged
            .map_or(BlockNumber::GENESIS, |info| info.height.next_block());
        let tip = unproven_from.previous().unwrap_or(BlockNumber::GENESIS);
        // What the index tells of the beginning need not be walked over, if the head file tells as
        // much; the newest acknowledged block is looked at in any case.
        let known = opened
            .load_index(self.files, self.dir, self.interval)?
            .filter(|index| index.next <= tip);
        let found = self.scan(opened, known, tip, unproven_from)?;
        let reaches_tip =
            opened.preamble.first <= unproven_from && unproven_from <= found.index.next;
        if let Some(acknowledged) = self.acknowledged
            && reaches_tip
            && acknowledged.tip_hash != found.proven_hash
        {
            return Err(OpenError::OtherTip {
                path: opened.path.clone(),
                number: tip,
            });
        }
        if let Some(stop) = found.stop {
            if stop.acknowledged {
                return Err(damaged_segment(opened, last, stop.fault));
            }
            self.report.torn_tail = Some(TornTail {
                segment: opened.path.clone(),
                offset: stop.fault.offset,
                bytes: opened.length - stop.fault.offset,
                from_block: stop.fault.number,
                fault: stop.fault.fault,
                certainly_unacknowledged: self.report.head == HeadState::Intact,
            });
        }
        if found.index.next < unproven_from {
            return Err(OpenError::Lost {
                dir: self.dir.to_owned(),
                acknowledged: unproven_from
                    .previous()
                    .map_or(Height::ZERO, BlockNumber::height),
                found: Height::new(found.index.next.get()),
            });
        }
        if self.acknowledged.is_some() && found.unproven_offset.is_some() {
            self.report.unacknowledged = found
                .index
                .next
                .get()
                .saturating_sub(unproven_from.get().max(opened.preamble.first.get()));
        }
        self.report.damaged.extend(
            found
                .damaged
                .iter()
                .map(|fault| damage(&opened.path, *fault)),
        );
        settle(self.files, opened, &found)?;
        Ok(found.index)
    }

    fn scan(
        &self,
        opened: &SegmentFile,
        known: Option<SegmentIndex>,
        check_from: BlockNumber,
        unproven_from: BlockNumber,
    ) -> Result<Scan, OpenError> {
        let question = Question {
            known: known.unwrap_or_else(|| SegmentIndex::new(&opened.preamble, self.interval)),
            check_from,
            unproven_from,
        };
        scan(&*opened.file, opened.length, &opened.preamble, question)
            .map_err(OpenError::io("read the segment", &opened.path))
    }

    fn info(&self, segments: &[Segment]) -> ChainInfo {
        match (segments.first(), segments.last()) {
            (Some(first), Some(last)) => ChainInfo {
                first: first.preamble.first,
                height: Height::new(last.index.next.get()),
                tip_hash: last.index.last_hash,
            },
            _ => self.beginning,
        }
    }

    /// Checks that nothing that was acknowledged is missing.
    fn check_acknowledged(&self, info: &ChainInfo) -> Result<(), OpenError> {
        match self.acknowledged {
            Some(acknowledged) if acknowledged.height > info.height => Err(OpenError::Lost {
                dir: self.dir.to_owned(),
                acknowledged: acknowledged.height,
                found: info.height,
            }),
            _ => Ok(()),
        }
    }

    /// The head file, brought up to what was found.
    fn head_file(&self, head: Option<Head>, info: &ChainInfo) -> Result<HeadFile, OpenError> {
        match head {
            Some(head) if head.intact && head.identity == self.identity => {
                let path = dir::head_path(self.dir);
                let io = || OpenError::io("write the head file", &path);
                let mut file = HeadFile::go_on(self.files, self.dir, &head)?;
                if head.info != Some(*info) {
                    file.write(info).map_err(io())?;
                }
                file.sync().map_err(io())?;
                Ok(file)
            }
            _ => HeadFile::create(self.files, self.dir, &self.identity, info),
        }
    }
}

fn damaged_segment(opened: &SegmentFile, last: Option<BlockNumber>, fault: Fault) -> OpenError {
    OpenError::DamagedSegment {
        damage: Damage {
            segment: opened.path.clone(),
            from: opened.preamble.first,
            to: last,
            fault: SegmentFault::Record(damage(&opened.path, fault)),
        },
    }
}

pub(crate) fn damage(segment: &Path, fault: Fault) -> DamagedRecord {
    DamagedRecord {
        segment: segment.to_owned(),
        offset: fault.offset,
        block: fault.number,
        fault: fault.fault,
    }
}
