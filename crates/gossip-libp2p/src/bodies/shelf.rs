// SPDX-License-Identifier: Apache-2.0
//! The bodies that this node has at hand: those in the making, recent ones, and those that are
//! being read from the store.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

use block_api::{Block, BlockReader, DataHashing, Height, ReadError, ReadLimits};
use bytes::Bytes;
use futures::FutureExt as _;
use libp2p::PeerId;
use tokio::{
    sync::{OnceCell, OwnedSemaphorePermit, Semaphore, watch},
    task::spawn_blocking,
    time::Instant,
};

use crate::{
    Keypair,
    bodies::{BodyId, Hints, assembly::False, hedges::Hedges, making::Making},
    topic::TopicId,
};

/// For how long a body is kept that is in the store: those who pull it come at once.
const RECENT: Duration = Duration::from_secs(3);

/// How many bytes of bodies are kept, the newest one aside.
const RECENT_BYTES: usize = 16 * 1024 * 1024;

/// What bodies take of the room for them is counted in units of so many bytes.
const UNIT: usize = 1024;

/// How many bodies one peer is asked for at a time: far fewer than it may refuse, or hold against
/// this node.
const LINKS: usize = 32;

/// What blocks of the store take of the room that there is for them, on top of that for bodies, is
/// at most one part in so many of that; and those read for one peer half of it.
const STORE_SHARE: usize = 4;

/// The bodies of all channels of a node.
#[derive(Debug)]
pub(crate) struct Bodies {
    key: Keypair,
    state: Mutex<State>,
    /// Grows whenever a body begins to come, came, or was given up.
    changed: watch::Sender<u64>,
    room: Arc<Semaphore>,
    /// For blocks of the store that are given to somebody.
    store_room: Arc<Semaphore>,
    loans: Arc<Mutex<BTreeMap<PeerId, u32>>>,
    store_units: u32,
    /// One block at a time is read from the stores.
    loading: tokio::sync::Mutex<()>,
    pub(crate) hedges: Arc<Hedges>,
}

/// A body that is whole.
#[derive(Debug)]
pub(crate) struct Held {
    block: Block,
    data: Bytes,
    hints: OnceCell<Hints>,
    /// What it takes of the room, together with other forms of the same block.
    room: Option<Arc<OwnedSemaphorePermit>>,
    /// The same of a block of the store.
    loan: Option<Arc<Loan>>,
}

/// What a block of the store takes of the room for them, for the peer that asked for it first.
#[derive(Debug)]
struct Loan {
    peer: PeerId,
    units: u32,
    loans: Arc<Mutex<BTreeMap<PeerId, u32>>>,
    _room: OwnedSemaphorePermit,
}

/// A call to fetch a body.
pub(crate) enum Begun {
    /// It is here.
    Held(Arc<Held>),
    /// It is for the caller to bring it.
    Mine(Guard),
    /// Another caller brings it.
    Others,
}

/// What there is of a body.
pub(crate) enum Found {
    Held(Arc<Held>),
    Making(Arc<Making>),
    Nothing,
}

/// Why a block of the store is not given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotLoaded {
    /// It is pruned, or another one has its number.
    NotThere,
    /// There is no room for it, or the store does not give it now.
    NotNow,
}

/// The right to bring a body; who drops it gives the body up.
#[derive(Debug)]
pub(crate) struct Guard {
    bodies: Arc<Bodies>,
    id: BodyId,
    making: Arc<Making>,
}

#[derive(Debug, Default)]
struct State {
    making: BTreeMap<BodyId, Arc<Making>>,
    recent: BTreeMap<BodyId, Recent>,
    /// Every body that somebody still works with.
    known: BTreeMap<BodyId, Weak<Held>>,
    /// How many streams for bodies may be opened to each peer, where there are any.
    links: BTreeMap<PeerId, Arc<Semaphore>>,
    /// By which rule the data of a channel is hashed, where it is not the usual one.
    hashing: BTreeMap<TopicId, DataHashing>,
}

#[derive(Debug)]
struct Recent {
    held: Arc<Held>,
    since: Instant,
}

impl Bodies {
    /// With room for so many bytes.
    pub(crate) fn new(key: Keypair, max_bytes: usize) -> Arc<Self> {
        let room = (max_bytes / UNIT).min(Semaphore::MAX_PERMITS);
        // A block that is longer takes all of it.
        let store_units = units(max_bytes / STORE_SHARE);
        Arc::new(Self {
            key,
            state: Mutex::default(),
            changed: watch::Sender::new(0),
            room: Arc::new(Semaphore::new(room)),
            store_room: Arc::new(Semaphore::new(store_units as usize)),
            loans: Arc::default(),
            store_units,
            loading: tokio::sync::Mutex::default(),
            hedges: Arc::default(),
        })
    }

    /// Takes on bringing a body, if nobody has.
    pub(crate) fn begin(self: &Arc<Self>, id: BodyId) -> Begun {
        let mut state = self.state();
        if let Some(held) = state.held(&id) {
            return Begun::Held(held);
        }
        if state.making.contains_key(&id) {
            return Begun::Others;
        }
        let making = Arc::new(Making::default());
        state.making.insert(id, making.clone());
        drop(state);
        self.notify();
        Begun::Mine(Guard {
            bodies: self.clone(),
            id,
            making,
        })
    }

    /// What there is of a body.
    pub(crate) fn find(&self, id: &BodyId) -> Found {
        let state = self.state();
        if let Some(held) = state.held(id) {
            return Found::Held(held);
        }
        match state.making.get(id) {
            Some(making) => Found::Making(making.clone()),
            None => Found::Nothing,
        }
    }

    /// To hear of changes.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// The right to ask a peer for one body more; `None` while it is asked for enough.
    pub(crate) fn link(&self, peer: PeerId) -> Option<OwnedSemaphorePermit> {
        let mut state = self.state();
        state
            .links
            .retain(|_, links| links.available_permits() < LINKS);
        let links = state.links.entry(peer);
        let links = links.or_insert_with(|| Arc::new(Semaphore::new(LINKS)));
        links.clone().try_acquire_owned().ok()
    }

    /// Keeps a block that others are about to pull. It takes the place of the one that came: the
    /// caller has it in memory anyhow, and nobody else needs the other one.
    pub(crate) fn keep(&self, id: BodyId, block: &Block) {
        let Some(data) = block.data_bytes() else {
            return;
        };
        let here = self.state().held(&id);
        if let Some(here) = here {
            let hints = here.hints.get().filter(|hints| match &hints.manifest {
                Some(_) => here.data == data,
                None => hints.size as usize == data.len(),
            });
            let held = Held {
                hints: OnceCell::new_with(hints.cloned()),
                loan: here.loan.clone(),
                ..Held::new(block.clone(), data, here.room.clone())
            };
            return self.insert(id, Arc::new(held));
        }
        // Without room it is read from the store.
        let Some(room) = self.try_room(data.len()) else {
            return;
        };
        self.insert(
            id,
            Arc::new(Held::new(block.clone(), data, Some(room.into()))),
        );
    }

    /// Reads a block from the store for a peer, once for all who want it at that time.
    ///
    /// # Errors
    ///
    /// When it is not there, or cannot be had now: what a requester is told of the two differs, as
    /// whoever does not have a block is not asked again.
    pub(crate) async fn load(
        &self,
        id: &BodyId,
        reader: &dyn BlockReader,
        peer: PeerId,
    ) -> Result<Arc<Held>, NotLoaded> {
        let _one = self.loading.lock().await;
        if let Some(held) = self.state().held(id) {
            return Ok(held);
        }
        let read = reader.read(id.number, ReadLimits::one()).await;
        let blocks = read.map_err(|error| match error {
            ReadError::Gone { .. } => NotLoaded::NotThere,
            ReadError::Storage { .. } | ReadError::Closed | _ => NotLoaded::NotNow,
        })?;
        let raw = blocks.into_iter().next().ok_or(NotLoaded::NotThere)?;
        let block = Block::parse(raw).map_err(|_| NotLoaded::NotNow)?;
        if block.header_hash() != id.hash {
            return Err(NotLoaded::NotThere);
        }
        let data = block.data_bytes().ok_or(NotLoaded::NotThere)?;
        let loan = self.lend(peer, data.len()).ok_or(NotLoaded::NotNow)?;
        let held = Arc::new(Held {
            loan: Some(loan.into()),
            ..Held::new(block, data, None)
        });
        self.state().know(*id, &held);
        Ok(held)
    }

    /// Room for a block of the store. Whoever has none lent may have one of any length.
    fn lend(&self, peer: PeerId, bytes: usize) -> Option<Loan> {
        let units = units(bytes).min(self.store_units);
        let mut loans = self.loans.lock().unwrap_or_else(PoisonError::into_inner);
        let lent = loans.get(&peer).copied().unwrap_or_default();
        if lent > 0 && lent.saturating_add(units) > self.store_units / 2 {
            return None;
        }
        let room = self.store_room.clone().try_acquire_many_owned(units).ok()?;
        loans.insert(peer, lent + units);
        Some(Loan {
            peer,
            units,
            loans: self.loans.clone(),
            _room: room,
        })
    }

    /// By which rule the data of a channel is hashed.
    pub(crate) fn hashing(&self, topic: &TopicId) -> DataHashing {
        let hashing = self.state().hashing.get(topic).copied();
        hashing.unwrap_or_default()
    }

    /// The hints for a body that is here.
    pub(crate) async fn hints(&self, id: &BodyId, held: &Held) -> Hints {
        let make = || async {
            let (id, data, key) = (*id, held.data.clone(), self.key.clone());
            // Hashing a long body takes longer than a task may.
            let made = spawn_blocking(move || Hints::make(&id, &data, &key)).await;
            made.unwrap_or(Hints {
                size: 0,
                manifest: None,
            })
        };
        held.hints.get_or_init(make).await.clone()
    }

    /// Lets go of what is in the stores of the channels and was not just published.
    pub(crate) fn sweep(&self, now: Instant, height: impl Fn(&TopicId) -> Option<Height>) {
        let mut state = self.state();
        let is_stored =
            |id: &BodyId| height(&id.topic).is_none_or(|height| height.next_block() > id.number);
        state
            .recent
            .retain(|id, recent| now - recent.since < RECENT || !is_stored(id));
    }

    /// Waits for room; kept bodies make it. Who waits first has it first.
    async fn room(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let mut changes = self.changes();
        let free = self.room.clone().acquire_many_owned(units(bytes));
        tokio::pin!(free);
        loop {
            changes.borrow_and_update();
            loop {
                if let Some(room) = free.as_mut().now_or_never() {
                    return room.ok();
                }
                if !self.let_go() {
                    break;
                }
            }
            tokio::select! {
                room = &mut free => return room.ok(),
                // What came meanwhile may be let go of.
                _ = changes.changed() => {}
            }
        }
    }

    fn try_room(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        loop {
            if let Ok(room) = self.room.clone().try_acquire_many_owned(units(bytes)) {
                return Some(room);
            }
            if !self.let_go() {
                return None;
            }
        }
    }

    /// Lets go of the oldest body that is kept; `false` when there is none.
    fn let_go(&self) -> bool {
        let mut state = self.state();
        let oldest = state.oldest();
        oldest.is_some_and(|oldest| state.recent.remove(&oldest).is_some())
    }

    fn insert(&self, id: BodyId, held: Arc<Held>) {
        let since = Instant::now();
        let mut state = self.state();
        state.know(id, &held);
        state.recent.remove(&id);
        while state.recent_bytes() > RECENT_BYTES
            && let Some(oldest) = state.oldest()
        {
            state.recent.remove(&oldest);
        }
        state.recent.insert(id, Recent { held, since });
        drop(state);
        self.notify();
    }

    fn notify(&self) {
        self.changed.send_modify(|version| *version += 1);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Whatever a panic left behind is only what is at hand.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn held(&self, id: &BodyId) -> Option<Arc<Held>> {
        self.known.get(id).and_then(Weak::upgrade)
    }

    fn oldest(&self) -> Option<BodyId> {
        let oldest = self.recent.iter().min_by_key(|(_, recent)| recent.since);
        oldest.map(|(id, _)| *id)
    }

    fn recent_bytes(&self) -> usize {
        let bytes = self.recent.values().map(|recent| recent.held.data.len());
        bytes.sum()
    }

    fn know(&mut self, id: BodyId, held: &Arc<Held>) {
        self.known.retain(|_, held| held.strong_count() > 0);
        self.known.insert(id, Arc::downgrade(held));
    }
}

impl Guard {
    pub(crate) fn making(&self) -> &Arc<Making> {
        &self.making
    }

    /// Room for a body, where there is some at once.
    pub(crate) fn try_room(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        self.bodies.try_room(bytes)
    }

    /// Waits for room for a body.
    pub(crate) async fn room(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        self.bodies.room(bytes).await
    }

    /// Makes a block of what came, if it is true; `None` when nothing came.
    pub(crate) fn finish(
        &self,
        hints: Hints,
        room: Option<OwnedSemaphorePermit>,
    ) -> Option<Result<Block, False>> {
        let topic = self.id.topic;
        let hashing = self.bodies.hashing(&topic);
        let finished = self.making.finish(|assembly| {
            let (block, by) = assembly.finish(hashing)?;
            if by != hashing {
                self.bodies.state().hashing.insert(topic, by);
            }
            let data = block.data_bytes().unwrap_or_default();
            Ok(Arc::new(Held {
                hints: OnceCell::new_with(Some(hints)),
                ..Held::new(block, data, room.map(Arc::new))
            }))
        });
        Some(finished?.map(|held| {
            self.bodies.insert(self.id, held.clone());
            held.block.clone()
        }))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.bodies.state().making.remove(&self.id);
        self.making.give_up();
        self.bodies.notify();
    }
}

impl Held {
    fn new(block: Block, data: Bytes, room: Option<Arc<OwnedSemaphorePermit>>) -> Self {
        Self {
            block,
            data,
            hints: OnceCell::new(),
            room,
            loan: None,
        }
    }

    pub(crate) fn data(&self) -> &Bytes {
        &self.data
    }

    /// Whether the hints by which it came, or that were made for it, say the same as these.
    pub(crate) fn is_by(&self, hints: &Hints) -> bool {
        let own = self.hints.get();
        own.is_some_and(|own| own.agree_with(hints))
    }

    /// The block with the header and the signatures of this announcement.
    pub(crate) fn block_of(&self, announcement: &Block) -> Option<Block> {
        if self.block.signatures_slot() == announcement.signatures_slot() {
            return Some(self.block.without_extras());
        }
        let (head, tail) = announcement.around_data(self.data.len());
        Block::parse([head.as_slice(), &self.data, &tail].concat().into()).ok()
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        let mut loans = self.loans.lock().unwrap_or_else(PoisonError::into_inner);
        let left = loans.get(&self.peer).map(|lent| lent - self.units);
        match left {
            Some(left) if left > 0 => drop(loans.insert(self.peer, left)),
            Some(_) | None => drop(loans.remove(&self.peer)),
        }
    }
}

fn units(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT).max(1)).unwrap_or(u32::MAX)
}
