// SPDX-License-Identifier: Apache-2.0
//! Progress on standard error: bars on a terminal, plain lines otherwise.

use std::{
    io::{self, IsTerminal as _},
    time::Duration,
};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use tokio::time::Instant;

use crate::output;

/// How often a plain line is written at most.
const LINE_EVERY: Duration = Duration::from_secs(1);

/// How high everybody is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Heights {
    pub(super) orderer: u64,
    pub(super) nodes: Vec<u64>,
}

pub(super) enum Progress {
    Bars {
        orderer: ProgressBar,
        nodes: Vec<ProgressBar>,
        _all: MultiProgress,
    },
    Lines {
        target: u64,
        next: Instant,
        last: Option<Heights>,
    },
}

impl Progress {
    pub(super) fn new<'a>(target: u64, names: impl Iterator<Item = &'a str>) -> Self {
        if !io::stderr().is_terminal() {
            return Self::Lines {
                target,
                next: Instant::now(),
                last: None,
            };
        }
        let all = MultiProgress::new();
        let style = ProgressStyle::with_template("{prefix:>8} {bar:40} {pos}/{len}")
            .unwrap_or_else(|_| ProgressStyle::default_bar());
        let bar = |name: &str| {
            let bar = ProgressBar::new(target)
                .with_style(style.clone())
                .with_prefix(name.to_owned());
            all.add(bar)
        };
        Self::Bars {
            orderer: bar("orderer"),
            nodes: names.map(bar).collect(),
            _all: all.clone(),
        }
    }

    pub(super) fn show(&mut self, heights: &Heights) {
        match self {
            Self::Bars { orderer, nodes, .. } => {
                orderer.set_position(heights.orderer);
                for (bar, height) in nodes.iter().zip(&heights.nodes) {
                    bar.set_position(*height);
                }
            }
            Self::Lines { target, next, last } => {
                if Instant::now() >= *next && last.as_ref() != Some(heights) {
                    let nodes: Vec<String> =
                        heights.nodes.iter().map(ToString::to_string).collect();
                    output::note(&format!(
                        "height {} of {target} ordered; nodes: {}",
                        heights.orderer,
                        nodes.join(" ")
                    ));
                    *next = Instant::now() + LINE_EVERY;
                    *last = Some(heights.clone());
                }
            }
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Self::Bars { orderer, nodes, .. } = self {
            // The table says it all.
            for bar in nodes.iter().chain([&*orderer]) {
                bar.finish_and_clear();
            }
        }
    }
}
