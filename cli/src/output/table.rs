//! Tables for people: titles, then rows, columns two blanks apart, no blank at a line's end.

/// Puts rows under titles. Control characters in cells are shown as `?`, so that no cell breaks the table.
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
    cell.chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}
