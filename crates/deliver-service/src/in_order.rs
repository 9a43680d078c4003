// SPDX-License-Identifier: Apache-2.0
//! Blocks that come one after the other: judged by their position, as Fabric does.

use std::cmp::max;

use block_api::{Block, BlockNumber, Height, Standing};

use crate::{
    Origin,
    intake::{Intake, JudgeError},
};

/// The way through a run of blocks that begins at the tip of the store, and of which each links to
/// the one before it.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct InOrder {
    /// The height at which the run begins: what is stored below may not be in force yet.
    from: Height,
    /// The newest config block of the run, whose configuration may not be in force yet.
    config: Option<BlockNumber>,
}

impl InOrder {
    /// A run that begins at this height.
    pub(crate) fn from(height: Height) -> Self {
        Self {
            from: height,
            config: None,
        }
    }

    /// Judges the next block of the run and puts it into the buffer, unless it is known. Behind a
    /// config block it waits until that is in force.
    ///
    /// A copy that waits already counts only if it was judged by the same configuration: by an
    /// older one, others may have signed it.
    pub(crate) async fn take(
        &mut self,
        intake: &Intake,
        block: Block,
        origin: Origin,
    ) -> Result<(), JudgeError> {
        let number = block.number();
        if number < intake.buffer.next() {
            return Ok(());
        }
        let judge_there = self.config.map_or(self.from, BlockNumber::height);
        intake.wait_until_applied(judge_there).await?;
        let judge = max(self.config, intake.applied().config);
        let waiting = intake.buffer.waiting(number, &block.header_hash());
        if let Some(copy) = waiting
            && judge.is_none_or(|judge| judge == copy.judged_by)
        {
            self.note(number, copy.is_config);
            return Ok(());
        }
        let verified = intake.verify(block, Standing::Linked).await?;
        self.note(number, verified.is_config());
        match intake.buffer.push(verified, origin).await {
            true => Ok(()),
            false => Err(JudgeError::Closed),
        }
    }

    fn note(&mut self, number: BlockNumber, is_config: bool) {
        if is_config {
            self.config = Some(number);
        }
    }
}
