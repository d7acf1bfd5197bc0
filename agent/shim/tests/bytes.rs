//! Bytes: any number, any value, as the stage before gave them.

use rmpv::Value;

use crate::agent::{Agent, Options, PIPE, STAGE};
use crate::stage::{Stage, order, run, until_all};

/// Bytes that show when one is lost, doubled or moved.
fn pattern(length: usize) -> Vec<u8> {
    (0..length as u32)
        .map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect()
}

#[test]
fn any_number_of_bytes_arrives_unchanged_and_is_counted() {
    let mut agent = Agent::start(Options::default());
    for length in [0, 1, 32_767, 32_768, 65_537, 5_000_001] {
        let input = pattern(length);
        let stage = run(&mut agent, &format!("r{length}"), "exec cat", &input);
        assert!(
            stage.stdout == input,
            "{length} bytes became {}",
            stage.stdout.len()
        );
        assert!(stage.has_ended);
        assert_eq!(stage.exit, Some((0, None)));
        assert_eq!(stage.closed, Some(length as u64));
        assert_eq!(stage.counts, Some((length as u64, length as u64)));
    }
}

#[test]
fn counts_are_said_while_bytes_flow_and_not_while_none_do() {
    let mut agent = Agent::start(Options::default());
    // It takes 3 bytes and gives 6, and once told to goes on for longer than the counts are apart.
    let script = "read line; echo abcde; read line; sleep 2.5; echo abcde; exec cat";
    let mut stage = Stage::start(&mut agent, "rcounts", &["-c", script]);
    stage.give(&mut agent, b"ab\n", false);
    stage.until(&mut agent, "counted", |stage| !stage.counts_so_far.is_empty());
    assert_eq!(stage.counts_so_far, [(3, 6)]);
    stage.give(&mut agent, b"ab\n", false);
    stage.until(&mut agent, "counted", |stage| {
        stage.counts_so_far.last() == Some(&(6, 12))
    });
    assert_eq!(
        stage.counts_so_far,
        [(3, 6), (6, 6), (6, 12)],
        "one for each change"
    );
    stage.feed(&mut agent, b"");
    stage.until(&mut agent, "over", |stage| {
        stage.exit.is_some() && stage.closed.is_some()
    });
    stage.end(&mut agent);
    assert_eq!(stage.counts, Some((6, 12)));
}

#[test]
fn a_window_that_may_not_grow_carries_as_much() {
    let mut agent = Agent::start(Options {
        window: 32 * 1024,
        ..Options::default()
    });
    let input = pattern(1_000_000);
    let stage = run(&mut agent, "rsmall", "exec cat", &input);
    assert!(stage.stdout == input);
}

#[test]
fn a_stage_may_be_given_a_smaller_window_than_its_replica() {
    let mut agent = Agent::start(Options::default());
    let order = order("rgiven", &["-c", "exec cat"], vec![("window", 32_768.into())]);
    let mut stage = Stage::start_order(&mut agent, order, "rgiven");
    let input = pattern(1_000_000);
    let mut given = 0;
    while given < input.len() {
        assert!(stage.credit <= 32_768);
        let count = (stage.credit as usize).min(input.len() - given);
        if count == 0 {
            stage.step(&mut agent);
            continue;
        }
        stage.give(&mut agent, &input[given..given + count], false);
        given += count;
    }
    stage.feed(&mut agent, b"");
    stage.until(&mut agent, "over", |stage| {
        stage.exit.is_some() && stage.closed.is_some()
    });
    assert!(stage.stdout == input);
    stage.end(&mut agent);
}

#[test]
fn a_reader_that_stops_early_ends_the_pipe_call_and_counts_what_it_took() {
    let mut agent = Agent::start(Options::default());
    let input = pattern(1_000_000);
    let stage = run(&mut agent, "rhead", "exec head -c 1000", &input);
    assert!(stage.stdout == input[..1000]);
    let (taken, given) = stage.counts.unwrap();
    assert!((1000..65_536).contains(&taken), "{taken}");
    assert_eq!(given, 1000);
}

#[test]
fn what_was_not_read_before_the_end_is_not_counted() {
    let mut agent = Agent::start(Options::default());
    let stage = run(
        &mut agent,
        "rdd",
        "exec dd bs=100 count=1 2>/dev/null",
        &pattern(5000),
    );
    assert_eq!(stage.counts, Some((100, 100)));
}

#[test]
fn when_nobody_takes_the_output_any_more_the_stage_gets_sigpipe() {
    let mut agent = Agent::start(Options::default());
    let mut stage = Stage::start(&mut agent, "ryes", &["-c", "exec yes"]);
    stage.until(&mut agent, "output", |stage| stage.stdout.len() > 100_000);
    agent.result(stage.next_call, vec![], false);
    stage.until(&mut agent, "over", |stage| {
        stage.exit.is_some() && stage.closed.is_some()
    });
    assert_eq!(stage.exit, Some((141, Some(13))));
    assert!(!stage.has_ended, "an end that nobody waits for");
    stage.end(&mut agent);
    assert_eq!(stage.counts.unwrap().1, stage.stdout.len() as u64);
}

#[test]
fn output_waits_for_credit() {
    let mut agent = Agent::start(Options::default());
    let mut stage = Stage::start(
        &mut agent,
        "rwait",
        &["-c", "head -c 40000 /dev/zero; echo done >&2"],
    );
    stage.takes_output = false;
    stage.until(&mut agent, "a window", |stage| {
        stage.stdout.len() == 32_768 && !stage.stderr.is_empty()
    });
    assert_eq!(stage.closed, None);
    stage.grant(&mut agent, 10_000);
    stage.until(&mut agent, "over", |stage| {
        stage.closed.is_some() && stage.exit.is_some()
    });
    assert_eq!(stage.stdout.len(), 40_000);
    stage.end(&mut agent);
}

#[test]
fn a_late_writer_in_the_background_is_waited_for() {
    let mut agent = Agent::start(Options::default());
    let mut stage = Stage::start(
        &mut agent,
        "rlate",
        &[
            "-c",
            "exec 3<&0; (read line <&3; echo late) & exec 3<&-; echo early; exit 3",
        ],
    );
    stage.until(&mut agent, "exited", |stage| {
        stage.exit.is_some() && stage.stdout == b"early\n"
    });
    assert_eq!((stage.exit, stage.closed), (Some((3, None)), None));
    stage.feed(&mut agent, b"go on\n");
    stage.until(&mut agent, "closed", |stage| stage.closed.is_some());
    assert_eq!(stage.stdout, b"early\nlate\n");
    stage.end(&mut agent);
}

#[test]
fn stderr_comes_before_the_exit_and_within_its_credit() {
    let mut agent = Agent::start(Options::default());
    let script = "head -c 100000 /dev/zero >&2; echo last >&2; exit 1";
    let mut stage = Stage::start(&mut agent, "rerr", &["-c", script]);
    stage.until(&mut agent, "its credit", |stage| stage.stderr.len() == 65_536);
    stage.command(&mut agent, vec!["credit".into(), 1_000_000.into()]);
    stage.until(&mut agent, "exited", |stage| stage.exit.is_some());
    assert_eq!(stage.stderr.len(), 100_005);
    assert!(stage.stderr.ends_with(b"last\n"));
    stage.end(&mut agent);
}

#[test]
fn several_invocations_run_at_once_and_do_not_mix() {
    let mut agent = Agent::start(Options::default());
    let names = ["ra", "rb", "rc", "rd"];
    let mut stages: Vec<Stage> = Vec::new();
    for name in names {
        let script = format!("yes {name} | head -c 500000; read line; echo $line");
        stages.push(Stage::make_ready(
            &mut agent,
            order(name, &["-c", &script], Vec::new()),
            name,
        ));
    }
    for stage in &mut stages {
        stage.command(&mut agent, vec!["go".into()]);
    }
    for (stage, name) in stages.iter_mut().zip(names) {
        stage.give(&mut agent, format!("to {name}\n").as_bytes(), true);
    }
    until_all(&mut agent, &mut stages, |stage| {
        stage.exit.is_some() && stage.closed.is_some()
    });
    for (stage, name) in stages.iter().zip(names) {
        let expected = [name, "\n"].concat().repeat(500_000)[..500_000].to_owned() + &format!("to {name}\n");
        assert!(stage.stdout == expected.as_bytes(), "{name}");
    }
    let extra = agent.invoke(STAGE, vec![order("re", &["-c", "true"], Vec::new())]);
    let said = agent.next();
    let crate::agent::Said::Error { request, error, .. } = said else {
        panic!("{said:?}")
    };
    assert_eq!((request, error.as_str()), (extra, "pipes.error.busy"));
    for stage in &mut stages {
        stage.end(&mut agent);
    }
    assert!(agent.scratch().is_empty());
}

#[test]
fn the_pipe_call_may_come_before_the_stage_call() {
    let mut agent = Agent::start(Options::default());
    let pipe = agent.invoke(PIPE, vec!["rfirst".into(), 1.into(), Value::Binary(vec![])]);
    let request = agent.invoke(STAGE, vec![order("rfirst", &["-c", "cat"], Vec::new())]);
    let mut stage = Stage {
        request,
        pipe,
        takes_output: true,
        ..Stage::default()
    };
    stage.until(&mut agent, "credit", |stage| {
        stage.credit == 32_768 && stage.next_call != 0
    });
    stage.grant(&mut agent, 32_768);
    stage.command(&mut agent, vec!["go".into()]);
    stage.feed(&mut agent, b"hello");
    stage.until(&mut agent, "over", |stage| {
        stage.exit.is_some() && stage.closed.is_some()
    });
    assert_eq!(stage.stdout, b"hello");
    stage.end(&mut agent);
}

#[test]
fn a_stderr_that_nobody_reads_ends_its_writer_and_not_its_output() {
    let mut agent = Agent::start(Options::default());
    let script = "(yes >&2; echo $?)";
    let mut stage = Stage::start(&mut agent, "rdeaf", &["-c", script]);
    stage.until(&mut agent, "its errors", |stage| !stage.stderr.is_empty());
    stage.command(&mut agent, vec!["close".into(), 2.into()]);
    stage.until(&mut agent, "over", |stage| {
        stage.exit.is_some() && stage.closed.is_some()
    });
    assert_eq!((stage.exit, &stage.stdout[..]), (Some((0, None)), &b"141\n"[..]));
    stage.end(&mut agent);
    // Said before the start it is met by the first write.
    let order = order("rdeaf2", &["-c", "echo x >&2"], Vec::new());
    let mut stage = Stage::make_ready(&mut agent, order, "rdeaf2");
    stage.command(&mut agent, vec!["close".into(), 2.into()]);
    stage.command(&mut agent, vec!["go".into()]);
    stage.until(&mut agent, "its exit", |stage| stage.exit.is_some());
    assert_eq!(stage.exit, Some((141, Some(13))));
    stage.end(&mut agent);
}
