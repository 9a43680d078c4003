// SPDX-License-Identifier: Apache-2.0
//! The tonic codec of Deliver: responses as bytes, requests as envelopes.

use std::{fmt, marker::PhantomData};

use bytes::Buf as _;
use prost::Message as _;
use tonic::{
    Status,
    codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
};

use crate::{common::Envelope, deliver::RawDeliverResponse};

/// What tonic's buffer for what comes has room for before anything came: the head of a message. It
/// is made larger when the length of the message is known, and is then as large as that; from a
/// larger one on it would be made twice as large instead, and the message would keep all of it.
const NOTHING_YET: usize = 5;

/// How many bytes to gather before they are given to the connection: as many as tonic does.
const GATHERED: usize = 32 * 1024;

/// Encodes `E` and decodes `D`, each an [`Envelope`] or a [`RawDeliverResponse`].
///
/// A response is taken out of tonic's buffer as it is, without a copy, and is not looked into.
pub struct RawDeliverCodec<E, D> {
    direction: PhantomData<fn(E) -> D>,
}

impl<E, D> Default for RawDeliverCodec<E, D> {
    fn default() -> Self {
        Self {
            direction: PhantomData,
        }
    }
}

impl<E, D> Clone for RawDeliverCodec<E, D> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<E, D> Copy for RawDeliverCodec<E, D> {}

impl<E, D> fmt::Debug for RawDeliverCodec<E, D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RawDeliverCodec")
    }
}

impl<E: Frame, D: Frame> Codec for RawDeliverCodec<E, D> {
    type Encode = E;
    type Decode = D;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self::Encoder {
        *self
    }

    fn decoder(&mut self) -> Self::Decoder {
        *self
    }
}

impl<E: Frame, D> Encoder for RawDeliverCodec<E, D> {
    type Item = E;
    type Error = Status;

    fn encode(&mut self, item: E, dst: &mut EncodeBuf<'_>) -> Result<(), Status> {
        dst.reserve(item.len());
        item.write(dst);
        Ok(())
    }
}

impl<E, D: Frame> Decoder for RawDeliverCodec<E, D> {
    type Item = D;
    type Error = Status;

    fn decode(&mut self, src: &mut DecodeBuf<'_>) -> Result<Option<D>, Status> {
        D::read(src).map(Some)
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(NOTHING_YET, GATHERED)
    }
}

/// What Deliver carries in a gRPC frame, one way or the other.
trait Frame: Send + Sized + 'static {
    fn len(&self) -> usize;
    fn write(&self, dst: &mut EncodeBuf<'_>);
    fn read(src: &mut DecodeBuf<'_>) -> Result<Self, Status>;
}

impl Frame for Envelope {
    fn len(&self) -> usize {
        self.encoded_len()
    }

    fn write(&self, dst: &mut EncodeBuf<'_>) {
        self.encode_raw(dst);
    }

    fn read(src: &mut DecodeBuf<'_>) -> Result<Self, Status> {
        Self::decode(src).map_err(|err| Status::internal(format!("malformed envelope: {err}")))
    }
}

impl Frame for RawDeliverResponse {
    fn len(&self) -> usize {
        self.encoded_len()
    }

    fn write(&self, dst: &mut EncodeBuf<'_>) {
        self.encode(dst);
    }

    fn read(src: &mut DecodeBuf<'_>) -> Result<Self, Status> {
        let len = src.remaining();
        Ok(Self::from_bytes(src.copy_to_bytes(len)))
    }
}
