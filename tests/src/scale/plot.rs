// SPDX-License-Identifier: Apache-2.0
//! Pictures of what is compared, with two logarithmic axes.

use anyhow::Result;

use super::{Case, Cost, Way, table::bytes};
use crate::drawing::{Axis, Drawing, Line, Scale};

/// What a picture shows of a cost.
#[derive(Debug, Clone, Copy)]
pub struct Picture {
    /// What stands above it.
    pub title: &'static str,
    /// What is shown.
    pub value: fn(&Cost) -> f64,
}

/// What the orderers send.
pub const ORDERERS_SEND: Picture = Picture {
    title: "What all orderers send for a block of 1 MB",
    value: |cost| cost.orderer_bytes as f64,
};

/// What the node sends that sends most.
pub const NODE_SENDS: Picture = Picture {
    title: "What the busiest node sends for a block of 1 MB",
    value: |cost| cost.bytes_out.max,
};

/// What a node gets.
pub const NODE_GETS: Picture = Picture {
    title: "What a node gets for a block of 1 MB, on the average",
    value: |cost| cost.bytes_in.mean,
};

impl Picture {
    /// Draws a line for each way over the number of nodes; what is nothing is left out.
    ///
    /// # Errors
    ///
    /// When there is nothing to draw.
    pub fn draw(&self, rows: &[(Case, [(Way, Cost); 4])]) -> Result<String> {
        let points = |way: Way| -> Vec<(f64, f64)> {
            let of = |(case, ways): &(Case, [(Way, Cost); 4])| {
                let cost = ways.iter().find(|(other, _)| *other == way)?;
                Some((case.nodes() as f64, (self.value)(&cost.1)))
            };
            let points = rows.iter().filter_map(of);
            points.filter(|(_, y)| *y > 0.0).collect()
        };
        let lines = Way::ALL.map(|way| Line {
            name: way.name().to_owned(),
            points: points(way),
        });
        let axis = |label| Axis {
            scale: Scale::Powers,
            label,
        };
        let drawing = Drawing {
            title: self.title,
            over: "nodes",
            x: axis(|nodes| nodes.to_string()),
            y: axis(bytes),
        };
        drawing.draw(&lines)
    }
}
