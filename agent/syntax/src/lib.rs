//! The workflow's line: from text to stages, as POSIX `sh` reads words.
//!
//! ```text
//! LANG=C sort -t '|' "a b" c\ d | wc -l
//! stage 1   assignments LANG=C   name sort   args -t  |  a b  c d
//! stage 2                        name wc     args -l
//! ```
//!
//! Quoting, escapes, leading assignments and joined lines are those of POSIX.1-2017, Shell Command Language, 2.2, 2.3 and
//! 2.9.1. What a shell would expand, redirect or run besides one pipeline is refused, never passed on unexpanded; `*`,
//! `?` and `[` stay as they are, as in a shell where no file matches.
//!
//! Always: (1) a line is read whole or refused whole; (2) a refusal has the byte it is about and says what to do; (3) a
//! line that is read means in `sh` the same words.
//!
//! A *file* (`-f`) is a line with comments, `#!` among them, and with newlines before and after the pipeline.

use std::fmt;

/// Longest line, in bytes: what `sh -c` itself takes as one argument (MAX_ARG_STRLEN of Linux). Beyond it the line is
/// refused.
pub const LINE_LENGTH_MAX: usize = 128 << 10;

/// Most stages in a line: their services are looked up in one transaction of the store, which takes as many operations.
pub const STAGES_MAX: usize = 128;

/// Fewest digits that name an older version, so that a slip of the finger does not.
pub const DIGEST_DIGITS_MIN: usize = 8;

/// A workflow's line, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// In the line's order, at least one.
    pub stages: Vec<Stage>,
}

/// One part of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// `NAME=value` before the name, in order; of one variable given twice, the last.
    pub assignments: Vec<(String, Vec<u8>)>,
    /// The service, as `NAME` or `NAME@DIGEST`; never empty.
    pub name: String,
    /// What follows the name.
    pub args: Vec<Vec<u8>>,
}

/// Why a line is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// What is wrong and what to do, in one sentence.
    pub message: String,
    /// Byte of the text it is about; the text's length where it ends too soon.
    pub offset: usize,
}

/// Reads the line that `run` is given as its argument.
pub fn parse(line: &str) -> Result<Line, Error> {
    Reader::new(line, false).line()
}

/// Reads a workflow's file.
pub fn parse_file(text: &str) -> Result<Line, Error> {
    Reader::new(text, true).line()
}

/// A word such that `sh` and [`parse`] read it back: as it is where that can be, else in single quotes.
pub fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./,:+@%^*?=".contains(c) || !c.is_ascii();
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// The line in one line, as `ps` shows it.
impl fmt::Display for Line {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, stage) in self.stages.iter().enumerate() {
            out.write_str(if index == 0 { "" } else { " | " })?;
            for (name, value) in &stage.assignments {
                write!(out, "{name}={} ", quote(&String::from_utf8_lossy(value)))?;
            }
            // Quoted where `sh` would take the name for an assignment.
            let name = &stage.name;
            let shown = if name.contains('=') {
                format!("'{name}'")
            } else {
                quote(name)
            };
            out.write_str(&shown)?;
            for arg in &stage.args {
                write!(out, " {}", quote(&String::from_utf8_lossy(arg)))?;
            }
        }
        Ok(())
    }
}

/// A word as it was read.
#[derive(Default)]
struct Word {
    text: String,
    start: usize,
    /// Where its unquoted `=` stands after an unquoted name: it is an assignment if it leads.
    equals: Option<usize>,
    /// Nothing but unquoted characters of a name so far.
    is_name: bool,
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    /// Comments and newlines around the pipeline are allowed.
    is_file: bool,
}

impl<'a> Reader<'a> {
    fn new(text: &'a str, is_file: bool) -> Reader<'a> {
        Reader { text, at: 0, is_file }
    }

    fn line(&mut self) -> Result<Line, Error> {
        if self.text.len() > LINE_LENGTH_MAX {
            let why = format!(
                "the line has more than {LINE_LENGTH_MAX} bytes; put long data into a file and name it with --file"
            );
            return Err(refused(LINE_LENGTH_MAX, why));
        }
        if let Some(at) = self.text.find('\0') {
            return Err(refused(
                at,
                "a NUL byte cannot be part of an argument; leave it out",
            ));
        }
        let mut stages = Vec::new();
        self.blanks(self.is_file);
        loop {
            let start = self.at;
            let stage = self.stage(stages.len() + 1)?;
            if stages.len() == STAGES_MAX {
                return Err(refused(
                    start,
                    format!("a line has at most {STAGES_MAX} stages; split it into two"),
                ));
            }
            stages.push(stage);
            if self.peek() != Some('|') {
                break;
            }
            self.at += 1;
            self.blanks(true);
        }
        if self.is_file {
            self.blanks(true);
            if self.at < self.text.len() {
                let why = "a second workflow begins here, and a file holds one; end the line before with '|' or leave this out";
                return Err(self.refuse(why));
            }
        }
        Ok(Line { stages })
    }

    /// Reads words up to `|`, the end, or in a file a newline.
    fn stage(&mut self, number: usize) -> Result<Stage, Error> {
        let start = self.at;
        let mut assignments: Vec<(String, Vec<u8>)> = Vec::new();
        let mut name: Option<String> = None;
        let mut args = Vec::new();
        while let Some(next) = self.peek() {
            match next {
                '|' if self.text[self.at..].starts_with("||") && name.is_some() => {
                    return Err(self.refuse("'||' runs nothing in Pipes: use one '|', or quote it"));
                }
                '|' => break,
                '\n' if self.is_file => break,
                '\n' => {
                    return Err(
                        self.refuse("a newline ends a line; write it after '|', or in quotes to pass it on")
                    );
                }
                _ => {}
            }
            let word = self.word(name.is_none())?;
            match (word.equals, &name) {
                (Some(equals), None) => {
                    let variable = word.text[..equals].to_owned();
                    assignments.retain(|(known, _)| *known != variable);
                    assignments.push((variable, word.text.into_bytes().split_off(equals + 1)));
                }
                (None, None) => name = Some(service(word)?),
                (_, Some(_)) => args.push(word.text.into_bytes()),
            }
            self.blanks(false);
        }
        match name {
            Some(name) => Ok(Stage {
                assignments,
                name,
                args,
            }),
            None if assignments.is_empty() && number == 1 && self.at == self.text.len() => Err(refused(
                start,
                "there is no workflow here; write one such as 'a | b'",
            )),
            None if assignments.is_empty() => Err(refused(
                start,
                format!("stage {number} is empty; write a service's name here, or leave out the '|'"),
            )),
            None => Err(refused(
                self.at,
                format!("stage {number} sets variables for nothing; write a service's name after them"),
            )),
        }
    }

    /// Reads one word; `leads` while it may be an assignment.
    fn word(&mut self, leads: bool) -> Result<Word, Error> {
        let mut word = Word {
            start: self.at,
            is_name: true,
            ..Word::default()
        };
        // Where a shell would expand a tilde.
        let mut tilde_at = Some(self.at);
        while let Some(next) = self.peek() {
            let at = self.at;
            match next {
                ' ' | '\t' | '\n' | '|' => break,
                '\'' => self.single_quoted(&mut word.text)?,
                '"' => self.double_quoted(&mut word.text)?,
                '\\' => self.escaped(&mut word.text),
                '#' if at == word.start => {
                    return Err(self
                        .refuse("'#' would begin a comment; quote it, or write comments in a file for -f"));
                }
                '~' if tilde_at == Some(at) => {
                    return Err(self.refuse("'~' is not expanded; write the whole path, or quote it"));
                }
                _ => self.plain(next, &mut word.text)?,
            }
            let unquoted = !matches!(next, '\'' | '"' | '\\');
            if unquoted
                && next == '='
                && leads
                && word.equals.is_none()
                && word.is_name
                && is_variable(&word.text)
            {
                word.equals = Some(word.text.len() - 1);
            }
            let is_value_start = word.equals == Some(word.text.len().wrapping_sub(1)) || next == ':';
            let assigns = word.equals.is_some() && unquoted && matches!(next, '=' | ':') && is_value_start;
            let joined = next == '\\' && self.text[at..].starts_with("\\\n");
            if assigns || (joined && tilde_at == Some(at)) {
                tilde_at = Some(self.at);
            }
            word.is_name &= joined || (unquoted && (next.is_ascii_alphanumeric() || next == '_'));
        }
        Ok(word)
    }

    /// An unquoted character that is no blank.
    fn plain(&mut self, next: char, text: &mut String) -> Result<(), Error> {
        let why = match next {
            '$' | '`' => return Err(self.refuse(expansion(next))),
            ';' => "';' would begin a second command; run one workflow at a time, or quote it",
            '&' if self.text[self.at..].starts_with("&&") => {
                "'&&' would begin a second command; run one workflow at a time, or quote it"
            }
            '&' => {
                "'&' would run it in the background; write the '&' after the whole of 'pipes run', or quote it"
            }
            '<' => "'<' redirects nothing here; give the file to 'pipes run' as its own stdin, or quote it",
            '>' => "'>' redirects nothing here; redirect the output of 'pipes run' itself, or quote it",
            '(' | ')' => "parentheses group nothing here; run them within sh -c '...', or quote them",
            _ => {
                text.push(next);
                self.at += next.len_utf8();
                return Ok(());
            }
        };
        Err(self.refuse(why))
    }

    fn single_quoted(&mut self, text: &mut String) -> Result<(), Error> {
        let body = &self.text[self.at + 1..];
        let length = body
            .find('\'')
            .ok_or_else(|| self.refuse("this quote is not closed; add a ' after it"))?;
        text.push_str(&body[..length]);
        self.at += length + 2;
        Ok(())
    }

    fn double_quoted(&mut self, text: &mut String) -> Result<(), Error> {
        let open = self.at;
        self.at += 1;
        loop {
            let Some(next) = self.peek() else {
                return Err(refused(open, "this quote is not closed; add a \" after it"));
            };
            match next {
                '"' => break,
                '$' | '`' => return Err(self.refuse(expansion(next))),
                '\\' => {
                    let escapes = matches!(
                        self.text[self.at + 1..].chars().next(),
                        Some('$' | '`' | '"' | '\\' | '\n')
                    );
                    if escapes {
                        self.escaped(text);
                    } else {
                        text.push('\\');
                        self.at += 1;
                    }
                }
                _ => {
                    text.push(next);
                    self.at += next.len_utf8();
                }
            }
        }
        self.at += 1;
        Ok(())
    }

    /// A backslash and what it quotes: a newline is joined, and at the very end it stands for itself.
    fn escaped(&mut self, text: &mut String) {
        self.at += 1;
        match self.peek() {
            Some('\n') => self.at += 1,
            Some(next) => {
                text.push(next);
                self.at += next.len_utf8();
            }
            None => text.push('\\'),
        }
    }

    /// Skips what lies between words; newlines where they are allowed, and in a file comments.
    fn blanks(&mut self, newlines: bool) {
        while let Some(next) = self.peek() {
            match next {
                ' ' | '\t' => self.at += 1,
                '\n' if newlines => self.at += 1,
                '\\' if self.text[self.at..].starts_with("\\\n") => self.at += 2,
                '#' if self.is_file => {
                    let rest = &self.text[self.at..];
                    self.at += rest.find('\n').unwrap_or(rest.len());
                }
                _ => break,
            }
        }
    }

    fn peek(&self) -> Option<char> {
        self.text[self.at..].chars().next()
    }

    fn refuse(&self, why: &str) -> Error {
        refused(self.at, why)
    }
}

fn refused(offset: usize, message: impl Into<String>) -> Error {
    Error {
        message: message.into(),
        offset,
    }
}

fn expansion(character: char) -> &'static str {
    match character {
        '$' => "'$' is not expanded; put it in single quotes to pass it on, or let your own shell expand it",
        _ => "'`' runs nothing here; put it in single quotes to pass it on, or let your own shell run it",
    }
}

/// Whether it is a variable's name and `=`.
fn is_variable(text: &str) -> bool {
    text.len() > 1 && !text.starts_with(|first: char| first.is_ascii_digit())
}

/// The word that names a stage's service.
fn service(word: Word) -> Result<String, Error> {
    let Word { text, start, .. } = word;
    if text.is_empty() {
        return Err(refused(
            start,
            "a stage's name is empty here; write a service's name",
        ));
    }
    if let Some((name, digest)) = text.split_once('@') {
        let digits = digest.strip_prefix("sha256:").unwrap_or(digest);
        let hex = digits
            .bytes()
            .all(|digit| digit.is_ascii_digit() || (b'a'..=b'f').contains(&digit));
        if name.is_empty() || !hex || !(DIGEST_DIGITS_MIN..=64).contains(&digits.len()) {
            let why = format!(
                "an older version is NAME@DIGEST, with {DIGEST_DIGITS_MIN} to 64 digits of 'pipes inspect NAME'; correct it"
            );
            return Err(refused(start, why));
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests;
