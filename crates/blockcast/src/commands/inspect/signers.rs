// SPDX-License-Identifier: Apache-2.0
//! Who signed a block.

use block_api::Block;
use channel_config::{SignerInfo, SignerKind};
use protos::{
    common::{IdentifierHeader, Metadata, MetadataSignature, SignatureHeader},
    decode_as_go,
};
use serde::Serialize;

use super::judge::Judge;
use crate::commands::{identity::Claimed, printable};

/// So many signatures are listed, which is how many a verifier takes.
const MAX_LISTED: usize = 256;

/// How a signature says who made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum By {
    Certificate,
    Consenter,
}

/// What is told of a signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct SignerReport {
    pub(super) index: usize,
    pub(super) by: By,
    /// The id of the consenter.
    pub(super) consenter: Option<u32>,
    pub(super) msp_id: Option<String>,
    pub(super) subject: Option<String>,
    /// Whether the identity is one of the channel's and made this signature; none when it was not
    /// judged.
    pub(super) valid: Option<bool>,
    pub(super) problem: Option<String>,
}

/// The signatures of a block.
#[derive(Debug)]
pub(super) struct Signers {
    pub(super) listed: Vec<SignerReport>,
    pub(super) total: usize,
    /// Why they were not judged, though there was a judge.
    pub(super) problem: Option<String>,
}

/// The signatures of a block as they present themselves, and where there is a judge with its
/// verdict.
pub(super) fn of(block: &Block, judge: Option<&Judge>) -> Signers {
    let signatures = block
        .signatures_slot()
        .and_then(|slot| decode_as_go::<Metadata>(slot).ok())
        .unwrap_or_default()
        .signatures;
    let mut listed: Vec<_> = (0..)
        .zip(signatures.iter().take(MAX_LISTED))
        .map(|(index, signature)| SignerReport::claimed(index, signature))
        .collect();
    let problem = match judge.map(|judge| judge.signers(block)) {
        Some(Ok(infos)) => {
            for (report, info) in listed.iter_mut().zip(&infos) {
                report.judged(info);
            }
            None
        }
        Some(Err(problem)) => Some(problem),
        None => None,
    };
    Signers {
        listed,
        total: signatures.len(),
        problem,
    }
}

impl SignerReport {
    fn claimed(index: usize, signature: &MetadataSignature) -> Self {
        let mut report = Self {
            index,
            by: By::Certificate,
            consenter: None,
            msp_id: None,
            subject: None,
            valid: None,
            problem: None,
        };
        if signature.signature_header.is_empty() && !signature.identifier_header.is_empty() {
            report.by = By::Consenter;
            match decode_as_go::<IdentifierHeader>(signature.identifier_header.clone()) {
                Ok(header) => report.consenter = Some(header.identifier),
                Err(_) => report.problem = Some("its identifier header does not parse".to_owned()),
            }
            return report;
        }
        let header = decode_as_go::<SignatureHeader>(signature.signature_header.clone()).ok();
        match header.and_then(|header| Claimed::parse(&header.creator)) {
            Some(claimed) => {
                report.msp_id = Some(claimed.msp_id);
                report.subject = claimed.subject;
            }
            None => report.problem = Some("its signature header does not parse".to_owned()),
        }
        report
    }

    /// Adds what the configuration knows.
    fn judged(&mut self, info: &SignerInfo) {
        match info.kind {
            SignerKind::Creator => self.by = By::Certificate,
            SignerKind::Consenter(id) => (self.by, self.consenter) = (By::Consenter, Some(id)),
        }
        let known = |text: &str| (!text.is_empty()).then(|| printable::name(text));
        self.msp_id = known(&info.msp_id).or(self.msp_id.take());
        self.subject = known(&info.subject).or(self.subject.take());
        self.valid = Some(info.valid);
        self.problem = info
            .problem
            .as_deref()
            .map(|problem| printable::printable(problem, printable::REASON));
    }
}
