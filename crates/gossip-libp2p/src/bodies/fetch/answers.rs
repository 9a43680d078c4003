// SPDX-License-Identifier: Apache-2.0
//! What becomes of what the nodes say.

use std::collections::{BTreeMap, BTreeSet};

use block_api::{Block, DeliverStatus};
use libp2p::PeerId;
use tokio::time::Instant;
use tracing::{debug, info};

use super::{Fetch, Network, not_opened};
use crate::{
    bodies::{
        Hints,
        assembly::{False, check_chunk, check_hash},
        hints::CHUNK,
        link::Heard,
        making::Claim,
        scheduler::{Action, Ended},
    },
    error::OpenError,
    frames::FrameError,
    score::Offence,
};

impl<N: Network> Fetch<'_, N> {
    /// Takes what a node said.
    pub(super) fn heard(&mut self, peer: PeerId, answer: Heard) {
        let now = Instant::now();
        match answer {
            Heard::Opened => self.scheduler.opened(&peer, now),
            Heard::Offer(offer) => {
                let hints = offer.hints;
                let maker = hints.manifest.as_ref().map(|manifest| manifest.maker);
                if let Err(error) = hints.check(&self.id) {
                    info!(%peer, %error, "hints of a peer refused");
                    return self.ended(&peer, Ended::ForGood, Some(Offence::WrongBody));
                }
                if u64::from(hints.size) > self.max_size() {
                    self.too_large = Some(hints.size.into());
                    return self.ended(&peer, Ended::ForGood, None);
                }
                if maker.is_some_and(|maker| self.liars.contains(&maker)) {
                    return self.ended(&peer, Ended::Later, None);
                }
                let has_all = offer.have.is_full();
                let (id, has_manifest) = (hints.id(), hints.manifest.is_some());
                self.scheduler
                    .offered(&peer, id, has_manifest, offer.have, now);
                if let Some(link) = self.links.get_mut(&peer) {
                    link.hints = Some(hints);
                    link.has_all = has_all;
                }
            }
            Heard::Have(chunks) => self.scheduler.has(&peer, &chunks),
            Heard::Written(claim) => {
                let taken = self.written(&peer, claim);
                self.judge(&peer, taken);
            }
            Heard::Piece(at, bytes) => {
                let taken = self.piece(&peer, at, &bytes);
                self.judge(&peer, taken);
            }
            Heard::NotYet => self.ended(&peer, Ended::Later, None),
            Heard::End(status) => {
                // All of it, says who did not give as much as it said before.
                let is_false =
                    status == DeliverStatus::Success && self.scheduler.source() == Some(peer);
                let why = match status {
                    DeliverStatus::Success if is_false => Ended::ForGood,
                    DeliverStatus::NotFound | DeliverStatus::Forbidden => Ended::ForGood,
                    DeliverStatus::TooLarge => {
                        self.too_large = self.too_large.or(Some(self.max_size() + 1));
                        Ended::ForGood
                    }
                    DeliverStatus::Unavailable => Ended::Busy,
                    DeliverStatus::Success
                    | DeliverStatus::BadRequest
                    | DeliverStatus::InternalError
                    | DeliverStatus::NotImplemented
                    | DeliverStatus::Other(_)
                    | _ => Ended::Later,
                };
                self.ended(&peer, why, is_false.then_some(Offence::WrongBody));
            }
            Heard::Nonsense => self.ended(&peer, Ended::ForGood, Some(Offence::Malformed)),
            Heard::Broke(FrameError::Unsupported) => {
                self.heard(peer, not_opened(OpenError::Unsupported));
            }
            Heard::Broke(error) => {
                debug!(%peer, %error, "stream for a body broke off");
                self.ended(&peer, Ended::Later, None);
            }
        }
    }

    /// Holds a false piece against its sender.
    fn judge(&mut self, peer: &PeerId, taken: Result<(), False>) {
        if let Err(error) = taken {
            info!(%peer, block.number = %self.id.number, %error, "a false piece of a body");
            self.ended(peer, Ended::ForGood, Some(Offence::WrongBody));
        }
    }

    /// Takes a piece.
    ///
    /// # Errors
    ///
    /// When its sender is to blame.
    fn piece(&mut self, peer: &PeerId, at: usize, bytes: &[u8]) -> Result<(), False> {
        let now = Instant::now();
        let sent_by = self.links.get(peer).and_then(|link| link.hints.as_ref());
        let sent_by = sent_by.ok_or(False::Place)?;
        self.fetcher.bodies.hedges.came(bytes.len());
        self.fetcher.counters.body_bytes_came.add(bytes.len());
        let id = sent_by.id();
        let chunk = (at / CHUNK) as u32;
        let follows = |following: &&Hints| match following.manifest {
            Some(_) => following.id() == id,
            None => self.scheduler.source() == Some(*peer),
        };
        // Whoever is not followed is not held to what others said.
        let Some(following) = self.following.as_ref().filter(follows) else {
            self.unused(peer, chunk, now);
            return Ok(());
        };
        if following.manifest.is_none() {
            let put = self.guard.making().with(|body| body.put_next(at, bytes));
            put.unwrap_or(Ok(()))?;
            self.scheduler.came(peer, 0, bytes.len(), now);
            return Ok(());
        }
        if !at.is_multiple_of(CHUNK) {
            return Err(False::Place);
        }
        check_chunk(following, chunk, bytes)?;
        let put = self
            .guard
            .making()
            .with(|body| body.put_chunk(chunk, bytes));
        self.scheduler.came(peer, chunk, bytes.len(), now);
        if let Some(Err(error)) = put {
            self.disprove(error);
        }
        Ok(())
    }

    /// Nothing was done with what came: what belongs to it is of no use either.
    fn unused(&mut self, peer: &PeerId, chunk: u32, now: Instant) {
        if !self.scheduler.dropped(peer, chunk, now) {
            self.ended(peer, Ended::Later, None);
        }
    }

    /// Takes a piece that stands in its place.
    ///
    /// # Errors
    ///
    /// When its sender is to blame.
    fn written(&mut self, peer: &PeerId, claim: Claim) -> Result<(), False> {
        let (at, length, now) = (claim.at, claim.length, Instant::now());
        let sent_by = self.links.get(peer).and_then(|link| link.hints.as_ref());
        let sent_by = sent_by.ok_or(False::Place)?;
        self.fetcher.bodies.hedges.came(length);
        self.fetcher.counters.body_bytes_came.add(length);
        let Some(hash) = claim.hash() else {
            match claim.keep(|body| body.keep_next(at, length)) {
                Some(kept) => {
                    kept?;
                    self.scheduler.came(peer, 0, length, now);
                }
                None => self.unused(peer, 0, now),
            }
            return Ok(());
        };
        let chunk = (at / CHUNK) as u32;
        check_hash(sent_by, chunk, &hash)?;
        let Some(kept) = claim.keep(|body| body.keep_chunk(chunk)) else {
            self.unused(peer, chunk, now);
            return Ok(());
        };
        self.scheduler.came(peer, chunk, length, now);
        if let Err(error) = kept {
            self.disprove(error);
        }
        Ok(())
    }

    /// The chunks are those of the manifest, and are not the body.
    fn disprove(&mut self, error: False) {
        let Some(following) = self.following.clone() else {
            return;
        };
        let actions = self.scheduler.disproved(Instant::now());
        let members = self.fetcher.shared.members.borrow().clone();
        let mut to_blame = BTreeMap::new();
        let makers = following.manifest.iter().map(|manifest| manifest.maker);
        let mut makers: BTreeSet<PeerId> = makers.collect();
        for (peer, link) in &self.links {
            let hints = link.hints.as_ref();
            let told = hints.filter(|hints| hints.id() == following.id());
            let Some(manifest) = told.and_then(|hints| hints.manifest.as_ref()) else {
                continue;
            };
            makers.insert(manifest.maker);
            if !members.contains(&manifest.maker) {
                // A name can be made up: whoever told it answers for it, and for more than passing
                // on what it could not know where it did so again or said that it has all of it.
                let knew = link.has_all || self.scheduler.is_out(peer);
                to_blame.insert(
                    *peer,
                    match knew {
                        true => Offence::WrongBody,
                        false => Offence::Stalled,
                    },
                );
            }
        }
        for maker in makers {
            info!(%maker, block.number = %self.id.number, %error, "a false manifest");
            self.liars.insert(maker);
            if members.contains(&maker) {
                to_blame.insert(maker, Offence::WrongBody);
            }
        }
        for (peer, offence) in to_blame {
            self.fetcher.network.blame(peer, offence);
        }
        for action in actions {
            if let Action::Close { peer } = action {
                self.links.remove(&peer);
            }
        }
        self.abandon();
    }

    /// A node gives nothing more on its stream.
    pub(super) fn ended(&mut self, peer: &PeerId, why: Ended, offence: Option<Offence>) {
        self.links.remove(peer);
        if let Some(offence) = offence {
            self.fetcher.network.blame(*peer, offence);
        }
        let actions = self.scheduler.ended(peer, why, Instant::now());
        if actions.contains(&Action::Abandon) {
            self.abandon();
        }
    }

    /// The block, when all of it is there and true.
    pub(super) fn finish_if_whole(&mut self) -> Option<Block> {
        if !self.guard.making().is_whole() {
            return None;
        }
        let hints = self.following.clone()?;
        match self.guard.finish(hints.clone(), self.room.take())? {
            Ok(block) => {
                self.fetcher.counters.bodies_fetched.increment();
                Some(block)
            }
            Err(error) if hints.manifest.is_some() => {
                self.disprove(error);
                None
            }
            Err(error) => {
                if let Some(peer) = self.scheduler.source() {
                    info!(%peer, block.number = %self.id.number, %error, "a false body");
                    self.ended(&peer, Ended::ForGood, Some(Offence::WrongBody));
                }
                self.abandon();
                None
            }
        }
    }
}
