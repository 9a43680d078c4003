// SPDX-License-Identifier: Apache-2.0
//! What streams hold that they read ahead: counted for all of them together, and for those of one
//! connection, so that a client that takes nothing does not keep all of it for itself.

use std::{
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

/// One connection may hold this part of what all streams may read ahead, and one batch in any case.
const PART: usize = 8;

/// The bytes that are held of a limit.
#[derive(Debug, Clone, Default)]
struct Held(Arc<AtomicUsize>);

/// Bytes that are held, until this is dropped.
#[derive(Debug)]
struct Hold {
    of: Held,
    bytes: usize,
}

/// What the streams of a connection hold. [`serve_connection`](crate::serve_connection) puts it among
/// the extensions of every request.
#[derive(Debug, Clone, Default)]
pub(crate) struct ConnectionAhead(Held);

/// The limits of a server, and what is held of them.
#[derive(Debug)]
pub(crate) struct Ahead {
    all: Held,
    limit: usize,
    of_one: usize,
    batch: NonZeroUsize,
}

/// The right to hold a batch.
#[derive(Debug)]
pub(crate) struct Permit {
    _of_all: Hold,
    _of_one: Hold,
}

impl Ahead {
    /// So many bytes for all streams, in batches of so many. A batch is never larger than all of it:
    /// nobody could ever hold it.
    pub(crate) fn new(limit: NonZeroUsize, batch: NonZeroUsize) -> Self {
        let batch = batch.min(limit);
        Self {
            all: Held::default(),
            limit: limit.get(),
            of_one: (limit.get() / PART).max(batch.get()),
            batch,
        }
    }

    /// So many bytes are read ahead for a stream at most.
    pub(crate) fn batch(&self) -> NonZeroUsize {
        self.batch
    }

    /// The right to hold one batch more on a connection, if there is room for it.
    pub(crate) fn permit(&self, connection: &ConnectionAhead) -> Option<Permit> {
        let bytes = self.batch.get();
        Some(Permit {
            _of_one: connection.0.take(bytes, self.of_one)?,
            _of_all: self.all.take(bytes, self.limit)?,
        })
    }
}

impl Held {
    fn take(&self, bytes: usize, limit: usize) -> Option<Hold> {
        let more = |held: usize| held.checked_add(bytes).filter(|held| *held <= limit);
        self.0.fetch_update(Relaxed, Relaxed, more).ok()?;
        Some(Hold {
            of: self.clone(),
            bytes,
        })
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.of.0.fetch_sub(self.bytes, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ahead(limit: usize, batch: usize) -> Ahead {
        Ahead::new(limit.try_into().unwrap(), batch.try_into().unwrap())
    }

    fn take_all(ahead: &Ahead, connection: &ConnectionAhead) -> Vec<Permit> {
        std::iter::from_fn(|| ahead.permit(connection)).collect()
    }

    #[test]
    fn one_connection_does_not_hold_all() {
        let ahead = ahead(100, 5);
        let (one, other) = (ConnectionAhead::default(), ConnectionAhead::default());
        let mut held = take_all(&ahead, &one);
        assert_eq!(held.len(), 2, "of an eighth, whole batches");
        assert_eq!(take_all(&ahead, &other).len(), 2);
        held.pop();
        assert_eq!(take_all(&ahead, &one).len(), 1);
        drop(held);
        assert_eq!(take_all(&ahead, &one).len(), 2);
    }

    #[test]
    fn all_connections_together_hold_no_more_than_there_is() {
        let ahead = ahead(100, 5);
        let held: Vec<_> = (0..20)
            .flat_map(|_| take_all(&ahead, &ConnectionAhead::default()))
            .collect();
        assert_eq!(held.len(), 20);
        let late = ConnectionAhead::default();
        assert!(ahead.permit(&late).is_none());
        drop(held);
        // What was refused is not counted as held.
        assert_eq!(take_all(&ahead, &late).len(), 2);
    }

    #[test]
    fn a_batch_is_no_larger_than_what_there_is() {
        let ahead = ahead(3, 5);
        assert_eq!(ahead.batch().get(), 3);
        assert_eq!(take_all(&ahead, &ConnectionAhead::default()).len(), 1);
    }
}
