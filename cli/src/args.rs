//! The command line, and mistakes in it said in one sentence.

use std::ffi::OsString;

use clap::Parser;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::command::{Arguments, Command, definition, one_argument};
use crate::exit::{self, Outcome};
use crate::output;

/// Commands that end as a run does, so that 125 is what Pipes says.
const ENDS_AS_A_RUN: [&str; 3] = ["run", "query", "result"];

/// Reads the arguments; what was wrong with them, or help that was asked for, is said already.
pub fn parse(arguments: &[OsString]) -> Result<Command, Outcome> {
    match Arguments::try_parse_from(arguments) {
        Ok(parsed) => Ok(parsed.command),
        Err(error) => Err(refuse(&error, arguments)),
    }
}

fn refuse(error: &clap::Error, arguments: &[OsString]) -> Outcome {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // Help that nobody can read is no failure.
            let _ = output::print(&error.render().to_string());
            exit::SUCCESS
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            eprint!("{}", error.render());
            Outcome::Status(exit::USAGE)
        }
        _ => {
            let words: Vec<String> = arguments
                .iter()
                .map(|word| word.to_string_lossy().into_owned())
                .collect();
            output::error::say(&sentence(error, &words));
            let is_run = words
                .get(1)
                .is_some_and(|word| ENDS_AS_A_RUN.contains(&word.as_str()));
            Outcome::Status(if is_run { exit::RUN_FAILED } else { exit::USAGE })
        }
    }
}

/// One sentence: what is wrong, and where help is.
fn sentence(error: &clap::Error, words: &[String]) -> String {
    let path = command_path(words);
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.clone()),
        // Of suggestions the last is the nearest; of valid values the caller wants all.
        Some(ContextValue::Strings(texts)) if kind == ContextKind::ValidValue => Some(texts.join(", ")),
        Some(ContextValue::Strings(texts)) => texts.last().cloned(),
        _ => None,
    };
    let argument = text(ContextKind::InvalidArg).unwrap_or_default();
    let what = match error.kind() {
        ErrorKind::UnknownArgument => {
            if let Some(pieces) = line_in_pieces(words) {
                return one_argument(pieces);
            }
            let suggested = text(ContextKind::SuggestedArg).map(|name| format!(", did you mean {name}?"));
            format!(
                "{path} has no argument '{argument}'{}",
                suggested.unwrap_or_default()
            )
        }
        ErrorKind::InvalidSubcommand => {
            let given = text(ContextKind::InvalidSubcommand).unwrap_or_default();
            let suggested =
                text(ContextKind::SuggestedSubcommand).map(|name| format!(", did you mean {name}?"));
            format!("{path} has no command '{given}'{}", suggested.unwrap_or_default())
        }
        ErrorKind::InvalidUtf8 => {
            // Whatever was none was read as this.
            let given = words
                .iter()
                .find(|word| word.contains(char::REPLACEMENT_CHARACTER));
            let given = given.map_or("an argument", String::as_str);
            format!("'{given}' is not UTF-8; give text as arguments, and other bytes as stdin or by --file")
        }
        ErrorKind::MissingRequiredArgument => format!("{path} needs {argument}"),
        ErrorKind::ValueValidation => {
            let why = std::error::Error::source(error)
                .map(ToString::to_string)
                .unwrap_or_default();
            format!("{argument}: {why}")
        }
        ErrorKind::InvalidValue => {
            let given = text(ContextKind::InvalidValue).unwrap_or_default();
            let valid = text(ContextKind::ValidValue)
                .map(|valid| format!(", it takes {valid}"))
                .unwrap_or_default();
            if given.is_empty() {
                format!("{argument} needs a value{valid}")
            } else {
                format!("{argument} cannot be '{given}'{valid}")
            }
        }
        ErrorKind::ArgumentConflict => {
            let other = text(ContextKind::PriorArg).unwrap_or_default();
            format!("{argument} does not go with {other}")
        }
        _ => first_line(error),
    };
    format!("{what}; see: {path} --help")
}

/// What clap says, without its usage and hints.
fn first_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let line = text.lines().next().unwrap_or_default();
    line.strip_prefix("error: ").unwrap_or(line).to_owned()
}

/// `pipes`, and the commands that the words name, as far as they do.
fn command_path(words: &[String]) -> String {
    let mut command = definition();
    let mut path = "pipes".to_owned();
    for word in words.iter().skip(1) {
        let Some(next) = command.find_subcommand(word).cloned() else {
            break;
        };
        path = format!("{path} {word}");
        command = next;
    }
    path
}

/// The words after `run`, where they look like a line that was not quoted.
fn line_in_pieces(words: &[String]) -> Option<&[String]> {
    let pieces = words.get(2..)?;
    let is_run = words.get(1).is_some_and(|word| word == "run");
    (is_run && pieces.len() > 1 && !pieces[0].starts_with('-')).then_some(pieces)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(words: &[&str]) -> String {
        let words: Vec<String> = words.iter().map(|word| word.to_string()).collect();
        sentence(&Arguments::try_parse_from(&words).unwrap_err(), &words)
    }

    #[test]
    fn the_definition_holds_together() {
        definition().debug_assert();
    }

    #[test]
    fn a_mistake_is_one_sentence_with_the_way_to_help() {
        assert_eq!(
            refused(&["pipes", "rum"]),
            "pipes has no command 'rum', did you mean run?; see: pipes --help"
        );
        assert_eq!(
            refused(&["pipes", "run", "-x", "a"]),
            "pipes run has no argument '-x'; see: pipes run --help"
        );
        assert_eq!(
            refused(&["pipes", "stop"]),
            "pipes stop needs <X>...; see: pipes stop --help"
        );
        assert_eq!(
            refused(&["pipes", "run", "--timeout", "10", "a"]),
            "--timeout <DURATION>: '10' is no duration; write it as 1.5s, 10m or 24h; see: pipes run --help"
        );
        assert_eq!(
            refused(&["pipes", "node", "ls", "--format", "xml"]),
            "--format <FORMAT> cannot be 'xml', it takes table, json; see: pipes node ls --help"
        );
    }

    #[test]
    fn an_argument_that_is_not_utf8_is_named() {
        use std::os::unix::ffi::OsStringExt;
        let words = ["pipes", "run"].map(OsString::from);
        let words: Vec<_> = words
            .into_iter()
            .chain([OsString::from_vec(b"printf \xff".to_vec())])
            .collect();
        let shown: Vec<String> = words
            .iter()
            .map(|word| word.to_string_lossy().into_owned())
            .collect();
        assert_eq!(
            sentence(&Arguments::try_parse_from(&words).unwrap_err(), &shown),
            "'printf \u{fffd}' is not UTF-8; give text as arguments, and other bytes as stdin or by --file; see: pipes run --help"
        );
    }

    #[test]
    fn a_line_that_was_not_quoted_is_shown_quoted() {
        let said = refused(&["pipes", "run", "grep", "-v", "a b"]);
        assert_eq!(said, "the line must be one argument: pipes run \"grep -v 'a b'\"");
    }
}
