// SPDX-License-Identifier: Apache-2.0
//! Logs how the channels of a node do, whenever that changes.

use std::{collections::BTreeMap, convert::Infallible, time::Duration};

use block_api::ChannelId;
use blockcast::{Health, Node};
use tokio::time::sleep;
use tracing::{info, warn};

/// How often the channels are looked at: all of them by one timer.
const INTERVAL: Duration = Duration::from_secs(2);
/// Whoever lacks blocks for less time is as good as at the tip: between a proof and its block there is
/// always a moment.
const WORTH_TELLING: Duration = Duration::from_secs(5);

/// Logs changes of health until it is dropped.
pub(crate) async fn run(node: &Node) -> Infallible {
    let mut told = BTreeMap::new();
    loop {
        for (channel, health) in node.health() {
            if changes(&mut told, &channel, &health) {
                match health.is_well() {
                    true => info!(%channel, %health, "health"),
                    false => warn!(%channel, %health, "the channel is stuck"),
                }
            }
        }
        sleep(INTERVAL).await;
    }
}

/// Notes a health, and says whether it is another one than before.
fn changes(
    told: &mut BTreeMap<ChannelId, &'static str>,
    channel: &ChannelId,
    health: &Health,
) -> bool {
    let now = match health {
        Health::Stuck { reason, .. } => reason.as_str(),
        Health::CatchingUp { behind, .. } if *behind < WORTH_TELLING => Health::AtTip.as_str(),
        Health::AtTip | Health::Connecting | Health::CatchingUp { .. } | _ => health.as_str(),
    };
    told.insert(channel.clone(), now) != Some(now)
}

#[cfg(test)]
mod tests {
    use blockcast::StuckReason;

    use super::*;

    #[test]
    fn only_changes_are_told() {
        let (mut told, channel) = (BTreeMap::new(), "ch".parse().unwrap());
        let stuck = |reason| Health::Stuck {
            reason,
            detail: None,
        };
        let catching_up = |seconds| Health::CatchingUp {
            blocks: 3,
            behind: Duration::from_secs(seconds),
        };
        let number = block_api::BlockNumber::new;
        let rows = [
            (Health::Connecting, true),
            (Health::Connecting, false),
            (Health::AtTip, true),
            (catching_up(1), false),
            (catching_up(6), true),
            (catching_up(9), false),
            (stuck(StuckReason::NoQuorum), true),
            (stuck(StuckReason::NoQuorum), false),
            (stuck(StuckReason::IdentityRefused), true),
            (stuck(StuckReason::Withheld { number: number(3) }), true),
            (stuck(StuckReason::Withheld { number: number(4) }), false),
            (Health::AtTip, true),
        ];
        for (health, expected) in rows {
            assert_eq!(changes(&mut told, &channel, &health), expected, "{health}");
        }
    }
}
