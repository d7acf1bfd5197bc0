//! What comes of an event, on an attempt at `a | b`.

use std::time::Duration;

use pipes_protocol::supply::Supply;
use pipes_wamp::message::InvocationDetails;
use pipes_wamp::payload::PayloadBuf;
use rmpv::Value;

use super::*;
use crate::workflow::coordinator::attempt::tests::{Table, plan};
use crate::workflow::placement::{Line, Need};
use crate::workflow::runs::registry::Registry;
use crate::workflow::supply::Supplies;

/// Of a caller that takes parts of the answer and gives credit for them.
fn request() -> Request {
    Request {
        credit: Some(100),
        takes_progress: true,
        ..Request::default()
    }
}

/// A part of the answer to one of the attempt's calls: 4 and 5 are its stages', 6 is stdin's.
fn part(bridge: &mut Bridge, table: &mut Table<'_>, request: u64, args: Vec<Value>) -> String {
    let payload = PayloadBuf::of_values(args, None);
    let reply = Message::Result {
        request,
        progress: true,
        payload: payload.as_payload(),
    };
    on(bridge, table, Event::Reply(reply))
}

/// The output's pipe call comes.
fn open_output(bridge: &mut Bridge, table: &mut Table<'_>) {
    let opening = PayloadBuf::of_values(vec!["r1".into(), 3.into(), Value::Binary(vec![])], None);
    let reply = Message::Invocation {
        request: 7,
        registration: 1,
        details: InvocationDetails {
            progress: true,
            ..InvocationDetails::default()
        },
        payload: opening.as_payload(),
    };
    on(bridge, table, Event::Reply(reply));
}

fn on(bridge: &mut Bridge, table: &mut Table<'_>, event: Event<'_>) -> String {
    format!("{:?}", bridge.on(&mut table.attempt, event, Instant::now()))
}

fn start(bridge: &mut Bridge, table: &mut Table<'_>) -> String {
    part(bridge, table, 5, vec!["ready".into()])
}

#[tokio::test]
async fn bytes_go_past_from_the_start_on() {
    let plan = plan();
    let mut table = Table::of(&plan);
    let mut bridge = Bridge::new(request(), 2, Instant::now());
    table.connect();
    open_output(&mut bridge, &mut table);
    assert_eq!(part(&mut bridge, &mut table, 6, vec![5.into()]), "None");
    assert_eq!(
        start(&mut bridge, &mut table),
        "Start(Start { stdin: Some(6), stdout: Some(7), stdin_credit: 5 })"
    );
    let strayed = Chunk {
        stdin: Some(b"a"),
        ..Chunk::default()
    };
    on(&mut bridge, &mut table, Event::Caller(strayed));
    assert!(matches!(table.attempt.stop, Some(Stop::Usage(_))));
}

#[tokio::test]
async fn nothing_goes_past_a_run_that_may_be_repeated() {
    let plan = plan();
    let mut table = Table::of(&plan);
    let mut request = request();
    request.options.retry = true;
    let mut bridge = Bridge::new(request, 2, Instant::now());
    table.connect();
    open_output(&mut bridge, &mut table);
    assert_eq!(
        start(&mut bridge, &mut table),
        "Start(Start { stdin: None, stdout: None, stdin_credit: 0 })"
    );
}

#[tokio::test]
async fn stdin_given_whole_is_sent_against_credit_and_then_ended() {
    let plan = plan();
    let mut table = Table::of(&plan);
    let request = Request {
        stdin: Some(b"12345".to_vec()),
        eof: true,
        ..request()
    };
    let mut bridge = Bridge::new(request, 2, Instant::now());
    table.connect();
    part(&mut bridge, &mut table, 6, vec![3.into()]);
    table.said().await;
    assert_eq!(
        start(&mut bridge, &mut table),
        "Start(Start { stdin: None, stdout: None, stdin_credit: 0 })"
    );
    let pipe = "call pipes.node.1.replica.a1.pipe";
    assert!(table.said().await.contains(&format!("{pipe} 3 bytes")));
    assert_eq!(part(&mut bridge, &mut table, 6, vec![4.into()]), "None");
    let rest = [format!("{pipe} 2 bytes"), format!("{pipe} 0 bytes (last)")];
    assert_eq!(table.said().await, rest);
}

#[tokio::test]
async fn another_attempt_has_the_callers_whole_credit() {
    let plan = plan();
    let mut bridge = Bridge::new(request(), 2, Instant::now());
    for _ in 0..2 {
        let mut table = Table::of(&plan);
        table.connect();
        open_output(&mut bridge, &mut table);
        assert_eq!((bridge.output.credit, bridge.output.lent), (0, 100));
        bridge.rewind();
        assert_eq!((bridge.output.credit, bridge.output.lent), (100, 0));
    }
}

#[tokio::test]
async fn standard_error_has_credit_again_once_half_of_its_window_was_taken() {
    let plan = plan();
    let mut table = Table::of(&plan);
    let mut bridge = Bridge::new(request(), 2, Instant::now());
    table.run();
    table.said().await;
    let half = Value::Binary(vec![b'e'; STDERR_WINDOW as usize / 2]);
    part(&mut bridge, &mut table, 4, vec!["stderr".into(), half]);
    bridge.taken(&mut table.attempt);
    assert_eq!(table.said().await, ["call pipes.node.1.replica.a1.stage credit"]);
    bridge.taken(&mut table.attempt);
    assert_eq!(table.said().await, Vec::<String>::new());
}

fn closed(stream: Stream) -> Event<'static> {
    Event::Caller(Chunk {
        closed: Some(stream),
        ..Chunk::default()
    })
}

#[tokio::test]
async fn who_reads_stderr_no_more_ends_every_stages_and_no_other_pipe() {
    let plan = plan();
    let mut table = Table::of(&plan);
    let mut bridge = Bridge::new(request(), 2, Instant::now());
    table.run();
    table.said().await;
    on(&mut bridge, &mut table, closed(Stream::Stderr));
    let closes = [
        "call pipes.node.1.replica.a1.stage close",
        "call pipes.node.2.replica.b1.stage close",
    ];
    assert_eq!(table.said().await, closes);
    assert!(!table.attempt.output.done);
}

#[tokio::test]
async fn what_nobody_reads_from_the_beginning_is_closed_before_the_stages_start() {
    let plan = plan();
    for (first, later) in [(Stream::Stderr, Stream::Stdout), (Stream::Stdout, Stream::Stderr)] {
        let mut table = Table::of(&plan);
        let request = Request {
            closed: Some(first),
            ..request()
        };
        let mut bridge = Bridge::new(request, 2, Instant::now());
        on(&mut bridge, &mut table, closed(later));
        table.connect();
        table.said().await;
        open_output(&mut bridge, &mut table);
        assert!(table.attempt.output.done);
        let said = table.said().await;
        let closes = said.iter().filter(|said| said.ends_with("stage close"));
        assert_eq!(closes.count(), 2, "{said:?}");
        assert_eq!(
            start(&mut bridge, &mut table),
            "Start(Start { stdin: Some(6), stdout: None, stdin_credit: 0 })"
        );
    }
}

#[tokio::test]
async fn a_signal_that_came_with_the_line_ends_it_before_anything_starts() {
    let plan = plan();
    let mut table = Table::of(&plan);
    let request = Request {
        signal: Some(Signal::Group(libc::SIGINT)),
        ..request()
    };
    let mut bridge = Bridge::new(request, 2, Instant::now());
    bridge.begin(&mut table.attempt);
    assert_eq!(table.attempt.stop, Some(Stop::Signalled(libc::SIGINT)));
    assert_eq!(bridge.cancelled(), Some(Outcome::cancelled(130)));
}

#[tokio::test]
async fn an_order_to_stop_terminates_what_runs() {
    let plan = plan();
    let mut table = Table::of(&plan);
    let mut bridge = Bridge::new(request(), 2, Instant::now());
    table.run();
    table.said().await;
    let grace = Duration::from_secs(1);
    on(&mut bridge, &mut table, Event::Notice(Notice::Stop { grace }));
    let orders = [
        "call pipes.node.1.replica.a1.stage abandon",
        "call pipes.node.2.replica.b1.stage abandon",
        "call pipes.node.1.replica.a1.stage signal",
        "call pipes.node.2.replica.b1.stage signal",
    ];
    assert_eq!(table.said().await, orders);
    assert_eq!(bridge.deadlines.ended(), Ended::Stopped);
}

#[tokio::test]
async fn a_caller_that_is_gone_ends_the_attempt() {
    let plan = plan();
    let mut table = Table::of(&plan);
    let mut bridge = Bridge::new(request(), 2, Instant::now());
    table.run();
    on(&mut bridge, &mut table, Event::CallerGone);
    assert!(bridge.is_caller_gone());
    assert_eq!(
        (table.attempt.stop.clone(), table.attempt.phase),
        (Some(Stop::Gone), Phase::Failing)
    );
}

#[tokio::test]
async fn who_ends_a_run_while_its_attempt_fails_ends_it_for_good() {
    let plan = plan();
    let stop = || {
        Event::Notice(Notice::Stop {
            grace: Duration::ZERO,
        })
    };
    let interrupt = || {
        Event::Caller(Chunk {
            signal: Some(Signal::Group(libc::SIGINT)),
            ..Chunk::default()
        })
    };
    let misuse = || Event::CallerMisuse("no signal".into());
    let ends: [(fn() -> Event<'static>, Outcome); 4] = [
        (|| Event::CallerGone, Outcome::cancelled(LOST)),
        (stop, Outcome::cancelled(128 + 15)),
        (interrupt, Outcome::cancelled(128 + 2)),
        (misuse, Outcome::misuse("no signal".into())),
    ];
    for (end, outcome) in ends {
        let mut table = Table::of(&plan);
        let mut bridge = Bridge::new(request(), 2, Instant::now());
        table.connect();
        let (node, why) = (Some(2), "it was lost".into());
        table.attempt.stop(Stop::Unavailable { node, why });
        assert_eq!(bridge.cancelled(), None);
        on(&mut bridge, &mut table, end());
        assert_eq!(bridge.cancelled(), Some(outcome));
    }
}

#[tokio::test]
async fn who_waits_in_turn_leaves_its_place_for_what_is_free_elsewhere_and_for_nothing_less() {
    let plan = plan();
    let reached = || (1..=3).map(|id| (id, format!("n{id}"))).collect();
    let supplies = Supplies::new(1, reached, Registry::default());
    let told = |node, stages| {
        let supply = Supply {
            stages,
            stages_max: 2,
            slots: 1,
            replicas: 1,
            ..Supply::default()
        };
        supplies.told(node, supply);
    };
    (1..=3).for_each(|node| told(node, 2));
    let needs = plan.stages.iter().map(|stage| Need {
        kind: stage.kind.clone(),
        fresh: false,
    });
    let line = Line {
        needs: needs.collect(),
        in_turn: true,
        ..Line::default()
    };
    let seat = supplies.seat("r1");
    let mut table = Table::of(&plan);
    table.attempt.grant = seat.place(line).unwrap();
    table.attempt.in_turn = true;
    let mut bridge = Bridge::new(request(), 2, Instant::now());
    told(3, 1);
    on(&mut bridge, &mut table, Event::Notice(Notice::Freed));
    assert_eq!(table.attempt.stop, None, "room for one of two stages");
    told(3, 0);
    on(&mut bridge, &mut table, Event::Notice(Notice::Freed));
    assert_eq!(table.attempt.stop, Some(Stop::Full));
}

#[tokio::test]
async fn bytes_that_come_while_a_second_attempt_fails_are_missed_by_a_third() {
    let plan = plan();
    let mut bridge = Bridge::new(request(), 2, Instant::now());
    let mut first = Table::of(&plan);
    first.connect();
    open_output(&mut bridge, &mut first);
    part(&mut bridge, &mut first, 6, vec![5.into()]);
    start(&mut bridge, &mut first);
    bridge.rewind();
    let mut second = Table::of(&plan);
    let (node, why) = (Some(2), "it was lost".into());
    second.attempt.stop(Stop::Unavailable { node, why });
    let chunk = Chunk {
        stdin: Some(b"abc"),
        ..Chunk::default()
    };
    on(&mut bridge, &mut second, Event::Caller(chunk));
    assert!(!bridge.has_all_stdin());
}
