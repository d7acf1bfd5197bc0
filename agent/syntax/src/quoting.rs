//! Quotes and escapes (POSIX.1-2017, Shell Command Language, 2.2): how a word's letters are read, and how a word is
//! written so that they are read back.
//!
//! ```text
//! text      a'b c'"\$d"\ e     letters   a  b    c  $  d    e
//! quoted                                 -  + +  +  +  +  + +
//! ```

use crate::cursor::Cursor;
use crate::error::Error;

/// A character of a word, its quotes removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Letter {
    pub(crate) char: char,
    /// It stands for itself, whatever it is.
    pub(crate) is_quoted: bool,
    /// Its byte in the text.
    pub(crate) at: usize,
}

/// Letters up to an unquoted blank, newline or `|`, and what ended them before, if anything did.
pub(crate) fn letters(cursor: &mut Cursor<'_>) -> (Vec<Letter>, Result<(), Error>) {
    let mut letters = Vec::new();
    while let Some(next) = cursor.peek() {
        let read = match next {
            ' ' | '\t' | '\n' | '|' => break,
            '\'' => single_quoted(cursor, &mut letters),
            '"' => double_quoted(cursor, &mut letters),
            '\\' => {
                escaped(cursor, &mut letters);
                Ok(())
            }
            _ => {
                push(cursor, &mut letters, next, false);
                Ok(())
            }
        };
        if read.is_err() {
            return (letters, read);
        }
    }
    (letters, Ok(()))
}

fn push(cursor: &mut Cursor<'_>, letters: &mut Vec<Letter>, char: char, is_quoted: bool) {
    letters.push(Letter {
        char,
        is_quoted,
        at: cursor.at,
    });
    cursor.take(char);
}

fn single_quoted(cursor: &mut Cursor<'_>, letters: &mut Vec<Letter>) -> Result<(), Error> {
    let open = cursor.at;
    cursor.at += 1;
    while let Some(next) = cursor.peek() {
        if next == '\'' {
            cursor.at += 1;
            return Ok(());
        }
        push(cursor, letters, next, true);
    }
    Err(Error::at(open, "this quote is not closed; add a ' after it"))
}

fn double_quoted(cursor: &mut Cursor<'_>, letters: &mut Vec<Letter>) -> Result<(), Error> {
    let open = cursor.at;
    cursor.at += 1;
    while let Some(next) = cursor.peek() {
        match next {
            '"' => {
                cursor.at += 1;
                return Ok(());
            }
            '$' | '`' => return Err(cursor.refuse(expansion(next))),
            '\\' if cursor.rest()[1..].starts_with(['$', '`', '"', '\\', '\n']) => escaped(cursor, letters),
            _ => push(cursor, letters, next, true),
        }
    }
    Err(Error::at(open, "this quote is not closed; add a \" after it"))
}

/// A backslash and what it quotes: a newline is joined, and at the very end it stands for itself.
fn escaped(cursor: &mut Cursor<'_>, letters: &mut Vec<Letter>) {
    match cursor.rest()[1..].chars().next() {
        Some('\n') => cursor.at += 2,
        Some(next) => {
            cursor.at += 1;
            push(cursor, letters, next, true);
        }
        None => push(cursor, letters, '\\', true),
    }
}

/// What is said of a `$` or a backquote that a shell would expand.
pub(crate) fn expansion(character: char) -> &'static str {
    match character {
        '$' => "'$' is not expanded; put it in single quotes to pass it on, or let your own shell expand it",
        _ => "'`' runs nothing here; put it in single quotes to pass it on, or let your own shell run it",
    }
}

/// A word such that `sh` and [`parse`](crate::parse) read it back: as it is where that can be, else in single quotes.
pub fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./,:+@%^*?=".contains(c) || !c.is_ascii();
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}
