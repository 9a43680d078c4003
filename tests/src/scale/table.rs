// SPDX-License-Identifier: Apache-2.0
//! The tables of `docs/scale.md`, a line for each case.

use super::{Case, Channels, Cost, Found, Mean, Way};

/// What blocks cost, each way.
pub fn cost_table(rows: &[(Case, [(Way, Cost); 4])]) -> String {
    let mut lines = vec![
        "| nodes | block | way | orderers send | streams | a node gets | most | a node sends | most | connections | signature sets | hops |".to_owned(),
        "| ---: | ---: | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |".to_owned(),
    ];
    for (case, ways) in rows {
        lines.extend(ways.iter().map(|(way, cost)| {
            format!(
                "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} | {} |",
                grouped(case.nodes()),
                bytes(f64::from(case.block)),
                way.name(),
                bytes(cost.orderer_bytes as f64),
                grouped(cost.orderer_streams as usize),
                bytes(cost.bytes_in.mean),
                bytes(cost.bytes_in.max),
                bytes(cost.bytes_out.mean),
                bytes(cost.bytes_out.max),
                range(cost.connections),
                range(cost.signature_sets),
                cost.hops,
            )
        }));
    }
    lines.join("\n") + "\n"
}

/// What channels cost.
pub fn channels_table(rows: &[Channels]) -> String {
    let mut lines = vec![
        "| channels | streams of the orderers | where every peer pulls | streams of a node, mean / most | where every peer pulls | connections of a node to others |".to_owned(),
        "| ---: | ---: | ---: | ---: | ---: | ---: |".to_owned(),
    ];
    lines.extend(rows.iter().map(|row| {
        format!(
            "| {} | {} | {} | {} | {} | {} |",
            grouped(row.channels),
            grouped(row.orderer_streams as usize),
            grouped(row.orderer_streams_fabric as usize),
            range(row.pulled),
            range(row.pulled_fabric),
            range(row.connections),
        )
    }));
    lines.join("\n") + "\n"
}

/// Who pulls where nodes only find each other.
pub fn found_table(rows: &[Found]) -> String {
    let mut lines = vec![
        "| nodes | organisations | mates connected | pullers | by the formula | orderers send | a node gets | a node sends | signature sets |".to_owned(),
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |".to_owned(),
    ];
    lines.extend(rows.iter().map(|row| {
        format!(
            "| {} | {} | {:.1} | {} | {:.0} | {} | {} | {} | {} |",
            grouped(row.case.nodes()),
            row.case.organisations,
            row.mates,
            grouped(row.pullers),
            row.expected,
            bytes(row.cost.orderer_bytes as f64),
            bytes(row.cost.bytes_in.mean),
            bytes(row.cost.bytes_out.mean),
            range(row.cost.signature_sets),
        )
    }));
    lines.join("\n") + "\n"
}

/// Mean and most; one number where they are the same.
fn range(value: Mean) -> String {
    let number = |value: f64| match value.fract() == 0.0 {
        true => grouped(value as usize),
        false => format!("{value:.1}"),
    };
    if value.mean == value.max {
        return number(value.mean);
    }
    format!("{:.1} / {}", value.mean, number(value.max))
}

/// Three digits and a unit.
pub(super) fn bytes(value: f64) -> String {
    let units = [("GB", 1e9), ("MB", 1e6), ("KB", 1e3), ("B", 1.0)];
    let (unit, scale) = units
        .into_iter()
        // What would be printed as a thousand of one unit is one of the next.
        .find(|(_, scale)| value >= scale * 0.9995)
        .unwrap_or(("B", 1.0));
    let value = value / scale;
    let digits = match value {
        value if value >= 99.95 || unit == "B" => 0,
        value if value >= 9.995 => 1,
        _ => 2,
    };
    format!("{value:.digits$} {unit}")
}

/// With a comma after each three digits.
fn grouped(value: usize) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short_and_say_their_unit() {
        let rows = [
            (0.0, "0 B"),
            (999.4, "999 B"),
            (1000.0, "1.00 KB"),
            (12_345.0, "12.3 KB"),
            (999_960.0, "1.00 MB"),
            (1.0e10, "10.0 GB"),
            (1.0e12, "1000 GB"),
        ];
        for (value, text) in rows {
            assert_eq!(bytes(value), text);
        }
        assert_eq!(grouped(1_234_567), "1,234,567");
        let mean = |mean, max| Mean { mean, max };
        assert_eq!(range(mean(2.0, 2.0)), "2");
        assert_eq!(range(mean(1.55, 3.0)), "1.6 / 3");
    }
}
