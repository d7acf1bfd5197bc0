//! A line: stages with `|` between them.

use crate::cursor::Cursor;
use crate::error::Error;
use crate::stage::{Stage, stage};
use crate::{LINE_LENGTH_MAX, STAGES_MAX};

/// A workflow's line, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// In the line's order, at least one.
    pub stages: Vec<Stage>,
}

/// Reads the line that `run` is given as its argument.
pub fn parse(line: &str) -> Result<Line, Error> {
    pipeline(&mut Cursor::new(line, false))
}

/// Reads stages up to the end, or to what is no part of them.
pub(crate) fn pipeline(cursor: &mut Cursor<'_>) -> Result<Line, Error> {
    if cursor.text.len() > LINE_LENGTH_MAX {
        let why = format!(
            "the line has more than {LINE_LENGTH_MAX} bytes; put long data into a file and name it with --file"
        );
        return Err(Error::at(LINE_LENGTH_MAX, why));
    }
    if let Some(at) = cursor.text.find('\0') {
        let why = "a NUL byte cannot be part of an argument; leave it out";
        return Err(Error::at(at, why));
    }
    let mut stages = Vec::new();
    cursor.blanks(cursor.is_file);
    loop {
        let start = cursor.at;
        let stage = stage(cursor, stages.len() + 1)?;
        if stages.len() == STAGES_MAX {
            let why = format!("a line has at most {STAGES_MAX} stages; split it into two");
            return Err(Error::at(start, why));
        }
        stages.push(stage);
        if cursor.peek() != Some('|') {
            return Ok(Line { stages });
        }
        cursor.take('|');
        cursor.blanks(true);
    }
}
