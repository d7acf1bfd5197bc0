//! What is told of a run: by what its stages ended, why one cannot start, and what its caller said wrong.

use std::process::Command;

use anyhow::{Context, Result};
use pipes_chaos::cluster::Cluster;
use pipes_chaos::command::{self, Input, tool};
use pipes_chaos::wait::wait_until;
use pipes_chaos::wamp::{Outcome, Session, map};
use rmpv::Value;
use std::time::Duration;

#[test]
fn a_killed_stage_is_named_as_sh_names_it_wherever_it_stands() -> Result<()> {
    let cluster = Cluster::start(1)?;
    cluster.build(&["sh", "cat"])?;
    for (line, notes) in [
        ("sh -c 'kill -KILL $$' | cat", "stage 1 (sh): Killed\n"),
        ("sh -c 'kill -SEGV $$'", "stage 1 (sh): Segmentation fault\n"),
        (
            "sh -c 'kill -HUP $$' | sh -c 'kill -ABRT $$'",
            "stage 1 (sh): Hangup\nstage 2 (sh): Aborted\n",
        ),
        ("sh -c 'kill -PIPE $$' | sh -c 'kill -INT $$'", ""),
        ("sh -c 'kill -TERM $$' | cat", ""),
        ("sh -c 'exit 137'", ""),
    ] {
        let done = cluster.run(line).options(&["-n"]).finish()?;
        assert_eq!(done.errors(), notes, "{line}");
        let mut sh = Command::new("sh");
        sh.args(["-c", &format!("ulimit -c 0; {line}")]);
        let correct = command::run(sh, Input::None)?;
        assert_eq!(done.code(), correct.code(), "{line}");
        let said = correct.errors();
        let words = notes.lines().filter_map(|note| note.split_once(": "));
        for (_, word) in words {
            assert!(said.contains(word), "sh says {said:?} of {line}");
        }
    }
    // What the user's own signal ended needs no word.
    let running = cluster.run("sh -c 'echo up; cat'").input(Input::Open).start()?;
    cluster.stages_run(1)?;
    running.signal(libc::SIGHUP)?;
    let done = running.finish()?;
    assert_eq!((done.code(), done.errors().as_str()), (129, ""));
    cluster.finish()
}

#[test]
fn a_program_whose_loader_is_missing_is_told_as_a_scripts_interpreter_is() -> Result<()> {
    let cluster = Cluster::start(1)?;
    let mut elf = std::fs::read(tool("true")?)?;
    let name = b"/ld-linux";
    let at = elf.windows(name.len()).position(|window| window == name);
    let at = at.context("true has no loader of the usual name")?;
    elf[at + 1..at + 3].copy_from_slice(b"no");
    cluster.script("script", "#!/no/such/interpreter\n")?;
    let path = cluster.write("elf", &elf)?;
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    cluster.call(&["build", &path.to_string_lossy()])?;
    for (line, why) in [
        ("script", "its interpreter /no/such/interpreter is not there"),
        ("elf", "no-linux"),
        ("elf", "is not there"),
    ] {
        let done = cluster.run(line).options(&["-n"]).finish()?.expect(126)?;
        let said = done.errors();
        assert!(said.starts_with("error: ") && said.contains(why), "{said}");
    }
    cluster.finish()
}

/// Begins or goes on with a run's call.
fn say(session: &mut Session, request: u64, keywords: Vec<(&str, Value)>) -> Result<()> {
    let options = map(vec![("progress", true.into()), ("receive_progress", true.into())]);
    session.send(&Value::Array(vec![
        48.into(),
        request.into(),
        options,
        "pipes.run.start".into(),
        Value::Array(vec![]),
        map(keywords),
    ]))
}

fn refused(outcome: Outcome) -> Result<(String, String)> {
    match outcome {
        Outcome::Failed(uri, arguments) => {
            let why = arguments.first().and_then(Value::as_str).unwrap_or_default();
            Ok((uri, why.to_owned()))
        }
        Outcome::Done(arguments) => anyhow::bail!("it was answered {}", Value::Array(arguments)),
    }
}

#[test]
fn what_a_caller_may_not_say_is_a_usage_error_before_and_while_a_run_is_on() -> Result<()> {
    let cluster = Cluster::start(1)?;
    cluster.build(&["sleep", "true"])?;
    let mut session = cluster.nodes[0].operator()?;
    for (keyword, value, why) in [
        ("signal", Value::from("FOO"), "there is no signal FOO"),
        ("closed", Value::from(3), "closed must be 1, stdout, or 2, stderr"),
    ] {
        let request = session.request();
        say(
            &mut session,
            request,
            vec![("line", "true".into()), (keyword, value.clone())],
        )?;
        let (uri, said) = refused(session.outcome(request)?)?;
        assert_eq!(uri, "pipes.error.usage");
        assert!(said.contains(why), "{said}");
        let request = session.request();
        say(&mut session, request, vec![("line", "sleep 60".into())])?;
        cluster.stages_run(1)?;
        say(&mut session, request, vec![(keyword, value)])?;
        let (uri, said) = refused(session.outcome(request)?)?;
        assert_eq!(uri, "pipes.error.usage");
        assert!(said.contains(why), "{said}");
        cluster.no_stages(Duration::from_secs(2))?;
        // And it is on record as one that failed, why included.
        wait_until("the run is on record", Duration::from_secs(5), || {
            let runs = cluster.json(&["ps", "-a"]).ok();
            runs.is_some_and(|runs| runs.to_string().contains(why))
        })?;
    }
    // A signal may come with the line itself.
    let request = session.request();
    say(
        &mut session,
        request,
        vec![("line", "sleep 60".into()), ("signal", "INT".into())],
    )?;
    let run = session.outcome(request)?.done()?;
    assert!(run[0].to_string().contains("\"exit\": 130"), "{}", run[0]);
    cluster.finish()
}

#[test]
fn a_bad_request_to_the_store_is_no_store_that_does_not_answer() -> Result<()> {
    let cluster = Cluster::start(1)?;
    let mut session = cluster.nodes[0].operator()?;
    for keywords in [
        vec![("key", Value::Binary(vec![]))],
        vec![
            ("key", Value::Binary(b"a".to_vec())),
            ("revision", 1_000_000.into()),
        ],
    ] {
        let (uri, said) = refused(session.call("pipes.store.range", vec![], keywords)?)?;
        assert_eq!(uri, "pipes.error.usage", "{said}");
        assert!(
            said.starts_with("the store does not take this request: "),
            "{said}"
        );
    }
    cluster.finish()
}
