// SPDX-License-Identifier: Apache-2.0
//! Blocks that nodes and orderers show the headers of: what they prove, and that the pull loop is
//! told.

use block_api::{Block, Endpoint, HeaderProof, NodeId, Standing, Verdict};
use blocks_provider::{Evidence, Head, HeaderVerdict, ProviderHandle};
use tokio_util::sync::CancellationToken;

use crate::intake::Intake;

/// Judges header and signatures of a block. A header that links to the tip, or that a quorum signed,
/// proves its block; another one that the channel's rules accept is a hint.
pub(crate) fn judge(intake: &Intake, header: &Block) -> HeaderVerdict {
    intake.evidence.note(header);
    let standing = intake.standing(header);
    let verdict = intake.verifier.verify_attestation(header, standing);
    header_verdict(intake, standing, verdict)
}

/// Notes a block of which header and signatures were accepted.
pub(crate) fn note(intake: &Intake, accepted: &Block, from: &NodeId) {
    show(
        intake,
        accepted,
        evidence(intake, intake.standing(accepted)),
        from,
    );
}

/// Whether the tip that a node says to have is worth being judged: it is above everything that was
/// proven so far. The tip of another chain is kept as evidence.
pub(crate) fn is_news(intake: &Intake, tip: &Block) -> bool {
    intake.evidence.note(tip);
    // A hint of a great number must not hide the tips of others.
    let known = intake.shown.borrow().as_ref().is_some_and(|head| {
        head.number == tip.number()
            || head.evidence == Evidence::Proven && head.number > tip.number()
    });
    !known && tip.number() >= intake.applied().height.next_block()
}

/// Judges such a tip, and notes it if its header is good.
pub(crate) async fn note_tip(intake: &Intake, tip: &Block, from: &NodeId) {
    let standing = intake.standing(tip);
    let Ok(verdict) = intake.judge_header(tip.clone(), standing).await else {
        return;
    };
    let evidence = match header_verdict(intake, standing, verdict) {
        HeaderVerdict::Proven => Evidence::Proven,
        HeaderVerdict::Hint => Evidence::Hint,
        HeaderVerdict::Rejected(_) | HeaderVerdict::Unknown => return,
    };
    // Something better may have come while it was judged.
    if is_news(intake, tip) {
        show(intake, tip, evidence, from);
    }
}

/// Tells the pull loop what was shown, and how high the chain is.
pub(crate) async fn tell(intake: &Intake, handle: &ProviderHandle, cancel: &CancellationToken) {
    let mut applied = intake.applied.subscribe();
    let mut shown = intake.shown.subscribe();
    loop {
        let told = tokio::select! {
            biased;
            () = cancel.cancelled() => return,
            told = shown.changed() => told,
            told = applied.changed() => told,
        };
        if told.is_err() {
            return;
        }
        if let Some(head) = shown.borrow_and_update().clone() {
            handle.head_seen(head);
        }
        handle.chain_grew(applied.borrow_and_update().height);
    }
}

fn header_verdict(intake: &Intake, standing: Standing, verdict: Verdict) -> HeaderVerdict {
    match verdict {
        Verdict::Accepted(_) => match evidence(intake, standing) {
            Evidence::Hint => HeaderVerdict::Hint,
            Evidence::Proven | Evidence::Stored => HeaderVerdict::Proven,
        },
        Verdict::Rejected(rejection) => HeaderVerdict::Rejected(rejection),
        Verdict::AwaitsConfig(_) | Verdict::AwaitsLink => HeaderVerdict::Unknown,
    }
}

fn evidence(intake: &Intake, standing: Standing) -> Evidence {
    match (standing, intake.verifier.header_proof()) {
        (Standing::Linked, _) | (_, HeaderProof::Quorum) => Evidence::Proven,
        (Standing::Ahead, HeaderProof::OneSigner) => Evidence::Hint,
    }
}

fn show(intake: &Intake, block: &Block, evidence: Evidence, from: &NodeId) {
    if evidence == Evidence::Proven {
        intake.proven(block.number());
    }
    intake.shown.send_replace(Some(Head {
        number: block.number(),
        hash: block.header_hash(),
        evidence,
        from: Endpoint::of_node(from),
    }));
}
