//! Errors on stderr: `error: ` and one sentence; for a refused line the place under it.

use std::io::{IsTerminal, Write};

use rmpv::Value;

use super::caret::caret;
use crate::error::Error;
use crate::escape;
use pipes_protocol::uris;

/// Whether stderr may be coloured: a terminal, and NO_COLOR not set (no-color.org).
pub fn is_coloured() -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    !refused && std::io::stderr().is_terminal()
}

/// Says that something failed.
pub fn say(message: &str) {
    let tag = if is_coloured() {
        "\x1b[1;31merror:\x1b[0m"
    } else {
        "error:"
    };
    // There is nobody to tell when stderr is gone.
    let _ = writeln!(std::io::stderr(), "{tag} {}", escape::lines(message));
}

/// Says what is no error of Pipes, as a shell says it.
pub fn note(message: &str) {
    let _ = writeln!(std::io::stderr(), "{}", escape::lines(message));
}

/// Shows an error.
pub fn show(error: &Error) {
    say(&error.to_string());
}

/// Shows why a line was refused; where the agent named a byte, the line with a caret under it.
pub fn show_for_line(error: &Error, shown: &str) {
    say(&of_line(error, shown));
}

/// The same as text.
pub fn of_line(error: &Error, shown: &str) -> String {
    if let Error::Refused {
        uri,
        message,
        arguments,
    } = error
        && uri == uris::error::SYNTAX
        && let Some(offset) = arguments.first().and_then(Value::as_u64)
    {
        let offset = usize::try_from(offset).unwrap_or(usize::MAX);
        return format!("{message}\n{}", caret(shown, offset));
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_line_is_shown_with_its_place() {
        let error = Error::Refused {
            uri: uris::error::SYNTAX.into(),
            message: "'>' would redirect: quote it".into(),
            arguments: vec![4.into()],
        };
        let expected = "'>' would redirect: quote it\n  cat > x\n      ^";
        assert_eq!(of_line(&error, "cat > x"), expected);
    }

    #[test]
    fn another_error_is_its_sentence() {
        assert_eq!(of_line(&Error::Local("no".into()), "cat"), "no");
    }
}
