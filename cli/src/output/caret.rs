//! The place of a syntax error, shown under the line.
//!
//! ```text
//!   cat > x
//!       ^
//! ```

/// Columns of a line that are shown under an error; of a longer one as many around the place.
const SHOWN_MAX: usize = 60;

/// The part of `line` that byte `offset` lies in, and a caret under it. `…` stands for what is left out.
pub fn caret(line: &str, offset: usize) -> String {
    let mut offset = offset.min(line.len());
    while !line.is_char_boundary(offset) {
        offset -= 1;
    }
    let begin = line[..offset].rfind('\n').map_or(0, |at| at + 1);
    let end = line[offset..].find('\n').map_or(line.len(), |at| offset + at);
    let before = last(&line[begin..offset], SHOWN_MAX / 2);
    let after = first(&line[offset..end], SHOWN_MAX - before.chars().count());
    let before = last(&line[begin..offset], SHOWN_MAX - after.chars().count());
    let ahead = if offset - before.len() > begin { "…" } else { "" };
    let behind = if offset + after.len() < end { "…" } else { "" };
    // Tabs stay tabs, so that the caret stands where the terminal shows the place.
    let under: String = ahead
        .chars()
        .chain(before.chars())
        .map(|c| if c == '\t' { '\t' } else { ' ' })
        .collect();
    format!("  {ahead}{before}{after}{behind}\n  {under}^")
}

fn first(text: &str, count: usize) -> &str {
    let end = text.char_indices().nth(count).map_or(text.len(), |(at, _)| at);
    &text[..end]
}

fn last(text: &str, count: usize) -> &str {
    let Some(past) = count.checked_sub(1) else {
        return "";
    };
    let begin = text.char_indices().rev().nth(past).map_or(0, |(at, _)| at);
    &text[begin..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caret_stands_under_the_place() {
        assert_eq!(caret("cat > x", 4), "  cat > x\n      ^");
        assert_eq!(caret("a |\n\tb & c", 7), "  \tb & c\n  \t  ^");
        assert_eq!(caret("ä ' x", 3), "  ä ' x\n    ^");
        assert_eq!(caret("cat 'x", 99), "  cat 'x\n        ^");
    }

    #[test]
    fn of_a_long_line_only_what_is_around_the_place_is_shown() {
        let long = format!("{}>{}", "ä".repeat(50_000), "b".repeat(50_000));
        let (left, right) = ("ä".repeat(30), "b".repeat(29));
        assert_eq!(
            caret(&long, 100_000),
            format!("  …{left}>{right}…\n  {}^", " ".repeat(31))
        );
        // At an end the window lies within the line, and is no smaller.
        let shown = format!("  >{}…\n  ^", "b".repeat(59));
        assert_eq!(caret(&long[100_000..], 0), shown);
        let shown = format!("  …{}\n  {}^", "ä".repeat(60), " ".repeat(61));
        assert_eq!(caret(&long[..100_000], 100_000), shown);
        let whole = "c".repeat(SHOWN_MAX);
        assert!(caret(&whole, 3).starts_with(&format!("  {whole}\n")));
    }
}
