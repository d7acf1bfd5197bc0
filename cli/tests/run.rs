//! `pipes run` between its descriptors, its signals and an agent.

#![allow(clippy::unwrap_used, reason = "what a test cannot do fails it")]

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::agent::{self, Agent, Chunk, LIMIT, Session};

/// `pipes run` with a context of its own.
pub struct Caller {
    _home: tempfile::TempDir,
    pub command: Command,
}

impl Caller {
    pub fn of(servers: &[SocketAddr], arguments: &[&str]) -> Caller {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("pipes/contexts");
        std::fs::create_dir_all(&folder).unwrap();
        let local = home.path().join("local");
        for (number, server) in servers.iter().enumerate() {
            let node = local.join(format!("n{number}"));
            std::fs::create_dir_all(&node).unwrap();
            let (address, port, runtime) = (server.ip(), server.port(), agent::folder(*server));
            let configuration =
                format!("address = \"{address}\"\nruntime = {runtime:?}\nports = {{ wamp = {port} }}\n");
            std::fs::write(node.join("agent.toml"), configuration).unwrap();
        }
        let context = serde_json::json!({
            "local": local,
            "name": "test", "cluster": "test", "cluster_id": "01a", "operator": "me@here", "ca": "",
            "servers": servers.iter().map(SocketAddr::to_string).collect::<Vec<_>>(),
            "key": "0000000000000000000000000000000000000000000000000000000000000001",
        });
        std::fs::write(folder.join("test.json"), context.to_string()).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_pipes"));
        command
            .arg("run")
            .args(arguments)
            .env("XDG_CONFIG_HOME", home.path());
        command.env_remove("PIPES_AGENT").env_remove("PIPES_CONTEXT");
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Caller { _home: home, command }
    }

    /// Another command than `run`, in the same surroundings.
    pub fn command(&mut self, arguments: &[&str]) -> &mut Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pipes"));
        for (name, value) in self.command.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.args(arguments).stdin(Stdio::null());
        self.command = command;
        &mut self.command
    }

    pub fn output(mut self) -> Output {
        self.command.output().unwrap()
    }
}

pub fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

pub fn ends(child: &mut Child) -> std::process::ExitStatus {
    let begun = Instant::now();
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if begun.elapsed() > LIMIT {
            child.kill().unwrap();
            panic!("it does not end");
        }
        std::thread::yield_now();
    }
}

fn signal(child: &Child, number: libc::c_int) {
    // SAFETY: the child was not waited for, so the pid is its own.
    unsafe { libc::kill(child.id().cast_signed(), number) };
}

/// Gives stdin back as stdout, a window at a time, and ends with the input.
fn echo(session: &mut Session) {
    session.chunk().unwrap();
    session.credit(32 << 10);
    loop {
        let chunk = session.chunk().unwrap();
        if !chunk.bytes.is_empty() {
            session.stdout(&chunk.bytes);
            session.credit(chunk.bytes.len() as u64);
        }
        if chunk.keyword("eof").is_some() {
            return session.end(0);
        }
    }
}

#[test]
fn bytes_go_in_and_come_out_unchanged() {
    for length in [0_usize, 1, 65_535, 65_536, 65_537, 3 << 20] {
        let agent = Agent::play(echo);
        let mut caller = Caller::of(&[agent.address], &["cat"]);
        let mut child = caller.command.stdin(Stdio::piped()).spawn().unwrap();
        let bytes: Vec<u8> = (0..length).map(|index| (index * 7 % 253) as u8).collect();
        let (mut stdin, sent) = (child.stdin.take().unwrap(), bytes.clone());
        let writing = std::thread::spawn(move || stdin.write_all(&sent).unwrap());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", errors(&output));
        assert!(output.stdout == bytes, "{length} bytes");
        writing.join().unwrap();
        agent.finish();
    }
}

#[test]
fn stdin_is_read_only_against_credit_and_does_not_hold_the_exit() {
    let agent = Agent::play(|session| {
        session.chunk().unwrap();
        session.credit(10);
        assert_eq!(
            session.chunk().unwrap(),
            Chunk {
                bytes: b"0123456789".to_vec(),
                keywords: vec![]
            }
        );
        session.end(3);
    });
    let mut caller = Caller::of(&[agent.address], &["head"]);
    let mut child = caller.command.stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"0123456789abc").unwrap();
    assert_eq!(ends(&mut child).code(), Some(3));
    agent.finish();
}

#[test]
fn no_input_is_told_with_the_request() {
    let agent = Agent::play(|session| {
        let first = session.chunk().unwrap();
        assert_eq!(first.keyword("eof").and_then(|eof| eof.as_bool()), Some(true));
        assert_eq!(first.keyword("line").and_then(|line| line.as_str()), Some("true"));
        assert_eq!(
            first.keyword("credit").and_then(|credit| credit.as_u64()),
            Some(1 << 20)
        );
        session.end(0);
    });
    assert_eq!(
        Caller::of(&[agent.address], &["-n", "true"])
            .output()
            .status
            .code(),
        Some(0)
    );
    agent.finish();
}

#[test]
fn limits_are_not_lost_on_the_way_to_the_agent_that_refuses_them() {
    let agent = Agent::play(|session| {
        let first = session.chunk().unwrap();
        let options = first.keyword("options").unwrap().as_map().unwrap();
        let given = |name: &str| options.iter().find(|(key, _)| key.as_str() == Some(name));
        assert_eq!(given("memory").unwrap().1.as_str(), Some("1g"));
        assert_eq!(given("secret").unwrap().1.as_array().map(Vec::len), Some(2));
        assert!(given("cpus").is_none());
        session.refuse("pipes.error.usage", vec!["--memory asks for more".into()]);
    });
    let options = ["-n", "--memory", "1g", "--secret", "a", "--secret", "b", "true"];
    let output = Caller::of(&[agent.address], &options).output();
    assert_eq!(errors(&output), "error: --memory asks for more\n");
    assert_eq!(output.status.code(), Some(125));
    agent.finish();
}

#[test]
fn what_stages_say_goes_to_stderr_and_a_message_after_it() {
    let agent = Agent::play(|session| {
        session.chunk().unwrap();
        session.stderr(b"cat: x: no\n");
        session.end_saying(125, Some("server n2 was lost while it ran cat"));
    });
    let output = Caller::of(&[agent.address], &["cat x"]).output();
    assert_eq!(
        errors(&output),
        "cat: x: no\nerror: server n2 was lost while it ran cat\n"
    );
    assert_eq!(output.status.code(), Some(125));
    agent.finish();
}

#[test]
fn without_a_reader_of_stdout_the_agent_is_told_and_the_end_is_sigpipe() {
    let agent = Agent::play(|session| {
        session.chunk().unwrap();
        session.stdout(b"y\n");
        while session.chunk().unwrap().keyword("closed").is_none() {}
        session.end(141);
    });
    let mut caller = Caller::of(&[agent.address], &["yes"]);
    let mut child = caller.command.spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut [0; 2]).unwrap();
    drop(stdout);
    assert_eq!(ends(&mut child).signal(), Some(libc::SIGPIPE));
    agent.finish();
}

#[test]
fn sigpipe_that_was_ignored_at_the_start_is_not_died_of() {
    let agent = Agent::play(|session| {
        while session.chunk().unwrap().keyword("closed").is_none() {}
        session.end(141);
    });
    let mut caller = Caller::of(&[agent.address], &["yes"]);
    // SAFETY: signal is async-signal-safe.
    unsafe {
        caller.command.pre_exec(|| {
            libc::signal(libc::SIGPIPE, libc::SIG_IGN);
            Ok(())
        });
    }
    let mut child = caller.command.spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(ends(&mut child).code(), Some(141));
    agent.finish();
}

#[test]
fn output_waits_for_a_slow_reader_and_the_connection_does_not() {
    const LENGTH: usize = 1 << 20;
    let (tell, told) = std::sync::mpsc::sync_channel(0);
    let agent = Agent::play(move |session| {
        session.chunk().unwrap();
        // All the credit there is, into a pipe that nobody reads yet.
        for _ in 0..LENGTH / 65_536 {
            session.stdout(&[7; 65_536]);
        }
        session.credit(3);
        let input = session.chunk().unwrap();
        assert_eq!(input.bytes, b"abc", "stdin flows while stdout is blocked");
        tell.send(()).unwrap();
        session.end(0);
    });
    let mut caller = Caller::of(&[agent.address], &["cat"]);
    let mut child = caller.command.stdin(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"abc").unwrap();
    let mut stdout = child.stdout.take().unwrap();
    told.recv_timeout(LIMIT).unwrap();
    let mut output = Vec::new();
    stdout.read_to_end(&mut output).unwrap();
    assert!(output == [7; LENGTH]);
    assert_eq!(ends(&mut child).code(), Some(0));
    agent.finish();
}

#[test]
fn credit_for_output_is_given_back_as_it_is_written() {
    let agent = Agent::play(|session| {
        session.chunk().unwrap();
        let mut credit = 1_u64 << 20;
        for _ in 0..64 {
            while credit < 65_536 {
                let more = session.chunk().unwrap();
                credit += more
                    .keyword("credit")
                    .and_then(|credit| credit.as_u64())
                    .unwrap_or(0);
            }
            credit -= 65_536;
            session.stdout(&[1; 65_536]);
        }
        session.end(0);
    });
    let output = Caller::of(&[agent.address], &["yes"]).output();
    assert_eq!(output.stdout.len(), 64 * 65_536);
    agent.finish();
}

#[test]
fn ctrl_c_is_passed_on_then_kills_and_the_end_is_sigint() {
    let (begun, has_begun) = std::sync::mpsc::sync_channel(0);
    let (seen, is_seen) = std::sync::mpsc::sync_channel(0);
    let agent = Agent::play(move |session| {
        session.chunk().unwrap();
        begun.send(()).unwrap();
        assert_eq!(
            session
                .chunk()
                .unwrap()
                .keyword("signal")
                .and_then(|name| name.as_str()),
            Some("INT")
        );
        seen.send(()).unwrap();
        assert_eq!(
            session
                .chunk()
                .unwrap()
                .keyword("signal")
                .and_then(|name| name.as_str()),
            Some("KILL")
        );
        session.end(137);
    });
    let mut caller = Caller::of(&[agent.address], &["-n", "sleep 100"]);
    let mut child = caller.command.spawn().unwrap();
    has_begun.recv_timeout(LIMIT).unwrap();
    signal(&child, libc::SIGINT);
    is_seen.recv_timeout(LIMIT).unwrap();
    signal(&child, libc::SIGINT);
    assert_eq!(ends(&mut child).signal(), Some(libc::SIGINT));
    agent.finish();
}

#[test]
fn a_signal_that_was_ignored_at_the_start_stays_ignored() {
    let (begun, has_begun) = std::sync::mpsc::sync_channel(0);
    let agent = Agent::play(move |session| {
        session.chunk().unwrap();
        begun.send(()).unwrap();
        let told = session.chunk().unwrap();
        assert_eq!(
            told.keyword("signal").and_then(|name| name.as_str()),
            Some("TERM"),
            "and not INT"
        );
        session.end(143);
    });
    let mut caller = Caller::of(&[agent.address], &["-n", "sleep 100"]);
    // SAFETY: signal is async-signal-safe.
    unsafe {
        caller.command.pre_exec(|| {
            libc::signal(libc::SIGINT, libc::SIG_IGN);
            Ok(())
        });
    }
    let mut child = caller.command.spawn().unwrap();
    has_begun.recv_timeout(LIMIT).unwrap();
    signal(&child, libc::SIGINT);
    signal(&child, libc::SIGTERM);
    assert_eq!(ends(&mut child).code(), Some(143));
    agent.finish();
}

#[test]
fn a_server_that_does_not_answer_is_skipped_unseen() {
    let (silent, _silent) = agent::listen();
    let dead = agent::dead();
    let agent = Agent::play(|session| {
        session.chunk().unwrap();
        session.end(0);
    });
    let begun = Instant::now();
    let servers = [dead, silent, agent.address];
    let output = Caller::of(&servers, &["-n", "true"]).output();
    assert_eq!((output.status.code(), errors(&output).as_str()), (Some(0), ""));
    assert!(begun.elapsed() >= Duration::from_millis(250) && begun.elapsed() < Duration::from_secs(5));
    agent.finish();
}

#[test]
fn a_key_that_is_refused_is_not_an_agent_that_cannot_be_reached() {
    let dead = agent::dead();
    let agent = Agent::turn_away("wamp.error.authentication_failed");
    let output = Caller::of(&[dead, agent.address], &["-n", "true"]).output();
    assert_eq!(
        errors(&output),
        format!(
            "error: the agent at {} refused the key of context test; \
             choose a context of its cluster with: pipes context use NAME\n",
            agent.address
        )
    );
    assert_eq!(output.status.code(), Some(125));
    agent.finish();
}

#[test]
fn an_agent_that_goes_away_is_a_failure_of_pipes_and_no_end() {
    let agent = Agent::play(|session| {
        session.chunk().unwrap();
        session.stdout(b"half");
    });
    let output = Caller::of(&[agent.address], &["cat"]).output();
    assert_eq!(output.status.code(), Some(125));
    assert_eq!(
        errors(&output),
        format!(
            "error: the agent at {} was lost: it closed the connection\n",
            agent.address
        )
    );
    assert_eq!(output.stdout, b"half");
    agent.finish();
}

#[test]
fn a_refused_line_is_shown_with_its_place() {
    let agent = Agent::play(|session| {
        session.chunk().unwrap();
        session.refuse("pipes.error.syntax", vec!["quote the '>'".into(), 4.into()]);
    });
    let output = Caller::of(&[agent.address], &["cat > x"]).output();
    assert_eq!(errors(&output), "error: quote the '>'\n  cat > x\n      ^\n");
    assert_eq!(output.status.code(), Some(125));
    agent.finish();
}

#[test]
fn an_unknown_service_is_127() {
    let agent = Agent::play(|session| {
        session.chunk().unwrap();
        session.refuse(
            "pipes.error.unknown_service",
            vec!["unknown service 'x'".into(), "x".into()],
        );
    });
    let output = Caller::of(&[agent.address], &["x"]).output();
    assert_eq!(
        (output.status.code(), errors(&output).as_str()),
        (Some(127), "error: unknown service 'x'\n")
    );
    agent.finish();
}
