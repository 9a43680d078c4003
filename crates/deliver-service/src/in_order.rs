// SPDX-License-Identifier: Apache-2.0
//! Blocks that come one after the other: judged by their position, as Fabric does.

use std::cmp::max;

use block_api::{Block, BlockNumber, Height, Standing};

use crate::{
    buffer::Giver,
    intake::{Intake, JudgeError},
    judges::Begun,
};

/// The way through a run of blocks that begins at the tip of the store, and of which each links to
/// the one before it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct InOrder {
    /// The height of the store when the run began. What is stored is not in force at once.
    stored: Height,
    /// The newest config block of the run, whose configuration may not be in force yet.
    config: Option<BlockNumber>,
}

impl InOrder {
    /// A run that begins at the tip of a store of this height.
    pub(crate) fn behind(stored: Height) -> Self {
        Self {
            stored,
            config: None,
        }
    }

    /// Judges the next block of the run and puts it into the buffer, unless it is known. It waits
    /// until every config block before it is in force.
    ///
    /// A copy that waits already counts only if it was judged by the same configuration: by an
    /// older one, others may have signed it. The same holds for what was begun of the block before
    /// its turn, and a verdict against it is heard here again, in its place.
    pub(crate) async fn take(
        &mut self,
        intake: &Intake,
        block: Block,
        begun: Option<Begun>,
        giver: &Giver,
    ) -> Result<(), JudgeError> {
        let number = block.number();
        if number < intake.buffer.next() {
            intake.evidence.note(&block, giver);
            self.pass(number);
            return Ok(());
        }
        let in_force = self
            .config
            .map_or(self.stored, |config| max(self.stored, config.height()));
        if intake.applied().height < in_force {
            intake.wait_until_applied(in_force).await?;
        }
        let judge = max(self.config, intake.applied().config);
        let waiting = intake.buffer.waiting(number, &block.header_hash());
        if let Some(copy) = waiting
            && judge.is_none_or(|judge| judge == copy.judged_by)
            // One that was dropped at this very moment is put in again.
            && (*giver != Giver::Stream || intake.buffer.passed(number, &block.header_hash()))
        {
            self.note(number, copy.is_config);
            return Ok(());
        }
        let begun = match begun {
            Some(begun) => begun.judged().await.ok(),
            None => None,
        };
        let begun = begun.filter(|begun| judge.is_none_or(|judge| judge == begun.judged_by()));
        let verified = match begun {
            Some(verified) => verified,
            None => intake.verify(block, Standing::Linked).await?,
        };
        self.note(number, verified.is_config());
        intake.proven(number);
        match intake.buffer.push(verified, giver).await {
            true => Ok(()),
            false => Err(JudgeError::Closed),
        }
    }

    /// Goes past a block that is stored. It may be a config block, and not be in force yet.
    pub(crate) fn pass(&mut self, number: BlockNumber) {
        self.stored = max(self.stored, number.height());
    }

    fn note(&mut self, number: BlockNumber, is_config: bool) {
        if is_config {
            self.config = Some(number);
        }
    }
}
