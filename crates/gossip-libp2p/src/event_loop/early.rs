// SPDX-License-Identifier: Apache-2.0
//! Statuses that come before the subscription to their channel.

use std::{collections::BTreeMap, sync::Arc};

use block_api::ChannelStatus;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::topic::TopicId;

/// How many bytes the tips of such statuses may take, over all peers, in KiB.
pub(super) const TIPS: usize = 16 * 1024;

/// Of how many channels of one peer the tip is kept; of more, only the rest of the status is.
const TIPS_OF_ONE: usize = 64;

/// The statuses of one peer. Beside their tips, which are as long as a peer likes, they are small, and
/// there is one of each channel that was joined.
#[derive(Debug, Default)]
pub(super) struct Early {
    statuses: BTreeMap<TopicId, (ChannelStatus, Option<OwnedSemaphorePermit>)>,
}

impl Early {
    /// Keeps a status: with its tip if the peer may have the channel, and if there is room.
    pub(super) fn keep(
        &mut self,
        topic: TopicId,
        mut status: ChannelStatus,
        may_have: bool,
        room: &Arc<Semaphore>,
    ) {
        // What the one before it takes is free now.
        self.statuses.remove(&topic);
        let has_place = may_have && self.statuses.len() < TIPS_OF_ONE;
        let tip = status.tip.as_ref().filter(|_| has_place);
        let place = tip.and_then(|tip| {
            let units = u32::try_from(tip.raw().len().div_ceil(1024)).ok()?;
            room.clone().try_acquire_many_owned(units).ok()
        });
        if place.is_none() {
            status.tip = None;
        }
        self.statuses.insert(topic, (status, place));
    }

    pub(super) fn take(&mut self, topic: &TopicId) -> Option<ChannelStatus> {
        self.statuses.remove(topic).map(|(status, _)| status)
    }

    pub(super) fn clear(&mut self) {
        self.statuses.clear();
    }
}

#[cfg(test)]
mod tests {
    use block_api::{BlockNumber, Height, testing::TestChain};

    use super::*;

    fn status(bytes: usize) -> ChannelStatus {
        let tip = TestChain::of_blocks("ch", 1, 10).0.data(bytes);
        ChannelStatus {
            first: BlockNumber::GENESIS,
            height: Height::new(2),
            tip: Some(tip),
            pulling: false,
        }
    }

    fn topic(n: u8) -> TopicId {
        TopicId::new([n; 32])
    }

    #[test]
    fn tips_are_kept_of_those_who_may_and_while_there_is_room() {
        let room = Arc::new(Semaphore::new(10));
        let [mut one, mut other] = [Early::default(), Early::default()];
        one.keep(topic(1), status(6000), false, &room);
        assert_eq!(room.available_permits(), 10, "it has no right to it");
        let kept = one.take(&topic(1)).unwrap();
        assert!(kept.tip.is_none() && kept.height == Height::new(2));
        for _ in 0..3 {
            one.keep(topic(1), status(6000), true, &room);
        }
        other.keep(topic(1), status(6000), true, &room);
        assert!(other.take(&topic(1)).unwrap().tip.is_none(), "no room");
        assert!(one.take(&topic(1)).unwrap().tip.is_some());
        other.keep(topic(1), status(6000), true, &room);
        assert!(room.available_permits() < 10);
        other.clear();
        assert_eq!(room.available_permits(), 10);
    }

    #[test]
    fn tips_of_many_channels_of_one_are_not_kept() {
        let room = Arc::new(Semaphore::new(TIPS));
        let mut early = Early::default();
        for n in 0..100 {
            early.keep(topic(n), status(10), true, &room);
        }
        let mut took = (0..100).map(|n| early.take(&topic(n)).unwrap());
        assert_eq!(took.by_ref().filter(|one| one.tip.is_some()).count(), 64);
        assert_eq!(room.available_permits(), TIPS);
    }
}
