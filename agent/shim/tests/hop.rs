//! Two stages joined by a hop: what a shell's pipe between them would show.

use std::process::{Command, Stdio};

use rmpv::Value;

use crate::agent::{Agent, Options, PIPE, Said};
use crate::stage::{Stage, order};

/// Runs `FIRST | SECOND` with the hop's messages passed on as a router does; statuses and output.
fn line(agent: &mut Agent, first: &str, second: &str) -> ([i64; 2], Vec<u8>) {
    let command = |script: &str| ["-c".to_owned(), format!("exec {script}")];
    let mut stages = [first, second].map(|script| {
        let [option, script] = command(script);
        let run = format!("r{}", script.len());
        let mut stage = Stage::prepare(agent, order(&run, &[&option, &script], Vec::new()), &run);
        stage.until(agent, "called", |stage| stage.next_call != 0 && stage.credit > 0);
        stage
    });
    let [a, b] = &mut stages;
    a.grant(agent, b.credit);
    b.grant(agent, 32_768);
    for stage in [&mut *a, &mut *b] {
        stage.until(agent, "ready", |stage| stage.is_ready);
    }
    for stage in [&mut *a, &mut *b] {
        stage.command(agent, vec!["go".into()]);
    }
    a.give(agent, &[], true);
    let is_over = |stage: &Stage| stage.exit.is_some() && stage.closed.is_some();
    while !is_over(a) || !is_over(b) {
        match agent.next() {
            Said::Call {
                request,
                progress,
                bytes,
                ..
            } if request == a.next_call => {
                a.has_ended |= !progress;
                agent.chunk(b.pipe, PIPE, vec![Value::Binary(bytes)], progress);
            }
            Said::Yield {
                request,
                progress,
                args,
            } if request == b.pipe => {
                agent.result(a.next_call, args, progress);
            }
            said => assert!(a.take(agent, &said) || b.take(agent, &said), "nobody's: {said:?}"),
        }
    }
    for stage in [&mut *a, &mut *b] {
        stage.end(agent);
    }
    let [first, second] = stages;
    assert_eq!(first.counts.unwrap().1, first.closed.unwrap());
    ([first.exit.unwrap().0, second.exit.unwrap().0], second.stdout)
}

/// The same line in `sh`, each stage's status noted by a wrapper.
fn shell(first: &str, second: &str) -> ([i64; 2], Vec<u8>) {
    let folder = tempfile::tempdir().unwrap();
    let line = format!("(sh -c 'env {first}'; echo $? >one) | (sh -c 'env {second}'; echo $? >two)");
    let output = Command::new("sh")
        .args(["-c", &line])
        .current_dir(&folder)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let status = |name| {
        std::fs::read_to_string(folder.path().join(name))
            .unwrap()
            .trim()
            .parse()
            .unwrap()
    };
    ([status("one"), status("two")], output.stdout)
}

#[test]
fn lines_end_as_in_a_shell() {
    let mut agent = Agent::start(Options::default());
    for (first, second) in [
        ("seq 1 16000", "head -1"),
        ("seq 1 20000", "head -1"),
        ("seq 1 13000", "sleep 0.3"),
        ("seq 1 10000", "sleep 0.3"),
        ("seq 1 20000", "sleep 0.3"),
        ("yes", "head -5"),
        ("seq 1 200000", "tail -1"),
        ("cat /bin/ls", "cksum"),
        ("false", "wc -c"),
        ("true", "false"),
    ] {
        let expected = shell(first, second);
        for _ in 0..3 {
            assert_eq!(line(&mut agent, first, second), expected, "{first} | {second}");
        }
    }
}
