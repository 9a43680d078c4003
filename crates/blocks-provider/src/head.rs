// SPDX-License-Identifier: Apache-2.0
//! Blocks that somebody knows of, and what that is worth.

use std::sync::Mutex;

use block_api::{BlockNumber, Endpoint, HeaderHash, Height, Rejection};
use tokio::sync::Notify;

/// A block that somebody showed the header of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Its number.
    pub number: BlockNumber,
    /// Its header hash.
    pub hash: HeaderHash,
    /// What its header proves.
    pub evidence: Evidence,
    /// Who showed it: an orderer, or a node.
    pub from: Endpoint,
}

/// What a header proves, the least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Evidence {
    /// That one signer wants it believed: worth asking elsewhere, now and then.
    Hint,
    /// That there is such a block.
    Proven,
    /// The block is in the chain: another source has given it.
    Stored,
}

/// What a handler says of a header.
#[derive(Debug, Clone)]
pub enum HeaderVerdict {
    /// Its signatures prove that there is such a block: a quorum made them, or it links to the tip.
    Proven,
    /// They satisfy the channel's rules, which one signer can do, and it does not link to the tip.
    Hint,
    /// It breaks a rule.
    Rejected(Rejection),
    /// It cannot be judged yet.
    Unknown,
}

/// What was seen and not looked at yet: the highest of each kind, so that a flood of one kind
/// takes no room and hides none of the others.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    slots: Mutex<News>,
    arrived: Notify,
}

/// What an [`Inbox`] held.
#[derive(Debug, Default)]
pub(crate) struct News {
    /// How high the chain is by now.
    pub(crate) chain: Option<Height>,
    pub(crate) proven: Option<Head>,
    pub(crate) hint: Option<Head>,
}

impl Inbox {
    pub(crate) fn head(&self, head: Head) {
        self.put(|news| {
            let slot = match head.evidence {
                Evidence::Hint => &mut news.hint,
                Evidence::Proven | Evidence::Stored => &mut news.proven,
            };
            if slot.as_ref().is_none_or(|held| held.number < head.number) {
                *slot = Some(head);
            }
        });
    }

    pub(crate) fn chain(&self, height: Height) {
        self.put(|news| news.chain = news.chain.max(Some(height)));
    }

    pub(crate) fn take(&self) -> News {
        std::mem::take(&mut *self.lock())
    }

    /// Waits until something was put in.
    pub(crate) async fn arrived(&self) {
        self.arrived.notified().await;
    }

    fn put(&self, change: impl FnOnce(&mut News)) {
        change(&mut self.lock());
        self.arrived.notify_one();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, News> {
        self.slots
            .lock()
            .expect("invariant: no holder of this lock panics")
    }
}
