//! One node alone.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::pin::pin;
use std::time::{Duration, Instant};

use pipes_wamp::client::{Auth, CallError, CallOptions, Chunk, Connection, Endpoint, Session, connect};
use pipes_wamp::message::{Message, Payload};
use pipes_wamp::payload::PayloadBuf;
use rmpv::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::nodes::{RouterNode, within};

/// The error's URI of a call that must fail.
pub async fn failure(session: &Session, uri: &str) -> String {
    failed(within(session.call_once(uri, vec![], None)).await)
}

pub fn failed<T>(answer: Result<T, CallError>) -> String {
    match answer {
        Err(CallError::Answered { uri, .. }) => uri,
        Err(CallError::Closed) => "closed".into(),
        Ok(_) => "answered".into(),
    }
}

#[tokio::test]
async fn a_call_is_answered_whoever_is_behind_it() {
    let node = RouterNode::start(1);
    let (callee, caller) = (node.anybody().await, node.anybody().await);
    let mut sum = within(callee.register("com.sum")).await.unwrap();
    tokio::spawn(async move {
        while let Some(call) = sum.next().await {
            let args = call.payload.as_payload().args().unwrap();
            let sum: u64 = args.iter().filter_map(Value::as_u64).sum();
            call.answer(PayloadBuf::of_values(vec![sum.into()], None))
                .await
                .unwrap();
        }
    });
    for n in 1..100_u64 {
        let answer = within(caller.call_once("com.sum", vec![n.into(), 2.into()], None))
            .await
            .unwrap();
        assert_eq!(answer.as_payload().args().unwrap(), [Value::from(n + 2)]);
    }
    assert_eq!(
        failure(&caller, "com.other").await,
        "wamp.error.no_such_procedure"
    );
    assert_eq!(
        failed(within(caller.register("com.sum")).await),
        "wamp.error.procedure_already_exists"
    );
}

#[tokio::test]
async fn chunks_go_both_ways_until_the_callee_has_answered() {
    let node = RouterNode::start(1);
    let (callee, caller) = (node.anybody().await, node.anybody().await);
    super::links::echo_by_chunks(&callee, &caller).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_last_answer_counts_though_its_session_closes_while_it_is_written_to() {
    let node = RouterNode::start(1);
    let caller = node.agent("pipes");
    let mut calls = node.router.serve_calls("pipes", "pipes.run.start", 1);
    for _ in 0..2_000 {
        let options = CallOptions {
            progress: true,
            receive_progress: true,
            ..CallOptions::default()
        };
        let mut call = within(caller.call("pipes.run.start", PayloadBuf::default(), options))
            .await
            .unwrap();
        let (mut reader, mut writer) =
            Connection::welcomed(within(calls.recv()).await.unwrap().stream).split();
        within(reader.next()).await.unwrap().unwrap();
        let answering = tokio::spawn(async move {
            writer.queue(&Message::Yield {
                request: 1,
                progress: false,
                payload: Payload::EMPTY,
            });
            writer.flush().await.unwrap();
            drop((reader, writer));
        });
        // Late chunks are dropped, or written to one who is gone.
        for _ in 0..3 {
            within(call.send(PayloadBuf::of_bytes(b"more"), true))
                .await
                .unwrap();
        }
        within(answering).await.unwrap();
        within(call.result()).await.unwrap();
    }
    super::storm::until_quiet(&node).await;
}

#[tokio::test]
async fn a_call_of_its_own_session_ends_when_that_closes() {
    let node = RouterNode::start(1);
    let caller = node.agent("pipes");
    let mut calls = node.router.serve_calls("pipes", "pipes.run.start", 1);
    let mut first = within(caller.call(
        "pipes.run.start",
        PayloadBuf::of_bytes(b"x"),
        CallOptions::default(),
    ))
    .await
    .unwrap();
    let mut session = Connection::welcomed(within(calls.recv()).await.unwrap().stream);
    let second = caller.call("pipes.run.start", PayloadBuf::default(), CallOptions::default());
    let mut second = within(second).await.unwrap();
    {
        let (mut reader, mut writer) = session.split();
        let Some(Message::Invocation {
            request: 1, payload, ..
        }) = within(reader.next()).await.unwrap()
        else {
            panic!("the first message is the invocation");
        };
        assert_eq!(pipes_wamp::payload::bytes_arg(payload), Some(&b"x"[..]));
        writer.queue(&Message::Yield {
            request: 1,
            progress: false,
            payload: Payload::EMPTY,
        });
        within(writer.flush()).await.unwrap();
        within(first.result()).await.unwrap();
    }
    session = Connection::welcomed(within(calls.recv()).await.unwrap().stream);
    let mut third = within(caller.call("pipes.run.start", PayloadBuf::default(), CallOptions::default()))
        .await
        .unwrap();
    let fourth = failure(&caller, "pipes.run.start").await;
    assert_eq!(
        fourth, "wamp.error.no_available_callee",
        "one waits, and one is all that may"
    );
    drop(session);
    assert_eq!(failed(within(second.result()).await), "wamp.error.canceled");
    drop(calls);
    assert_eq!(failed(within(third.result()).await), "wamp.error.canceled");
}

#[tokio::test]
async fn each_end_learns_when_the_other_leaves() {
    let node = RouterNode::start(1);
    let (callee, caller) = (node.anybody().await, node.anybody().await);
    super::links::ends_by_leaving(&callee, &caller).await;
    drop(caller);
}

#[tokio::test]
async fn a_call_given_up_is_answered_as_its_mode_says() {
    let node = RouterNode::start(1);
    let (callee, caller) = (node.anybody().await, node.anybody().await);
    super::links::gives_up(&callee, &caller).await;
}

#[tokio::test]
async fn a_call_whose_time_is_up_ends_at_both_ends() {
    let node = RouterNode::start(1);
    let (callee, caller) = (node.anybody().await, node.anybody().await);
    let mut slow = within(callee.register("com.slow")).await.unwrap();
    let options = CallOptions {
        timeout_ms: 50,
        ..CallOptions::default()
    };
    let mut call = within(caller.call("com.slow", PayloadBuf::default(), options))
        .await
        .unwrap();
    let mut invocation = within(slow.next()).await.unwrap();
    assert_eq!(failed(within(call.result()).await), "wamp.error.timeout");
    assert_eq!(within(invocation.chunk()).await, Some(Chunk::Interrupted));
}

/// The router has slept for long when the call comes: its time counts from then.
#[tokio::test]
async fn a_call_on_a_quiet_connection_has_all_the_time_it_was_given() {
    let node = RouterNode::start(1);
    let (callee, caller) = (node.anybody().await, node.anybody().await);
    let mut slow = within(callee.register("com.slow")).await.unwrap();
    let given = Duration::from_millis(300);
    for _ in 0..3 {
        // What is tested is that it sleeps.
        tokio::time::sleep(Duration::from_millis(400)).await;
        let options = CallOptions {
            timeout_ms: 300,
            ..CallOptions::default()
        };
        let begun = Instant::now();
        let mut call = within(caller.call("com.slow", PayloadBuf::default(), options))
            .await
            .unwrap();
        let _invocation = within(slow.next()).await.unwrap();
        assert_eq!(failed(within(call.result()).await), "wamp.error.timeout");
        let lasted = begun.elapsed();
        assert!((given..given * 4).contains(&lasted), "answered after {lasted:?}");
    }
}

#[tokio::test]
async fn a_caller_that_does_not_read_is_not_read_and_holds_nobody_else_up() {
    let node = RouterNode::start(1);
    let (callee, other) = (node.anybody().await, node.anybody().await);
    super::links::answers_bytes(&callee, "com.big", 16 << 10).await;
    let (mut reader, mut writer) = node.raw("default").split();
    // 16 MiB of answers to one that reads none: its calls stop going through. Those that its callee has by then take twice
    // the room of their answers, so that these have room.
    let (mut sent, mut stopped) = (0_u64, false);
    while sent < 1024 && !stopped {
        sent += 1;
        let options = pipes_wamp::message::CallOptions::default();
        writer.queue(&Message::Call {
            request: sent,
            options,
            procedure: "com.big",
            payload: Payload {
                parts: 1,
                bytes: &vec_of(32 << 10),
            },
        });
        stopped = tokio::time::timeout(std::time::Duration::from_millis(500), writer.flush())
            .await
            .is_err();
    }
    assert!(stopped, "all of it was taken");
    assert!(sent > 16, "it stopped at {sent}");
    for _ in 0..20 {
        within(other.call_once("com.big", vec![], None)).await.unwrap();
    }
    // It reads: everything comes.
    let flushing = async { writer.flush().await.unwrap() };
    let reading = async {
        for expected in 1..=sent {
            let Some(Message::Result { request, .. }) = reader.next().await.unwrap() else {
                panic!("no result")
            };
            assert_eq!(request, expected);
        }
    };
    within(async { tokio::join!(flushing, reading) }).await;
}

/// Arguments: one binary of so many bytes.
fn vec_of(length: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    pipes_wamp::payload::write_bytes_arg(&mut bytes, &vec![1; length]);
    bytes
}

/// What the router answers to these octets, until it closes.
fn exchange(node: &RouterNode, octets: &[u8]) -> Vec<u8> {
    let mut stream = UnixStream::connect(&node.operators).unwrap();
    stream.set_read_timeout(Some(super::nodes::LIMIT)).unwrap();
    stream.write_all(octets).unwrap();
    let mut answer = Vec::new();
    // A connection that was reset has ended too.
    let _ = stream.read_to_end(&mut answer);
    answer
}

#[tokio::test]
async fn what_is_not_the_protocol_ends_its_own_connection_alone() {
    let node = RouterNode::start(1);
    let (callee, caller) = (node.anybody().await, node.anybody().await);
    super::links::answers_bytes(&callee, "com.ok", 10).await;
    let violation = |answer: &[u8]| String::from_utf8_lossy(answer).contains("wamp.error.protocol_violation");
    let octets = pipes_wamp::transport::rawsocket::client_handshake();
    let after_octets = |rest: &[u8]| [&octets, rest].concat();
    assert_eq!(exchange(&node, b"GET / HTTP/1.1\r\n"), b"");
    assert_eq!(exchange(&node, &[0x7f, 0xf1, 0, 0]), [0x7f, 0x10, 0, 0]);
    assert!(
        violation(&exchange(&node, &after_octets(&[9, 0, 0, 1, 0]))),
        "an unknown kind of frame"
    );
    assert!(
        violation(&exchange(&node, &after_octets(&[0, 0xff, 0xff, 0xff]))),
        "a HELLO of 16 MiB"
    );
    assert!(
        violation(&exchange(&node, &after_octets(&[0, 0, 0, 1, 0xc1]))),
        "not MessagePack"
    );
    let mut early = Vec::new();
    pipes_wamp::transport::rawsocket::frame(&mut early, |out| {
        Message::Yield {
            request: 1,
            progress: false,
            payload: Payload::EMPTY,
        }
        .encode(out);
    });
    assert!(
        violation(&exchange(&node, &after_octets(&early))),
        "a YIELD before HELLO"
    );
    within(caller.call_once("com.ok", vec![], None)).await.unwrap();
}

#[tokio::test]
async fn an_answer_nobody_asked_for_ends_the_session_that_sent_it() {
    let node = RouterNode::start(1);
    let (mut reader, mut writer) = node.raw("default").split();
    writer.queue(&Message::Yield {
        request: 5,
        progress: false,
        payload: Payload::EMPTY,
    });
    within(writer.flush()).await.unwrap();
    let Some(Message::Abort { reason, .. }) = within(reader.next()).await.unwrap() else {
        panic!("no ABORT")
    };
    assert_eq!(reason, "wamp.error.protocol_violation");
}

#[tokio::test]
async fn a_message_of_almost_sixteen_mebibytes_arrives() {
    let node = RouterNode::start(1);
    let (callee, caller) = (node.anybody().await, node.anybody().await);
    super::links::sends_large(&callee, &caller, (16 << 20) - 512).await;
}

#[tokio::test]
async fn a_router_that_stops_says_so() {
    let node = RouterNode::start(1);
    let (mut reader, _writer) = node.raw("default").split();
    node.router.shutdown();
    let Some(Message::Goodbye { reason, .. }) = within(reader.next()).await.unwrap() else {
        panic!("no GOODBYE")
    };
    assert_eq!(reason, "wamp.close.system_shutdown");
}

#[tokio::test]
async fn a_caller_that_dies_without_window_is_noticed() {
    let node = RouterNode::start(1);
    let (mut from_router, mut to_router) = node.raw("default").split();
    let options = pipes_wamp::message::RegisterOptions::default();
    to_router.queue(&Message::Register {
        request: 1,
        options,
        procedure: "com.stuck",
    });
    within(to_router.flush()).await.unwrap();
    assert!(matches!(
        within(from_router.next()).await.unwrap(),
        Some(Message::Registered { .. })
    ));
    let (answers, mut calls) = node.raw("default").split();
    let chunk = vec_of(64 << 10);
    let mut sent = 0;
    loop {
        let options = pipes_wamp::message::CallOptions {
            progress: true,
            ..Default::default()
        };
        calls.queue(&Message::Call {
            request: 1,
            options,
            procedure: "com.stuck",
            payload: Payload {
                parts: 1,
                bytes: &chunk,
            },
        });
        if tokio::time::timeout(Duration::from_millis(300), calls.flush())
            .await
            .is_err()
        {
            break;
        }
        sent += 1;
    }
    drop((answers, calls));
    // All that had left the caller comes, then the end.
    let mut came = 0;
    loop {
        match within(from_router.next()).await.unwrap() {
            Some(Message::Invocation { .. }) => came += 1,
            Some(Message::Interrupt { .. }) => break,
            other => panic!("{other:?}"),
        }
    }
    assert!(came >= sent, "{came} of {sent}");
}

/// Descriptors that a test with many connections needs.
const DESCRIPTORS: u64 = 4096;

/// Lets this process have as many.
pub fn raise_descriptors() {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: both calls get a valid rlimit of this frame.
    unsafe {
        assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit), 0);
        limit.rlim_cur = limit.rlim_max.min(DESCRIPTORS);
        assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &limit), 0);
    }
}

#[tokio::test]
async fn connections_without_a_session_are_few_and_short_lived() {
    raise_descriptors();
    let node = RouterNode::start(1);
    let begun = Instant::now();
    let connect = || UnixStream::connect(&node.operators).unwrap();
    let silent: Vec<_> = (0..1000).map(|_| connect()).collect();
    // Who holds connections keeps nobody out: the oldest goes.
    let joined = connect_to(&node).await;
    assert!(joined.is_ok(), "{:?}", joined.err());
    assert!(begun.elapsed() < Duration::from_secs(5));
    let is_ended = |mut stream: &UnixStream| {
        stream.set_read_timeout(Some(super::nodes::LIMIT)).unwrap();
        stream.read(&mut [0]).unwrap() == 0
    };
    assert!(is_ended(&silent[0]));
    let gone_at = begun.elapsed();
    assert!(gone_at < Duration::from_secs(5), "{gone_at:?}");
    assert!(is_ended(&silent[999]));
    let lasted = begun.elapsed();
    assert!(
        (Duration::from_secs(5)..Duration::from_secs(8)).contains(&lasted),
        "{lasted:?}"
    );
    // There is room again.
    let joined = connect_to(&node).await;
    assert!(joined.is_ok(), "{:?}", joined.err());
}

async fn connect_to(node: &RouterNode) -> Result<Connection, pipes_wamp::Error> {
    within(connect(
        &Endpoint::Unix(node.operators.clone()),
        "pipes",
        &Auth::Anonymous,
    ))
    .await
}

#[tokio::test]
async fn large_messages_wait_for_room() {
    let node = RouterNode::start(1);
    let call = {
        let mut framed = Vec::new();
        let payload = vec_of(15 << 20);
        pipes_wamp::transport::rawsocket::frame(&mut framed, |out| {
            let options = pipes_wamp::message::CallOptions::default();
            let payload = Payload {
                parts: 1,
                bytes: &payload,
            };
            Message::Call {
                request: 1,
                options,
                procedure: "com.nobody",
                payload,
            }
            .encode(out);
        });
        framed
    };
    let attach = |realm| {
        let session = node.router.attach(realm, pipes_router::Role::Agent);
        session.unwrap().stream
    };
    let (mut first, mut second, mut other) = (attach("default"), attach("default"), attach("pipes.stages"));
    within(first.write_all(&call[..call.len() / 2])).await.unwrap();
    // It fills the room of users' realms: the second's octets stay where they are. A stage does not notice.
    let mut more = pin!(second.write_all(&call));
    let taken = tokio::time::timeout(Duration::from_millis(300), &mut more).await;
    assert!(taken.is_err(), "a second message of 15 MiB was taken");
    within(other.write_all(&call)).await.unwrap();
    within(other.read_u8()).await.unwrap();
    drop(first);
    within(more).await.unwrap();
    within(second.read_u8()).await.unwrap();
}
