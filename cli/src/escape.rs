//! Text that came from elsewhere, as it may be shown: what would move a cursor, colour a terminal or turn a line around is
//! written out instead.
//!
//! ```text
//! ESC [ 3 1 m  ->  \u001b[31m        the form of JSON, which stays JSON
//! ```

use std::borrow::Cow;

/// Text of several lines; line feeds and tabs stay.
pub fn lines(text: &str) -> Cow<'_, str> {
    escaped(text, |c| c == '\n' || c == '\t')
}

/// Text that is part of a line: no further one begins in it.
pub fn line(text: &str) -> Cow<'_, str> {
    escaped(text, |_| false)
}

/// Whether a character shows nothing itself and changes what is shown: control characters, and those that say where text
/// runs to (Unicode's bidirectional formatting).
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        )
}

fn escaped(text: &str, stays: impl Fn(char) -> bool) -> Cow<'_, str> {
    let is_to_go = |c: char| is_hidden(c) && !stays(c);
    if !text.contains(is_to_go) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' if is_to_go(c) => shown.push_str("\\n"),
            '\t' if is_to_go(c) => shown.push_str("\\t"),
            c if is_to_go(c) => shown.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => shown.push(c),
        }
    }
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_change_a_terminal_is_written_out() {
        assert_eq!(line("a\x1b[31mb\u{9b}2Jc"), "a\\u001b[31mb\\u009b2Jc");
        assert_eq!(line("one\ntwo\r\t\u{202e}"), "one\\ntwo\\u000d\\t\\u202e");
        assert_eq!(lines("one\n\ttwo\x07"), "one\n\ttwo\\u0007");
    }

    #[test]
    fn what_is_harmless_is_as_it_was() {
        assert!(matches!(line("grüße 😀 'a|b'"), Cow::Borrowed(_)));
    }

    #[test]
    fn json_stays_json() {
        let json = serde_json::to_string(&["a\x1b\u{9b}\u{202e}"]).unwrap();
        let shown = lines(&json);
        assert!(!shown.contains(is_hidden));
        let read: [String; 1] = serde_json::from_str(&shown).unwrap();
        assert_eq!(read[0], "a\x1b\u{9b}\u{202e}");
    }
}
