// SPDX-License-Identifier: Apache-2.0
//! The gossipsub topic of a channel, and the ids of the messages on it.

use std::fmt;

use block_api::{ChannelId, HeaderHash};
use libp2p::gossipsub::{IdentTopic, Message, MessageId, TopicHash};
use sha2::{Digest, Sha256};

/// How long the name of a topic is: the hexadecimal form of a hash. Names of one length let the
/// limits of control messages be computed.
pub(crate) const NAME_LENGTH: usize = 64;

/// Keeps the hash apart from every other one over such inputs.
const DOMAIN: &[u8] = b"blockcast/topic/1";

/// A channel of one network: a hash over the channel id and the header hash of the genesis block,
/// so that networks whose channels have one name never mix.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct TopicId([u8; 32]);

impl TopicId {
    pub(crate) fn of_channel(channel: &ChannelId, genesis: &HeaderHash) -> Self {
        // The last part has a fixed length, so no two inputs look alike.
        let hash = Sha256::new()
            .chain_update(DOMAIN)
            .chain_update(channel.as_str())
            .chain_update(genesis)
            .finalize();
        Self(hash.into())
    }

    pub(crate) const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    pub(crate) fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The topic with this name; `None` for any text that is no name of ours.
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        let lower_case = !name.bytes().any(|byte| byte.is_ascii_uppercase());
        (lower_case && hex::decode_to_slice(name, &mut bytes).is_ok()).then_some(Self(bytes))
    }

    pub(crate) fn topic(&self) -> IdentTopic {
        IdentTopic::new(self.to_string())
    }
}

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TopicId({self})")
    }
}

/// The id of a message: a hash over topic and bytes.
///
/// gossipsub remembers an id before the message is validated. Were it the identity of the block, a
/// true header with false signatures, sent first, would hide the true block (NEW-11).
pub(crate) fn message_id(topic: &TopicHash, data: &[u8]) -> MessageId {
    let hash = Sha256::new()
        .chain_update(topic.as_str())
        .chain_update(data)
        .finalize();
    MessageId::new(&hash)
}

pub(crate) fn id_of(message: &Message) -> MessageId {
    message_id(&message.topic, &message.data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_depend_on_channel_and_genesis() {
        let (a, b): (ChannelId, ChannelId) = ("a".parse().unwrap(), "b".parse().unwrap());
        let (x, y) = (HeaderHash::new([1; 32]), HeaderHash::new([2; 32]));
        let topic = TopicId::of_channel(&a, &x);
        assert_ne!(topic, TopicId::of_channel(&b, &x));
        assert_ne!(topic, TopicId::of_channel(&a, &y));
        assert_eq!(topic.to_string().len(), NAME_LENGTH);
        assert_eq!(TopicId::from_name(&topic.to_string()), Some(topic));
        // Another release must come to the same name.
        assert_eq!(
            topic.to_string(),
            "5e7cf3c15d625a556b0698f7ab023c503a6341ca89255bf8e18fb5350fcdd181"
        );
    }

    #[test]
    fn only_hashes_are_names() {
        for name in [
            "",
            "ch",
            &"g".repeat(64),
            &"A".repeat(64),
            &"a".repeat(63),
            &"a".repeat(66),
        ] {
            assert_eq!(TopicId::from_name(name), None, "{name}");
        }
    }

    /// Covers: NEW-11
    #[test]
    fn message_ids_depend_on_every_byte_and_on_the_topic() {
        let (here, there) = (TopicHash::from_raw("here"), TopicHash::from_raw("there"));
        let id = message_id(&here, b"block");
        assert_ne!(id, message_id(&here, b"blocl"));
        assert_ne!(id, message_id(&there, b"block"));
        assert_eq!(id.0.len(), 32);
    }
}
