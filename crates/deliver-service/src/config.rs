// SPDX-License-Identifier: Apache-2.0
//! Bounds and patience of the intake.

use std::{num::NonZeroUsize, time::Duration};

/// The settings of a [`DeliverService`](crate::DeliverService); every one but
/// [`total_buffer_bytes`](Self::total_buffer_bytes) holds for each channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Bytes of blocks that wait to be stored, from all producers together; an eighth is promised to
    /// each of the three. When they are used up, the orderer's stream and ranges wait, blocks from
    /// the topic are dropped, and higher ones make room for lower ones. The block that is due next is
    /// always admitted, whatever its size. Default: 256 MiB.
    pub buffer_bytes: NonZeroUsize,
    /// Bytes of blocks that wait to be stored, in all channels together; each channel may have one
    /// block more, the one that is due. When they are used up, a channel has its reserve alone.
    /// Default: 1 GiB.
    pub total_buffer_bytes: NonZeroUsize,
    /// The part of [`total_buffer_bytes`](Self::total_buffer_bytes) that is kept for this channel
    /// alone, so that others whose stores are stuck cannot hold it up; never more than
    /// [`buffer_bytes`](Self::buffer_bytes). Where the reserves of all channels are more than there
    /// is, they are granted none the less, and nobody has more. Default: 4 MiB.
    pub channel_reserve_bytes: NonZeroUsize,
    /// The part of [`buffer_bytes`](Self::buffer_bytes) that blocks from the topic may use. When
    /// it is used up they are dropped, and fetched again as a range. Default: 64 MiB.
    pub topic_buffer_bytes: NonZeroUsize,
    /// The part of [`buffer_bytes`](Self::buffer_bytes) that the orderer's stream may use, and another
    /// one that ranges may. It bounds what a node holds that catches up faster than its disk takes
    /// blocks; beside it there is what is judged
    /// ([`ahead_bytes`](blocks_provider::Config::ahead_bytes), or the ranges on their way) and what the
    /// network holds back. More than two appends make nothing faster. Default: 24 MiB.
    pub catch_up_buffer_bytes: NonZeroUsize,
    /// How far above the height blocks from the topic are kept, in blocks. Default: 1024.
    pub window: u64,
    /// How many different blocks are kept for one height. More than one means that orderers signed
    /// two; the one that links is stored. Default: 4.
    pub candidates_per_height: NonZeroUsize,
    /// How many candidates from the topic are judged or fetched at one time. Further ones are
    /// dropped. At most half of them may wait for a configuration to come into force. Default: 64.
    pub candidates_at_work: NonZeroUsize,
    /// Blocks that are stored by one append at most. Default: 256.
    pub batch_blocks: NonZeroUsize,
    /// Bytes that are stored by one append at most, unless one block has more. Default: 8 MiB.
    pub batch_bytes: NonZeroUsize,
    /// How long a block may wait for others to be stored with it, while such are being judged: fewer
    /// appends, each with a sync of its own. A block that nothing follows does not wait. Zero: none
    /// does. Default: 5 ms.
    pub group_commit_delay: Duration,
    /// Whether a block from the ordering service is published before it is stored, once it was judged
    /// and is the next one: the other nodes have it sooner by the time of one append. If this node
    /// fails in between, they have a block that it has not; it gets it again from the ordering service,
    /// or from them. Default: false.
    pub publish_before_durable: bool,
    /// Blocks that wait to be published. When the queue is full a block is not published;
    /// the other nodes fetch it when they see the height. Default: 256.
    pub publish_queue: NonZeroUsize,
    /// How long the chain may stand still while a peer is ahead before ranges are fetched from
    /// peers. Default: 1 s.
    pub catch_up_patience: Duration,
    /// How many peers are asked for ranges at one time. What is due is asked of a further one when
    /// they are all at work on what is ahead, and of one more when that takes too long. Default: 4.
    pub catch_up_peers: NonZeroUsize,
    /// How many blocks one range has at most. Default: 256.
    pub range_blocks: NonZeroUsize,
    /// After how many bytes a range ends, and the next one begins. By the blocks that came so far
    /// ranges are made so long that they come to this. Default: 8 MiB.
    pub range_bytes: NonZeroUsize,
    /// How long the block that is due may be awaited from a peer that was asked for it before another
    /// one is asked, too; and how long from that one before a third takes its place. Default: 3 s.
    pub range_patience: Duration,
    /// How long the chain may stand still before a node that does not pull asks the ordering service
    /// for a range, if the block that is due exists and no peer gives it. Default: 30 s.
    pub orderer_patience: Duration,
    /// How long a peer that failed to give a range is left alone. Default: 5 s.
    pub peer_rest: Duration,
    /// How long a peer may take for the body of an announced block, or the next block of a range,
    /// and how long a candidate waits for its configuration. Default: 15 s.
    pub fetch_timeout: Duration,
    /// How long to wait after a failed append before the next attempt. Default: 1 s.
    pub store_retry: Duration,
    /// How many nodes of the organisation pull, where who does is elected. Default: 1.
    pub pullers: NonZeroUsize,
    /// How long a node that comes first in the order may be without a stream, or may take to begin,
    /// before the next one takes over; and how long a node waits at first whether better ones
    /// appear. Default: 3 s.
    pub takeover: Duration,
    /// How long nobody may give blocks before the channel counts as stuck. A stream
    /// counts as a good one after 2 s, so that it should be longer. Default: 5 s.
    pub health_grace: Duration,
    /// The pull loop.
    pub provider: blocks_provider::Config,
}

/// Settings that contradict each other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The topic may use more than there is.
    #[error(
        "topic_buffer_bytes ({topic}) must be less than buffer_bytes ({buffer}): the orderer's stream needs room of its own"
    )]
    TopicShare {
        /// What the topic may use.
        topic: NonZeroUsize,
        /// What there is.
        buffer: NonZeroUsize,
    },
    /// Nothing from the topic would be kept.
    #[error("window must be 1 block at least")]
    NoWindow,
    /// A pause of no length would make a busy loop.
    #[error("{key} must be longer than zero")]
    ZeroDuration {
        /// The setting.
        key: &'static str,
    },
    /// The pull loop's settings.
    #[error("provider: {0}")]
    Provider(#[from] blocks_provider::ConfigError),
}

impl Default for Config {
    fn default() -> Self {
        let count = |n| NonZeroUsize::new(n).unwrap_or(NonZeroUsize::MIN);
        Self {
            buffer_bytes: count(256 << 20),
            total_buffer_bytes: count(1 << 30),
            channel_reserve_bytes: count(4 << 20),
            topic_buffer_bytes: count(64 << 20),
            catch_up_buffer_bytes: count(24 << 20),
            window: 1024,
            candidates_per_height: count(4),
            candidates_at_work: count(64),
            batch_blocks: count(256),
            batch_bytes: count(8 << 20),
            group_commit_delay: Duration::from_millis(5),
            publish_before_durable: false,
            publish_queue: count(256),
            catch_up_patience: Duration::from_secs(1),
            catch_up_peers: count(4),
            range_blocks: count(256),
            range_bytes: count(8 << 20),
            range_patience: Duration::from_secs(3),
            orderer_patience: Duration::from_secs(30),
            peer_rest: Duration::from_secs(5),
            fetch_timeout: Duration::from_secs(15),
            store_retry: Duration::from_secs(1),
            pullers: count(1),
            takeover: Duration::from_secs(3),
            health_grace: Duration::from_secs(5),
            provider: blocks_provider::Config::default(),
        }
    }
}

impl Config {
    /// Checks that the settings fit together.
    ///
    /// # Errors
    ///
    /// Names the setting that does not.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.topic_buffer_bytes >= self.buffer_bytes {
            return Err(ConfigError::TopicShare {
                topic: self.topic_buffer_bytes,
                buffer: self.buffer_bytes,
            });
        }
        if self.window == 0 {
            return Err(ConfigError::NoWindow);
        }
        for (key, value) in [
            ("catch_up_patience", self.catch_up_patience),
            ("range_patience", self.range_patience),
            ("orderer_patience", self.orderer_patience),
            ("peer_rest", self.peer_rest),
            ("fetch_timeout", self.fetch_timeout),
            ("store_retry", self.store_retry),
            ("takeover", self.takeover),
        ] {
            if value.is_zero() {
                return Err(ConfigError::ZeroDuration { key });
            }
        }
        Ok(self.provider.validate()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Covers: STA-01
    #[test]
    fn the_defaults_are_these() {
        let expected = "Config { buffer_bytes: 268435456, total_buffer_bytes: 1073741824, \
             channel_reserve_bytes: 4194304, topic_buffer_bytes: 67108864, \
             catch_up_buffer_bytes: 25165824, window: 1024, \
             candidates_per_height: 4, candidates_at_work: 64, batch_blocks: 256, batch_bytes: 8388608, \
             group_commit_delay: 5ms, publish_before_durable: false, publish_queue: 256, catch_up_patience: 1s, catch_up_peers: 4, range_blocks: 256, \
             range_bytes: 8388608, range_patience: 3s, orderer_patience: 30s, peer_rest: 5s, fetch_timeout: 15s, \
             store_retry: 1s, pullers: 1, takeover: 3s, health_grace: 5s, \
             provider: Config { first_back_off: 100ms, longest_back_off: 10s, \
             censorship_timeout: 30s, idle_limit: 30s, probe_timeout: 10s, header_streams: 4, \
             ahead_blocks: 64, ahead_bytes: 8388608, seed: None } }";
        assert_eq!(format!("{:?}", Config::default()), expected);
        assert_eq!(Config::default().validate(), Ok(()));
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        let default = Config::default();
        let greedy = Config {
            topic_buffer_bytes: default.buffer_bytes,
            ..default.clone()
        };
        assert!(matches!(
            greedy.validate(),
            Err(ConfigError::TopicShare { .. })
        ));
        let narrow = Config {
            window: 0,
            ..default.clone()
        };
        assert_eq!(narrow.validate(), Err(ConfigError::NoWindow));
        let hasty = Config {
            store_retry: Duration::ZERO,
            ..default.clone()
        };
        assert_eq!(
            hasty.validate(),
            Err(ConfigError::ZeroDuration { key: "store_retry" })
        );
        let provider = blocks_provider::Config {
            first_back_off: Duration::ZERO,
            ..default.provider
        };
        assert!(matches!(
            Config {
                provider,
                ..default
            }
            .validate(),
            Err(ConfigError::Provider(_))
        ));
    }
}
