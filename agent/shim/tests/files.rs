//! A run's files: asked of the agent, laid into the folder, and nobody else waits for them.

use pipes_flow as flow;
use rmpv::Value;

use crate::agent::{Agent, FileCall, Options, STAGE};
use crate::stage::{Stage, order};

fn file(digest: &str, name: &str, executable: bool) -> Value {
    Value::Map(vec![
        ("digest".into(), digest.into()),
        ("name".into(), name.into()),
        ("executable".into(), executable.into()),
    ])
}

/// A stage that was called and given its first credit, and whose first file was asked for.
fn with_files(agent: &mut Agent, run: &str, script: &str, files: Vec<Value>) -> (Stage, FileCall) {
    let order = order(run, &["-c", script], vec![("files", Value::Array(files))]);
    let mut stage = Stage::prepare(agent, order, run);
    let call = agent.file_call();
    stage.until(agent, "called", |stage| stage.next_call != 0 && stage.credit > 0);
    stage.grant(agent, flow::WINDOW_FIRST as u64);
    (stage, call)
}

#[test]
fn files_lie_read_only_in_the_folder_and_keep_that_they_may_be_executed() {
    let mut agent = Agent::start(Options::default());
    let files = vec![
        file("sha256:aa", "words.txt", false),
        file("sha256:bb", "hello", true),
    ];
    let script = "cat words.txt; stat -c %a words.txt hello; ./hello; wc -c <words.txt";
    let (mut stage, mut words) = with_files(&mut agent, "rfile", script, files);
    assert_eq!(words.digest, "sha256:aa");
    words.give(b"words\n");
    words.end(6);
    let mut hello = agent.file_call();
    assert_eq!(hello.digest, "sha256:bb");
    hello.give(b"#!/bin/sh\necho hello\n");
    hello.end(21);
    stage.until(&mut agent, "ready", |stage| stage.is_ready);
    stage.command(&mut agent, vec!["go".into()]);
    stage.until(&mut agent, "over", |stage| {
        stage.exit.is_some() && stage.closed.is_some()
    });
    stage.end(&mut agent);
    assert_eq!(
        String::from_utf8_lossy(&stage.stdout),
        "words\n444\n555\nhello\n6\n"
    );
    assert!(agent.scratch().is_empty());
}

#[test]
fn a_replica_goes_on_while_a_file_comes_for_one_of_its_stages() {
    let mut agent = Agent::start(Options::default());
    let files = vec![file("sha256:aa", "large", false)];
    let (waiting, mut call) = with_files(&mut agent, "rlarge", "wc -c <large", files);
    let large = vec![7; 3 << 20];
    call.give(&large[..1 << 20]);
    // Whole runs meanwhile, beginning and end.
    let other = order("rother", &["-c", "echo here"], Vec::new());
    let mut both = [Stage::prepare(&mut agent, other, "rother"), waiting];
    let until = |agent: &mut Agent, both: &mut [Stage; 2], is_so: fn(&Stage) -> bool| {
        while !is_so(&both[0]) {
            let said = agent.next();
            assert!(
                both.iter_mut().any(|stage| stage.take(agent, &said)),
                "nobody's: {said:?}"
            );
        }
    };
    until(&mut agent, &mut both, |stage| stage.next_call != 0);
    both[0].grant(&mut agent, flow::WINDOW_FIRST as u64);
    until(&mut agent, &mut both, |stage| stage.is_ready);
    both[0].command(&mut agent, vec!["go".into()]);
    until(&mut agent, &mut both, |stage| {
        stage.exit.is_some() && stage.closed.is_some()
    });
    agent.chunk(both[0].request, STAGE, vec!["end".into()], false);
    until(&mut agent, &mut both, Stage::is_answered);
    let [other, mut waiting] = both;
    assert_eq!(
        (other.stdout.as_slice(), waiting.is_ready),
        (&b"here\n"[..], false)
    );
    call.give(&large[1 << 20..]);
    call.end(large.len() as u64);
    waiting.until(&mut agent, "ready", |stage| stage.is_ready);
    waiting.command(&mut agent, vec!["go".into()]);
    waiting.until(&mut agent, "over", |stage| {
        stage.exit.is_some() && stage.closed.is_some()
    });
    waiting.end(&mut agent);
    assert_eq!(waiting.stdout, b"3145728\n");
}

#[test]
fn a_file_that_is_not_whole_is_none() {
    for said in [None, Some(7)] {
        let mut agent = Agent::start(Options::default());
        let files = vec![file("sha256:aa", "words", false)];
        let (mut stage, mut call) = with_files(&mut agent, "rhalf", "cat words", files);
        call.give(b"half");
        match said {
            Some(size) => call.end(size),
            None => drop(call),
        }
        stage.until(&mut agent, "answered", |stage| stage.is_answered());
        let (error, why) = stage.error.unwrap();
        assert_eq!(error, "pipes.error.cannot_start");
        assert!(why.contains("the file words cannot be laid"), "{why}");
        assert!(!stage.is_ready && !stage.is_started);
        crate::wait_until("the folder is gone", || agent.scratch().is_empty());
    }
}

#[test]
fn a_file_of_a_run_that_is_given_up_is_asked_for_no_longer() {
    let mut agent = Agent::start(Options::default());
    let files = vec![file("sha256:aa", "words", false)];
    let (mut stage, mut call) = with_files(&mut agent, "rgone", "cat words", files);
    call.give(b"half");
    Stage::interrupt(&mut agent, stage.request);
    stage.until(&mut agent, "answered", |stage| stage.is_answered());
    assert!(call.is_given_up());
    crate::wait_until("the folder is gone", || agent.scratch().is_empty());
}

#[test]
fn no_file_lies_outside_of_the_folder() {
    for name in ["../up", "/abs", "a/b", "..", ""] {
        let mut agent = Agent::start(Options::default());
        let files = Value::Array(vec![file("sha256:aa", name, false)]);
        let order = order("rname", &["-c", "ls"], vec![("files", files)]);
        let mut stage = Stage::prepare(&mut agent, order, "rname");
        stage.until(&mut agent, "answered", |stage| stage.is_answered());
        let (_, why) = stage.error.unwrap();
        assert!(why.contains("one word without a slash"), "{name}: {why}");
    }
}
