//! A stage: assignments, the name of a service, and its arguments.

use crate::DIGEST_DIGITS_MIN;
use crate::cursor::Cursor;
use crate::error::Error;
use crate::word::{Word, word};

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

/// Reads words up to `|`, the end, or in a file a newline.
pub(crate) fn stage(cursor: &mut Cursor<'_>, number: usize) -> Result<Stage, Error> {
    let start = cursor.at;
    let mut assignments: Vec<(String, Vec<u8>)> = Vec::new();
    let mut name: Option<String> = None;
    let mut args = Vec::new();
    while let Some(next) = cursor.peek() {
        match next {
            '|' if cursor.rest().starts_with("||") && name.is_some() => {
                return Err(cursor.refuse("'||' runs nothing in Pipes: use one '|', or quote it"));
            }
            '|' => break,
            '\n' if cursor.is_file => break,
            '\n' => {
                let why = "a newline ends a line; write it after '|', or in quotes to pass it on";
                return Err(cursor.refuse(why));
            }
            _ => {}
        }
        let word = word(cursor, name.is_none())?;
        match (word.equals, &name) {
            (Some(equals), None) => {
                let variable = word.text[..equals].to_owned();
                assignments.retain(|(known, _)| *known != variable);
                assignments.push((variable, word.text.into_bytes().split_off(equals + 1)));
            }
            (None, None) => name = Some(service(word)?),
            (_, Some(_)) => args.push(word.text.into_bytes()),
        }
        cursor.blanks(false);
    }
    match name {
        Some(name) => Ok(Stage {
            assignments,
            name,
            args,
        }),
        None if assignments.is_empty() && number == 1 && cursor.rest().is_empty() => Err(Error::at(
            start,
            "there is no workflow here; write one such as 'a | b'",
        )),
        None if assignments.is_empty() => Err(Error::at(
            start,
            format!("stage {number} is empty; write a service's name here, or leave out the '|'"),
        )),
        None => Err(cursor.refuse(&format!(
            "stage {number} sets variables for nothing; write a service's name after them"
        ))),
    }
}

/// The word that names a stage's service.
fn service(word: Word) -> Result<String, Error> {
    let Word { text, start, .. } = word;
    if text.is_empty() {
        return Err(Error::at(
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
            return Err(Error::at(start, why));
        }
    }
    Ok(text)
}
