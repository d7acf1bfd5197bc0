//! A word: its letters are read first, then judged. What a shell would expand, redirect or run besides one pipeline is
//! refused; the first unquoted `=` after a variable's name makes an assignment of a word that leads.

use crate::cursor::Cursor;
use crate::error::Error;
use crate::quoting::{Letter, expansion, letters};

/// A word as it was read.
pub(crate) struct Word {
    pub(crate) text: String,
    /// Its first byte in the line.
    pub(crate) start: usize,
    /// Where in the text its `=` stands, if it is an assignment.
    pub(crate) equals: Option<usize>,
}

/// Reads one word; `leads` while it may be an assignment.
pub(crate) fn word(cursor: &mut Cursor<'_>, leads: bool) -> Result<Word, Error> {
    let start = cursor.at;
    let (letters, read) = letters(cursor);
    let word = Judged {
        line: cursor.text,
        start,
        letters: &letters,
    };
    let equals = if leads { word.equals() } else { None };
    // What stands before an unclosed quote was typed first, and is said first.
    for (index, letter) in letters.iter().enumerate().filter(|(_, letter)| !letter.is_quoted) {
        if let Some(why) = word.refusal(index, equals) {
            return Err(Error::at(letter.at, why));
        }
    }
    read?;
    cursor.word_end = cursor.at;
    Ok(Word {
        text: letters.iter().map(|letter| letter.char).collect(),
        start,
        // A variable's name has one byte a letter.
        equals,
    })
}

struct Judged<'a> {
    line: &'a str,
    start: usize,
    letters: &'a [Letter],
}

impl Judged<'_> {
    /// The letter that ends a variable's name, all of it unquoted.
    fn equals(&self) -> Option<usize> {
        let in_name = |letter: &Letter| {
            !letter.is_quoted && (letter.char.is_ascii_alphanumeric() || letter.char == '_')
        };
        let equals = self.letters.iter().position(|letter| !in_name(letter))?;
        let (first, end) = (self.letters.first()?, self.letters.get(equals)?);
        let is_name = equals > 0 && !first.char.is_ascii_digit();
        let assigns = end.char == '=' && !end.is_quoted && self.is_unquoted(self.start, end.at);
        (is_name && assigns).then_some(equals)
    }

    /// Why an unquoted letter is refused, if it is.
    fn refusal(&self, index: usize, equals: Option<usize>) -> Option<&'static str> {
        let Letter { char, at, .. } = *self.letters.get(index)?;
        Some(match char {
            '#' if at == self.start => {
                "'#' would begin a comment; quote it, or write comments in a file for -f"
            }
            '~' if self.expands_tilde(index, equals) => {
                "'~' is not expanded; write the whole path, or quote it"
            }
            '$' | '`' => expansion(char),
            ';' => "';' would begin a second command; run one workflow at a time, or quote it",
            '&' if self.line[at..].starts_with("&&") => {
                "'&&' would begin a second command; run one workflow at a time, or quote it"
            }
            '&' => {
                "'&' would run it in the background; write the '&' after the whole of 'pipes run', or quote it"
            }
            '<' => "'<' redirects nothing here; give the file to 'pipes run' as its own stdin, or quote it",
            '>' => "'>' redirects nothing here; redirect the output of 'pipes run' itself, or quote it",
            '(' | ')' => "parentheses group nothing here; run them within sh -c '...', or quote them",
            _ => return None,
        })
    }

    /// Whether a shell expands a tilde here: at the word's begin, and in an assignment after `=` and each `:`.
    fn expands_tilde(&self, index: usize, equals: Option<usize>) -> bool {
        let at = self.letters[index].at;
        let Some(before) = index.checked_sub(1) else {
            return self.is_unquoted(self.start, at);
        };
        let Letter {
            char,
            is_quoted,
            at: from,
        } = self.letters[before];
        let is_colon = equals.is_some() && char == ':' && !is_quoted;
        (equals == Some(before) || is_colon) && self.is_unquoted(from, at)
    }

    /// Whether no quote stands there, not even an empty one.
    fn is_unquoted(&self, from: usize, to: usize) -> bool {
        !self.line[from..to].contains(['\'', '"'])
    }
}
