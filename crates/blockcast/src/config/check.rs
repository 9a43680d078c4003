// SPDX-License-Identifier: Apache-2.0
//! What a configuration must fulfil beyond its form, and what the parts of a node are told.

use std::{collections::BTreeSet, fmt::Display, num::NonZeroUsize};

use block_api::{ChannelId, HeaderHash};

use super::{ByteSize, HumanDuration, NodeConfig, OrdererTls, StoreSync};

/// One entry of a segment's index spans so much.
const SMALLEST_SEGMENT: ByteSize = ByteSize::mib(1);

/// The first pause of the pull loop.
const SHORTEST_BACK_OFF: HumanDuration = HumanDuration::from_millis(100);

/// Whoever takes over sooner does so from nodes that had no time to speak.
const SHORTEST_TAKEOVER: HumanDuration = HumanDuration::from_secs(1);

/// A configuration whose values are out of range or contradict each other.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidConfig {
    /// There is no channel.
    #[error(
        "there is no [[channel]]: write one for each channel, with its id and the file of its genesis block"
    )]
    NoChannel,
    /// A channel is there twice.
    #[error("channel {channel} has two [[channel]] tables: leave one")]
    DuplicateChannel {
        /// The channel.
        channel: ChannelId,
    },
    /// A key is missing that another one asks for.
    #[error("{key} is missing, and {because}")]
    Missing {
        /// The key.
        key: &'static str,
        /// What asks for it, and what to do.
        because: &'static str,
    },
    /// A key is there that another one makes senseless.
    #[error("{key} has no effect: {because}")]
    NoEffect {
        /// The key.
        key: &'static str,
        /// What makes it so, and what to do.
        because: &'static str,
    },
    /// A value is out of its range.
    #[error("{key} is {value}: {reason}")]
    Value {
        /// The key.
        key: String,
        /// The value.
        value: String,
        /// What it must be.
        reason: String,
    },
    /// A setting of the gossip network.
    #[error("gossip: {0}")]
    Gossip(#[from] gossip_libp2p::ConfigError),
    /// A setting of the way of a block.
    #[error("delivery: {0}")]
    Delivery(#[from] deliver_service::ConfigError),
    /// A setting of the block store.
    #[error("store: {0}")]
    Store(#[from] block_store::ConfigError),
}

pub(super) fn check(config: &NodeConfig) -> Result<(), InvalidConfig> {
    check_channels(config)?;
    check_orderer(config)?;
    check_bounds(config)?;
    config.operations.check()?;
    config.orderer_client()?;
    config.delivery_service()?.validate()?;
    config.check_gossip()?;
    // The channel does not matter to whether the settings hold together.
    for channel in &config.channels {
        config
            .block_store(&channel.id, HeaderHash::new([0; 32]))?
            .validate()?;
    }
    Ok(())
}

fn check_channels(config: &NodeConfig) -> Result<(), InvalidConfig> {
    let mut seen = BTreeSet::new();
    for channel in &config.channels {
        if !seen.insert(&channel.id) {
            return Err(InvalidConfig::DuplicateChannel {
                channel: channel.id.clone(),
            });
        }
        channel.joining()?;
        if config.orderer.tls != OrdererTls::None
            && channel.orderers.iter().any(|orderer| orderer.ca.is_none())
        {
            return Err(InvalidConfig::Missing {
                key: "channel.orderers.ca",
                because: "orderer.tls is on: name the PEM file with the TLS roots of that orderer",
            });
        }
    }
    if seen.is_empty() {
        Err(InvalidConfig::NoChannel)
    } else {
        Ok(())
    }
}

fn check_orderer(config: &NodeConfig) -> Result<(), InvalidConfig> {
    let orderer = &config.orderer;
    let client = [
        ("orderer.client_cert", orderer.client_cert.is_some()),
        ("orderer.client_key", orderer.client_key.is_some()),
    ];
    for (key, is_there) in client {
        match (orderer.tls, is_there) {
            (OrdererTls::Mutual, false) => {
                let because = "orderer.tls is \"mutual\": name the PEM file, or set orderer.tls to \"server\"";
                return Err(InvalidConfig::Missing { key, because });
            }
            (OrdererTls::None | OrdererTls::Server, true) => {
                let because = "orderer.tls is not \"mutual\"; set it so, or leave the key out";
                return Err(InvalidConfig::NoEffect { key, because });
            }
            (OrdererTls::Mutual, true) | (OrdererTls::None | OrdererTls::Server, false) => {}
        }
    }
    if orderer.tls == OrdererTls::None && orderer.overrides.iter().any(|entry| entry.ca.is_some()) {
        let because = "orderer.tls is \"none\"; turn TLS on, or leave the key out";
        return Err(InvalidConfig::NoEffect {
            key: "orderer.overrides.ca",
            because,
        });
    }
    let timeouts = [
        (
            "orderer.connect_timeout",
            orderer.connect_timeout,
            1,
            "it must be longer than zero",
        ),
        (
            "orderer.initial_timeout",
            orderer.initial_timeout,
            1,
            "it must be longer than zero",
        ),
        (
            "orderer.keepalive_interval",
            orderer.keepalive_interval,
            60_000,
            "orderers close the connection of a client that pings more often than every 60 s; write \"60s\" or more",
        ),
    ];
    for (key, value, least, reason) in timeouts {
        if value.get().as_millis() < least {
            return Err(out_of_range(key, value, reason));
        }
    }
    Ok(())
}

/// What the parts check too, here in the words of the file.
fn check_bounds(config: &NodeConfig) -> Result<(), InvalidConfig> {
    let NodeConfig {
        delivery,
        store,
        orderer,
        ..
    } = config;
    if delivery.topic_buffer >= delivery.buffer {
        let reason = format!(
            "it must be less than delivery.buffer, which is {}",
            delivery.buffer
        );
        return Err(out_of_range(
            "delivery.topic_buffer",
            delivery.topic_buffer,
            &reason,
        ));
    }
    if delivery.window == 0 {
        return Err(out_of_range(
            "delivery.window",
            0,
            "it must be 1 block at least",
        ));
    }
    if delivery.takeover < SHORTEST_TAKEOVER {
        let reason = format!(
            "it must be {SHORTEST_TAKEOVER} at least: nodes tell each other how they stand every second or so"
        );
        return Err(out_of_range(
            "delivery.takeover",
            delivery.takeover,
            &reason,
        ));
    }
    if store.segment < SMALLEST_SEGMENT {
        let reason = format!("it must be {SMALLEST_SEGMENT} at least");
        return Err(out_of_range("store.segment", store.segment, &reason));
    }
    if orderer.longest_back_off < SHORTEST_BACK_OFF {
        let reason = format!("it must be {SHORTEST_BACK_OFF} at least");
        return Err(out_of_range(
            "orderer.longest_back_off",
            orderer.longest_back_off,
            &reason,
        ));
    }
    Ok(())
}

impl NodeConfig {
    /// What the delivery service is told.
    pub(crate) fn delivery_service(&self) -> Result<deliver_service::Config, InvalidConfig> {
        let delivery = &self.delivery;
        let default = deliver_service::Config::default();
        Ok(deliver_service::Config {
            buffer_bytes: size("delivery.buffer", delivery.buffer)?,
            total_buffer_bytes: size("delivery.total_buffer", delivery.total_buffer)?,
            topic_buffer_bytes: size("delivery.topic_buffer", delivery.topic_buffer)?,
            catch_up_buffer_bytes: size("delivery.catch_up_buffer", delivery.catch_up_buffer)?,
            publish_before_durable: delivery.publish_before_durable,
            window: delivery.window,
            catch_up_patience: delivery.catch_up_patience.get(),
            health_grace: self.operations.grace.get(),
            pullers: NonZeroUsize::new(delivery.pullers).ok_or_else(|| {
                let reason = "it must be 1 at least; write pull = \"never\" in a [[channel]] that this node does not pull";
                out_of_range("delivery.pullers", 0, reason)
            })?,
            takeover: delivery.takeover.get(),
            provider: blocks_provider::Config {
                longest_back_off: self.orderer.longest_back_off.get(),
                censorship_timeout: self.orderer.censorship_timeout.get(),
                idle_limit: self.orderer.idle_limit.get(),
                ..default.provider
            },
            ..default
        })
    }

    /// What the client of the ordering service is told, but for its endpoints and what is in files.
    pub(crate) fn orderer_client(&self) -> Result<orderer_client::Config, InvalidConfig> {
        let orderer = &self.orderer;
        Ok(orderer_client::Config {
            connect_timeout: orderer.connect_timeout.get(),
            initial_timeout: Some(orderer.initial_timeout.get()),
            keepalive_interval: orderer.keepalive_interval.get(),
            max_message_bytes: size("orderer.max_message", orderer.max_message)?,
            ..orderer_client::Config::default()
        })
    }

    /// What the store of a channel is told.
    pub(crate) fn block_store(
        &self,
        channel: &ChannelId,
        genesis: HeaderHash,
    ) -> Result<block_store::Config, InvalidConfig> {
        let default = block_store::Config::new(channel.clone());
        Ok(block_store::Config {
            genesis: Some(genesis),
            segment_bytes: size("store.segment", self.store.segment)?,
            retention: self.store.keep.into(),
            sync: match self.store.sync {
                StoreSync::EveryBatch => block_store::SyncPolicy::EveryBatch,
                StoreSync::Never => block_store::SyncPolicy::Never,
            },
            ..default
        })
    }
}

pub(super) fn size(key: &str, value: ByteSize) -> Result<NonZeroUsize, InvalidConfig> {
    NonZeroUsize::new(value.as_usize())
        .ok_or_else(|| out_of_range(key, value, "it must be 1 byte at least"))
}

pub(super) fn out_of_range(key: &str, value: impl Display, reason: &str) -> InvalidConfig {
    InvalidConfig::Value {
        key: key.to_owned(),
        value: value.to_string(),
        reason: reason.to_owned(),
    }
}
