//! Texts with a `#!` line: whether the kernel would find the interpreter's name in it. execve(2), Interpreter scripts.
//!
//! ```text
//! #! /usr/bin/env -S python3 -u
//!    interpreter  one argument
//! ```
//! Not here: whether that interpreter is installed; the shim says so when it starts it.

use crate::service::kind::{HEAD_LENGTH, NotExecutable};

/// Beginning of every script.
pub(super) const MAGIC: &[u8] = b"#!";

/// Whether the first line names an interpreter.
pub(super) fn check(head: &[u8]) -> Result<(), NotExecutable> {
    let refuse = |why: &str| Err(NotExecutable(why.to_owned()));
    let head = &head[MAGIC.len()..head.len().min(HEAD_LENGTH)];
    let line_end = head.iter().position(|byte| *byte == b'\n');
    let line = &head[..line_end.unwrap_or(head.len())];
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let begin = line.iter().position(|byte| !is_blank(byte)).unwrap_or(line.len());
    let rest = &line[begin..];
    let word_end = rest.iter().position(|byte| is_blank(byte) || *byte == 0);
    let interpreter = &rest[..word_end.unwrap_or(rest.len())];
    if line.ends_with(b"\r") {
        return refuse(
            "its first line ends in a carriage return, which would be part of the interpreter's name; save it with Unix line ends",
        );
    }
    if interpreter.is_empty() {
        return refuse("its '#!' line names no interpreter; write one such as #!/bin/sh");
    }
    // The kernel refuses a name that may go on after what it looks at.
    if line_end.is_none() && word_end.is_none() && head.len() + MAGIC.len() == HEAD_LENGTH {
        return refuse("its '#!' line is too long for the kernel; name a shorter path");
    }
    if !interpreter.starts_with(b"/") {
        let name = String::from_utf8_lossy(interpreter).into_owned();
        return refuse(&format!(
            "its interpreter '{name}' is no absolute path; write #!/usr/bin/env {name}"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interpreter_is_named_in_the_first_line() {
        for good in [
            "#!/bin/sh\n",
            "#! \t/bin/sh -e\nx",
            "#!/usr/bin/env python3\n",
            "#!/bin/cat",
        ] {
            assert_eq!(check(good.as_bytes()), Ok(()), "{good:?}");
        }
        let long_argument = format!("#!/bin/sh {}", "a".repeat(400));
        assert_eq!(
            check(long_argument.as_bytes()),
            Ok(()),
            "the kernel cuts an argument"
        );
    }

    #[test]
    fn what_the_kernel_would_not_find_is_refused() {
        let why = |head: &str| check(head.as_bytes()).unwrap_err().to_string();
        assert!(why("#!\n/bin/sh").contains("no interpreter"));
        assert!(why("#!").contains("no interpreter"));
        assert!(why("#!/bin/sh\r\necho\r\n").contains("carriage return"));
        assert_eq!(
            why("#!python3 -u\n"),
            "its interpreter 'python3' is no absolute path; write #!/usr/bin/env python3"
        );
        assert!(why(&format!("#!/{}", "a".repeat(300))).contains("too long"));
    }
}
