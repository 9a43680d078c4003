// SPDX-License-Identifier: Apache-2.0
//! Rows of text, with every column as wide as its widest cell.

use std::fmt::Write as _;

/// Rows that are aligned. The last cell of a row may be of any length.
#[derive(Debug, Default)]
pub(crate) struct Table(Vec<Vec<String>>);

impl Table {
    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.0.push(cells.into());
    }

    /// Writes the rows, each behind so many spaces, with two spaces between columns.
    pub(crate) fn write(&self, out: &mut String, indent: usize) {
        let mut widths: Vec<usize> = Vec::new();
        for row in &self.0 {
            // What is last in its row needs no room behind it.
            for (column, cell) in row.iter().enumerate().take(row.len().saturating_sub(1)) {
                let width = cell.chars().count();
                match widths.get_mut(column) {
                    Some(widest) => *widest = width.max(*widest),
                    None => widths.push(width),
                }
            }
        }
        for row in &self.0 {
            let mut line = " ".repeat(indent);
            for (column, cell) in row.iter().enumerate() {
                let width = widths.get(column).copied().unwrap_or(0);
                let _ = write!(line, "{cell:width$}  ");
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::default();
        table.row(["a", "b", "a long last cell"].map(str::to_owned));
        table.row(["ccc", "", "d"].map(str::to_owned));
        table.row(["only"].map(str::to_owned));
        let mut out = String::new();
        table.write(&mut out, 2);
        assert_eq!(out, "  a    b  a long last cell\n  ccc     d\n  only\n");
    }
}
