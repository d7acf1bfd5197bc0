//! A place in a text, and what lies between words.

use std::ops::Range;

use crate::error::Error;

/// Reads a text from its beginning.
pub(crate) struct Cursor<'a> {
    pub(crate) text: &'a str,
    pub(crate) at: usize,
    /// Comments, and newlines around the pipeline, are allowed.
    pub(crate) is_file: bool,
    /// What was skipped of those.
    pub(crate) skipped: Vec<Range<usize>>,
    /// Where the last word ended.
    pub(crate) word_end: usize,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(text: &'a str, is_file: bool) -> Cursor<'a> {
        Cursor {
            text,
            at: 0,
            is_file,
            skipped: Vec::new(),
            word_end: 0,
        }
    }

    /// The next character.
    pub(crate) fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    /// Takes the next character, which is `next`.
    pub(crate) fn take(&mut self, next: char) {
        self.at += next.len_utf8();
    }

    /// What was not read yet.
    pub(crate) fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    /// Skips what lies between words; newlines where they are allowed, and in a file comments.
    pub(crate) fn blanks(&mut self, newlines: bool) {
        while let Some(next) = self.peek() {
            match next {
                ' ' | '\t' => self.at += 1,
                '\n' if newlines => self.skip(1),
                '\\' if self.rest().starts_with("\\\n") => self.at += 2,
                '#' if self.is_file => self.skip(self.rest().find('\n').unwrap_or(self.rest().len())),
                _ => break,
            }
        }
    }

    fn skip(&mut self, length: usize) {
        self.skipped.push(self.at..self.at + length);
        self.at += length;
    }

    /// Refuses what stands here.
    pub(crate) fn refuse(&self, why: &str) -> Error {
        Error::at(self.at, why)
    }
}
