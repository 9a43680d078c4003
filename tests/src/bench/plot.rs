// SPDX-License-Identifier: Apache-2.0
//! Pictures of measurements, as SVG.

use std::{path::Path, time::Duration};

use anyhow::{Result, anyhow, ensure};
use plotters::{
    coord::combinators::IntoLogRange as _,
    prelude::{
        BLACK, ChartBuilder, Circle, IntoDrawingArea as _, LineSeries, PathElement, RGBColor,
        SVGBackend, SeriesLabelPosition, WHITE,
    },
    style::Color as _,
};

/// The size of a picture, and of its letters.
const SIZE: (u32, u32) = (860, 520);
const FONT: &str = "sans-serif";
const TITLE_SIZE: u32 = 20;
const TEXT_SIZE: u32 = 15;

/// Colours that are told apart by those, too, who see few of them (Okabe and Ito).
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(0, 0, 0),
];

/// The percentiles of a line of latencies; the last one that there are enough values for ends it.
const PERCENTILES: [f64; 6] = [50.0, 75.0, 90.0, 99.0, 99.9, 99.99];

/// The part of the height that a line of the legend takes, and its frame: what is drawn ends below.
const LEGEND_LINE: f64 = 0.055;
const LEGEND_FRAME: f64 = 0.07;

/// Points that belong together.
#[derive(Debug, Clone, PartialEq)]
pub struct Line {
    /// What the legend says.
    pub name: String,
    /// The points, from left to right.
    pub points: Vec<(f64, f64)>,
}

/// What the axes say.
struct Axes<'a> {
    title: &'a str,
    x: &'a str,
    y: &'a str,
    x_label: fn(&f64) -> String,
}

/// Throughput over the size of blocks: points of bytes and MB/s.
///
/// # Errors
///
/// When there is nothing to draw, or the file cannot be written.
pub fn throughput(file: &Path, title: &str, lines: &[Line]) -> Result<()> {
    let axes = Axes {
        title,
        x: "bytes of a block",
        y: "MB/s",
        x_label: |bytes| shown_bytes(*bytes),
    };
    draw(file, &axes, lines)
}

/// The percentiles of latencies, of each case by its name.
///
/// # Errors
///
/// When there is nothing to draw, or the file cannot be written.
pub fn latency(file: &Path, title: &str, cases: &[(String, Vec<Duration>)]) -> Result<()> {
    let lines: Vec<Line> = cases
        .iter()
        .map(|(name, latencies)| Line {
            name: name.clone(),
            points: tail(latencies),
        })
        .collect();
    let axes = Axes {
        title,
        x: "percentile, from the median on",
        y: "ms",
        // Of the lines of a logarithmic axis, those that have a name.
        x_label: |rest| match *rest {
            rest if [2.0, 10.0, 100.0, 1000.0].contains(&rest.round()) => {
                format!("p{}", 100.0 - 100.0 / rest.round())
            }
            _ => String::new(),
        },
    };
    draw(file, &axes, &lines)
}

/// The time that so many in a hundred do not exceed, if there is one.
pub fn percentile(latencies: &[Duration], percent: f64) -> Option<Duration> {
    let mut latencies = latencies.to_vec();
    latencies.sort_unstable();
    // A hair less, so that a product that should be whole and is not in binary is not rounded up.
    let rank = (latencies.len() as f64 * percent / 100.0 - 1e-9).ceil();
    latencies.get((rank as usize).saturating_sub(1)).copied()
}

/// Each percentile that there are enough values for: in how many one is slower, and the time in ms.
fn tail(latencies: &[Duration]) -> Vec<(f64, f64)> {
    let point = |percent: f64| {
        let one_in = 100.0 / (100.0 - percent);
        (latencies.len() as f64 >= one_in - 1e-6).then_some(())?;
        let latency = percentile(latencies, percent)?;
        Some((one_in, latency.as_secs_f64() * 1e3))
    };
    PERCENTILES.iter().copied().filter_map(point).collect()
}

fn draw(file: &Path, axes: &Axes<'_>, lines: &[Line]) -> Result<()> {
    let points = || lines.iter().flat_map(|line| &line.points).copied();
    let least = points().map(|(x, _)| x).fold(f64::INFINITY, f64::min);
    let most = points().map(|(x, _)| x).fold(f64::NEG_INFINITY, f64::max);
    let highest = points().map(|(_, y)| y).fold(0.0, f64::max);
    ensure!(
        least > 0.0 && least.is_finite() && highest.is_finite() && highest > 0.0,
        "there is nothing to draw in {}",
        file.display()
    );
    let legend = LEGEND_FRAME + LEGEND_LINE * lines.len() as f64;
    let top = highest / (1.0 - legend.min(0.6));
    // A single size has a width, too.
    let (from, to) = (least / 1.2, most * 1.2);
    let failed = |error: &dyn std::fmt::Display| anyhow!("cannot draw {}: {error}", file.display());
    let area = SVGBackend::new(file, SIZE).into_drawing_area();
    area.fill(&WHITE).map_err(|error| failed(&error))?;
    let mut chart = ChartBuilder::on(&area)
        .caption(axes.title, (FONT, TITLE_SIZE))
        .margin(16)
        .x_label_area_size(52)
        .y_label_area_size(72)
        .build_cartesian_2d((from..to).log_scale(), 0.0..top)
        .map_err(|error| failed(&error))?;
    chart
        .configure_mesh()
        .light_line_style(BLACK.mix(0.06))
        .bold_line_style(BLACK.mix(0.15))
        .label_style((FONT, TEXT_SIZE))
        .axis_desc_style((FONT, TEXT_SIZE))
        .x_desc(axes.x)
        .y_desc(axes.y)
        .x_label_formatter(&axes.x_label)
        .y_label_formatter(&|y| shown(*y))
        .draw()
        .map_err(|error| failed(&error))?;
    for (line, colour) in lines.iter().zip(COLOURS.iter().cycle()) {
        let stroke = colour.stroke_width(2);
        let dots = line.points.iter();
        let dots = dots.map(|point| Circle::new(*point, 3, colour.filled()));
        chart.draw_series(dots).map_err(|error| failed(&error))?;
        chart
            .draw_series(LineSeries::new(line.points.iter().copied(), stroke))
            .map_err(|error| failed(&error))?
            .label(&line.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], stroke));
    }
    chart
        .configure_series_labels()
        .label_font((FONT, TEXT_SIZE))
        .background_style(WHITE.mix(0.85))
        .border_style(BLACK.mix(0.4))
        .position(SeriesLabelPosition::UpperLeft)
        .draw()
        .map_err(|error| failed(&error))?;
    area.present().map_err(|error| failed(&error))
}

/// A number of the vertical axis, without the noise that a sum of binary fractions ends with.
fn shown(number: f64) -> String {
    let text = format!("{number:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn shown_bytes(bytes: f64) -> String {
    match bytes {
        bytes if bytes >= 1e6 => format!("{} MB", bytes / 1e6),
        bytes if bytes >= 1e3 => format!("{} KB", bytes / 1e3),
        bytes => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn line(name: &str, points: &[(f64, f64)]) -> Line {
        Line {
            name: name.to_owned(),
            points: points.to_vec(),
        }
    }

    #[test]
    fn a_picture_has_its_axes_and_a_line_for_each_case() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("throughput.svg");
        let lines = [
            line("bare stream", &[(1e3, 60.0), (1e5, 400.0), (1e7, 500.0)]),
            line("catch-up", &[(1e3, 20.0), (1e5, 300.0), (1e7, 350.0)]),
        ];
        throughput(&file, "a title", &lines).unwrap();
        let text = fs::read_to_string(&file).unwrap();
        for part in [
            "a title",
            "bare stream",
            "catch-up",
            "MB/s",
            "bytes of a block",
            "100 KB",
        ] {
            assert!(text.contains(part), "{part:?} in {text}");
        }
        // Each in a colour of its own, which the legend shows, too.
        for colour in ["#0072B2", "#D55E00"] {
            let drawn = text.lines().filter(|line| line.contains("<polyline"));
            let drawn = drawn.filter(|line| line.contains(colour)).count();
            assert_eq!(drawn, 2, "{colour} in {text}");
        }
    }

    #[test]
    fn numbers_are_shown_as_short_as_they_are() {
        for (number, wanted) in [
            (0.0, "0"),
            (50.0, "50"),
            (0.1 + 0.2, "0.3"),
            (12.25, "12.25"),
        ] {
            assert_eq!(shown(number), wanted);
        }
        for (bytes, wanted) in [(100.0, "100 B"), (1e5, "100 KB"), (1e7, "10 MB")] {
            assert_eq!(shown_bytes(bytes), wanted);
        }
    }

    #[test]
    fn nothing_is_no_picture() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("latency.svg");
        let error = latency(&file, "a title", &[("case".to_owned(), Vec::new())]).unwrap_err();
        assert!(error.to_string().contains("latency.svg"), "{error}");
        assert!(!file.exists());
    }

    #[test]
    fn a_tail_is_as_long_as_there_are_values_for() {
        let latencies: Vec<Duration> = (1..=100).rev().map(Duration::from_millis).collect();
        for (percent, ms) in [(50.0, 50), (99.0, 99), (99.9, 100), (100.0, 100)] {
            let wanted = Some(Duration::from_millis(ms));
            assert_eq!(percentile(&latencies, percent), wanted, "{percent}");
        }
        assert_eq!(percentile(&[], 50.0), None);
        let times: Vec<f64> = tail(&latencies).into_iter().map(|(_, ms)| ms).collect();
        assert_eq!(times, [50.0, 75.0, 90.0, 99.0]);
    }
}
