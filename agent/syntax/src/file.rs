//! A workflow's file (`-f`): a line with comments, `#!` among them, and with newlines before and after the pipeline.

use crate::cursor::Cursor;
use crate::error::Error;
use crate::line::{Line, pipeline};

/// Reads a workflow's file.
pub fn parse_file(text: &str) -> Result<Line, Error> {
    whole(&mut Cursor::new(text, true))
}

/// The line that a file holds, as it is written there: what a line cannot have is blank, and every byte keeps its place.
pub fn line_of_file(text: &str) -> Result<String, Error> {
    let mut cursor = Cursor::new(text, true);
    whole(&mut cursor)?;
    let mut line = String::with_capacity(text.len());
    for skipped in cursor.skipped {
        line.push_str(&text[line.len()..skipped.start]);
        line.push_str(&" ".repeat(skipped.len()));
    }
    line.push_str(&text[line.len()..]);
    line.truncate(cursor.word_end);
    Ok(line)
}

fn whole(cursor: &mut Cursor<'_>) -> Result<Line, Error> {
    let line = pipeline(cursor)?;
    cursor.blanks(true);
    if cursor.rest().is_empty() {
        return Ok(line);
    }
    let why =
        "a second workflow begins here, and a file holds one; end the line before with '|' or leave this out";
    Err(cursor.refuse(why))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse;

    #[test]
    fn a_file_becomes_one_line_and_every_byte_keeps_its_place() {
        let text = "#!/usr/bin/env -S pipes run -f\n# first\ncat | # then\n\n  tr a '#b\n' |\nwc -l # end\n";
        let line = line_of_file(text).unwrap();
        assert_eq!(
            line.split_whitespace().collect::<Vec<_>>().join(" "),
            "cat | tr a '#b ' | wc -l"
        );
        for word in ["cat", "tr", "wc"] {
            assert_eq!(line.find(word), text.find(word));
        }
        assert!(line.contains("'#b\n'"));
        assert_eq!(parse(&line), parse_file(text));
        assert_eq!(line_of_file("a\\#b c#d").unwrap(), "a\\#b c#d");
        assert_eq!(line_of_file("# a\ncat\\  # b\n").unwrap(), "   \u{20}cat\\ ");
    }

    #[test]
    fn a_newline_between_stages_is_refused() {
        assert_eq!(line_of_file("cat\nwc\n").unwrap_err().offset, 4);
    }
}
