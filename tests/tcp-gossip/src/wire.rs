// SPDX-License-Identifier: Apache-2.0
//! Frames: a kind, a length, and so many bytes. Whoever does not know a kind skips it.

use std::io;

use block_api::{
    Block, BlockNumber, ChannelId, ChannelStatus, DeliverStatus, HeaderHash, Height, NodeId,
};
use bytes::{Buf as _, BufMut as _, Bytes};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// The version of all this, which a greeting names.
pub(crate) const VERSION: u8 = 1;
/// How many bytes stand before the content of a frame.
const HEAD: usize = 5;

/// A channel in this network: two chains of one name with different genesis blocks are apart.
pub(crate) type Topic = (ChannelId, HeaderHash);

/// What is sent.
#[derive(Debug, Clone)]
pub(crate) enum Frame {
    Hello(Hello),
    Proof {
        identity: Bytes,
        signature: Bytes,
    },
    /// A block, or the announcement of one.
    Block {
        topic: Topic,
        block: Bytes,
    },
    Status {
        topic: Topic,
        status: ChannelStatus,
    },
    /// The blocks from the first to the last number are wanted, or their headers.
    Range {
        topic: Topic,
        first: BlockNumber,
        last: BlockNumber,
        headers: bool,
    },
    /// A block of a range.
    Item(Bytes),
    /// How a range ended.
    End(DeliverStatus),
    /// To a broker: what is published in a channel is wanted. From it: it comes from here on.
    Subscribe(Topic),
    /// A kind that this version does not know.
    Unknown,
}

/// How a connection begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hello {
    pub(crate) version: u8,
    pub(crate) purpose: Purpose,
    pub(crate) node: NodeId,
    pub(crate) nonce: [u8; 32],
}

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Gossip,
    Range,
}

/// A frame did not come.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
    #[error("a frame of {length} bytes was announced, and at most {limit} are taken")]
    TooLong { length: usize, limit: usize },
    #[error("a frame does not parse: {0}")]
    Malformed(&'static str),
}

impl Frame {
    /// The bytes of the frame, head included.
    pub(crate) fn encode(&self) -> Bytes {
        let mut out = vec![0; HEAD];
        let kind: u8 = match self {
            Self::Hello(hello) => {
                out.put_u8(hello.version);
                out.put_u8(u8::from(hello.purpose == Purpose::Range));
                put_short(&mut out, hello.node.as_str().as_bytes());
                out.put_slice(&hello.nonce);
                1
            }
            Self::Proof {
                identity,
                signature,
            } => {
                out.put_u32(identity.len() as u32);
                out.put_slice(identity);
                out.put_slice(signature);
                2
            }
            Self::Block { topic, block } => {
                put_topic(&mut out, topic);
                out.put_slice(block);
                3
            }
            Self::Status { topic, status } => {
                put_topic(&mut out, topic);
                out.put_u64(status.first.get());
                out.put_u64(status.height.get());
                out.put_u8(u8::from(status.pulling));
                out.put_slice(
                    &status
                        .tip
                        .as_ref()
                        .map(Block::raw)
                        .cloned()
                        .unwrap_or_default(),
                );
                4
            }
            Self::Range {
                topic,
                first,
                last,
                headers,
            } => {
                put_topic(&mut out, topic);
                out.put_u64(first.get());
                out.put_u64(last.get());
                out.put_u8(u8::from(*headers));
                5
            }
            Self::Item(block) => {
                out.put_slice(block);
                6
            }
            Self::End(status) => {
                out.put_i32(status.code());
                7
            }
            Self::Subscribe(topic) => {
                put_topic(&mut out, topic);
                8
            }
            Self::Unknown => 0,
        };
        let length = (out.len() - HEAD) as u32;
        let (mut head, _) = out.split_at_mut(HEAD);
        head.put_u8(kind);
        head.put_u32(length);
        out.into()
    }

    /// Reads the content of a frame. Bytes behind what is known are left for later versions.
    pub(crate) fn parse(kind: u8, mut content: Bytes) -> Result<Self, WireError> {
        let content = &mut content;
        Ok(match kind {
            1 => Self::Hello(Hello {
                version: content.try_get_u8().map_err(short)?,
                purpose: match content.try_get_u8().map_err(short)? {
                    0 => Purpose::Gossip,
                    1 => Purpose::Range,
                    _ => return Err(WireError::Malformed("nobody knows what it is for")),
                },
                node: NodeId::new(take_text(content)?),
                nonce: take_array(content)?,
            }),
            2 => {
                let length = content.try_get_u32().map_err(short)? as usize;
                let identity = take(content, length)?;
                let signature = std::mem::take(content);
                Self::Proof {
                    identity,
                    signature,
                }
            }
            3 => Self::Block {
                topic: take_topic(content)?,
                block: std::mem::take(content),
            },
            4 => Self::Status {
                topic: take_topic(content)?,
                status: ChannelStatus {
                    first: content.try_get_u64().map_err(short)?.into(),
                    height: Height::new(content.try_get_u64().map_err(short)?),
                    pulling: content.try_get_u8().map_err(short)? != 0,
                    tip: match content.is_empty() {
                        true => None,
                        false => Some(
                            Block::parse(std::mem::take(content))
                                .map_err(|_| WireError::Malformed("the tip is no block"))?,
                        ),
                    },
                },
            },
            5 => Self::Range {
                topic: take_topic(content)?,
                first: content.try_get_u64().map_err(short)?.into(),
                last: content.try_get_u64().map_err(short)?.into(),
                headers: content.try_get_u8().map_err(short)? != 0,
            },
            6 => Self::Item(std::mem::take(content)),
            7 => Self::End(DeliverStatus::from_code(
                content.try_get_i32().map_err(short)?,
            )),
            8 => Self::Subscribe(take_topic(content)?),
            _ => Self::Unknown,
        })
    }
}

/// Reads the next frame; its memory grows with what really comes.
///
/// # Cancel safety
///
/// Not safe: the connection is of no use after a part of a frame.
pub(crate) async fn read_frame(
    from: &mut (impl AsyncRead + Unpin),
    limit: usize,
) -> Result<Frame, WireError> {
    let kind = from.read_u8().await?;
    let length = from.read_u32().await? as usize;
    if length > limit {
        return Err(WireError::TooLong { length, limit });
    }
    let mut content = Vec::new();
    from.take(length as u64).read_to_end(&mut content).await?;
    if content.len() < length {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    Frame::parse(kind, content.into())
}

/// Writes a frame, with the same limit to cancelling.
pub(crate) async fn write_frame(
    to: &mut (impl AsyncWrite + Unpin),
    frame: &Frame,
) -> Result<(), WireError> {
    Ok(to.write_all(&frame.encode()).await?)
}

fn put_topic(out: &mut Vec<u8>, (channel, genesis): &Topic) {
    put_short(out, channel.as_str().as_bytes());
    out.put_slice(genesis.as_ref());
}

/// Text of at most 255 bytes; a longer one is cut, and names nobody then.
fn put_short(out: &mut Vec<u8>, text: &[u8]) {
    let length = u8::try_from(text.len()).unwrap_or(u8::MAX);
    out.put_u8(length);
    out.put_slice(text.get(..length.into()).unwrap_or(text));
}

fn take_topic(content: &mut Bytes) -> Result<Topic, WireError> {
    let channel = take_text(content)?.parse();
    let channel = channel.map_err(|_| WireError::Malformed("it names no channel"))?;
    Ok((channel, HeaderHash::new(take_array(content)?)))
}

fn take_text(content: &mut Bytes) -> Result<String, WireError> {
    let length = content.try_get_u8().map_err(short)?;
    let text = take(content, length.into())?.to_vec();
    String::from_utf8(text).map_err(|_| WireError::Malformed("a name is no UTF-8"))
}

fn take_array(content: &mut Bytes) -> Result<[u8; 32], WireError> {
    let mut array = [0; 32];
    content.try_copy_to_slice(&mut array).map_err(short)?;
    Ok(array)
}

fn take(content: &mut Bytes, length: usize) -> Result<Bytes, WireError> {
    match content.len() < length {
        true => Err(WireError::Malformed("it ends early")),
        false => Ok(content.split_to(length)),
    }
}

fn short(_: bytes::TryGetError) -> WireError {
    WireError::Malformed("it ends early")
}

#[cfg(test)]
mod tests {
    use block_api::testing::TestChain;
    use proptest::prelude::*;

    use super::*;

    fn frames() -> Vec<Frame> {
        let block = TestChain::new("ch").config();
        let topic = (TestChain::new("ch").channel(), block.header_hash());
        let status = ChannelStatus {
            first: 3.into(),
            height: Height::new(9),
            tip: Some(block.without_data()),
            pulling: true,
        };
        let hello = Hello {
            version: VERSION,
            purpose: Purpose::Range,
            node: NodeId::new("node"),
            nonce: [7; 32],
        };
        vec![
            Frame::Hello(hello),
            Frame::Proof {
                identity: Bytes::from_static(b"who"),
                signature: Bytes::from_static(b"really"),
            },
            Frame::Block {
                topic: topic.clone(),
                block: block.raw().clone(),
            },
            Frame::Status {
                topic: topic.clone(),
                status,
            },
            Frame::Range {
                topic: topic.clone(),
                first: 1.into(),
                last: 2.into(),
                headers: true,
            },
            Frame::Item(block.raw().clone()),
            Frame::End(DeliverStatus::Forbidden),
            Frame::Subscribe(topic),
            Frame::Unknown,
        ]
    }

    #[tokio::test]
    async fn frames_are_read_as_they_were_written() {
        for frame in frames() {
            let bytes = frame.encode();
            let read = read_frame(&mut bytes.as_ref(), 1 << 20).await.unwrap();
            assert_eq!(format!("{read:?}"), format!("{frame:?}"));
            let limit = bytes.len() - HEAD;
            if let Some(less) = limit.checked_sub(1) {
                let refused = read_frame(&mut bytes.as_ref(), less).await;
                assert!(matches!(refused, Err(WireError::TooLong { .. })));
            }
            let cut = bytes.slice(..bytes.len() - 1);
            assert!(read_frame(&mut cut.as_ref(), 1 << 20).await.is_err());
        }
    }

    proptest! {
        #[test]
        fn no_bytes_are_too_strange(kind: u8, content: Vec<u8>) {
            if let Ok(frame) = Frame::parse(kind, content.into()) {
                let bytes = frame.encode();
                let again = Frame::parse(bytes[0], bytes.slice(HEAD..)).unwrap();
                prop_assert_eq!(format!("{again:?}"), format!("{frame:?}"));
            }
        }
    }
}
