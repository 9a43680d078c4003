// SPDX-License-Identifier: Apache-2.0
//! Pictures of what is compared, as SVG with two logarithmic axes. They are written by hand, so that
//! the same numbers make the same bytes.

use std::fmt::Write as _;

use super::{Case, Cost, Way, table::bytes};

/// The picture, and where in it the points are.
const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 520.0;
const LEFT: f64 = 90.0;
const RIGHT: f64 = 200.0;
const TOP: f64 = 50.0;
const BOTTOM: f64 = 60.0;

/// Colours that those can tell apart who see few of them (Okabe and Ito), and dashes for lines that
/// lie on each other.
const STYLES: [(&str, &str); 4] = [
    ("#0072b2", ""),
    ("#d55e00", ""),
    ("#009e73", "9 6"),
    ("#cc79a7", "3 5"),
];

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

/// Where an axis begins, how many powers of ten it has, and the points that they are drawn on.
struct Axis {
    from: f64,
    decades: f64,
    begin: f64,
    length: f64,
}

impl Axis {
    fn of(values: impl Iterator<Item = f64>, begin: f64, length: f64) -> Self {
        let (least, most) = values.fold((f64::INFINITY, 1.0_f64), |(least, most), value| {
            (least.min(value), most.max(value))
        });
        let from = least.log10().floor();
        Self {
            from,
            decades: (most.log10().ceil() - from).max(1.0),
            begin,
            length,
        }
    }

    fn at(&self, value: f64) -> f64 {
        self.begin + (value.log10() - self.from) / self.decades * self.length
    }

    fn powers(&self) -> impl Iterator<Item = f64> {
        let from = self.from as i32;
        (from..=from + self.decades as i32).map(|power| 10_f64.powi(power))
    }
}

impl Picture {
    /// Draws a line for each way over the number of nodes; what is nothing is left out.
    pub fn draw(&self, rows: &[(Case, [(Way, Cost); 4])]) -> String {
        let points = |way: Way| -> Vec<(f64, f64)> {
            let of = |(case, ways): &(Case, [(Way, Cost); 4])| {
                let cost = ways.iter().find(|(other, _)| *other == way)?;
                Some((case.nodes() as f64, (self.value)(&cost.1)))
            };
            let points = rows.iter().filter_map(of);
            points.filter(|(_, y)| *y > 0.0).collect()
        };
        let lines: Vec<(Way, Vec<(f64, f64)>)> =
            Way::ALL.iter().map(|way| (*way, points(*way))).collect();
        let all = || lines.iter().flat_map(|(_, points)| points);
        let (width, height) = (WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM);
        let x = Axis::of(all().map(|(x, _)| *x), LEFT, width);
        let y = Axis::of(all().map(|(_, y)| *y), HEIGHT - BOTTOM, -height);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             font-family=\"sans-serif\" font-size=\"14\">\n\
             <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#fff\"/>\n"
        );
        text(&mut svg, (LEFT, 30.0), "start", self.title);
        for power in x.powers() {
            let at = x.at(power);
            rule(&mut svg, (at, TOP), (at, HEIGHT - BOTTOM));
            text(
                &mut svg,
                (at, HEIGHT - BOTTOM + 22.0),
                "middle",
                &power.to_string(),
            );
        }
        for power in y.powers() {
            let at = y.at(power);
            rule(&mut svg, (LEFT, at), (LEFT + width, at));
            text(&mut svg, (LEFT - 8.0, at + 5.0), "end", &bytes(power));
        }
        let middle = LEFT + width / 2.0;
        text(&mut svg, (middle, HEIGHT - 12.0), "middle", "nodes");
        let mut legend = TOP + 10.0;
        for ((way, points), (colour, dashes)) in lines.iter().zip(STYLES) {
            if points.is_empty() {
                continue;
            }
            let places: Vec<String> = points
                .iter()
                .map(|(across, up)| format!("{:.1},{:.1}", x.at(*across), y.at(*up)))
                .collect();
            let key = LEFT + width + 16.0;
            let style = format!(
                "fill=\"none\" stroke=\"{colour}\" stroke-width=\"2.5\" stroke-dasharray=\"{dashes}\""
            );
            // Writing to a string does not fail.
            let _ = writeln!(svg, "<polyline points=\"{}\" {style}/>", places.join(" "));
            let end = key + 30.0;
            let _ = writeln!(
                svg,
                "<polyline points=\"{key},{legend} {end},{legend}\" {style}/>"
            );
            text(&mut svg, (key + 38.0, legend + 5.0), "start", way.name());
            legend += 24.0;
        }
        svg + "</svg>\n"
    }
}

fn rule(svg: &mut String, (x, y): (f64, f64), (to_x, to_y): (f64, f64)) {
    let _ = writeln!(
        svg,
        "<line x1=\"{x:.1}\" y1=\"{y:.1}\" x2=\"{to_x:.1}\" y2=\"{to_y:.1}\" stroke=\"#ddd\"/>"
    );
}

fn text(svg: &mut String, (x, y): (f64, f64), anchor: &str, text: &str) {
    let _ = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_has_whole_powers_of_ten() {
        let axis = Axis::of([10.0, 3000.0].into_iter(), 100.0, 300.0);
        assert_eq!(axis.powers().collect::<Vec<_>>(), [10.0, 100.0, 1e3, 1e4]);
        assert_eq!((axis.at(10.0), axis.at(100.0)), (100.0, 200.0));
    }
}
