// SPDX-License-Identifier: Apache-2.0
//! Looks at every byte of a store, and tells sound segments from damaged ones.

use std::path::{Path, PathBuf};

use block_api::{BlockNumber, ChainInfo, HeaderHash, Height};

use super::{
    CheckReport, RepairError,
    replace::Gap,
    walk::{Walked, unreadable, walk, walk_unbounded},
};
use crate::{
    archive::Archive,
    catalog::{Catalog, Segment},
    dir,
    error::{Damage, OpenError, RecordFault, SegmentFault},
    file::Files,
    head::Head,
    origin::{Origin, check_archive, dropped},
    preamble::{Identity, Kind, PREAMBLE_LEN, Preamble},
    recover::damage,
    scan::Fault,
    segment_file::{SegmentFile, check_identity},
};

/// What was found in a directory.
pub(super) struct Survey {
    dir: PathBuf,
    identity: Identity,
    /// What the head file says was acknowledged.
    acknowledged: Option<ChainInfo>,
    origin: Origin,
    archive: Option<Archive>,
    /// The segments, and the holes between them, without a gap.
    parts: Vec<Part>,
}

/// A segment, or a hole where one should be.
struct Part {
    first: BlockNumber,
    /// The number of the block after the last one; `None` when nothing tells.
    until: Option<BlockNumber>,
    /// The header hash of the block before it, by what the segment says.
    previous: Option<Option<HeaderHash>>,
    found: Found,
}

enum Found {
    Sound(Box<Segment>),
    Damaged(SegmentFault),
}

impl Survey {
    /// Looks at the store of a chain, or of whatever chain it is.
    pub(super) fn look(
        files: &dyn Files,
        dir: &Path,
        chain: Option<Identity>,
        interval: u64,
    ) -> Result<Self, OpenError> {
        let listing = dir::list(dir)?;
        let (_, head) = Head::load(files, dir, listing.segments.is_empty())?;
        let identity = match (chain, &head) {
            (Some(chain), Some(head)) => asked(dir, chain, head)?,
            (Some(chain), None) => chain,
            (None, Some(head)) => head.identity.clone(),
            (None, None) => of_segments(files, dir, &listing.segments)?,
        };
        let acknowledged = head.and_then(|head| head.info);
        let archive = Archive::load(files, dir, &identity)?;
        check_archive(dir, archive.as_ref(), acknowledged, &identity)?;
        check_configs(dir, archive.as_ref())?;
        let origin = Origin::new(&identity, archive.as_ref());
        let end = acknowledged.map(|info| info.height.next_block());
        let firsts: Vec<_> = listing
            .segments
            .iter()
            .copied()
            .skip(dropped(&listing.segments, origin.first))
            // What nobody acknowledged is nothing that could be missed.
            .filter(|first| end.is_none_or(|end| *first < end))
            .collect();
        let mut survey = Self {
            dir: dir.to_owned(),
            identity,
            acknowledged,
            origin,
            archive,
            parts: Vec::with_capacity(firsts.len()),
        };
        for (position, &first) in firsts.iter().enumerate() {
            survey.add_hole(Some(first));
            let next = firsts.get(position + 1).copied();
            let part = survey.segment(files, first, next, interval)?;
            survey.parts.push(part);
            if let Some(until) = next.or(end) {
                survey.add_hole(Some(until));
            }
        }
        survey.add_hole(end);
        Ok(survey)
    }

    pub(super) fn report(&self) -> CheckReport {
        let there = self.parts.last().and_then(|part| part.until);
        let there = there.unwrap_or(self.origin.first);
        CheckReport {
            channel: self.identity.channel.clone(),
            first: self
                .parts
                .first()
                .map_or(self.origin.first, |part| part.first),
            height: self
                .acknowledged
                .map_or(Height::new(there.get()), |info| info.height),
            sound: self.segments().len(),
            damages: self.damages().collect(),
        }
    }

    /// The damaged segments, oldest first.
    pub(super) fn damages(&self) -> impl Iterator<Item = Damage> {
        self.parts.iter().filter_map(|part| match &part.found {
            Found::Sound(_) => None,
            Found::Damaged(fault) => Some(Damage {
                segment: dir::segment_path(&self.dir, part.first),
                from: part.first,
                to: part.until.and_then(BlockNumber::previous),
                fault: fault.clone(),
            }),
        })
    }

    /// The sound segments, oldest first.
    pub(super) fn segments(&self) -> Vec<Segment> {
        let sound = self.parts.iter().filter_map(|part| match &part.found {
            Found::Sound(segment) => Some(Segment::clone(segment)),
            Found::Damaged(_) => None,
        });
        sound.collect()
    }

    pub(super) fn archive(&self) -> Option<&Archive> {
        self.archive.as_ref()
    }

    pub(super) fn origin(&self) -> Origin {
        self.origin
    }

    /// What belongs in the place of the oldest damaged segment.
    pub(super) fn gap(&self) -> Result<Gap, RepairError> {
        let damage = self.damages().next().ok_or(RepairError::Sound)?;
        let (sound, behind) = self
            .parts
            .split_at(self.parts.partition_point(|part| part.first < damage.from));
        let Some(last) = damage.to else {
            return Err(RepairError::NoEnd {
                damage: Box::new(damage),
            });
        };
        let previous = match sound.last().map(|part| &part.found) {
            Some(Found::Sound(segment)) => segment.index.last_hash,
            Some(Found::Damaged(_)) | None => self.origin.previous,
        };
        let below = Catalog::new(self.segments(), self.archive.clone());
        let following = behind.get(1);
        Ok(Gap {
            first: damage.from,
            last,
            chain: ChainInfo {
                first: damage.from,
                height: Height::new(damage.from.get()),
                tip_hash: previous,
            },
            in_force: damage
                .from
                .previous()
                .and_then(|below_it| below.config_at(below_it)),
            identity: self.identity.clone(),
            end_hash: match following {
                Some(following) => following.previous.flatten(),
                None => self.acknowledged.and_then(|info| info.tip_hash),
            },
            is_sealed: following.is_some(),
        })
    }

    /// Takes a segment in the place of a damaged one.
    pub(super) fn mend(&mut self, segment: Segment) {
        let first = segment.preamble.first;
        if let Some(part) = self.parts.iter_mut().find(|part| part.first == first) {
            part.previous = Some(segment.preamble.previous);
            part.found = Found::Sound(Box::new(segment));
        }
    }

    /// The number of the block that comes next.
    fn next(&self) -> Option<BlockNumber> {
        match self.parts.last() {
            Some(last) => last.until,
            None => Some(self.origin.first),
        }
    }

    /// Adds a hole if what was found does not reach this block.
    fn add_hole(&mut self, until: Option<BlockNumber>) {
        if let (Some(first), Some(until)) = (self.next(), until)
            && first < until
        {
            self.parts.push(Part {
                first,
                until: Some(until),
                previous: None,
                found: Found::Damaged(SegmentFault::Missing),
            });
        }
    }

    /// Looks at one segment, up to the one behind it or to the head.
    fn segment(
        &self,
        files: &dyn Files,
        first: BlockNumber,
        next: Option<BlockNumber>,
        interval: u64,
    ) -> Result<Part, OpenError> {
        let until = next.or(self.acknowledged.map(|info| info.height.next_block()));
        let damaged = |previous, fault| Part {
            first,
            until,
            previous,
            found: Found::Damaged(fault),
        };
        let last = until.and_then(BlockNumber::previous);
        let opened = match SegmentFile::open(files, &self.dir, first, last, &self.identity) {
            Ok(opened) => opened,
            Err(OpenError::DamagedSegment { damage }) => return Ok(damaged(None, damage.fault)),
            Err(OpenError::Io { source, .. }) => return Ok(damaged(None, unreadable(&source))),
            Err(error) => return Err(error),
        };
        let previous = Some(opened.preamble.previous);
        let walked = match until {
            Some(until) => walk(&opened, until, interval),
            None => walk_unbounded(&opened, interval),
        };
        let index = match walked {
            Walked::Good(index) => index,
            Walked::Bad(fault) => return Ok(damaged(previous, fault)),
        };
        if index.next == first && until.is_some_and(|until| until > first) {
            let fault = Fault {
                offset: index.end,
                number: first,
                fault: RecordFault::Incomplete,
            };
            let fault = SegmentFault::Record(damage(&opened.path, fault));
            return Ok(damaged(previous, fault));
        }
        let is_newest = next.is_none() && until == Some(index.next);
        let tip_hash = self.acknowledged.and_then(|info| info.tip_hash);
        let is_linked = self.links(first, opened.preamble.previous)
            && (next.is_none() || index.end == opened.length)
            && (!is_newest || tip_hash == index.last_hash);
        if !is_linked {
            return Ok(damaged(previous, SegmentFault::Unlinked));
        }
        Ok(Part {
            first,
            until: Some(index.next),
            previous,
            found: Found::Sound(Box::new(Segment {
                path: opened.path.into(),
                preamble: opened.preamble,
                index,
            })),
        })
    }

    /// Whether a segment that begins so goes on where the one before it ends, as far as that is known.
    fn links(&self, first: BlockNumber, previous: Option<HeaderHash>) -> bool {
        match self.parts.last().map(|part| (&part.found, part.until)) {
            Some((Found::Sound(before), until)) => {
                until == Some(first) && before.index.last_hash == previous
            }
            Some((Found::Damaged(_), _)) => true,
            // An older one may be left over, where the one that should be the oldest is missing.
            None => first < self.origin.first || previous == self.origin.previous,
        }
    }
}

/// The chain that is asked for, with what the head file knows of it.
fn asked(dir: &Path, chain: Identity, head: &Head) -> Result<Identity, OpenError> {
    let is_empty = head
        .info
        .is_some_and(|info| info.height.next_block() == head.identity.start);
    if is_empty {
        return Ok(chain);
    }
    check_identity(&dir::head_path(dir), &head.identity, &chain)?;
    Ok(Identity {
        genesis: chain.genesis.or(head.identity.genesis),
        ..chain
    })
}

/// The chain that the first segment is of whose beginning can be read.
fn of_segments(
    files: &dyn Files,
    dir: &Path,
    segments: &[BlockNumber],
) -> Result<Identity, OpenError> {
    for first in segments {
        let path = dir::segment_path(dir, *first);
        let mut bytes = [0; PREAMBLE_LEN];
        let read = files
            .open(&path)
            .and_then(|file| file.read_full_at(&mut bytes, 0));
        let read = read.map_err(OpenError::io("read the segment", &path))?;
        let bytes = bytes.get(..read).unwrap_or(&bytes);
        if let Ok(preamble) = Preamble::decode(Kind::Segment, bytes) {
            return Ok(preamble.identity);
        }
    }
    let dir = dir.to_owned();
    Err(match segments.is_empty() {
        true => OpenError::NoStore { dir },
        false => OpenError::NoHead {
            dir,
            reason: "cannot be read, nor can any segment",
        },
    })
}

/// Checks that the config blocks below the oldest block are good.
fn check_configs(dir: &Path, archive: Option<&Archive>) -> Result<(), OpenError> {
    let is_good = |archive: &Archive| {
        let mut read = archive.numbers().map(|number| archive.read(number));
        read.all(|read| read.is_some_and(|read| read.is_ok()))
    };
    match archive.is_none_or(is_good) {
        true => Ok(()),
        false => Err(OpenError::DamagedConfigs {
            path: dir::archive_path(dir),
            reason: "is damaged: the checksum of a block does not match",
        }),
    }
}
