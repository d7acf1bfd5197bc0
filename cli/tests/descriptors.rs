//! `pipes run` whose own 0, 1 or 2 is closed, open the other way, or without a reader.

#![allow(clippy::unwrap_used, reason = "what a test cannot do fails it")]

use std::io::Read;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Output, Stdio};

use crate::agent::{Agent, Chunk};
use crate::run::{Caller, ends, errors};

/// What the stages are to find at 0, 1 and 2.
fn names(chunk: &Chunk) -> Vec<&str> {
    let names = chunk.keyword("descriptors").and_then(|names| names.as_array());
    let names = names.map(|names| names.iter().filter_map(|name| name.as_str()));
    names.into_iter().flatten().collect()
}

/// The same with descriptors closed, as `>&-` and `<&-` do it.
fn without(mut caller: Caller, closed: libc::c_int) -> Output {
    // SAFETY: close is async-signal-safe.
    unsafe {
        caller.command.pre_exec(move || {
            libc::close(closed);
            Ok(())
        });
    }
    caller.output()
}

#[test]
fn a_closed_stdout_is_told_and_fails_the_first_byte_that_comes_all_the_same() {
    for (bytes, status, said) in [
        (&b""[..], 0, ""),
        (
            b"lost",
            125,
            "error: cannot write to standard output: Bad file descriptor\n",
        ),
    ] {
        let agent = Agent::play(move |session| {
            let told = session.chunk().unwrap();
            assert_eq!(names(&told), ["pipe", "closed", "pipe"]);
            if !bytes.is_empty() {
                session.stdout(bytes);
            }
            session.end(0);
        });
        let output = without(Caller::of(&[agent.address], &["-n", "cat"]), libc::STDOUT_FILENO);
        assert_eq!(
            (output.status.code(), errors(&output).as_str()),
            (Some(status), said)
        );
        agent.finish();
    }
}

#[test]
fn a_closed_stdin_is_none() {
    for arguments in [&["cat"][..], &["-n", "cat"], &["-i", "cat"]] {
        let agent = Agent::play(|session| {
            let told = session.chunk().unwrap();
            assert!(told.keyword("eof").is_some() && names(&told).is_empty());
            session.end(0);
        });
        let output = without(Caller::of(&[agent.address], arguments), libc::STDIN_FILENO);
        assert_eq!((output.status.code(), errors(&output).as_str()), (Some(0), ""));
        agent.finish();
    }
}

#[test]
fn stdin_that_cannot_be_read_is_a_break() {
    let agent = Agent::play(|session| {
        session.chunk().unwrap();
        session.credit(10);
        assert_eq!(session.chunk(), None, "no end of input is told");
    });
    let mut caller = Caller::of(&[agent.address], &["cat"]);
    caller
        .command
        .stdin(std::fs::File::open("/proc/self/mem").unwrap());
    let output = caller.output();
    assert_eq!(
        errors(&output),
        "error: cannot read standard input: Input/output error\n"
    );
    assert_eq!(output.status.code(), Some(125));
    agent.finish();
}

#[test]
fn what_no_descriptor_can_do_is_left_to_the_stages() {
    let agent = Agent::play(|session| {
        let told = session.chunk().unwrap();
        assert_eq!(names(&told), ["folder", "wrong", "full"]);
        assert!(told.keyword("eof").is_some(), "nothing is read");
        session.end(1);
    });
    let mut caller = Caller::of(&[agent.address], &["cat"]);
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    caller
        .command
        .stdin(std::fs::File::open("/").unwrap())
        .stdout(std::fs::File::open("/dev/null").unwrap())
        .stderr(full);
    assert_eq!(caller.output().status.code(), Some(1));
    agent.finish();
}

#[test]
fn who_reads_stderr_no_more_is_told_apart_from_stdout() {
    let agent = Agent::play(|session| {
        session.chunk().unwrap();
        session.stderr(b"e\n");
        let told = session.chunk().unwrap();
        assert_eq!(told.keyword("closed").and_then(|number| number.as_u64()), Some(2));
        session.end(141);
    });
    let mut caller = Caller::of(&[agent.address], &["-n", "a"]);
    let mut child = caller.command.spawn().unwrap();
    let mut stderr = child.stderr.take().unwrap();
    stderr.read_exact(&mut [0; 2]).unwrap();
    drop(stderr);
    assert_eq!(ends(&mut child).signal(), Some(libc::SIGPIPE));
    agent.finish();
}

#[test]
fn a_listing_that_cannot_be_written_is_no_success() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pipes"));
    command
        .arg("version")
        .stdout(std::fs::File::open("/dev/null").unwrap())
        .stderr(Stdio::piped());
    let output = command.output().unwrap();
    assert_eq!(
        (output.status.code(), errors(&output).as_str()),
        (
            Some(1),
            "error: cannot write to standard output: Bad file descriptor\n"
        )
    );
}
