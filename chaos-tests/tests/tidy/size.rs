//! Files and functions are short.

use crate::tree::{self, none};

/// A file's lines, at most.
const FILE_LINES_MAX: usize = 500;
/// A function's lines, at most.
const FUNCTION_LINES_MAX: usize = 70;
/// The median of the files' lines, at most.
const FILE_LINES_MEDIAN_MAX: usize = 200;
/// Functions that are longer: `file:function`, and why. A line is removed when its function is shorter; none is added
/// without its reason.
const LONG_FUNCTIONS: [(&str, &str); 3] = [
    (
        "agent/wamp/src/message/tests.rs:all",
        "one entry for each kind of message",
    ),
    (
        "agent/wamp/src/router/dealer/peers.rs:receive_from_peer",
        "one arm for each kind of message",
    ),
    (
        "agent/wamp/src/router/scripts.rs:session",
        "one arm for each word of the scripts",
    ),
];
#[test]
fn files_are_short() {
    let files = tree::rust();
    let mut lengths: Vec<usize> = files.values().map(|text| text.lines().count()).collect();
    lengths.sort_unstable();
    let found: Vec<String> = files
        .iter()
        .filter(|(_, text)| text.lines().count() >= FILE_LINES_MAX)
        .map(|(path, text)| format!("{path}: {} lines", text.lines().count()))
        .collect();
    none(&format!("files of {FILE_LINES_MAX} lines or more"), &found);
    let median = lengths[lengths.len() / 2];
    assert!(
        median < FILE_LINES_MEDIAN_MAX,
        "half of the files have {median} lines or more"
    );
}

#[test]
fn functions_fit_on_a_screen() {
    let mut found = Vec::new();
    let mut unused: Vec<&str> = LONG_FUNCTIONS.iter().map(|(name, _)| *name).collect();
    for (path, text) in tree::rust() {
        for (name, lines) in functions(&text) {
            if lines <= FUNCTION_LINES_MAX {
                continue;
            }
            let known = format!("{path}:{name}");
            unused.retain(|listed| *listed != known);
            if !LONG_FUNCTIONS.iter().any(|(listed, _)| *listed == known) {
                found.push(format!("{known}: {lines} lines"));
            }
        }
    }
    none(
        &format!("functions of more than {FUNCTION_LINES_MAX} lines"),
        &found,
    );
    assert!(
        unused.is_empty(),
        "these are short by now, so take them off the list: {unused:?}"
    );
}

/// The functions of a file that rustfmt has laid out: from a line that begins one to the line that closes it with
/// the same indent.
fn functions(text: &str) -> Vec<(String, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let trimmed = line.trim_start();
        let indent = line.len() - trimmed.len();
        let words: Vec<&str> = trimmed
            .split_whitespace()
            .take_while(|word| !word.contains('('))
            .collect();
        let begins = trimmed.starts_with("fn ")
            || (trimmed.contains(" fn ") && words.iter().all(|word| is_qualifier(word)));
        if !begins || trimmed.starts_with("//") {
            continue;
        }
        let name = trimmed.split("fn ").nth(1).unwrap_or_default();
        let name: String = name
            .chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect();
        let close = format!("{}}}", " ".repeat(indent));
        let mut end = start;
        while end < lines.len() && lines[end] != close && !(end == start && line.ends_with('}')) {
            // A function without a body, in a trait.
            if lines[end].ends_with(';') && lines[start..=end].iter().all(|line| !line.contains('{')) {
                break;
            }
            end += 1;
        }
        found.push((name, end - start + 1));
    }
    found
}

fn is_qualifier(word: &str) -> bool {
    ["pub", "fn", "async", "const", "unsafe", "extern"].contains(&word) || word.starts_with('"')
}
