//! How stages end: statuses, signals, and what they leave behind.

use std::fs;

use rmpv::Value;

use crate::agent::{Agent, Options};
use crate::stage::{Stage, order, run, until_all};
use crate::{carrying, is_alive, wait_until};

#[test]
fn statuses_are_as_a_shell_gives_them() {
    let mut agent = Agent::start(Options::default());
    for (script, exit) in [
        ("exit 0", (0, None)),
        ("exit 7", (7, None)),
        ("exit 255", (255, None)),
        ("kill -TERM $$", (143, Some(15))),
        ("kill -KILL $$", (137, Some(9))),
    ] {
        let stage = run(&mut agent, "rstatus", script, b"");
        assert_eq!(stage.exit, Some(exit), "{script}");
    }
}

#[test]
fn what_cannot_be_executed_is_said_with_its_reason() {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("script");
    fs::write(&script, "#!/no/such/interpreter\n").unwrap();
    let make_executable = || {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    };
    for (is_executable, why) in [(false, "Permission denied"), (true, "/no/such/interpreter")] {
        if is_executable {
            make_executable();
        }
        let options = Options {
            executable: script.clone(),
            service: "greet",
            ..Options::default()
        };
        let mut agent = Agent::start(options);
        let mut stage = Stage::start(&mut agent, "rexec", &[]);
        stage.until(&mut agent, "answered", |stage| {
            stage.is_answered() && stage.pipe_error.is_some()
        });
        let (error, said) = stage.error.clone().unwrap();
        assert_eq!(error, "pipes.error.cannot_start");
        assert!(said.contains("greet") && said.contains(why), "{said}");
        assert!(!stage.is_started && !stage.has_ended);
    }
}

#[test]
fn an_executable_still_open_for_writing_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("program");
    fs::copy("/bin/true", &program).unwrap();
    let writer = fs::File::options().append(true).open(&program).unwrap();
    let mut agent = Agent::start(Options {
        executable: program,
        service: "true",
        ..Options::default()
    });
    let mut stage = Stage::start(&mut agent, "rbusy", &[]);
    // Something of an invocation that comes later shows that the first start was tried.
    let mut second = Stage::prepare(&mut agent, order("rsecond", &[], Vec::new()), "rsecond");
    second.until(&mut agent, "called", |stage| stage.next_call != 0);
    assert!(!stage.is_started);
    drop(writer);
    while stage.exit.is_none() {
        let said = agent.next();
        assert!(stage.take(&mut agent, &said) || second.take(&mut agent, &said));
    }
    assert_eq!(stage.exit, Some((0, None)));
}

#[test]
fn signals_reach_the_process_group_also_before_the_start_and_when_stopped() {
    let mut agent = Agent::start(Options::default());
    let script = "trap 'echo caught; exit 5' TERM; echo ready; while :; do sleep 0.01; done";
    let mut stage = Stage::start(&mut agent, "rsignal", &["-c", script]);
    stage.until(&mut agent, "running", |stage| stage.stdout == b"ready\n");
    stage.command(&mut agent, vec!["signal".into(), libc::SIGTERM.into()]);
    stage.until(&mut agent, "over", |stage| {
        stage.exit.is_some() && stage.closed.is_some()
    });
    assert_eq!(
        (stage.exit, &stage.stdout[..]),
        (Some((5, None)), &b"ready\ncaught\n"[..])
    );
    stage.end(&mut agent);

    let mut stage = Stage::start(&mut agent, "rstopped", &["-c", "echo $$; kill -STOP $$; exit 1"]);
    stage.until(&mut agent, "output", |stage| stage.stdout.ends_with(b"\n"));
    let pid = String::from_utf8(stage.stdout.clone()).unwrap();
    let stat = format!("/proc/{}/stat", pid.trim());
    wait_until("stopped", || fs::read_to_string(&stat).unwrap().contains(") T "));
    stage.command(&mut agent, vec!["signal".into(), libc::SIGINT.into()]);
    stage.until(&mut agent, "over", |stage| stage.exit.is_some());
    assert_eq!(stage.exit, Some((130, Some(2))));
    stage.end(&mut agent);

    let order = order("rbefore", &["-c", "sleep 100"], Vec::new());
    let mut stage = Stage::prepare(&mut agent, order, "rbefore");
    stage.command(&mut agent, vec!["signal".into(), libc::SIGHUP.into()]);
    stage.command(&mut agent, vec!["go".into()]);
    stage.until(&mut agent, "over", |stage| stage.exit.is_some());
    assert_eq!(stage.exit, Some((129, Some(1))));
    stage.end(&mut agent);
}

/// A script that leaves a process behind: forked twice, in a session of its own, deaf to polite signals, its number in `file`.
fn leaver(file: &str) -> String {
    let inner =
        format!("trap '' TERM INT HUP; echo $$ >{file}; exec >&- 2>&- <&-; while :; do sleep 0.05; done");
    format!(
        "(setsid sh -c \"{}\" &) ; sleep 0.01; echo gone",
        inner.replace('$', "\\$").replace('"', "\\\"")
    )
}

#[test]
fn what_outlives_the_run_is_killed_and_its_neighbour_is_not() {
    for with_cgroup in [false, true] {
        let mut agent = Agent::start(Options {
            with_cgroup,
            ..Options::default()
        });
        let mut neighbour = Stage::start(&mut agent, "rneighbour", &["-c", "echo up; cat"]);
        neighbour.until(&mut agent, "up", |stage| stage.stdout == b"up\n");
        let file = agent.folder.path().join("left");
        let script = leaver(file.to_str().unwrap());
        let mut stage = Stage::start(&mut agent, "rleaver", &["-c", &script]);
        stage.until(&mut agent, "over", |stage| {
            stage.exit.is_some() && stage.closed.is_some()
        });
        wait_until("the leftover runs", || {
            fs::read_to_string(&file).is_ok_and(|text| text.ends_with('\n'))
        });
        let left: u32 = fs::read_to_string(&file).unwrap().trim().parse().unwrap();
        assert!(is_alive(left));
        stage.end(&mut agent);
        assert!(!is_alive(left), "the leftover lives");
        assert!(carrying("PIPES_RUN=rleaver").is_empty());
        neighbour.feed(&mut agent, b"still here");
        neighbour.until(&mut agent, "over", |stage| {
            stage.exit.is_some() && stage.closed.is_some()
        });
        assert_eq!(neighbour.stdout, b"up\nstill here");
        neighbour.end(&mut agent);
        assert!(agent.scratch().is_empty());
    }
}

#[test]
fn one_that_also_wiped_its_environment_is_gone_when_the_shim_has_nothing_to_do() {
    let mut agent = Agent::start(Options::default());
    let file = agent.folder.path().join("left");
    let inner = format!(
        "echo \\$\\$ >{}; exec >&- 2>&- <&-; while :; do sleep 0.05; done",
        file.display()
    );
    let script = format!("(env -i setsid sh -c \"{inner}\" &); echo gone");
    let mut stage = Stage::start(&mut agent, "rwiped", &["-c", &script]);
    stage.until(&mut agent, "over", |stage| {
        stage.exit.is_some() && stage.closed.is_some()
    });
    wait_until("the leftover runs", || {
        fs::read_to_string(&file).is_ok_and(|text| text.ends_with('\n'))
    });
    let left: u32 = fs::read_to_string(&file).unwrap().trim().parse().unwrap();
    stage.end(&mut agent);
    wait_until("it is gone", || !is_alive(left));
}

#[test]
fn kill_ends_descendants_that_hold_the_output() {
    for with_cgroup in [false, true] {
        let mut agent = Agent::start(Options {
            with_cgroup,
            ..Options::default()
        });
        let script = "(trap '' TERM INT; setsid sh -c 'trap \"\" TERM INT; while :; do sleep 0.05; done' &) ; echo up; exit 0";
        let mut stage = Stage::start(&mut agent, "rhold", &["-c", script]);
        stage.until(&mut agent, "exited", |stage| stage.exit.is_some());
        assert_eq!(stage.closed, None);
        stage.command(&mut agent, vec!["kill".into()]);
        stage.until(&mut agent, "closed", |stage| stage.closed.is_some());
        assert!(stage.has_ended, "a kill alone is an end, as in a shell");
        stage.end(&mut agent);
        assert!(carrying("PIPES_RUN=rhold").is_empty());
    }
}

#[test]
fn what_pipes_ends_gives_no_end_and_all_that_it_wrote_before() {
    let mut agent = Agent::start(Options::default());
    for order in [vec!["kill".into()], vec!["signal".into(), libc::SIGTERM.into()]] {
        let mut stage = Stage::start(&mut agent, "rabandoned", &["-c", "echo up; exec sleep 100"]);
        stage.until(&mut agent, "up", |stage| stage.stdout == b"up\n");
        stage.command(&mut agent, vec!["abandon".into(), false.into()]);
        stage.command(&mut agent, order);
        // The stage before was quicker.
        Stage::interrupt(&mut agent, stage.pipe);
        stage.until(&mut agent, "over", |stage| {
            stage.exit.is_some() && stage.closed.is_some()
        });
        stage.end(&mut agent);
        assert_eq!((stage.has_ended, stage.closed), (false, Some(3)));
        assert_eq!(stage.counts, Some((0, 3)));
    }
}

#[test]
fn a_stage_beyond_its_scratch_directory_is_ended_with_no_end() {
    let mut agent = Agent::start(Options::default());
    // Not one file but many, and on disk; what was laid there does not count.
    let script = "for n in 1 2 3 4; do head -c 400000 /dev/zero >$n; done; echo full; exec sleep 100";
    let extra = vec![("scratch", Value::from(1 << 20))];
    let mut stage = Stage::start_order(&mut agent, order("rscratch", &["-c", script], extra), "rscratch");
    stage.until(&mut agent, "answered", |stage| {
        stage.is_answered() && stage.pipe_error.is_some() && stage.is_next_broken
    });
    let (error, why) = stage.error.clone().unwrap();
    assert_eq!(error, "pipes.error.over_limit");
    assert!(why.contains("held more than 1 MiB"), "{why}");
    assert!(!stage.has_ended && stage.exit.is_none());
    assert!(carrying("PIPES_RUN=rscratch").is_empty());
}

#[test]
fn the_next_stage_is_not_touched_by_the_kill_of_the_one_before() {
    for with_cgroup in [false, true] {
        let mut agent = Agent::start(Options {
            with_cgroup,
            ..Options::default()
        });
        let mut stage = Stage::start(&mut agent, "rkilled", &["-c", "echo up; sleep 100"]);
        stage.until(&mut agent, "up", |stage| stage.stdout == b"up\n");
        stage.command(&mut agent, vec!["kill".into()]);
        stage.until(&mut agent, "over", |stage| {
            stage.exit.is_some() && stage.closed.is_some()
        });
        stage.end(&mut agent);
        for _ in 0..3 {
            let stage = run(&mut agent, "rnextone", "cat; exit 5", b"x");
            assert_eq!((stage.exit, &stage.stdout[..]), (Some((5, None)), &b"x"[..]));
        }
    }
}

#[test]
fn a_stage_that_runs_is_ended_by_end() {
    let mut agent = Agent::start(Options::default());
    let mut stage = Stage::start(&mut agent, "rend", &["-c", "echo up; sleep 100"]);
    stage.until(&mut agent, "up", |stage| stage.stdout == b"up\n");
    stage.end(&mut agent);
    assert_eq!(stage.exit, Some((137, Some(9))));
    assert!(stage.counts.is_some() && !stage.has_ended);
    assert!(carrying("PIPES_RUN=rend").is_empty());
}

#[test]
fn a_killed_shim_takes_its_stages_with_it() {
    let mut agent = Agent::start(Options::default());
    let mut stage = Stage::start(&mut agent, "rdeath", &["-c", "echo up; exec sleep 100"]);
    stage.until(&mut agent, "up", |stage| stage.stdout == b"up\n");
    agent.shim.kill().unwrap();
    wait_until("the stage is gone", || carrying("PIPES_RUN=rdeath").is_empty());
}

#[test]
fn a_terminated_shim_leaves_nothing() {
    let mut agent = Agent::start(Options {
        with_cgroup: true,
        ..Options::default()
    });
    let mut stage = Stage::start(&mut agent, "rterm", &["-c", "echo up; sleep 100"]);
    stage.until(&mut agent, "up", |stage| stage.stdout == b"up\n");
    // SAFETY: signals a child of this test.
    unsafe { libc::kill(agent.shim.id() as i32, libc::SIGTERM) };
    assert_eq!(agent.shim.wait().unwrap().code(), Some(0));
    assert!(carrying("PIPES_RUN=rterm").is_empty());
    assert!(!agent.folder.path().join("scratch/rep1").exists());
}

#[test]
fn on_a_disk_that_is_nearly_full_the_stage_that_holds_the_most_is_ended() {
    let mut agent = Agent::start(Options {
        disk: Some(32 << 20),
        ..Options::default()
    });
    if agent.disk.is_none() {
        return;
    }
    let small = "head -c 2500000 /dev/zero >x; echo full; read line; echo $line";
    let large = "head -c 28000000 /dev/zero >x; echo full; exec sleep 100";
    let mut stages: Vec<Stage> = [("rsmall", small), ("rlarge", large)]
        .map(|(run, script)| Stage::make_ready(&mut agent, order(run, &["-c", script], Vec::new()), run))
        .into();
    for stage in &mut stages {
        stage.command(&mut agent, vec!["go".into()]);
    }
    let small = stages[0].request;
    until_all(&mut agent, &mut stages, |stage| {
        let is_ended = stage.is_answered() && stage.pipe_error.is_some() && stage.is_next_broken;
        stage.stdout == b"full\n" && (stage.request == small || is_ended)
    });
    let (small, large) = stages.split_at_mut(1);
    let (small, large) = (&mut small[0], &mut large[0]);
    let (error, why) = large.error.clone().unwrap();
    assert_eq!(error, "pipes.error.over_limit");
    assert!(why.contains("when its disk was nearly full"), "{why}");
    assert!(!large.has_ended);
    small.feed(&mut agent, b"still here\n");
    small.until(&mut agent, "over", |stage| {
        stage.closed.is_some() && stage.exit.is_some()
    });
    small.end(&mut agent);
    assert_eq!(small.stdout, b"full\nstill here\n");
}
