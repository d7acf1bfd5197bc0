//! The ways of POSIX `sh` to write one word.
//!
//! `a'b c` may be written `a\'b\ c`, `"a'b c"`, `'a'\''b c'`, or part by part. A `$` or a backquote is written
//! inside single quotes or not at all: workflow lines refuse it elsewhere.

use rand::Rng;
use rand::rngs::StdRng;

/// Characters that mean themselves without quotes, wherever they stand in a word.
fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-_./,:+%@^".contains(c)
}

/// The word, written in one of the ways at random.
pub fn word(random: &mut StdRng, text: &str) -> String {
    let needs_single = text.contains(['$', '`', '\n', '!']);
    match random.random_range(0..4) {
        0 if !text.is_empty() && text.chars().all(is_plain) => text.to_owned(),
        1 if !needs_single => double(text),
        2 if !needs_single && !text.is_empty() && text.is_ascii() => escaped(text),
        3 if !needs_single && text.len() > 1 && text.is_ascii() => {
            let middle = random.random_range(1..text.len());
            format!("{}{}", single(&text[..middle]), double(&text[middle..]))
        }
        _ => single(text),
    }
}

fn single(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

fn double(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', r"\\").replace('"', "\\\""))
}

fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if !is_plain(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sh_reads_every_way_as_the_same_word() {
        let mut random = crate::random::generator(3);
        for text in [
            "plain",
            "a b",
            "it's",
            "a\"b",
            r"back\slash",
            "$HOME",
            "*?[a]",
            "",
            "~x",
            "#y",
            "a;b|c&d",
        ] {
            for _ in 0..20 {
                let written = word(&mut random, text);
                let mut sh = std::process::Command::new("sh");
                sh.arg("-c").arg(format!("/usr/bin/printf '%s' {written}"));
                let done = crate::command::run(sh, crate::command::Input::None).unwrap();
                assert_eq!(done.output(), text, "{written}");
            }
        }
    }
}
