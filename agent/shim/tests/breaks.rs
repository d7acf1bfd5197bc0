//! Breaks: whatever happens to a pipe or a call, no stage takes it for the end of its input.

use std::path::PathBuf;

use pipes_wamp::message::{EMPTY_MAP, Message, Payload, kind};

use crate::agent::{Agent, Options, PIPE};
use crate::stage::Stage;
use crate::{carrying, wait_until};

/// A stage that writes a file when it sees the end of its input, in mid-stream; and that file.
fn reader_of_ends(agent: &mut Agent, run: &str) -> (Stage, PathBuf) {
    let file = agent.folder.path().join(format!("{run}.end"));
    let script = format!("cat >/dev/null; echo done >{}", file.display());
    let mut stage = Stage::start(agent, run, &["-c", &script]);
    stage.give(agent, &[7; 20_000], false);
    stage.until(agent, "credit", |stage| {
        stage.is_started && stage.credit >= 12_768
    });
    (stage, file)
}

fn holds(agent: &mut Agent, mut stage: Stage, file: PathBuf, run: &str) -> Stage {
    stage.until(agent, "answered", |stage| stage.is_answered());
    assert!(!file.exists(), "a break was taken for an end");
    assert!(
        carrying(&format!("PIPES_RUN={run}")).is_empty(),
        "processes are left"
    );
    stage
}

#[test]
fn the_pipe_from_the_stage_before_breaks() {
    for with_cgroup in [false, true] {
        let mut agent = Agent::start(Options {
            with_cgroup,
            ..Options::default()
        });
        let run = format!("rbefore{with_cgroup}");
        let (stage, file) = reader_of_ends(&mut agent, &run);
        Stage::interrupt(&mut agent, stage.pipe);
        let stage = holds(&mut agent, stage, file, &run);
        assert_eq!(stage.error.unwrap().0, "pipes.error.broken");
    }
}

#[test]
fn the_pipe_to_the_next_stage_breaks() {
    let mut agent = Agent::start(Options::default());
    let (stage, file) = reader_of_ends(&mut agent, "rnext");
    let error = "wamp.error.canceled";
    let (kind, request, payload) = (kind::CALL, stage.next_call, Payload::EMPTY);
    agent.send(Message::Error {
        kind,
        request,
        details: EMPTY_MAP,
        error,
        payload,
    });
    let mut stage = holds(&mut agent, stage, file, "rnext");
    assert_eq!(stage.error.clone().unwrap().0, "pipes.error.broken");
    stage.until(&mut agent, "answered", |stage| stage.pipe_error.is_some());
}

#[test]
fn the_stage_call_is_given_up() {
    let mut agent = Agent::start(Options::default());
    let (stage, file) = reader_of_ends(&mut agent, "rcall");
    Stage::interrupt(&mut agent, stage.request);
    let mut stage = holds(&mut agent, stage, file, "rcall");
    assert_eq!(stage.error.clone().unwrap().0, "wamp.error.canceled");
    stage.until(&mut agent, "answered", |stage| {
        stage.pipe_error.is_some() && stage.is_next_broken
    });
    assert!(!stage.has_ended);
    wait_until("its folder is gone", || agent.scratch().is_empty());
}

#[test]
fn the_connection_is_lost() {
    for with_cgroup in [false, true] {
        let mut agent = Agent::start(Options {
            with_cgroup,
            ..Options::default()
        });
        let run = format!("rlost{with_cgroup}");
        let (_, file) = reader_of_ends(&mut agent, &run);
        assert_eq!(agent.close(), Some(0));
        assert!(!file.exists());
        assert!(carrying(&format!("PIPES_RUN={run}")).is_empty());
    }
}

#[test]
fn more_bytes_than_credit_break_the_pipe() {
    let mut agent = Agent::start(Options::default());
    let (stage, file) = reader_of_ends(&mut agent, "rover");
    let bytes = rmpv::Value::Binary(vec![7; 2_000_000]);
    agent.chunk(stage.pipe, PIPE, vec![bytes], true);
    let stage = holds(&mut agent, stage, file, "rover");
    assert!(stage.error.unwrap().1.contains("granted"));
}

#[test]
fn a_pipe_interrupted_before_the_start_ends_the_stage() {
    let mut agent = Agent::start(Options::default());
    let order = crate::stage::order("rearly", &["-c", "true"], Vec::new());
    let mut stage = Stage::prepare(&mut agent, order, "rearly");
    stage.until(&mut agent, "called", |stage| {
        stage.next_call != 0 && stage.credit > 0
    });
    Stage::interrupt(&mut agent, stage.pipe);
    stage.until(&mut agent, "answered", |stage| {
        stage.is_answered() && stage.is_next_broken
    });
    assert_eq!(stage.error.unwrap().0, "pipes.error.broken");
}

#[test]
fn no_process_of_a_stage_acts_on_the_death_of_another() {
    for with_cgroup in [false, true] {
        let mut agent = Agent::start(Options {
            with_cgroup,
            ..Options::default()
        });
        for round in 0..25 {
            let run = format!("rinner{round}{with_cgroup}");
            let file = agent.folder.path().join(&run);
            // Each waits for another's death or end of output, by every way there is.
            let script = format!(
                "exec 3<&0; cat <&3 | (cat; echo by-pipe >>{0}) & \
                 (cat <&3; echo by-wait >>{0}) & exec 3<&-; wait; echo by-both >>{0}",
                file.display()
            );
            let mut stage = Stage::start(&mut agent, &run, &["-c", &script]);
            stage.give(&mut agent, &[7; 1000], false);
            stage.until(&mut agent, "started", |stage| {
                stage.is_started && !stage.stdout.is_empty()
            });
            Stage::interrupt(
                &mut agent,
                if round % 2 == 0 { stage.pipe } else { stage.request },
            );
            stage.until(&mut agent, "answered", |stage| {
                stage.is_answered() && stage.is_next_broken
            });
            assert!(!file.exists(), "{}", std::fs::read_to_string(file).unwrap());
            assert!(!stage.has_ended);
        }
    }
}

#[test]
fn a_real_end_is_seen() {
    let mut agent = Agent::start(Options::default());
    let (mut stage, file) = reader_of_ends(&mut agent, "rreal");
    stage.feed(&mut agent, b"rest");
    stage.until(&mut agent, "over", |stage| stage.exit.is_some());
    assert_eq!(std::fs::read_to_string(file).unwrap(), "done\n");
    stage.end(&mut agent);
}
