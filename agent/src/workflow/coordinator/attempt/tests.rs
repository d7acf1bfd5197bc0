//! The attempt as a state machine: what it says to whom, and what it makes of the answers.

use pipes_wamp::client::{Connection, Reader};
use pipes_wamp::message::{self, Message, Payload};
use pipes_wamp::payload::PayloadBuf;
use rmpv::Value;
use tokio::net::UnixStream;

use crate::workflow::coordinator::attempt::replies::Effect;
use crate::workflow::coordinator::attempt::{Attempt, Phase, Stop};
use crate::workflow::coordinator::outcome::{self, Ended};
use crate::workflow::coordinator::plan::{Plan, Planned};
use crate::workflow::coordinator::publish;
use crate::workflow::coordinator::request::Options;
use crate::workflow::runs::signal::Signal;
use pipes_protocol::supply::Kind;

/// An attempt at `a | b`, `a` on node 1 and `b` on node 2, and the router's end of its session.
pub struct Table<'p> {
    pub attempt: Attempt<'p>,
    router: Reader,
}

pub fn plan() -> Plan {
    let stage = |service: &str| Planned {
        kind: Kind {
            service: service.into(),
            digest: "sha256:00".into(),
        },
        args: vec![],
        env: vec![],
    };
    Plan {
        id: "r1".into(),
        line: "a | b".into(),
        coordinator: 1,
        stages: vec![stage("a"), stage("b")],
        options: Options::default(),
        descriptors: Default::default(),
    }
}

impl<'p> Table<'p> {
    pub fn of(plan: &'p Plan) -> Table<'p> {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (_, writer) = Connection::welcomed(ours).split();
        let (router, _) = Connection::welcomed(theirs).split();
        let nodes = vec![(1, "n1".to_owned()), (2, "n2".to_owned())];
        let mut attempt = Attempt::new(plan, 1, nodes, 1, writer);
        attempt.begin();
        Table { attempt, router }
    }

    /// What was said since the last time: procedure, request and the first argument's beginning.
    pub async fn said(&mut self) -> Vec<String> {
        self.attempt.writer.flush().await.unwrap();
        let mut said = Vec::new();
        // A mark of our own ends the reading.
        self.attempt.writer.queue(&Message::Unregistered { request: 99 });
        self.attempt.writer.flush().await.unwrap();
        loop {
            match self.router.next().await.unwrap().unwrap() {
                Message::Unregistered { request: 99 } => return said,
                Message::Register { procedure, .. } => said.push(format!("register {procedure}")),
                Message::Call {
                    procedure,
                    payload,
                    options,
                    ..
                } => {
                    let args = payload.args().unwrap();
                    let first = match args.first() {
                        Some(Value::String(text)) => format!(" {}", text.as_str().unwrap()),
                        Some(Value::Binary(bytes)) => format!(" {} bytes", bytes.len()),
                        _ => String::new(),
                    };
                    let last = if options.progress { "" } else { " (last)" };
                    said.push(format!("call {procedure}{first}{last}"));
                }
                Message::Cancel { request, mode } => said.push(format!("cancel {request} {}", mode.name())),
                other => said.push(format!("{other:?}")),
            }
        }
    }

    fn result(&mut self, request: u64, progress: bool, args: Vec<Value>) -> Effect<'static> {
        let payload = PayloadBuf::of_values(args, None);
        let message = Message::Result {
            request,
            progress,
            payload: payload.as_payload(),
        };
        owned(self.attempt.receive(message))
    }

    fn error(&mut self, request: u64, error: &str, args: Vec<Value>) {
        let payload = PayloadBuf::of_values(args, None);
        let details = message::EMPTY_MAP;
        let kind = message::kind::CALL;
        let message = Message::Error {
            kind,
            request,
            details,
            error,
            payload: payload.as_payload(),
        };
        self.attempt.receive(message);
    }

    fn reserve(&mut self, request: u64, stage: u64, replica: &str) {
        let pair = Value::Array(vec![stage.into(), replica.into()]);
        let map = Value::Map(vec![("replicas".into(), Value::Array(vec![pair]))]);
        self.result(request, true, vec!["ready".into(), map]);
    }

    /// Up to the moment before the second stage is ready. Requests: 4 and 5 the stage calls, 6 stdin.
    pub fn connect(&mut self) {
        self.reserve(2, 1, "a1");
        self.reserve(3, 2, "b1");
        self.result(4, true, vec!["ready".into()]);
    }

    /// Files of the second stage came further.
    pub fn lay(&mut self) {
        self.result(5, true, vec!["laying".into()]);
    }

    pub fn run(&mut self) {
        self.connect();
        self.run_connected();
    }

    pub fn run_connected(&mut self) {
        self.result(5, true, vec!["ready".into()]);
    }

    /// Both nodes say that they have their slots back.
    fn unreserve(&mut self) {
        for request in [2, 3] {
            self.error(request, "wamp.error.canceled", vec![]);
        }
    }

    pub fn exit(&mut self, request: u64, status: i64) {
        self.result(
            request,
            true,
            vec!["exited".into(), status.into(), Value::Nil, 0.into()],
        );
    }
}

fn owned(effect: Effect<'_>) -> Effect<'static> {
    match effect {
        Effect::Stdout(_) => Effect::Stdout(b"?"),
        Effect::None => Effect::None,
        Effect::Stderr(stage, bytes) => Effect::Stderr(stage, bytes),
        Effect::StdinCredit(bytes) => Effect::StdinCredit(bytes),
        Effect::OutputOpened => Effect::OutputOpened,
        Effect::Started => Effect::Started,
        Effect::Progress => Effect::Progress,
    }
}

#[tokio::test]
async fn nothing_starts_before_every_hop_is_proved() {
    let plan = plan();
    let mut table = Table::of(&plan);
    let expected = [
        "register pipes.node.1.run.r1.1.out",
        "call pipes.node.1.executor.prepare",
        "call pipes.node.2.executor.prepare",
    ];
    assert_eq!(table.said().await, expected);
    table.connect();
    let expected = [
        "call pipes.node.1.replica.a1.stage",
        "call pipes.node.2.replica.b1.stage",
        "call pipes.node.1.replica.a1.pipe r1",
    ];
    assert_eq!(table.said().await, expected);
    assert_eq!(table.result(5, true, vec!["ready".into()]), Effect::Started);
    let expected = [
        "call pipes.node.1.replica.a1.stage go",
        "call pipes.node.2.replica.b1.stage go",
    ];
    assert_eq!(table.said().await, expected);
}

#[tokio::test]
async fn a_run_is_over_when_all_have_exited_and_closed() {
    let plan = plan();
    let mut table = Table::of(&plan);
    table.run();
    table.exit(4, 141);
    table.exit(5, 0);
    table.result(5, true, vec!["closed".into(), 2.into()]);
    assert_eq!(
        table.attempt.phase,
        Phase::Running,
        "a descendant may hold the first stage's stdout"
    );
    table.said().await;
    table.result(4, true, vec!["closed".into(), 9.into()]);
    let ends = [
        "call pipes.node.1.replica.a1.stage end (last)",
        "call pipes.node.2.replica.b1.stage end (last)",
    ];
    assert_eq!(table.said().await, ends);
    let counts = Value::Map(vec![
        ("bytes_in".into(), 0.into()),
        ("bytes_out".into(), 9.into()),
    ]);
    table.result(4, false, vec![counts.clone()]);
    table.result(5, false, vec![counts]);
    assert_eq!(table.attempt.phase, Phase::Over);
    let outcome = outcome::judge(&plan, &table.attempt, Ended::Itself, false);
    assert_eq!((outcome.state, outcome.exit), ("succeeded", 0));
}

#[tokio::test]
async fn nothing_is_said_to_a_stage_after_its_end() {
    let plan = plan();
    let mut table = Table::of(&plan);
    table.run();
    table.attempt.credit_stderr(0, 1);
    assert!(
        table
            .said()
            .await
            .contains(&"call pipes.node.1.replica.a1.stage credit".to_owned())
    );
    for request in [4, 5] {
        table.exit(request, 0);
        table.result(request, true, vec!["closed".into(), 0.into()]);
    }
    assert_eq!(table.attempt.phase, Phase::Ending);
    table.said().await;
    table.attempt.credit_stderr(0, 1);
    table.attempt.signal(Signal::Kill);
    assert_eq!(table.said().await, Vec::<String>::new());
}

#[tokio::test]
async fn a_run_under_way_shows_what_its_shims_said_last() {
    let plan = plan();
    let mut table = Table::of(&plan);
    table.run();
    assert_eq!(
        table.result(4, true, vec!["started".into(), 1_000.into()]),
        Effect::Progress
    );
    for (bytes_in, bytes_out) in [(0, 5), (0, 9)] {
        let counts = vec!["counts".into(), bytes_in.into(), bytes_out.into()];
        assert_eq!(table.result(4, true, counts), Effect::Progress);
    }
    let run = publish::under_way(&plan, &table.attempt, std::time::UNIX_EPOCH);
    assert_eq!(
        (run.stages[0].bytes_in, run.stages[0].bytes_out),
        (Some(0), Some(9))
    );
    assert_eq!(run.stages[0].started.as_deref(), Some("1970-01-01T00:00:01.000Z"));
    assert_eq!((run.stages[1].bytes_in, run.stages[1].bytes_out), (None, None));
    // They are no counts of the whole: one that was lost has none.
    let outcome = outcome::judge(&plan, &table.attempt, Ended::Itself, false);
    let run = publish::over(&plan, &table.attempt, std::time::UNIX_EPOCH, outcome);
    assert_eq!(run.stages[0].bytes_out, None);
}

#[tokio::test]
async fn pipefail_gives_the_last_status_that_failed() {
    let mut plan = plan();
    plan.options.pipefail = true;
    let mut table = Table::of(&plan);
    table.run();
    table.exit(4, 3);
    table.exit(5, 0);
    assert_eq!(
        outcome::judge(&plan, &table.attempt, Ended::Itself, false).exit,
        3
    );
}

#[tokio::test]
async fn what_is_lost_after_go_kills_all_and_names_server_and_stage() {
    let plan = plan();
    let mut table = Table::of(&plan);
    table.run();
    table.said().await;
    // The neighbour's broken pipe is heard before the lost link itself.
    table.error(4, "pipes.error.broken", vec!["its reader is gone".into()]);
    assert_eq!(table.attempt.phase, Phase::Failing);
    assert_eq!(table.said().await, ["cancel 5 kill"]);
    table.error(5, "wamp.error.network_failure", vec![]);
    assert_eq!(
        table.said().await,
        ["cancel 2 kill", "cancel 3 kill"],
        "a slot is free once its stage is gone"
    );
    table.unreserve();
    assert_eq!(table.attempt.phase, Phase::Over);
    let outcome = outcome::judge(&plan, &table.attempt, Ended::Itself, false);
    assert_eq!(outcome.exit, 125);
    let message = outcome.message.unwrap();
    assert!(
        message.contains("n2") && message.contains("stage 2 (b)"),
        "{message}"
    );
}

#[tokio::test]
async fn who_asked_for_a_retry_is_told_that_there_was_one() {
    let mut plan = plan();
    plan.options.retry = true;
    let mut table = Table::of(&plan);
    table.run();
    table.error(4, "wamp.error.network_failure", vec![]);
    table.error(5, "wamp.error.canceled", vec![]);
    table.unreserve();
    let outcome = outcome::judge(&plan, &table.attempt, Ended::Itself, true);
    assert_eq!(outcome.exit, 125);
    let message = outcome.message.unwrap();
    assert!(message.ends_with("--retry ran it once more already"), "{message}");
}

#[tokio::test]
async fn what_is_lost_before_go_may_be_placed_anew() {
    let plan = plan();
    let mut table = Table::of(&plan);
    table.connect();
    table.error(5, "wamp.error.network_failure", vec![]);
    assert!(matches!(
        table.attempt.stop,
        Some(Stop::Unavailable { node: Some(2), .. })
    ));
    assert_eq!(
        table.attempt.phase,
        Phase::Failing,
        "the other stage call is still to be answered"
    );
    table.error(4, "wamp.error.canceled", vec![]);
    assert_eq!(
        table.attempt.phase,
        Phase::Freeing,
        "the next attempt may need their slots"
    );
    table.unreserve();
    assert_eq!(table.attempt.phase, Phase::Over);
}

#[tokio::test]
async fn a_full_node_is_no_mishap() {
    let plan = plan();
    let mut table = Table::of(&plan);
    table.said().await;
    table.result(3, true, vec!["reserved".into()]);
    table.error(2, "pipes.error.full", vec![]);
    assert_eq!(
        (table.attempt.stop.clone(), table.attempt.phase),
        (Some(Stop::Full), Phase::Freeing)
    );
    assert_eq!(table.attempt.refused_by, [1]);
    assert_eq!(table.said().await, ["cancel 3 kill"], "its slot goes back");
    table.error(3, "wamp.error.canceled", vec![]);
    assert_eq!(table.attempt.phase, Phase::Over);
}

#[tokio::test]
async fn a_node_that_says_nothing_is_not_waited_for() {
    let plan = plan();
    let mut table = Table::of(&plan);
    table.said().await;
    table.result(3, true, vec!["reserved".into()]);
    table.attempt.stop(Stop::Unavailable {
        node: Some(1),
        why: "it said nothing".into(),
    });
    assert_eq!(table.said().await, ["cancel 2 killnowait", "cancel 3 kill"]);
    assert_eq!(table.attempt.silent, [1]);
}

#[tokio::test]
async fn a_reservation_that_ends_under_a_run_ends_it() {
    let plan = plan();
    let mut table = Table::of(&plan);
    table.run();
    table.error(3, "wamp.error.network_failure", vec![]);
    assert_eq!(table.attempt.stop, Some(Stop::Lost));
    let mut table = Table::of(&plan);
    table.connect();
    table.error(
        3,
        "pipes.error.unavailable",
        vec!["the run was not started".into()],
    );
    assert!(matches!(
        table.attempt.stop,
        Some(Stop::Unavailable { node: Some(2), .. })
    ));
}

#[tokio::test]
async fn stdin_beyond_its_credit_is_refused() {
    let plan = plan();
    let mut table = Table::of(&plan);
    table.run();
    assert_eq!(table.result(6, true, vec![5.into()]), Effect::StdinCredit(5));
    table.attempt.feed(b"12345");
    assert!(table.attempt.stop.is_none());
    table.attempt.feed(b"6");
    assert!(matches!(table.attempt.stop, Some(Stop::Usage(_))));
}

#[tokio::test]
async fn a_signal_before_go_ends_the_run() {
    let plan = plan();
    let mut table = Table::of(&plan);
    table.attempt.signal(Signal::Group(libc::SIGINT));
    let outcome = outcome::judge(&plan, &table.attempt, Ended::Itself, false);
    assert_eq!((outcome.state, outcome.exit), ("cancelled", 130));
}

#[tokio::test]
async fn an_output_that_breaks_is_no_end() {
    let plan = plan();
    let mut table = Table::of(&plan);
    table.run();
    let body = PayloadBuf::of_values(vec!["r1".into(), 3.into(), Value::Binary(vec![])], None);
    let invocation = |payload: Payload<'static>| Message::Invocation {
        request: 1,
        registration: 1,
        details: message::InvocationDetails {
            progress: true,
            ..Default::default()
        },
        payload,
    };
    let body: &'static PayloadBuf = Box::leak(Box::new(body));
    assert_eq!(
        owned(table.attempt.receive(invocation(body.as_payload()))),
        Effect::OutputOpened
    );
    let mode = message::CancelMode::KillNoWait;
    table.attempt.receive(Message::Interrupt {
        request: 1,
        mode,
        reason: None,
    });
    assert_eq!(table.attempt.stop, Some(Stop::Lost));
    assert!(!table.attempt.output.ending);
}

#[tokio::test]
async fn a_stage_that_was_ended_is_named_though_its_neighbours_break_is_heard_first() {
    let plan = plan();
    let broken = || vec!["the pipe to the next stage broke".into()];
    let ended = || vec!["its scratch directory held more than 1 MiB".into()];
    for ended_first in [false, true] {
        let mut table = Table::of(&plan);
        table.run();
        if !ended_first {
            table.error(4, "pipes.error.broken", broken());
        }
        table.error(5, "pipes.error.over_limit", ended());
        if ended_first {
            table.error(4, "pipes.error.broken", broken());
        }
        let outcome = outcome::judge(&plan, &table.attempt, Ended::Itself, false);
        let message = outcome.message.unwrap();
        assert_eq!(outcome.exit, 125);
        assert!(
            message.ends_with("was ended on n2: its scratch directory held more than 1 MiB"),
            "{message}"
        );
    }
}

#[tokio::test]
async fn stages_are_told_that_the_run_is_given_up_before_they_are_ended() {
    let plan = plan();
    let told = |order: &str| {
        ["a1", "b1"].map(|replica| {
            let node = if replica == "a1" { 1 } else { 2 };
            format!("call pipes.node.{node}.replica.{replica}.stage {order}")
        })
    };
    let mut table = Table::of(&plan);
    table.run();
    table.said().await;
    table.attempt.terminate();
    assert_eq!(table.said().await, [told("abandon"), told("signal")].concat());
    table.attempt.signal(Signal::Kill);
    assert_eq!(table.said().await, [told("abandon"), told("kill")].concat());
    // What a user sends goes to the stages as a shell's would.
    table.attempt.signal(Signal::Group(libc::SIGTERM));
    assert_eq!(table.said().await, told("signal"));
}
