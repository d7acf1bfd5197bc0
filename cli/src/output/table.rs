//! Tables for people: titles, then rows, columns two blanks apart, no blank at a line's end.

use crate::escape;

/// Characters of a cell that are shown: a line of a workflow may be as long as an argument, and JSON has it whole.
const CELL_MAX: usize = 200;

/// Puts rows under titles. Control characters in cells are shown as `?`, so that no cell breaks the table, and a cell
/// that is too long is cut, with dots at its end.
pub fn render(titles: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let mut lines: Vec<Vec<String>> = vec![titles.iter().map(|title| title.to_string()).collect()];
    lines.extend(rows.map(|row| row.into_iter().map(|cell| clean(&cell)).collect()));
    let mut widths = vec![0; titles.len()];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut out = String::new();
    for line in &lines {
        let mut text = String::new();
        for (cell, width) in line.iter().zip(&widths) {
            text.push_str(&format!("{cell:<width$}  "));
        }
        out.push_str(text.trim_end());
        out.push('\n');
    }
    out
}

fn clean(cell: &str) -> String {
    let mut shown: String = cell
        .chars()
        .take(CELL_MAX)
        .map(|c| if escape::is_hidden(c) { '?' } else { c })
        .collect();
    if cell.chars().nth(CELL_MAX).is_some() {
        shown.push_str("...");
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_of_any_length_is_cut_and_breaks_nothing() {
        let long = "x".repeat(100_000);
        let table = render(&["LINE", "STATE"], [vec![long, "succeeded".into()]].into_iter());
        let row = table.lines().nth(1).unwrap();
        assert_eq!(row, format!("{}...  succeeded", "x".repeat(CELL_MAX)));
    }
}
