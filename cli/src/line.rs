//! The workflow's line as the CLI handles it: never parsed whole (that is the agent's), only read far enough.
//!
//! | need | function |
//! |---|---|
//! | a line out of a file (`-f`): comments and newlines after `|` become blanks, so that offsets stay | [`of_file`] |
//! | the services it names (`--build`) | [`services`] |
//! | words put together again, to show what should have been typed | [`quoted`] |
//! | the place of a syntax error under the line | [`caret`] |
//!
//! Pure.

/// Makes one line of a workflow's file. Every byte keeps its place.
pub fn of_file(text: &str) -> String {
    let mut out: Vec<u8> = Vec::with_capacity(text.len());
    // Before the first word and after a `|` a newline means nothing.
    let mut may_break = true;
    let mut at_word = true;
    let mut bytes = text.bytes().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            b'#' if at_word => {
                out.push(b' ');
                while bytes.next_if(|next| *next != b'\n').is_some() {
                    out.push(b' ');
                }
            }
            b'\n' => {
                out.push(if may_break { b' ' } else { b'\n' });
                at_word = true;
            }
            b' ' | b'\t' => {
                out.push(byte);
                at_word = true;
            }
            b'|' => {
                out.push(byte);
                (may_break, at_word) = (true, true);
            }
            b'\\' => {
                out.push(byte);
                out.extend(bytes.next());
                (may_break, at_word) = (false, false);
            }
            b'\'' | b'"' => {
                out.push(byte);
                copy_quoted(byte, &mut bytes, &mut out);
                (may_break, at_word) = (false, false);
            }
            _ => {
                out.push(byte);
                (may_break, at_word) = (false, false);
            }
        }
    }
    // Only whole characters were copied, or replaced by blanks.
    let line = String::from_utf8_lossy(&out);
    line.trim_end().to_owned()
}

fn copy_quoted(quote: u8, bytes: &mut impl Iterator<Item = u8>, out: &mut Vec<u8>) {
    while let Some(byte) = bytes.next() {
        out.push(byte);
        if byte == b'\\' && quote == b'"' {
            out.extend(bytes.next());
        } else if byte == quote {
            return;
        }
    }
}

/// The services a line names, in its order; what cannot be read is left to the agent to refuse.
pub fn services(line: &str) -> Vec<String> {
    let mut names = Vec::new();
    for stage in stages(line) {
        let name = stage.into_iter().find(|word| !is_assignment(word));
        names.extend(name.filter(|name| !name.text.is_empty()).map(|name| name.text));
    }
    names
}

#[derive(Default)]
struct Word {
    text: String,
    is_quoted: bool,
}

fn is_assignment(word: &Word) -> bool {
    let Some((name, _)) = word.text.split_once('=') else {
        return false;
    };
    let begins = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    !word.is_quoted && begins && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Words of each stage, quotes removed.
fn stages(line: &str) -> Vec<Vec<Word>> {
    let mut stages = vec![Vec::new()];
    let mut word: Option<Word> = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' | '\n' | '|' => {
                if let (Some(word), Some(stage)) = (word.take(), stages.last_mut()) {
                    stage.push(word);
                }
                if c == '|' {
                    stages.push(Vec::new());
                }
            }
            '\'' => {
                let word = word.get_or_insert_default();
                word.is_quoted |= !word.text.contains('=');
                word.text.extend(chars.by_ref().take_while(|c| *c != '\''));
            }
            '"' => {
                let word = word.get_or_insert_default();
                word.is_quoted |= !word.text.contains('=');
                while let Some(c) = chars.next().filter(|c| *c != '"') {
                    word.text.extend(if c == '\\' { chars.next() } else { Some(c) });
                }
            }
            '\\' => {
                let word = word.get_or_insert_default();
                match chars.next() {
                    Some('\n') | None => {}
                    Some(c) => word.text.push(c),
                }
            }
            c => word.get_or_insert_default().text.push(c),
        }
    }
    if let (Some(word), Some(stage)) = (word, stages.last_mut()) {
        stage.push(word);
    }
    stages
}

/// Arguments as one argument: what a user should have typed who gave the line in pieces.
pub fn quoted(words: &[String]) -> String {
    let one = words.len() == 1;
    let line: Vec<String> = words
        .iter()
        .map(|word| if one { word.clone() } else { quote(word) })
        .collect();
    quote_whole(&line.join(" "))
}

/// One word as `sh` reads it back.
pub fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./,:+@%^=|".contains(c) || !c.is_ascii();
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        single(word)
    }
}

fn quote_whole(line: &str) -> String {
    if line.contains(['"', '$', '`', '\\', '!']) {
        single(line)
    } else {
        format!("\"{line}\"")
    }
}

fn single(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

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
    fn a_file_becomes_one_line_and_every_byte_keeps_its_place() {
        let text = "#!/usr/bin/env -S pipes run -f\n# first\ncat | # then\n\n  tr a '#b\n' |\nwc -l # end\n";
        let line = of_file(text);
        assert_eq!(
            line.split_whitespace().collect::<Vec<_>>().join(" "),
            "cat | tr a '#b ' | wc -l"
        );
        for word in ["cat", "tr", "wc"] {
            assert_eq!(line.find(word), text.find(word));
        }
        assert!(line.contains("'#b\n'"));
    }

    #[test]
    fn a_newline_between_stages_stays_for_the_agent_to_refuse() {
        assert_eq!(of_file("cat\nwc\n"), "cat\nwc");
        assert_eq!(of_file("a\\#b c#d"), "a\\#b c#d");
    }

    #[test]
    fn the_services_of_a_line_are_its_first_words() {
        assert_eq!(
            services("LANG=C sort -k 2 | 'wc' -l|tr 'a|b' c"),
            ["sort", "wc", "tr"]
        );
        assert_eq!(services(r#"A="x y" B='|' my\ prog "#), ["my prog"]);
        assert_eq!(services("a@12345678 | A=1 | "), ["a@12345678"]);
    }

    #[test]
    fn a_line_in_pieces_is_shown_as_it_should_have_been() {
        let words = |text: &[&str]| text.iter().map(|word| word.to_string()).collect::<Vec<_>>();
        assert_eq!(quoted(&words(&["cat", "-n"])), "\"cat -n\"");
        assert_eq!(quoted(&words(&["grep", "a b", "|", "wc"])), "\"grep 'a b' | wc\"");
        assert_eq!(quoted(&words(&["echo", "$x"])), r"'echo '\''$x'\'''");
    }

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
