// SPDX-License-Identifier: Apache-2.0
//! Pictures of measurements.

use std::{fs, path::Path, time::Duration};

use anyhow::{Context as _, Result};

use crate::drawing::{Axis, Drawing, Line, Scale};

/// The percentiles of a line of latencies: in how many values one is slower. The last one that there
/// are enough values for ends it.
const ONE_IN: &[f64] = &[2.0, 4.0, 10.0, 100.0, 1e3, 1e4];

/// Throughput over the size of blocks: points of bytes and MB/s.
///
/// # Errors
///
/// When there is nothing to draw, or the file cannot be written.
pub fn throughput(file: &Path, title: &str, lines: &[Line]) -> Result<()> {
    let drawing = Drawing {
        title,
        over: "bytes of a block",
        x: Axis {
            scale: Scale::Powers,
            label: shown_bytes,
        },
        y: Axis {
            scale: Scale::Linear,
            label: |rate| format!("{} MB/s", shown(rate)),
        },
    };
    write(file, &drawing, lines)
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
    let drawing = Drawing {
        title,
        over: "percentile, from the median on",
        x: Axis {
            scale: Scale::Marks(ONE_IN),
            label: |one_in| format!("p{}", shown(percent(one_in))),
        },
        y: Axis {
            scale: Scale::Linear,
            label: |ms| format!("{} ms", shown(ms)),
        },
    };
    write(file, &drawing, &lines)
}

/// The time that so many in a hundred do not exceed, if there is one.
pub fn percentile(latencies: &[Duration], percent: f64) -> Option<Duration> {
    let mut latencies = latencies.to_vec();
    latencies.sort_unstable();
    // A hair less, so that a product that should be whole and is not in binary is not rounded up.
    let rank = (latencies.len() as f64 * percent / 100.0 - 1e-9).ceil();
    latencies.get((rank as usize).saturating_sub(1)).copied()
}

/// How many in a hundred do not exceed what one in so many does.
fn percent(one_in: f64) -> f64 {
    100.0 - 100.0 / one_in
}

/// Each percentile that there are enough values for, and the time in ms.
fn tail(latencies: &[Duration]) -> Vec<(f64, f64)> {
    let enough = |one_in: &f64| latencies.len() as f64 >= *one_in;
    let point = |one_in: f64| {
        let latency = percentile(latencies, percent(one_in))?;
        Some((one_in, latency.as_secs_f64() * 1e3))
    };
    let one_in = ONE_IN.iter().copied().filter(enough);
    one_in.filter_map(point).collect()
}

fn write(file: &Path, drawing: &Drawing<'_>, lines: &[Line]) -> Result<()> {
    let failed = || format!("cannot make {}", file.display());
    let svg = drawing.draw(lines).with_context(failed)?;
    fs::write(file, svg).with_context(failed)
}

/// A number of an axis, without the noise that a sum of binary fractions ends with.
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
    use super::*;

    fn drawn(draw: impl FnOnce(&Path) -> Result<()>) -> String {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("picture.svg");
        draw(&file).unwrap();
        fs::read_to_string(&file).unwrap()
    }

    #[test]
    fn throughput_is_drawn_over_sizes() {
        let line = Line {
            name: "bare stream".to_owned(),
            points: vec![(1e3, 60.0), (1e5, 400.0), (1e7, 500.0)],
        };
        let svg = drawn(|file| throughput(file, "a title", &[line]));
        for part in [
            "a title",
            "bare stream",
            "500 MB/s",
            "bytes of a block",
            "100 KB",
        ] {
            let stands = svg.lines().any(|text| text == part);
            assert!(stands, "{part:?} in {svg}");
        }
    }

    #[test]
    fn latencies_are_drawn_over_percentiles_that_they_have() {
        let latencies: Vec<Duration> = (1..=1000).map(Duration::from_millis).collect();
        let cases = [("a hop".to_owned(), latencies)];
        let svg = drawn(|file| latency(file, "a title", &cases));
        for part in ["a hop", "1000 ms", "p50", "p75", "p90", "p99", "p99.9"] {
            let stands = svg.lines().any(|text| text == part);
            assert!(stands, "{part:?} in {svg}");
        }
        assert!(!svg.contains("p99.99"), "{svg}");
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
