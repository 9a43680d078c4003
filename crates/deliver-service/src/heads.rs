// SPDX-License-Identifier: Apache-2.0
//! Blocks that nodes and orderers show the headers of: what they prove, and that the pull loop is
//! told.

use block_api::{Block, Endpoint, HeaderProof, NodeId, Standing, Verdict};
use blocks_provider::{Evidence, Head, HeaderVerdict, ProviderHandle};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{buffer::Giver, intake::Intake};

/// The newest blocks that were shown, by what their headers prove: what one signer made up does not
/// hide what is proven.
#[derive(Debug, Clone, Default)]
pub(crate) struct Shown {
    /// The highest one that is proven.
    pub(crate) proven: Option<Head>,
    /// The last hint.
    pub(crate) hint: Option<Head>,
}

impl Shown {
    fn put(&mut self, head: Head) {
        match head.evidence {
            Evidence::Hint => self.hint = Some(head),
            Evidence::Proven | Evidence::Stored => {
                let held = self.proven.as_ref();
                if held.is_none_or(|held| held.number <= head.number) {
                    self.proven = Some(head);
                }
            }
        }
    }

    /// Whether a tip that stands so to the chain says nothing new. What was a hint is one until its
    /// place in the chain is known, and of another block of its number it says nothing.
    fn covers(&self, tip: &Block, standing: Standing) -> bool {
        let proven = self.proven.as_ref();
        if proven.is_some_and(|head| head.number >= tip.number()) {
            return true;
        }
        let same = |head: &Head| head.number == tip.number() && head.hash == tip.header_hash();
        standing == Standing::Ahead && self.hint.as_ref().is_some_and(same)
    }
}

/// Judges header and signatures of a block. A header that links to the tip, or that a quorum signed,
/// proves its block; another one that the channel's rules accept is a hint.
pub(crate) fn judge(intake: &Intake, header: &Block) -> HeaderVerdict {
    intake.evidence.note(header, &Giver::Orderers);
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
/// proven so far.
pub(crate) fn is_news(intake: &Intake, tip: &Block) -> bool {
    if tip.number() < intake.applied().height.next_block() {
        return false;
    }
    !intake.shown.borrow().covers(tip, intake.standing(tip))
}

/// Judges such a tip, and notes it if its header is good. Says whether it cannot be judged yet;
/// `None` when the channel closes.
pub(crate) async fn note_tip(intake: &Intake, tip: &Block, from: &NodeId) -> Option<bool> {
    let standing = intake.standing(tip);
    let verdict = intake.judge_header(tip.clone(), standing).await.ok()?;
    let evidence = match header_verdict(intake, standing, verdict) {
        HeaderVerdict::Proven => Evidence::Proven,
        HeaderVerdict::Hint => Evidence::Hint,
        HeaderVerdict::Rejected(_) => {
            intake.failing.refused(from, Instant::now());
            return Some(false);
        }
        HeaderVerdict::Unknown => return Some(true),
    };
    // Something better may have come while it was judged.
    if is_news(intake, tip) {
        show(intake, tip, evidence, from);
    }
    Some(false)
}

/// Tells the pull loop what was shown, and how high the chain is.
pub(crate) async fn tell(intake: &Intake, handle: &ProviderHandle, cancel: &CancellationToken) {
    let mut applied = intake.applied.subscribe();
    let mut shown = intake.shown.subscribe();
    let mut told = Shown::default();
    loop {
        let news = shown.borrow_and_update().clone();
        // A hint is told once: the pull loop drops one that has had its effect.
        if news.hint != told.hint
            && let Some(hint) = &news.hint
        {
            handle.head_seen(hint.clone());
        }
        if let Some(proven) = &news.proven {
            handle.head_seen(proven.clone());
        }
        told = news;
        handle.chain_grew(applied.borrow_and_update().height);
        let changed = tokio::select! {
            biased;
            () = cancel.cancelled() => return,
            changed = shown.changed() => changed,
            changed = applied.changed() => changed,
        };
        if changed.is_err() {
            return;
        }
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
    let head = Head {
        number: block.number(),
        hash: block.header_hash(),
        evidence,
        from: Endpoint::of_node(from),
    };
    intake.shown.send_modify(|shown| shown.put(head));
}

#[cfg(test)]
mod tests {
    use block_api::testing::TestChain;

    use super::*;

    #[test]
    fn a_hint_hides_nothing_that_is_proven_and_no_other_tip() {
        let (mut chain, blocks) = TestChain::of_blocks("ch", 3, 10);
        let mut other = chain.clone();
        let (tip, made_up) = (chain.data(10), other.data(20));
        let head = |block: &Block, evidence| Head {
            number: block.number(),
            hash: block.header_hash(),
            evidence,
            from: Endpoint::of_node(&NodeId::new("node")),
        };
        let mut shown = Shown::default();
        shown.put(head(&blocks[2], Evidence::Proven));
        shown.put(head(&made_up, Evidence::Hint));
        let numbers = |shown: &Shown| {
            let number = |head: &Option<Head>| head.as_ref().map(|head| head.number.get());
            (number(&shown.proven), number(&shown.hint))
        };
        assert_eq!(numbers(&shown), (Some(2), Some(3)));
        assert!(shown.covers(&made_up, Standing::Ahead));
        assert!(
            !shown.covers(&made_up, Standing::Linked),
            "it may be proven by now"
        );
        assert!(
            !shown.covers(&tip, Standing::Ahead),
            "another block of its number"
        );
        assert!(shown.covers(&blocks[2], Standing::Linked));
        shown.put(head(&tip, Evidence::Proven));
        shown.put(head(&blocks[1], Evidence::Proven));
        assert_eq!(
            numbers(&shown),
            (Some(3), Some(3)),
            "the highest one that is proven"
        );
    }
}
