// SPDX-License-Identifier: Apache-2.0
//! Pictures of lines, as SVG.

use std::ops::Range;

use anyhow::{Context as _, Result, ensure};
use plotters::{
    coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter},
    prelude::{
        BLACK, ChartBuilder, Circle, DashedLineSeries, IntoDrawingArea as _, LineSeries,
        PathElement, RGBColor, SVGBackend, SeriesLabelPosition, TRANSPARENT, WHITE,
    },
    style::Color as _,
};

/// The size of a picture, of its letters, and of the room for what stands at the axes.
const SIZE: (u32, u32) = (860, 520);
const FONT: &str = "sans-serif";
const TITLE_SIZE: u32 = 20;
const TEXT_SIZE: u32 = 15;
const MARGIN: u32 = 16;
const BELOW: u32 = 52;
const BESIDE: u32 = 72;

/// The part of the height that a line of the legend takes, and its frame: what is drawn ends below.
const LEGEND_LINE: f64 = 0.055;
const LEGEND_FRAME: f64 = 0.07;
const LEGEND_AT_MOST: f64 = 0.6;

/// On an axis that is not logarithmic, there are at most so many steps.
const STEPS: f64 = 8.0;

/// Colours that those can tell apart who see few of them (Okabe and Ito), and the lengths of dashes and
/// of the gaps between them, for lines that lie on each other.
const STYLES: [(RGBColor, Option<(u32, u32)>); 7] = [
    (RGBColor(0, 114, 178), None),
    (RGBColor(213, 94, 0), None),
    (RGBColor(0, 158, 115), Some((9, 6))),
    (RGBColor(204, 121, 167), Some((3, 5))),
    (RGBColor(230, 159, 0), None),
    (RGBColor(86, 180, 233), Some((9, 6))),
    (RGBColor(0, 0, 0), Some((3, 5))),
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

/// An axis with its marks.
struct Placed {
    axis: Axis,
    marks: Vec<f64>,
    /// So much of the whole is left free behind the last mark.
    free: f64,
}

impl Drawing<'_> {
    /// Draws the lines: one without points is left out.
    ///
    /// # Errors
    ///
    /// When there is no point at all, or one that is on no such axis.
    pub fn draw(&self, lines: &[Line]) -> Result<String> {
        let failed = || format!("cannot draw {:?}", self.title);
        let points = || lines.iter().flat_map(|line| &line.points);
        let drawn = lines.iter().filter(|line| !line.points.is_empty());
        let legend = LEGEND_FRAME + LEGEND_LINE * drawn.count() as f64;
        let x = Placed::of(self.x, points().map(|(x, _)| *x), 0.0).with_context(failed)?;
        let y = points().map(|(_, y)| *y);
        let y = Placed::of(self.y, y, legend.min(LEGEND_AT_MOST)).with_context(failed)?;
        let mut svg = String::new();
        self.draw_on(&mut svg, (x, y), lines).with_context(failed)?;
        Ok(svg)
    }

    fn draw_on(&self, svg: &mut String, (x, y): (Placed, Placed), lines: &[Line]) -> Result<()> {
        let area = SVGBackend::with_string(svg, SIZE).into_drawing_area();
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .caption(self.title, (FONT, TITLE_SIZE))
            .margin(MARGIN)
            .margin_right(2 * MARGIN)
            .x_label_area_size(BELOW)
            .y_label_area_size(BESIDE)
            .build_cartesian_2d(x, y)?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .bold_line_style(BLACK.mix(0.15))
            .label_style((FONT, TEXT_SIZE))
            .axis_desc_style((FONT, TEXT_SIZE))
            .x_desc(self.over)
            .draw()?;
        for (line, (colour, dashes)) in lines.iter().zip(STYLES.iter().cycle()) {
            if line.points.is_empty() {
                continue;
            }
            let points = line.points.iter().copied();
            let stroke = colour.stroke_width(2);
            let dots = points
                .clone()
                .map(|point| Circle::new(point, 3, colour.filled()));
            chart.draw_series(dots)?;
            let series = match *dashes {
                None => chart.draw_series(LineSeries::new(points, stroke)),
                Some((dash, gap)) => {
                    chart.draw_series(DashedLineSeries::new(points, dash, gap, stroke))
                }
            };
            series?
                .label(&line.name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], stroke));
        }
        chart
            .configure_series_labels()
            .label_font((FONT, TEXT_SIZE))
            .background_style(WHITE.mix(0.85))
            .border_style(BLACK.mix(0.4))
            .position(SeriesLabelPosition::UpperLeft)
            .draw()?;
        Ok(area.present()?)
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
    fn of(axis: Axis, values: impl Iterator<Item = f64> + Clone, free: f64) -> Result<Self> {
        let least = values.clone().fold(f64::INFINITY, f64::min);
        let most = values.clone().fold(0.0, f64::max);
        ensure!(most > 0.0, "there is nothing to draw");
        for value in values {
            let at = axis.scale.at(value);
            ensure!(value >= 0.0 && at.is_finite(), "{value} is on no such axis");
        }
        let marks = axis.scale.marks(least, most);
        Ok(Self { axis, marks, free })
    }

    /// Which part of the whole is before a value.
    fn part(&self, value: f64) -> f64 {
        let Range { start, end } = self.range();
        let [start, end, at] = [start, end, value].map(|value| self.axis.scale.at(value));
        (at - start) / (end - start) * (1.0 - self.free)
    }
}

impl Ranged for Placed {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (from, to): (i32, i32)) -> i32 {
        from + (f64::from(to - from) * self.part(*value)).round() as i32
    }

    fn key_points<H: KeyPointHint>(&self, _: H) -> Vec<f64> {
        self.marks.clone()
    }

    fn range(&self) -> Range<f64> {
        let mark = |mark: Option<&f64>| mark.copied().unwrap_or_default();
        mark(self.marks.first())..mark(self.marks.last())
    }
}

impl ValueFormatter<f64> for Placed {
    fn format_ext(&self, mark: &f64) -> String {
        (self.axis.label)(*mark)
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
            let placed = Placed::of(axis(scale), values.into_iter(), 0.0).unwrap();
            assert_eq!(placed.marks, marks, "{scale:?} {values:?}");
            let ends = [marks[0], marks[marks.len() - 1]];
            let ends = ends.map(|mark| placed.map(&mark, (100, 400)));
            assert_eq!(ends, [100, 400], "{scale:?} {values:?}");
        }
        let values = [10.0, 3000.0].into_iter();
        let placed = Placed::of(axis(Scale::Powers), values, 0.4).unwrap();
        // Upwards, as pixels are counted, with room for a legend.
        let pixels = [10.0, 100.0, 1e4].map(|value| placed.map(&value, (400, 100)));
        assert_eq!(pixels, [400, 340, 220]);
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
        for part in [
            "a title",
            "bare",
            "ours",
            "once",
            "blocks &amp; bytes",
            "&lt;10&gt;",
            "&lt;60&gt;",
        ] {
            let stands = svg.lines().any(|text| text.trim() == part);
            assert!(stands, "{part:?} in {svg}");
        }
        assert!(!svg.contains("nothing"), "{svg}");
        // Each has a colour of its own, which the legend shows, too, and a dot for each point.
        for (colour, pieces, dots) in [("#0072B2", 2, 2), ("#D55E00", 0, 0), ("#CC79A7", 1, 1)] {
            let of = |element: &str| {
                let drawn = svg.lines().filter(|line| line.starts_with(element));
                drawn.filter(|line| line.contains(colour)).count()
            };
            assert_eq!(
                (of("<polyline"), of("<circle")),
                (pieces, dots),
                "{colour} in {svg}"
            );
        }
        // Dashes are pieces.
        let green = svg.lines().filter(|line| line.contains("#009E73"));
        assert!(green.count() > 10, "{svg}");
        assert_eq!(
            svg,
            drawing.draw(&lines).unwrap(),
            "the same numbers, the same bytes"
        );
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
