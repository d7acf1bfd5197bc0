//! Two nodes with a link; what is said here of one link holds of one node too, and `node` says it.

use std::net::Shutdown;
use std::time::Duration;

use pipes_wamp::client::{CallOptions, Chunk, Session};
use pipes_wamp::message::{CancelMode, Message, Payload};
use pipes_wamp::payload::PayloadBuf;
use rmpv::Value;

use super::nodes::{RouterNode, link, within};
use super::one_node::{failed, failure};

const BOTH: CallOptions = CallOptions {
    progress: true,
    receive_progress: true,
    timeout_ms: 0,
    grant: None,
};

/// Answers every call to `uri` with so many bytes.
pub async fn answers_bytes(callee: &Session, uri: &str, length: usize) {
    let mut registration = within(callee.register(uri)).await.unwrap();
    tokio::spawn(async move {
        while let Some(call) = registration.next().await {
            // The caller may be gone.
            let _ = call.answer(PayloadBuf::of_bytes(&vec![7; length])).await;
        }
    });
}

/// Chunks go up and come back down, and the callee's answer ends it before the caller is done.
pub async fn echo_by_chunks(callee: &Session, caller: &Session) {
    let mut registration = within(callee.register("com.echo")).await.unwrap();
    let mut call = within(caller.call("com.echo", PayloadBuf::of_bytes(b"0"), BOTH))
        .await
        .unwrap();
    let mut invocation = within(registration.next()).await.unwrap();
    assert!(invocation.progress && invocation.receive_progress);
    for n in 1..200_usize {
        let sent = PayloadBuf::of_bytes(&vec![n as u8; n * 997]);
        within(call.send(sent.clone(), true)).await.unwrap();
        let Some(Chunk::More {
            progress: true,
            payload,
        }) = within(invocation.chunk()).await
        else {
            panic!("no chunk")
        };
        assert_eq!(payload, sent);
        within(invocation.answer_part(payload)).await.unwrap();
        let answer = within(call.next()).await.unwrap();
        assert!(answer.progress && answer.payload == sent);
    }
    within(invocation.answer(PayloadBuf::of_bytes(b"enough")))
        .await
        .unwrap();
    assert_eq!(
        within(call.result()).await.unwrap(),
        PayloadBuf::of_bytes(b"enough")
    );
    within(call.send(PayloadBuf::of_bytes(b"late"), true))
        .await
        .unwrap();
    assert_eq!(
        failure(caller, "com.nobody").await,
        "wamp.error.no_such_procedure",
        "the late chunk was dropped"
    );
}

/// The callee leaves, then the caller.
pub async fn ends_by_leaving(callee: &Session, caller: &Session) {
    let mut registration = within(callee.register("com.leave")).await.unwrap();
    let mut call = within(caller.call("com.leave", PayloadBuf::default(), BOTH))
        .await
        .unwrap();
    let mut invocation = within(registration.next()).await.unwrap();
    // Dropped before its end, a call is given up.
    drop(call);
    assert_eq!(within(invocation.chunk()).await, Some(Chunk::Interrupted));
    call = within(caller.call("com.leave", PayloadBuf::default(), BOTH))
        .await
        .unwrap();
    let _invocation = within(registration.next()).await.unwrap();
    within(callee.stop()).await;
    assert_eq!(failed(within(call.result()).await), "wamp.error.canceled");
    assert_eq!(failure(caller, "com.leave").await, "wamp.error.no_such_procedure");
}

/// CANCEL in its three modes.
pub async fn gives_up(callee: &Session, caller: &Session) {
    let mut registration = within(callee.register("com.cancel")).await.unwrap();
    for mode in [CancelMode::Skip, CancelMode::KillNoWait, CancelMode::Kill] {
        let mut call = within(caller.call("com.cancel", PayloadBuf::default(), CallOptions::default()))
            .await
            .unwrap();
        let mut invocation = within(registration.next()).await.unwrap();
        within(call.cancel(mode)).await.unwrap();
        if mode != CancelMode::Skip {
            assert_eq!(within(invocation.chunk()).await, Some(Chunk::Interrupted));
        }
        if mode == CancelMode::Kill {
            within(invocation.fail("com.error.stopped", PayloadBuf::default()))
                .await
                .unwrap();
            assert_eq!(failed(within(call.result()).await), "com.error.stopped");
        } else {
            assert_eq!(failed(within(call.result()).await), "wamp.error.canceled");
            within(invocation.answer(PayloadBuf::default())).await.unwrap();
        }
    }
}

/// One large message each way, unchanged.
pub async fn sends_large(callee: &Session, caller: &Session, length: usize) {
    let mut registration = within(callee.register("com.large")).await.unwrap();
    tokio::spawn(async move {
        while let Some(call) = registration.next().await {
            let payload = call.payload.clone();
            call.answer(payload).await.unwrap();
        }
    });
    let bytes: Vec<u8> = (0..length).map(|n| ((n / 251) ^ n) as u8).collect();
    let sent = PayloadBuf::of_bytes(&bytes);
    let mut call = within(caller.call("com.large", sent.clone(), CallOptions::default()))
        .await
        .unwrap();
    assert!(within(call.result()).await.unwrap() == sent);
}

#[tokio::test]
async fn what_is_registered_at_one_shard_is_called_at_the_other() {
    let (one, two) = RouterNode::pair().await;
    let (callee, caller) = (two.anybody().await, one.anybody().await);
    for n in 0..50 {
        // At once: REGISTERED is the promise.
        let uri = format!("com.at.{n}");
        answers_bytes(&callee, &uri, 10).await;
        within(caller.call_once(&uri, vec![], None)).await.unwrap();
    }
    assert_eq!(
        failed(within(caller.register("com.at.1")).await),
        "wamp.error.procedure_already_exists"
    );
    within(callee.stop()).await;
    // It is gone at once where it was, and a moment later everywhere.
    let gone = async {
        while failure(&caller, "com.at.1").await != "wamp.error.no_such_procedure" {
            tokio::task::yield_now().await;
        }
    };
    within(gone).await;
}

#[tokio::test]
async fn a_new_link_learns_what_is_registered_already() {
    let (one, two) = (RouterNode::start(1), RouterNode::start(2));
    let (callee, caller) = (two.anybody().await, one.anybody().await);
    answers_bytes(&callee, "com.early", 10).await;
    link(&one, 1, &two, 2);
    let known = async {
        while failure(&caller, "com.early").await != "answered" {
            tokio::task::yield_now().await;
        }
    };
    within(known).await;
}

#[tokio::test]
async fn chunks_cross_both_ways_until_the_callee_has_answered() {
    let (one, two) = RouterNode::pair().await;
    echo_by_chunks(&two.anybody().await, &one.anybody().await).await;
}

#[tokio::test]
async fn across_each_end_learns_when_the_other_leaves() {
    let (one, two) = RouterNode::pair().await;
    let caller = one.anybody().await;
    let mut leaving = within(two.agent("default").register("com.stay")).await.unwrap();
    ends_by_leaving(&two.anybody().await, &caller).await;
    let other = one.anybody().await;
    let _call = within(other.call("com.stay", PayloadBuf::default(), BOTH))
        .await
        .unwrap();
    let mut invocation = within(leaving.next()).await.unwrap();
    within(other.stop()).await;
    assert_eq!(within(invocation.chunk()).await, Some(Chunk::Interrupted));
}

#[tokio::test]
async fn across_a_call_given_up_is_answered_as_its_mode_says() {
    let (one, two) = RouterNode::pair().await;
    gives_up(&two.anybody().await, &one.anybody().await).await;
}

#[tokio::test]
async fn a_large_message_crosses_unchanged() {
    let (one, two) = RouterNode::pair().await;
    sends_large(&two.anybody().await, &one.anybody().await, (16 << 20) - 512).await;
}

#[tokio::test]
async fn a_procedure_of_a_node_is_found_by_its_number() {
    let (one, two) = RouterNode::pair().await;
    let (callee, caller) = (two.agent("pipes.stages"), one.agent("pipes.stages"));
    answers_bytes(&callee, "pipes.node.2.executor.prepare", 10).await;
    answers_bytes(&callee, "pipes.local.only", 10).await;
    within(caller.call_once("pipes.node.2.executor.prepare", vec![], None))
        .await
        .unwrap();
    assert_eq!(
        failure(&caller, "pipes.local.only").await,
        "wamp.error.no_such_procedure"
    );
    assert_eq!(
        failure(&caller, "pipes.node.1.executor.prepare").await,
        "wamp.error.no_such_procedure"
    );
    assert_eq!(
        failure(&caller, "pipes.node.3.executor.prepare").await,
        "wamp.error.network_failure"
    );
}

#[tokio::test]
async fn a_payload_crosses_byte_for_byte() {
    let (one, two) = RouterNode::pair().await;
    for (near, far) in [(&one, &one), (&one, &two)] {
        let callee = far.raw("default");
        let (mut from_router, mut to_router) = callee.split();
        let options = pipes_wamp::message::RegisterOptions::default();
        let procedure = if std::ptr::eq(near, far) {
            "com.odd.near"
        } else {
            "com.odd.far"
        };
        to_router.queue(&Message::Register {
            request: 1,
            options,
            procedure,
        });
        within(to_router.flush()).await.unwrap();
        assert!(matches!(
            within(from_router.next()).await.unwrap(),
            Some(Message::Registered { .. })
        ));
        // [1 as u64, a NaN with payload bits], {"a": 1, "a": 2}
        let odd = [
            &[
                0x92, 0xcf, 0, 0, 0, 0, 0, 0, 0, 1, 0xcb, 0x7f, 0xf8, 0, 0, 0xde, 0xad, 0xbe, 0xef,
            ][..],
            &[0x82, 0xa1, b'a', 1, 0xa1, b'a', 2],
        ]
        .concat();
        let payload = Payload {
            parts: 2,
            bytes: &odd,
        };
        let (mut answers, mut calls) = near.raw("default").split();
        let options = pipes_wamp::message::CallOptions::default();
        calls.queue(&Message::Call {
            request: 1,
            options,
            procedure,
            payload,
        });
        within(calls.flush()).await.unwrap();
        let Some(Message::Invocation {
            request,
            payload: there,
            ..
        }) = within(from_router.next()).await.unwrap()
        else {
            panic!("no invocation");
        };
        assert_eq!((there.parts, there.bytes), (2, &odd[..]));
        to_router.queue(&Message::Yield {
            request,
            progress: false,
            payload,
        });
        within(to_router.flush()).await.unwrap();
        let Some(Message::Result { payload: back, .. }) = within(answers.next()).await.unwrap() else {
            panic!("no result");
        };
        assert_eq!((back.parts, back.bytes), (2, &odd[..]));
    }
}

#[tokio::test]
async fn a_grant_crosses_with_its_call() {
    let (one, two) = RouterNode::pair().await;
    let stages = pipes_wamp::client::Endpoint::Unix(two.stages.clone());
    two.router
        .admit_replica("r1", <sha2::Sha256 as sha2::Digest>::digest(b"t").into());
    let auth = pipes_wamp::client::Auth::Ticket {
        authid: "r1".into(),
        ticket: "t".into(),
    };
    let joined = within(pipes_wamp::client::connect(&stages, "pipes.stages", &auth))
        .await
        .unwrap();
    let replica = Session::start(joined);
    let mut stage = within(replica.register("pipes.node.2.replica.r1.stage"))
        .await
        .unwrap();
    let coordinator = one.agent("pipes.stages");
    answers_bytes(&coordinator, "pipes.node.1.run.9.out", 3).await;
    let options = CallOptions {
        grant: Some("pipes.node.1.run.9.out".into()),
        ..BOTH
    };
    let mut call = within(coordinator.call("pipes.node.2.replica.r1.stage", PayloadBuf::default(), options))
        .await
        .unwrap();
    let invocation = within(stage.next()).await.unwrap();
    assert_eq!(failure(&replica, "pipes.node.1.run.9.out").await, "answered");
    assert_eq!(
        failure(&replica, "pipes.node.1.run.8.out").await,
        "wamp.error.not_authorized"
    );
    invocation.answer(PayloadBuf::default()).await.unwrap();
    within(call.result()).await.unwrap();
    assert_eq!(
        failure(&replica, "pipes.node.1.run.9.out").await,
        "wamp.error.not_authorized"
    );
}

#[tokio::test]
async fn a_lost_link_ends_what_crossed_it_and_a_new_one_begins_with_nothing() {
    let (one, two) = (RouterNode::start(1), RouterNode::start(2));
    let (cut, _) = link(&one, 1, &two, 2);
    one.linked(2, true).await;
    two.linked(1, true).await;
    let (callee, caller) = (two.anybody().await, one.anybody().await);
    let mut registration = within(callee.register("com.cut")).await.unwrap();
    let mut call = within(caller.call("com.cut", PayloadBuf::default(), BOTH))
        .await
        .unwrap();
    let mut invocation = within(registration.next()).await.unwrap();
    cut.shutdown(Shutdown::Both).unwrap();
    assert_eq!(failed(within(call.result()).await), "wamp.error.network_failure");
    assert_eq!(within(invocation.chunk()).await, Some(Chunk::Interrupted));
    one.linked(2, false).await;
    two.linked(1, false).await;
    assert_eq!(failure(&caller, "com.cut").await, "wamp.error.no_such_procedure");
    link(&one, 1, &two, 2);
    let again = async {
        loop {
            let call = caller.call("com.cut", PayloadBuf::default(), BOTH).await.unwrap();
            tokio::select! {
                invocation = registration.next() => break invocation.unwrap(),
                () = tokio::time::sleep(Duration::from_millis(20)) => drop(call),
            }
        }
    };
    within(again).await;
}

#[tokio::test]
async fn a_silent_peer_whose_kernel_acknowledges_is_lost_after_ten_seconds() {
    let one = RouterNode::start(1);
    let ((stream, tls), _silent) = super::nodes::handshaken();
    drop(one.router.add_link(2, stream, tls));
    one.linked(2, true).await;
    let begun = std::time::Instant::now();
    one.linked(2, false).await;
    let lasted = begun.elapsed();
    assert!(
        (Duration::from_secs(10)..Duration::from_secs(15)).contains(&lasted),
        "{lasted:?}"
    );
}

#[tokio::test]
async fn a_callee_that_does_not_read_stops_its_own_caller_and_nobody_else() {
    let (one, two) = RouterNode::pair().await;
    answers_bytes(&two.anybody().await, "com.quick", 10).await;
    for far in [&one, &two] {
        let (mut from_router, mut to_router) = far.raw("default").split();
        let options = pipes_wamp::message::RegisterOptions::default();
        let procedure = if std::ptr::eq(far, &one) {
            "com.stuck.near"
        } else {
            "com.stuck.far"
        };
        to_router.queue(&Message::Register {
            request: 1,
            options,
            procedure,
        });
        within(to_router.flush()).await.unwrap();
        assert!(matches!(
            within(from_router.next()).await.unwrap(),
            Some(Message::Registered { .. })
        ));
        let (_answers, mut calls) = one.raw("default").split();
        let mut chunk = Vec::new();
        pipes_wamp::payload::write_bytes_arg(&mut chunk, &vec![3; 64 << 10]);
        let (mut sent, mut is_stopped) = (0, false);
        while sent < 1000 && !is_stopped {
            let options = pipes_wamp::message::CallOptions {
                progress: true,
                ..Default::default()
            };
            calls.queue(&Message::Call {
                request: 1,
                options,
                procedure,
                payload: Payload {
                    parts: 1,
                    bytes: &chunk,
                },
            });
            is_stopped = tokio::time::timeout(Duration::from_millis(500), calls.flush())
                .await
                .is_err();
            sent += 1;
        }
        assert!(is_stopped, "{procedure}: all 64 MiB were taken");
        // A window, what two pairs of sockets hold, and a message.
        assert!(
            (32..64).contains(&sent),
            "{procedure}: stopped after {sent} chunks of 64 KiB"
        );
        within(one.anybody().await.call_once("com.quick", vec![], None))
            .await
            .unwrap();
        // It reads again: the caller goes on.
        let reading = async {
            for _ in 0..sent {
                assert!(matches!(
                    from_router.next().await.unwrap(),
                    Some(Message::Invocation { .. })
                ));
            }
        };
        within(async { tokio::join!(reading, async { calls.flush().await.unwrap() }) }).await;
    }
}

#[tokio::test]
async fn calls_of_one_caller_reach_the_callee_in_order() {
    let (one, two) = RouterNode::pair().await;
    let (callee, caller) = (two.anybody().await, one.anybody().await);
    let mut registration = within(callee.register("com.order")).await.unwrap();
    let mut calls = Vec::new();
    for n in 0..200_u64 {
        // Large ones between small ones.
        let bytes = vec![1; if n % 7 == 0 { 300_000 } else { 10 }];
        let payload = PayloadBuf::of_values(vec![n.into(), Value::Binary(bytes)], None);
        calls.push(
            within(caller.call("com.order", payload, CallOptions::default()))
                .await
                .unwrap(),
        );
    }
    for n in 0..200_u64 {
        let invocation = within(registration.next()).await.unwrap();
        assert_eq!(invocation.payload.as_payload().args().unwrap()[0], Value::from(n));
        invocation.answer(PayloadBuf::default()).await.unwrap();
    }
}
