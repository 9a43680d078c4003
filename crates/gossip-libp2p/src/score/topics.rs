// SPDX-License-Identifier: Apache-2.0
//! gossipsub's own scoring, set for nodes that know each other.
//!
//! It keeps no score by topic. It would go through all of a peer's topics whenever it asks for a score,
//! which it does for each topic at each heartbeat: with thousands of channels there is time for nothing
//! else. What a peer sends that is refused is held against it over all channels, and told from here.
//!
//! Nothing earns credit, so that nobody saves any up for an attack: every member begins with the same
//! and can only lose. Below zero a peer is no longer in the mesh of any topic, and hears by IHAVE.

use std::time::Duration;

use libp2p::gossipsub::{PeerScoreParams, PeerScoreThresholds};

/// What a member begins with: a few messages of it may be refused before it leaves the mesh.
const CREDIT: f64 = 20.0;

/// The scores of a node over all topics; `memory` is how long that of a node is kept which hung up.
pub(crate) fn params(memory: Duration) -> PeerScoreParams {
    PeerScoreParams {
        topic_score_cap: 0.0,
        app_specific_weight: 1.0,
        // Many nodes of one organisation may stand behind one address.
        ip_colocation_factor_weight: 0.0,
        // Promises that are not kept, and grafting in the time for backing off. A node that was pruned
        // and starts again knows of no such time and grafts in every channel at once, so that this
        // weighs little and is forgotten within seconds.
        behaviour_penalty_weight: -0.1,
        behaviour_penalty_threshold: 16.0,
        behaviour_penalty_decay: 0.5,
        decay_interval: Duration::from_secs(1),
        retain_score: memory,
        // A slow link is no offence; what does not get through is learned of by status.
        slow_peer_weight: 0.0,
        ..PeerScoreParams::default()
    }
}

/// A peer is banned, visibly, before it comes down to the last of these.
pub(crate) fn thresholds() -> PeerScoreThresholds {
    PeerScoreThresholds {
        gossip_threshold: -50.0,
        publish_threshold: -100.0,
        graylist_threshold: -1000.0,
        // Nodes learn of each other by another way, and dial nobody whom a prune names.
        accept_px_threshold: f64::MAX,
        opportunistic_graft_threshold: 0.0,
    }
}

/// What a node against which so many points are held brings along.
pub(crate) fn application_score(points: u32) -> f64 {
    CREDIT - f64::from(points)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// gossipsub refuses what it does not take, and a score for a quiet peer is never negative.
    #[test]
    fn the_parameters_hold_together_and_silence_costs_nothing() {
        let params = params(Duration::from_secs(600));
        assert_eq!(params.validate(), Ok(()));
        assert_eq!(thresholds().validate(), Ok(()));
        let for_silence = [params.ip_colocation_factor_weight, params.slow_peer_weight];
        assert_eq!(for_silence, [0.0; 2]);
        assert!(application_score(0) > 0.0 && application_score(25) < 0.0);
    }

    /// What is refused of a peer takes it out of the mesh before it is banned, and bans it before it
    /// is not listened to.
    #[test]
    fn the_steps_come_in_order() {
        let score = |refused: u32| application_score(refused * 5);
        assert!(score(2) > 0.0, "a slip costs no place in a mesh");
        assert!(score(5) < 0.0);
        assert!(score(20) > thresholds().graylist_threshold);
    }
}
