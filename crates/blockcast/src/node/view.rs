// SPDX-License-Identifier: Apache-2.0
//! How the channels of a node stand, for whoever looks from outside.

use std::{collections::BTreeMap, sync::Arc, time::SystemTime};

use block_api::{ChannelId, Clock};
use block_store::SegmentStore;
use bytes::Bytes;
use channel_config::ChannelVerifier;
use deliver_service::{ChannelState, DeliverService, Health, StuckReason};
use gossip_libp2p::Libp2pGossip;

/// What is looked at.
#[derive(Debug)]
pub(super) struct View {
    pub(super) service: DeliverService,
    pub(super) channels: BTreeMap<ChannelId, Seen>,
    /// The bytes of the node's identity.
    pub(super) identity: Bytes,
    pub(super) clock: Arc<dyn Clock>,
    /// The network among nodes, where it is the one that counts.
    pub(super) gossip: Option<Libp2pGossip>,
    /// How many blocks a channel may lack and be ready.
    pub(super) ready_lag: u64,
}

/// The parts of a channel that are looked at beside its state.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) store: SegmentStore,
    pub(super) verifier: ChannelVerifier,
}

impl View {
    /// How a channel stands; `None` when it is not one of the node's, or the node was stopped.
    pub(super) fn state(&self, channel: &ChannelId) -> Option<ChannelState> {
        let state = self.service.state(channel)?;
        Some(self.refined(channel, state))
    }

    /// How every channel stands that runs, in the order of their ids.
    pub(super) fn states(&self) -> BTreeMap<ChannelId, ChannelState> {
        let states = self.service.states().into_iter();
        states
            .map(|(channel, state)| {
                let state = self.refined(&channel, state);
                (channel, state)
            })
            .collect()
    }

    pub(super) fn now(&self) -> SystemTime {
        self.clock.now()
    }

    /// Orderers do not say why they refuse an identity; that it has expired can be seen from here.
    fn refined(&self, channel: &ChannelId, mut state: ChannelState) -> ChannelState {
        if let Health::Stuck { reason, .. } = &mut state.health
            && *reason == StuckReason::IdentityRefused
            && self.is_expired(channel)
        {
            *reason = StuckReason::IdentityExpired;
        }
        state
    }

    fn is_expired(&self, channel: &ChannelId) -> bool {
        let Some(seen) = self.channels.get(channel) else {
            return false;
        };
        let config = seen.verifier.config();
        let known = config.msps().identity(&self.identity);
        known.is_ok_and(|identity| identity.not_after() < self.now())
    }
}
