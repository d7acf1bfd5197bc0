//! The line as it was given: one argument, or a file (`-f`). What it means is `pipes-syntax`'s to say.

use std::path::Path;

use pipes_syntax::{parse, quote};

use crate::error::Error;
use crate::given;

/// A file of a line is longer than any line that people write; /dev/zero has no end.
const FILE_MAX: u64 = 1 << 20;

/// The line as it was given, for messages.
pub fn given(from: Option<&Path>, words: &[String]) -> Result<String, Error> {
    match (from, words) {
        (Some(path), []) => given::text(path, FILE_MAX),
        (Some(path), _) => Err(Error::Usage(format!(
            "the line is in {}: give none beside -f",
            path.display()
        ))),
        (None, [line]) => Ok(line.clone()),
        (None, []) => Err(Error::Usage(
            "a line is needed, such as: pipes run \"a | b\"; see: pipes run --help".into(),
        )),
        (None, pieces) => Err(Error::Usage(one_argument(pieces))),
    }
}

/// The line of what was given; offsets in it are those of what was given.
pub fn read(from: Option<&Path>, shown: &str) -> Result<String, Error> {
    match from {
        Some(_) => Ok(pipes_syntax::line_of_file(shown)?),
        None => Ok(shown.to_owned()),
    }
}

/// The line of one stage with these words, each as it stands.
pub fn of_words(words: &[String]) -> String {
    let quoted = words.iter().enumerate().map(|(number, word)| {
        // What would be an assignment is a name.
        match number == 0 && word.contains('=') && !word.contains('\'') {
            true => format!("'{word}'"),
            false => quote(word),
        }
    });
    quoted.collect::<Vec<_>>().join(" ")
}

/// The services a line names, in its order; a line that cannot be read is left to the agent to refuse.
pub fn services(line: &str) -> Vec<String> {
    let stages = parse(line).map(|line| line.stages).unwrap_or_default();
    stages.into_iter().map(|stage| stage.name).collect()
}

/// What to say to a line given in several arguments.
pub fn one_argument(pieces: &[String]) -> String {
    format!("the line must be one argument: pipes run {}", quoted(pieces))
}

/// Arguments as one argument: what a user should have typed who gave the line in pieces.
fn quoted(words: &[String]) -> String {
    let line = match words {
        [line] => line.clone(),
        words => {
            let part = |word: &String| if word == "|" { word.clone() } else { quote(word) };
            words.iter().map(part).collect::<Vec<_>>().join(" ")
        }
    };
    if line.contains(['"', '$', '`', '\\', '!']) {
        quote(&line)
    } else {
        format!("\"{line}\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_services_of_a_line_are_its_first_words() {
        assert_eq!(
            services("LANG=C sort -k 2 | 'wc' -l|tr 'a|b' c"),
            ["sort", "wc", "tr"]
        );
        assert_eq!(services(r#"A="x y" B='|' my\ prog "#), ["my prog"]);
        assert_eq!(services("a@12345678 | A=1 b"), ["a@12345678", "b"]);
        assert!(services("a | A=1 | ").is_empty(), "it is refused");
    }

    #[test]
    fn words_as_they_stand_are_one_stage() {
        let words = ["printf", "%s", "a b", "|", "$x", "it's", "", "A=1"].map(str::to_owned);
        let line = parse(&of_words(&words)).unwrap();
        let [stage] = &line.stages[..] else {
            panic!("{line:?}");
        };
        assert_eq!(stage.name, "printf");
        assert_eq!(stage.args.len(), words.len() - 1);
        assert_eq!(services(&of_words(&["A=1".to_owned()])), ["A=1"], "no assignment");
    }

    #[test]
    fn a_line_in_pieces_is_shown_as_it_should_have_been() {
        let words = |text: &[&str]| text.iter().map(|word| word.to_string()).collect::<Vec<_>>();
        assert_eq!(quoted(&words(&["cat", "-n"])), "\"cat -n\"");
        assert_eq!(quoted(&words(&["grep", "a b", "|", "wc"])), "\"grep 'a b' | wc\"");
        assert_eq!(quoted(&words(&["echo", "$x"])), r"'echo '\''$x'\'''");
    }
}
