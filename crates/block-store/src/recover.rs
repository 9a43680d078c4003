// SPDX-License-Identifier: Apache-2.0
//! Finds out what a directory holds, and brings it into the state in which blocks can be appended.

use std::{fs, io, path::Path};

use block_api::{BlockNumber, ChainInfo, Height};

use crate::{
    catalog::{Catalog, Segment},
    codec::FormatError,
    config::ValidConfig,
    dir,
    error::{DamagedRecord, OpenError},
    head::{Head, HeadFile},
    index::SegmentIndex,
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
pub(crate) fn recover(dir: &Path, config: &ValidConfig) -> Result<Recovered, OpenError> {
    let listing = dir::list(dir)?;
    for path in &listing.temporary {
        fs::remove_file(path).map_err(OpenError::io("remove the unfinished file", path))?;
    }
    let is_new = listing.segments.is_empty();
    let (state, head) = Head::load(dir, is_new)?;
    let beginning = config.beginning();
    let mut recovery = Recovery {
        dir,
        interval: config.get().index_interval_bytes.get() as u64,
        identity: Identity::new(config.get().channel.clone(), config.genesis(), &beginning),
        beginning,
        acknowledged: head.as_ref().and_then(|head| head.info),
        report: OpenReport::new(state),
    };
    if let Some(head) = &head {
        recovery.check_head(head, is_new)?;
    }
    let mut segments: Vec<Segment> = Vec::with_capacity(listing.segments.len());
    let sealed = listing.segments.len().saturating_sub(1);
    for (position, first) in listing.segments.into_iter().enumerate() {
        let opened = SegmentFile::open(dir, first, &recovery.identity)?;
        recovery.learn_genesis(&opened.preamble.identity);
        recovery.check_place(&opened, segments.last())?;
        let index = if position < sealed {
            recovery.sealed_index(&opened)?
        } else {
            recovery.active_index(&opened)?
        };
        segments.push(Segment {
            path: opened.path.into(),
            preamble: opened.preamble,
            index,
        });
    }
    let info = recovery.info(&segments);
    recovery.check_acknowledged(&info)?;
    if info.height == beginning.height {
        // A genesis block that was not stored, though a segment was begun for it, binds nobody.
        recovery.identity.genesis = config.genesis();
    }
    let head = recovery.head_file(head, &info)?;
    Ok(Recovered {
        catalog: Catalog::new(segments),
        info,
        identity: recovery.identity,
        head,
        report: recovery.report,
    })
}

impl Recovery<'_> {
    /// Checks that the head file is that of the configured chain. A store without a block has
    /// nothing that another beginning could contradict.
    fn check_head(&mut self, head: &Head, is_new: bool) -> Result<(), OpenError> {
        let path = dir::head_path(self.dir);
        let has_blocks = !is_new
            || head
                .info
                .is_some_and(|info| info.height.next_block() != head.identity.start);
        if has_blocks {
            return self.check_identity(&path, &head.identity);
        }
        self.acknowledged = None;
        if head.identity.channel == self.identity.channel {
            return Ok(());
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

    /// Checks that a segment follows the one before it, or that nothing is missing before it.
    fn check_place(&self, opened: &SegmentFile, before: Option<&Segment>) -> Result<(), OpenError> {
        let first = opened.preamble.first;
        let (expected, previous) = match before {
            Some(before) => (before.index.next, before.index.last_hash),
            // Without a head file nothing says which segment is the oldest that is kept.
            None => match self.acknowledged {
                Some(info) => (info.first, opened.preamble.previous),
                None => (first, opened.preamble.previous),
            },
        };
        if first > expected {
            return Err(OpenError::MissingSegment {
                dir: self.dir.to_owned(),
                missing: expected,
                next: opened.path.clone(),
            });
        }
        let is_start = first == self.identity.start;
        if first < expected && before.is_some()
            || opened.preamble.previous != previous
            || is_start && opened.preamble.previous != self.identity.start_previous
        {
            return Err(OpenError::Unlinked {
                path: opened.path.clone(),
                before: first.previous(),
            });
        }
        Ok(())
    }

    /// The index of a segment behind which there is another one: from its file, or made anew.
    fn sealed_index(&mut self, opened: &SegmentFile) -> Result<SegmentIndex, OpenError> {
        let path = dir::index_path(self.dir, opened.preamble.first);
        let decoded = match fs::read(&path) {
            Ok(bytes) => {
                SegmentIndex::decode(&bytes, &opened.preamble, opened.length, self.interval)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(FormatError::Truncated),
            Err(error) => return Err(OpenError::io("read the index", &path)(error)),
        };
        match decoded {
            Ok(index) => return Ok(index),
            Err(FormatError::Version(version)) => {
                return Err(OpenError::UnknownVersion { path, version });
            }
            Err(
                FormatError::Magic
                | FormatError::Checksum
                | FormatError::Truncated
                | FormatError::Content(_),
            ) => {}
        }
        // A segment is sealed when all of it is durable: whatever is wrong with it is damage.
        let everything = BlockNumber::new(u64::MAX);
        let found = self.scan(opened, everything, everything)?;
        if let Some(stop) = found.stop {
            return Err(OpenError::Damaged {
                damage: damage(&opened.path, stop.fault),
            });
        }
        dir::write_whole(self.dir, &path, &found.index.encode(&opened.preamble))
            .map_err(OpenError::io("write the index", &path))?;
        self.report.rebuilt_indexes.push(path);
        Ok(found.index)
    }

    /// The index of the segment that grows, whose tail may be torn.
    fn active_index(&mut self, opened: &SegmentFile) -> Result<SegmentIndex, OpenError> {
        let unproven_from = self
            .acknowledged
            .map_or(BlockNumber::GENESIS, |info| info.height.next_block());
        let tip = unproven_from.previous().unwrap_or(BlockNumber::GENESIS);
        let found = self.scan(opened, tip, unproven_from)?;
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
                return Err(OpenError::Damaged {
                    damage: damage(&opened.path, stop.fault),
                });
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
        settle(&opened.path, &opened.file, &found)?;
        Ok(found.index)
    }

    fn scan(
        &self,
        opened: &SegmentFile,
        check_from: BlockNumber,
        unproven_from: BlockNumber,
    ) -> Result<Scan, OpenError> {
        let question = Question {
            interval: self.interval,
            check_from,
            unproven_from,
        };
        scan(&opened.file, opened.length, &opened.preamble, question)
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
        let path = dir::head_path(self.dir);
        let io = || OpenError::io("write the head file", &path);
        match head {
            Some(head) if head.intact && head.identity == self.identity => {
                let mut file = HeadFile::go_on(self.dir, &head).map_err(io())?;
                if head.info != Some(*info) {
                    file.write(info).map_err(io())?;
                }
                file.sync().map_err(io())?;
                Ok(file)
            }
            _ => HeadFile::create(self.dir, &self.identity, info).map_err(io()),
        }
    }
}

fn damage(segment: &Path, fault: Fault) -> DamagedRecord {
    DamagedRecord {
        segment: segment.to_owned(),
        offset: fault.offset,
        block: fault.number,
        fault: fault.fault,
    }
}
