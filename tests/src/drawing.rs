// SPDX-License-Identifier: Apache-2.0
//! Pictures of lines, as SVG. They are written by hand, so that the same numbers make the same bytes.

use std::fmt::Write as _;

use anyhow::{Context as _, Result, ensure};

/// How high a picture is, how wide what the lines are in, and what is around that.
const HEIGHT: f64 = 520.0;
const WIDTH: f64 = 570.0;
const LEFT: f64 = 90.0;
const TOP: f64 = 50.0;
const BOTTOM: f64 = 60.0;

/// To the right is the legend: a piece of each line, and its name. Who draws knows no letters, and
/// takes all of them for wide ones.
const GAP: f64 = 16.0;
const KEY: f64 = 38.0;
const LETTER: f64 = 8.0;
const RIGHT: f64 = 18.0;

/// On an axis that is not logarithmic, there are at most so many steps.
const STEPS: f64 = 8.0;

/// Colours that those can tell apart who see few of them (Okabe and Ito), and dashes for lines that
/// lie on each other.
const STYLES: [(&str, &str); 7] = [
    ("#0072b2", ""),
    ("#d55e00", ""),
    ("#009e73", "9 6"),
    ("#cc79a7", "3 5"),
    ("#e69f00", ""),
    ("#56b4e9", "9 6"),
    ("#000000", "3 5"),
];

/// What a picture is of, but for the lines.
#[derive(Debug, Clone, Copy)]
pub struct Drawing<'a> {
    /// What stands above it.
    pub title: &'a str,
    /// What stands below it: what the lines are drawn over.
    pub over: &'a str,
    /// From left to right.
    pub x: Axis,
    /// From the bottom to the top.
    pub y: Axis,
}

/// An axis.
#[derive(Debug, Clone, Copy)]
pub struct Axis {
    /// Where it has its marks.
    pub scale: Scale,
    /// What stands beside a mark.
    pub label: fn(f64) -> String,
}

/// Where an axis has marks, from the first to the last of which it is.
#[derive(Debug, Clone, Copy)]
pub enum Scale {
    /// From zero on, in steps of one, two or five of a power of ten.
    Linear,
    /// Logarithmic, at each power of ten.
    Powers,
    /// Logarithmic, at these, as far as they are needed; no value is before the first or behind the
    /// last.
    Marks(&'static [f64]),
}

/// Points that belong together.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// What the legend says.
    pub name: String,
    /// The points, from left to right.
    pub points: Vec<(f64, f64)>,
}

/// An axis in its place: where it begins, and how far it goes from there.
struct Placed {
    scale: Scale,
    marks: Vec<f64>,
    begin: f64,
    length: f64,
}

impl Drawing<'_> {
    /// Draws the lines: one without points is left out, and one that has a single point is a dot.
    ///
    /// # Errors
    ///
    /// When there is no point at all, or one that is on no such axis.
    pub fn draw(&self, lines: &[Line]) -> Result<String> {
        let points = || lines.iter().flat_map(|line| &line.points);
        let failed = || format!("cannot draw {:?}", self.title);
        let x = points().map(|(x, _)| *x);
        let x = Placed::of(self.x.scale, x, (LEFT, WIDTH)).with_context(failed)?;
        let y = points().map(|(_, y)| *y);
        let up = (HEIGHT - BOTTOM, TOP + BOTTOM - HEIGHT);
        let y = Placed::of(self.y.scale, y, up).with_context(failed)?;

        // Of those that are left out, too: pictures of the same lines are of one size.
        let letters = lines.iter().map(|line| line.name.chars().count());
        let names = letters.max().unwrap_or_default() as f64 * LETTER;
        let key = LEFT + WIDTH + GAP;
        let whole = key + KEY + names + RIGHT;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {whole} {HEIGHT}\" \
             font-family=\"sans-serif\" font-size=\"14\">\n\
             <rect width=\"{whole}\" height=\"{HEIGHT}\" fill=\"#fff\"/>\n"
        );
        text(&mut svg, (LEFT, 30.0), "start", self.title);
        self.grid(&mut svg, &x, &y);
        let mut legend = TOP + 10.0;
        for (line, (colour, dashes)) in lines.iter().zip(STYLES.iter().cycle()) {
            if line.points.is_empty() {
                continue;
            }
            let points = line.points.iter();
            let points = points.map(|point| (x.at(point.0), y.at(point.1)));
            let points: Vec<String> = points.map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
            let end = key + 30.0;
            let sample = format!("{key},{legend} {end},{legend}");
            for points in [points.join(" "), sample] {
                // Writing to a string does not fail.
                let _ = writeln!(
                    svg,
                    "<polyline points=\"{points}\" fill=\"none\" stroke=\"{colour}\" \
                     stroke-width=\"2.5\" stroke-dasharray=\"{dashes}\"/>"
                );
            }
            if let [point] = line.points.as_slice() {
                let (x, y) = (x.at(point.0), y.at(point.1));
                let _ = writeln!(
                    svg,
                    "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>"
                );
            }
            text(&mut svg, (key + KEY, legend + 5.0), "start", &line.name);
            legend += 24.0;
        }
        Ok(svg + "</svg>\n")
    }

    /// The marks of the axes, and what they are of.
    fn grid(&self, svg: &mut String, x: &Placed, y: &Placed) {
        let (right, bottom) = (LEFT + WIDTH, HEIGHT - BOTTOM);
        for mark in &x.marks {
            let at = x.at(*mark);
            rule(svg, (at, TOP), (at, bottom));
            text(svg, (at, bottom + 22.0), "middle", &(self.x.label)(*mark));
        }
        for mark in &y.marks {
            let at = y.at(*mark);
            rule(svg, (LEFT, at), (right, at));
            text(svg, (LEFT - 8.0, at + 5.0), "end", &(self.y.label)(*mark));
        }
        let middle = LEFT + WIDTH / 2.0;
        text(svg, (middle, HEIGHT - 12.0), "middle", self.over);
    }
}

impl Scale {
    /// The marks between which all values are.
    fn marks(self, least: f64, most: f64) -> Vec<f64> {
        match self {
            Self::Linear => {
                let step = step(most);
                let steps = (most / step).ceil() as u32;
                (0..=steps).map(|mark| f64::from(mark) * step).collect()
            }
            Self::Powers => {
                let from = least.log10().floor() as i32;
                // A single value has a width, too.
                let to = (most.log10().ceil() as i32).max(from + 1);
                (from..=to).map(|power| 10_f64.powi(power)).collect()
            }
            Self::Marks(marks) => {
                let needed = marks.iter().take_while(|mark| **mark < most).count() + 1;
                marks.iter().copied().take(needed.max(2)).collect()
            }
        }
    }

    /// Where a value is among the others.
    fn at(self, value: f64) -> f64 {
        match self {
            Self::Linear => value,
            Self::Powers | Self::Marks(_) => value.log10(),
        }
    }
}

impl Placed {
    fn of(
        scale: Scale,
        values: impl Iterator<Item = f64> + Clone,
        (begin, length): (f64, f64),
    ) -> Result<Self> {
        let least = values.clone().fold(f64::INFINITY, f64::min);
        let most = values.clone().fold(0.0, f64::max);
        ensure!(most > 0.0, "there is nothing to draw");
        for value in values {
            let at = scale.at(value);
            ensure!(value >= 0.0 && at.is_finite(), "{value} is on no such axis");
        }
        Ok(Self {
            scale,
            marks: scale.marks(least, most),
            begin,
            length,
        })
    }

    fn at(&self, value: f64) -> f64 {
        let end = |mark: Option<&f64>| mark.map_or(0.0, |mark| self.scale.at(*mark));
        let (from, to) = (end(self.marks.first()), end(self.marks.last()));
        self.begin + (self.scale.at(value) - from) / (to - from) * self.length
    }
}

/// One, two or five of a power of ten, so that there are few of them in the whole.
fn step(whole: f64) -> f64 {
    let least = whole / STEPS;
    let power = 10_f64.powf(least.log10().floor());
    let times = [1.0, 2.0, 5.0]
        .into_iter()
        .find(|times| times * power >= least);
    times.unwrap_or(10.0) * power
}

fn rule(svg: &mut String, (x, y): (f64, f64), (to_x, to_y): (f64, f64)) {
    let _ = writeln!(
        svg,
        "<line x1=\"{x:.1}\" y1=\"{y:.1}\" x2=\"{to_x:.1}\" y2=\"{to_y:.1}\" stroke=\"#ddd\"/>"
    );
}

fn text(svg: &mut String, (x, y): (f64, f64), anchor: &str, text: &str) {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    let _ = writeln!(
        svg,
        "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(name: &str, points: &[(f64, f64)]) -> Line {
        Line {
            name: name.to_owned(),
            points: points.to_vec(),
        }
    }

    fn axis(scale: Scale) -> Axis {
        let label = |value| format!("<{value}>");
        Axis { scale, label }
    }

    fn drawing(x: Scale, y: Scale) -> Drawing<'static> {
        Drawing {
            title: "a title",
            over: "blocks & bytes",
            x: axis(x),
            y: axis(y),
        }
    }

    #[test]
    fn an_axis_has_marks_around_its_values() {
        const MARKS: &[f64] = &[2.0, 4.0, 10.0, 100.0];
        for (scale, values, marks) in [
            (Scale::Powers, [10.0, 3000.0], &[10.0, 100.0, 1e3, 1e4][..]),
            (Scale::Powers, [1.0, 1.0], &[1.0, 10.0]),
            (
                Scale::Linear,
                [7.0, 11.0],
                &[0.0, 2.0, 4.0, 6.0, 8.0, 10.0, 12.0],
            ),
            (Scale::Linear, [0.0, 20.0], &[0.0, 5.0, 10.0, 15.0, 20.0]),
            (Scale::Marks(MARKS), [2.0, 4.0], &[2.0, 4.0]),
            (Scale::Marks(MARKS), [2.0, 5.0], &[2.0, 4.0, 10.0]),
            (Scale::Marks(MARKS), [2.0, 2.0], &[2.0, 4.0]),
        ] {
            let axis = Placed::of(scale, values.into_iter(), (100.0, 300.0)).unwrap();
            assert_eq!(axis.marks, marks, "{scale:?} {values:?}");
            let ends = [marks[0], marks[marks.len() - 1]].map(|mark| axis.at(mark));
            assert_eq!(ends, [100.0, 400.0], "{scale:?} {values:?}");
        }
        let axis = Placed::of(Scale::Powers, [10.0, 3000.0].into_iter(), (100.0, 300.0)).unwrap();
        assert_eq!(axis.at(100.0), 200.0);
    }

    #[test]
    fn a_picture_has_its_axes_and_a_line_for_each_that_has_points() {
        let lines = [
            line("bare", &[(1.0, 60.0), (10.0, 100.0)]),
            line("nothing", &[]),
            line("ours", &[(1.0, 20.0), (10.0, 0.0)]),
            line("once", &[(10.0, 50.0)]),
        ];
        let drawing = drawing(Scale::Powers, Scale::Linear);
        let svg = drawing.draw(&lines).unwrap();
        let labels = [
            "a title",
            "bare",
            "ours",
            "blocks &amp; bytes",
            "&lt;10>",
            "&lt;80>",
        ];
        for part in labels {
            assert!(
                svg.contains(&format!(">{part}</text>")),
                "{part:?} in {svg}"
            );
        }
        assert!(!svg.contains("nothing"), "{svg}");
        // The lowest point of the axes is on the left at the bottom.
        assert!(svg.contains("points=\"90.0,214.0 660.0,50.0\""), "{svg}");
        assert!(svg.contains("points=\"90.0,378.0 660.0,460.0\""), "{svg}");
        assert!(svg.contains("cx=\"660.0\" cy=\"255.0\""), "{svg}");
        // Each has a colour of its own, which the legend shows, too.
        for (colour, count) in [("#0072b2", 2), ("#d55e00", 0), ("#009e73", 2)] {
            let drawn = svg.lines().filter(|line| line.starts_with("<polyline"));
            let drawn = drawn.filter(|line| line.contains(colour)).count();
            assert_eq!(drawn, count, "{colour} in {svg}");
        }
    }

    #[test]
    fn what_is_on_no_axis_is_no_picture() {
        let drawing = drawing(Scale::Powers, Scale::Linear);
        for points in [
            &[][..],
            &[(1.0, 0.0)],
            &[(0.0, 1.0), (1.0, 1.0)],
            &[(1.0, -1.0), (1.0, 1.0)],
            &[(1.0, 1.0), (10.0, f64::NAN)],
            &[(1.0, f64::INFINITY)],
        ] {
            let error = drawing.draw(&[line("case", points)]).unwrap_err();
            assert!(error.to_string().contains("a title"), "{error}");
        }
    }
}
