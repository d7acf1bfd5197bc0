//! Rust source as words and signs, with what is no code left out: comments, strings, and what is for
//! tests or a simulation alone (`#[cfg(test)]`, `#[cfg(sim)]`).

/// A word, `::` or another sign, and its line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Token<'a> {
    pub text: &'a str,
    pub line: usize,
}

impl Token<'_> {
    /// Whether it is a name or a keyword.
    pub fn is_word(&self) -> bool {
        self.text.starts_with(|c: char| c.is_alphabetic() || c == '_')
    }
}

/// The tokens of a file.
pub fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut found = Vec::new();
    let (mut at, mut line) = (0, 1);
    while let Some(next) = text[at..].chars().next() {
        let rest = &text[at..];
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(length) = literal(rest) {
            length
        } else if next.is_alphabetic() || next == '_' {
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_');
            let length = end.unwrap_or(rest.len());
            found.push(Token {
                text: &rest[..length],
                line,
            });
            length
        } else {
            let length = if rest.starts_with("::") {
                2
            } else {
                next.len_utf8()
            };
            if !next.is_whitespace() {
                found.push(Token {
                    text: &rest[..length],
                    line,
                });
            }
            length
        };
        line += rest[..length].matches('\n').count();
        at += length;
    }
    found
}

/// The length of the string or character that begins here, if one does. A lifetime is none.
fn literal(rest: &str) -> Option<usize> {
    let prefix = rest
        .find(|c| !matches!(c, 'b' | 'c' | 'r'))
        .filter(|length| *length <= 2)?;
    let (prefix, body) = rest.split_at(prefix);
    let hashes = body.find(|c| c != '#')?;
    if prefix.ends_with('r') && body[hashes..].starts_with('"') {
        let close = format!("\"{}", "#".repeat(hashes));
        let begin = prefix.len() + hashes + 1;
        return Some(
            rest[begin..]
                .find(&close)
                .map_or(rest.len(), |end| begin + end + close.len()),
        );
    }
    let quote = body.chars().next().filter(|quote| matches!(quote, '"' | '\''))?;
    if quote == '\'' && !body[1..].starts_with('\\') && body.chars().nth(2) != Some('\'') {
        return None;
    }
    let mut is_escaped = false;
    for (index, c) in body.char_indices().skip(1) {
        if c == quote && !is_escaped {
            return Some(prefix.len() + index + 1);
        }
        is_escaped = c == '\\' && !is_escaped;
    }
    Some(rest.len())
}

/// Where the item that begins at `at` ends: after its `;`, or the brace that closes it.
pub fn item_end(tokens: &[Token<'_>], at: usize) -> usize {
    let mut depth = 0;
    for (index, token) in tokens.iter().enumerate().skip(at) {
        match token.text {
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" => depth -= 1,
            _ => {}
        }
        if depth <= 0 && matches!(token.text, ";" | "}") {
            return index + 1;
        }
    }
    tokens.len()
}

/// Where what `#[cfg(test)]` or `#[cfg(sim)]` stands before ends, if it stands here.
pub fn test_only(tokens: &[Token<'_>], at: usize) -> Option<std::ops::Range<usize>> {
    let is_here = ["test", "sim"].iter().any(|only| {
        let begins = ["#", "[", "cfg", "(", only, ")", "]"];
        tokens[at..].iter().map(|token| token.text).take(7).eq(begins)
    });
    is_here.then(|| at + 7..item_end(tokens, at + 7))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_code_is_left_out() {
        let text = "a::b /* use crate::x */ \"crate::y\" r#\"\"crate::z\"# b'\\'' 'c' &'d e // crate::f\n\"\\\"g\" h";
        let found: Vec<&str> = tokens(text).iter().map(|token| token.text).collect();
        assert_eq!(found, ["a", "::", "b", "&", "'", "d", "e", "h"]);
        assert_eq!(tokens(text).last().map(|token| token.line), Some(2));
    }

    #[test]
    fn what_only_tests_have_is_known() {
        let found = tokens("#[cfg(test)] mod tests { fn a() { b(); } } c");
        let range = test_only(&found, 0).unwrap();
        assert_eq!(found[range.end].text, "c");
        assert_eq!(test_only(&found, 1), None);
    }
}
