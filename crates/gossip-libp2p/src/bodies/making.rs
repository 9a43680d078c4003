// SPDX-License-Identifier: Apache-2.0
//! A body in the making, as those see it who want it from this node.

use std::{
    collections::BTreeSet,
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use futures::AsyncRead;
use libp2p::PeerId;
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use crate::bodies::{
    Bits, Hints,
    assembly::{Assembly, False},
    hints::CHUNK,
    hints::HintsId,
    shelf::Held,
};

/// How much is read at once of what is not kept.
const SCRAP: usize = 16 * 1024;

/// A body that comes.
#[derive(Debug, Default)]
pub(crate) struct Making {
    stage: Mutex<Stage>,
    /// Grows with whatever comes.
    changed: watch::Sender<u64>,
}

/// A piece of a body that is read from a link straight to its place.
#[derive(Debug)]
pub(crate) struct Claim {
    making: Arc<Making>,
    mark: Arc<()>,
    pub(crate) at: usize,
    pub(crate) length: usize,
    /// Of what came, where it is a chunk of a manifest.
    hash: Option<Sha256>,
    /// For what need not be kept any more.
    scrap: Vec<u8>,
}

/// What can be given of a body that comes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Givable {
    /// Nothing yet.
    Nothing,
    /// These chunks, by these hints.
    Chunks(Hints, Bits),
    /// It is whole.
    Whole,
    /// It does not come any more.
    Gone,
}

#[derive(Debug)]
enum Stage {
    /// Nodes were asked for it that gave no hints yet.
    Asking(BTreeSet<PeerId>),
    Coming(Box<Assembly>),
    Whole(Arc<Held>),
    Gone,
}

impl Making {
    /// Begins to put it together.
    pub(crate) fn assemble(&self, assembly: Assembly) {
        self.turn(Stage::Coming(Box::new(assembly)));
    }

    /// These nodes are asked, and what came until then is thrown away.
    pub(crate) fn ask(&self, nodes: BTreeSet<PeerId>) {
        let is_same = matches!(&*self.stage(), Stage::Asking(asked) if *asked == nodes);
        if !is_same {
            self.turn(Stage::Asking(nodes));
        }
    }

    /// Works on what is there; `None` when nothing is.
    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut Assembly) -> T) -> Option<T> {
        let mut stage = self.stage();
        let Stage::Coming(assembly) = &mut *stage else {
            return None;
        };
        let done = work(assembly);
        drop(stage);
        self.notify();
        Some(done)
    }

    /// The right to write a piece to its place, for a link that told these hints, once it is decided
    /// which ones are followed. `None` when it has to be kept elsewhere.
    pub(crate) async fn claim(
        self: &Arc<Self>,
        link: u64,
        hints: HintsId,
        (at, length): (usize, usize),
    ) -> Option<Claim> {
        let mut changes = self.changes();
        loop {
            changes.borrow_and_update();
            match &mut *self.stage() {
                Stage::Asking(_) => {}
                Stage::Coming(assembly) => {
                    return assembly.claim(link, hints, at, length).then(|| Claim {
                        making: self.clone(),
                        mark: assembly.mark().clone(),
                        at,
                        length,
                        hash: assembly.hints().manifest.is_some().then(Sha256::new),
                        scrap: Vec::new(),
                    });
                }
                Stage::Whole(_) | Stage::Gone => return None,
            }
            changes.changed().await.ok()?;
        }
    }

    /// Whether all of it came.
    pub(crate) fn is_whole(&self) -> bool {
        matches!(&*self.stage(), Stage::Coming(assembly) if assembly.is_whole())
    }

    /// Makes of what came what is held, without a moment in which others find neither; `None` when
    /// nothing came, and nothing of it is left when it was false.
    pub(crate) fn finish(
        &self,
        finish: impl FnOnce(Assembly) -> Result<Arc<Held>, False>,
    ) -> Option<Result<Arc<Held>, False>> {
        let mut stage = self.stage();
        let finished = match std::mem::take(&mut *stage) {
            Stage::Coming(assembly) => finish(*assembly),
            other @ (Stage::Asking(_) | Stage::Whole(_) | Stage::Gone) => {
                *stage = other;
                return None;
            }
        };
        if let Ok(held) = &finished {
            *stage = Stage::Whole(held.clone());
        }
        drop(stage);
        self.notify();
        Some(finished)
    }

    pub(crate) fn give_up(&self) {
        if !matches!(&*self.stage(), Stage::Whole(_)) {
            self.turn(Stage::Gone);
        }
    }

    /// To hear of changes.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    pub(crate) fn givable(&self) -> Givable {
        match &*self.stage() {
            Stage::Asking(_) => Givable::Nothing,
            // Without a manifest nothing is known to be true before all of it is there.
            Stage::Coming(assembly) if assembly.hints().manifest.is_none() => Givable::Nothing,
            Stage::Coming(assembly) => {
                Givable::Chunks(assembly.hints().clone(), assembly.done().clone())
            }
            Stage::Whole(_) => Givable::Whole,
            Stage::Gone => Givable::Gone,
        }
    }

    pub(crate) fn held(&self) -> Option<Arc<Held>> {
        match &*self.stage() {
            Stage::Whole(held) => Some(held.clone()),
            Stage::Asking(_) | Stage::Coming(_) | Stage::Gone => None,
        }
    }

    /// Whether this node waits for the word of that one, which must not wait for this one then.
    pub(crate) fn waits_for(&self, peer: &PeerId) -> bool {
        matches!(&*self.stage(), Stage::Asking(asked) if asked.contains(peer))
    }

    /// Copies data of a chunk that is there by these hints. `false` when it is there no longer: what
    /// came by others meanwhile is not what was offered.
    pub(crate) fn copy(&self, hints: &Hints, at: usize, length: usize, out: &mut Vec<u8>) -> bool {
        let stage = self.stage();
        let chunk = (at / CHUNK) as u32;
        let data = match &*stage {
            Stage::Coming(assembly)
                if assembly.hints().agree_with(hints) && assembly.done().contains(chunk) =>
            {
                assembly.data(at, length)
            }
            Stage::Whole(held) if held.is_by(hints) => {
                held.data().get(at..at.saturating_add(length))
            }
            Stage::Coming(_) | Stage::Whole(_) | Stage::Asking(_) | Stage::Gone => None,
        };
        out.clear();
        data.map(|data| out.extend_from_slice(data)).is_some()
    }

    /// Works on the body that has this mark.
    fn with_marked<T>(&self, mark: &Arc<()>, work: impl FnOnce(&mut Assembly) -> T) -> Option<T> {
        match &mut *self.stage() {
            Stage::Coming(assembly) if Arc::ptr_eq(assembly.mark(), mark) => Some(work(assembly)),
            Stage::Asking(_) | Stage::Coming(_) | Stage::Whole(_) | Stage::Gone => None,
        }
    }

    fn turn(&self, stage: Stage) {
        *self.stage() = stage;
        self.notify();
    }

    fn notify(&self) {
        self.changed.send_modify(|version| *version += 1);
    }

    fn stage(&self) -> MutexGuard<'_, Stage> {
        // A body that a panic left half written does not have its hash.
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Claim {
    /// Reads from the link what comes next. What cannot be used any more is read all the same, for
    /// more comes behind it.
    pub(crate) fn poll_read<R: AsyncRead>(
        &mut self,
        mut stream: Pin<&mut R>,
        cx: &mut Context<'_>,
        have: usize,
    ) -> Poll<io::Result<usize>> {
        let Self {
            making,
            mark,
            at,
            length,
            hash,
            scrap,
        } = self;
        let mut read = |place: &mut [u8]| {
            let count = ready!(stream.as_mut().poll_read(cx, place))?;
            if let Some(hash) = hash {
                // While it is at hand.
                hash.update(place.get(..count).unwrap_or_default());
            }
            Poll::Ready(Ok(count))
        };
        let straight = making.with_marked(mark, |assembly| {
            assembly.place(*at, have, *length).map(&mut read)
        });
        straight.flatten().unwrap_or_else(|| {
            scrap.resize(SCRAP.min(*length - have), 0);
            read(scrap)
        })
    }

    /// The hash of the chunk, when all of it came.
    pub(crate) fn hash(&self) -> Option<[u8; 32]> {
        self.hash.clone().map(|hash| hash.finalize().into())
    }

    /// Works on the body for which it came; `None` when that was given up.
    pub(crate) fn keep<T>(self, work: impl FnOnce(&mut Assembly) -> T) -> Option<T> {
        let done = self.making.with_marked(&self.mark, work);
        self.making.notify();
        done
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let at = self.at;
        self.making
            .with_marked(&self.mark, |assembly| assembly.release(at));
    }
}

impl Default for Stage {
    fn default() -> Self {
        Self::Asking(BTreeSet::new())
    }
}
