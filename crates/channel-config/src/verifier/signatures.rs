// SPDX-License-Identifier: Apache-2.0
//! The metadata slot of the signatures, and what each signature in it covers.

use std::fmt;

use block_api::{
    Block, BlockNumber, header_der,
    wire::{Fields, Value, WireError},
};

use crate::{
    config::ChannelConfig,
    msp::SerializedIdentity,
    policy::SignedData,
    verifier::rule::{BlockError, MAX_HASHED, MAX_SIGNATURES, MAX_SIGNED, MAX_SLOT, shortened},
};

/// How many signatures an error tells of.
const MAX_REPORTED: usize = 8;

/// What the slot of the signatures holds: one value, and signatures that all cover it.
#[derive(Debug)]
pub(super) struct SignedMetadata<'a> {
    value: &'a [u8],
    signatures: Vec<MetadataSignature<'a>>,
    header: Vec<u8>,
}

#[derive(Debug, Clone, Copy, Default)]
struct MetadataSignature<'a> {
    signature_header: &'a [u8],
    signature: &'a [u8],
    identifier_header: &'a [u8],
}

/// A signature of a block, as far as it goes without its identity.
#[derive(Debug, Clone, Copy)]
pub(super) struct Claim<'a> {
    pub(super) kind: SignerKind,
    pub(super) data: SignedData<'a>,
}

/// How a signature says who made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignerKind {
    /// By its certificate.
    Creator,
    /// By the id of a consenter.
    Consenter(u32),
}

/// Who made a signature of a block, and whether it is genuine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignerInfo {
    /// How the signature says who made it.
    pub kind: SignerKind,
    /// The MSP id that it claims; empty when there is none.
    pub msp_id: String,
    /// The subject of the certificate; empty when the channel does not know the identity.
    pub subject: String,
    /// Whether the identity is valid and made this signature over this block.
    pub valid: bool,
    /// What is wrong, if anything.
    pub problem: Option<String>,
}

/// What the signatures of a block are, for an error.
#[derive(Debug, Clone)]
pub struct SignatureReport {
    count: usize,
    signers: Vec<SignerInfo>,
}

impl<'a> SignedMetadata<'a> {
    /// Finds the parts of the slot (PRB-11).
    pub(super) fn parse(block: &'a Block) -> Result<Self, BlockError> {
        let slot = block.signatures_slot().ok_or(BlockError::NoMetadata)?;
        if slot.len() > MAX_SLOT {
            return Err(BlockError::SlotTooLong { bytes: slot.len() });
        }
        let malformed = |source| BlockError::MalformedMetadata { source };
        let header = block.header();
        let mut metadata = Self {
            value: &[],
            signatures: Vec::new(),
            header: header_der(header.number, header.previous_hash, header.data_hash),
        };
        for field in Fields::new(slot) {
            let field = field.map_err(malformed)?;
            match (field.number, field.value) {
                (1, Value::Bytes(value, _)) => metadata.value = value,
                (2, Value::Bytes(message, at)) => {
                    if metadata.signatures.len() == MAX_SIGNATURES {
                        return Err(BlockError::TooManySignatures);
                    }
                    metadata
                        .signatures
                        .push(MetadataSignature::parse(message, at).map_err(malformed)?);
                }
                _ => {}
            }
        }
        let bytes = metadata.value.len().saturating_add(metadata.header.len());
        if bytes > MAX_SIGNED {
            return Err(BlockError::SignedTooLong { bytes });
        }
        let count = metadata.signatures.len();
        if count.saturating_mul(bytes) > MAX_HASHED {
            return Err(BlockError::TooMuchSigned { count, bytes });
        }
        Ok(metadata)
    }

    /// The number of the newest config block that the signatures cover; `None` where they cover
    /// none, as in blocks of Fabric before v1.4.1 (PRB-10).
    pub(super) fn last_config(&self) -> Option<BlockNumber> {
        let mut index = None;
        for field in Fields::new(self.value) {
            let field = field.ok()?;
            if let (1, Value::Bytes(last_config, _)) = (field.number, field.value) {
                let index = index.get_or_insert(0);
                for field in Fields::new(last_config) {
                    if let (1, Value::Varint(value)) = {
                        let field = field.ok()?;
                        (field.number, field.value)
                    } {
                        *index = value;
                    }
                }
            }
        }
        index.map(BlockNumber::new)
    }

    /// What each signature claims, under a configuration (semantics §2.4).
    pub(super) fn claims(
        &'a self,
        config: &'a ChannelConfig,
    ) -> Result<Vec<Claim<'a>>, BlockError> {
        let by_id_allowed = config.capabilities().identifier_headers();
        let mut claims = Vec::with_capacity(self.signatures.len());
        for (index, signature) in self.signatures.iter().enumerate() {
            let malformed = |kind| {
                move |source| BlockError::MalformedSignatureHeader {
                    index,
                    kind,
                    source,
                }
            };
            let by_id = by_id_allowed
                && signature.signature_header.is_empty()
                && !signature.identifier_header.is_empty();
            let (kind, identity, header) = if by_id {
                let id = identifier(signature.identifier_header)
                    .map_err(malformed("identifier header"))?;
                // A signature of an unknown id is nobody's.
                (
                    SignerKind::Consenter(id),
                    config.consenter_identity(id),
                    signature.identifier_header,
                )
            } else {
                let creator =
                    creator(signature.signature_header).map_err(malformed("signature header"))?;
                (
                    SignerKind::Creator,
                    SerializedIdentity::parse(creator).ok(),
                    signature.signature_header,
                )
            };
            let message = [self.value, header, &self.header];
            claims.push(Claim {
                kind,
                data: SignedData {
                    identity,
                    message,
                    signature: signature.signature,
                },
            });
        }
        Ok(claims)
    }
}

impl<'a> MetadataSignature<'a> {
    fn parse(message: &'a [u8], at: usize) -> Result<Self, WireError> {
        let mut signature = Self::default();
        for field in Fields::nested(message, at) {
            let field = field?;
            match (field.number, field.value) {
                (1, Value::Bytes(bytes, _)) => signature.signature_header = bytes,
                (2, Value::Bytes(bytes, _)) => signature.signature = bytes,
                (3, Value::Bytes(bytes, _)) => signature.identifier_header = bytes,
                _ => {}
            }
        }
        Ok(signature)
    }
}

impl Claim<'_> {
    /// Checks the signature by itself.
    pub(super) fn signer(&self, config: &ChannelConfig) -> SignerInfo {
        let identity = self.data.identity(config.msps());
        let problem = match &identity {
            Err(_) if self.data.identity.is_none() => Some(match self.kind {
                SignerKind::Creator => "its creator does not parse".to_owned(),
                SignerKind::Consenter(id) => format!("there is no consenter {id}"),
            }),
            Err(error) => Some(error.to_string()),
            Ok(identity) => {
                let genuine = identity.verify(&self.data.message, self.data.signature);
                let invalid = identity.validity().err().map(ToString::to_string);
                invalid.or_else(|| genuine.err().map(|error| error.to_string()))
            }
        };
        SignerInfo {
            kind: self.kind,
            msp_id: self
                .data
                .identity
                .map(|identity| identity.msp_id.to_owned())
                .unwrap_or_default(),
            subject: identity
                .map(|identity| identity.subject().to_owned())
                .unwrap_or_default(),
            valid: problem.is_none(),
            problem,
        }
    }
}

impl SignatureReport {
    pub(super) fn new(claims: &[Claim<'_>], config: &ChannelConfig) -> Self {
        let signers = claims
            .iter()
            .take(MAX_REPORTED)
            .map(|claim| claim.signer(config))
            .collect();
        Self {
            count: claims.len(),
            signers,
        }
    }
}

impl fmt::Display for SignatureReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.count == 0 {
            return f.write_str("there is none");
        }
        for (index, signer) in self.signers.iter().enumerate() {
            write!(
                f,
                "{}{index} by {signer}",
                if index == 0 { "" } else { ", " }
            )?;
        }
        if self.count > self.signers.len() {
            write!(f, ", and {} more", self.count - self.signers.len())?;
        }
        Ok(())
    }
}

impl fmt::Display for SignerInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let SignerKind::Consenter(id) = self.kind {
            write!(f, "consenter {id} ")?;
        }
        if self.msp_id.is_empty() {
            f.write_str("an unknown MSP")?;
        } else {
            // It is a claim, of any length and with any characters.
            write!(f, "{}", shortened(&self.msp_id).escape_debug())?;
        }
        if !self.subject.is_empty() {
            write!(f, " [{}]", self.subject)?;
        }
        write!(f, " ({})", self.problem.as_deref().unwrap_or("genuine"))
    }
}

/// The creator in a `common.SignatureHeader`.
fn creator(header: &[u8]) -> Result<&[u8], WireError> {
    let mut creator: &[u8] = &[];
    for field in Fields::new(header) {
        let field = field?;
        if let (1, Value::Bytes(bytes, _)) = (field.number, field.value) {
            creator = bytes;
        }
    }
    Ok(creator)
}

/// The id in a `common.IdentifierHeader`.
fn identifier(header: &[u8]) -> Result<u32, WireError> {
    let mut identifier = 0;
    for field in Fields::new(header) {
        let field = field?;
        if let (1, Value::Varint(value)) = (field.number, field.value) {
            // A uint32 is the low half of the varint, as every protobuf decoder has it.
            identifier = value as u32;
        }
    }
    Ok(identifier)
}
