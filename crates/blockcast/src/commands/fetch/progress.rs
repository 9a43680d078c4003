// SPDX-License-Identifier: Apache-2.0
//! What was fetched, and how that is shown while it grows: on standard error, as a bar on a
//! terminal and as plain lines otherwise.

use std::{
    io::{self, IsTerminal as _},
    time::Duration,
};

use block_api::BlockNumber;
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use tokio::time::Instant;

use crate::{
    commands::{fetch::files::Written, printable::grouped},
    output,
};

/// How often a plain line is written at most.
const LINE_EVERY: Duration = Duration::from_secs(2);

/// What was fetched.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Fetched {
    pub(super) blocks: u64,
    pub(super) first: BlockNumber,
    pub(super) last: BlockNumber,
    pub(super) bytes: u64,
    /// How many were there before, with the same bytes.
    pub(super) unchanged: u64,
}

#[derive(Debug)]
pub(super) struct Progress {
    fetched: Fetched,
    shown: Shown,
}

#[derive(Debug)]
enum Shown {
    Bar(ProgressBar),
    Lines { next: Instant },
}

impl Progress {
    /// Of so many blocks, where that is known.
    pub(super) fn new(total: Option<u64>) -> Self {
        let shown = if io::stderr().is_terminal() {
            let (bar, template) = match total {
                Some(total) => (
                    ProgressBar::new(total),
                    "{bar:40} {pos}/{len} blocks, {msg}",
                ),
                None => (ProgressBar::new_spinner(), "{spinner} {pos} blocks, {msg}"),
            };
            let style = ProgressStyle::with_template(template);
            Shown::Bar(bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar())))
        } else {
            Shown::Lines {
                next: Instant::now() + LINE_EVERY,
            }
        };
        Self {
            fetched: Fetched::default(),
            shown,
        }
    }

    /// The newest block that came.
    pub(super) fn last(&self) -> Option<BlockNumber> {
        (self.fetched.blocks > 0).then_some(self.fetched.last)
    }

    /// Counts a block that was written.
    pub(super) fn count(&mut self, number: BlockNumber, length: usize, written: Written) {
        let fetched = &mut self.fetched;
        if fetched.blocks == 0 {
            fetched.first = number;
        }
        fetched.last = number;
        fetched.blocks += 1;
        fetched.bytes += u64::try_from(length).unwrap_or(u64::MAX);
        fetched.unchanged += u64::from(written == Written::Unchanged);
        match &mut self.shown {
            Shown::Bar(bar) => {
                bar.set_message(HumanBytes(fetched.bytes).to_string());
                bar.inc(1);
            }
            Shown::Lines { next } if Instant::now() >= *next => {
                output::note(&format!(
                    "{} blocks up to block {number}, {} bytes",
                    grouped(fetched.blocks),
                    grouped(fetched.bytes)
                ));
                *next = Instant::now() + LINE_EVERY;
            }
            Shown::Lines { .. } => {}
        }
    }

    /// Shows nothing any more.
    pub(super) fn finish(self) -> Fetched {
        if let Shown::Bar(bar) = &self.shown {
            bar.finish_and_clear();
        }
        self.fetched
    }
}
