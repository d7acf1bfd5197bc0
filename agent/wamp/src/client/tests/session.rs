//! The comfortable session.

use super::*;
use crate::client::{CallError, CallOptions, Chunk, INVOCATIONS_MAX, Session};
use crate::error::uri;
use crate::message::{CancelMode, EMPTY_MAP, InvocationDetails, kind};

pub(super) fn start() -> (Session, Peer) {
    let (ours, theirs) = pair();
    (Session::start(Connection::welcomed(ours)), Peer::new(theirs))
}

pub(super) fn progressive() -> CallOptions {
    CallOptions {
        progress: true,
        receive_progress: true,
        ..CallOptions::default()
    }
}

pub(super) fn called(message: Message<'_>) -> (u64, bool, u64) {
    let Message::Call {
        request,
        options,
        procedure: "a.b",
        payload,
    } = message
    else {
        panic!("{message:?}")
    };
    (request, options.progress, number(payload))
}

/// Registers `a.b` under the number 5.
pub(super) async fn register(session: &Session, peer: &mut Peer) -> crate::client::Registration {
    let answering = async {
        let request = peer
            .expect(|message| match message {
                Message::Register {
                    request,
                    procedure: "a.b",
                    ..
                } => request,
                _ => panic!("{message:?}"),
            })
            .await;
        peer.send(Message::Registered {
            request,
            registration: 5,
        })
        .await;
    };
    let (registration, ()) = tokio::join!(session.register("a.b"), answering);
    registration.unwrap()
}

pub(super) fn invocation<'a>(request: u64, progress: bool, payload: Payload<'a>) -> Message<'a> {
    let details = InvocationDetails {
        progress,
        receive_progress: true,
        ..InvocationDetails::default()
    };
    Message::Invocation {
        request,
        registration: 5,
        details,
        payload,
    }
}

pub(super) fn result(request: u64, progress: bool, payload: Payload<'_>) -> Message<'_> {
    Message::Result {
        request,
        progress,
        payload,
    }
}

#[tokio::test]
async fn a_call_has_its_result_or_the_error_that_was_answered() {
    let (session, mut peer) = start();
    let calls = async {
        let good = session.call_once("a.b", vec![1.into()], None).await.unwrap();
        assert_eq!(number(good.as_payload()), 10);
        let bad = session.call_once("a.b", vec![2.into()], None).await.unwrap_err();
        assert_eq!(bad.to_string(), "x.bad: because");
    };
    let answers = async {
        assert_eq!(peer.expect(called).await, (1, false, 1));
        peer.send(result(1, false, of_number(10).as_payload())).await;
        assert_eq!(peer.expect(called).await, (2, false, 2));
        let payload = PayloadBuf::of_values(vec!["because".into()], None);
        peer.send(Message::Error {
            kind: kind::CALL,
            request: 2,
            details: EMPTY_MAP,
            error: "x.bad",
            payload: payload.as_payload(),
        })
        .await;
    };
    tokio::join!(calls, answers);
}

#[tokio::test]
async fn calls_made_at_once_are_numbered_in_the_order_they_go_out() {
    let (session, mut peer) = start();
    let calls: Vec<_> = (0..500_u64)
        .map(|number| {
            let session = session.clone();
            tokio::spawn(async move {
                let result = session.call_once("a.b", vec![number.into()], None).await.unwrap();
                assert_eq!(super::number(result.as_payload()), number);
            })
        })
        .collect();
    for expected in 1..=500 {
        let (request, _, number) = peer.expect(called).await;
        assert_eq!(request, expected);
        peer.send(result(request, false, of_number(number).as_payload()))
            .await;
    }
    for call in calls {
        call.await.unwrap();
    }
}

#[tokio::test]
async fn chunks_keep_the_number_of_their_call_and_parts_of_the_answer_their_order() {
    let (session, mut peer) = start();
    let mut call = session.call("a.b", of_number(0), progressive()).await.unwrap();
    call.send(of_number(1), true).await.unwrap();
    call.send(of_number(2), false).await.unwrap();
    for (number, progress) in [(0, true), (1, true), (2, false)] {
        assert_eq!(peer.expect(called).await, (1, progress, number));
        peer.send(result(1, progress, of_number(number).as_payload()))
            .await;
    }
    for (number, progress) in [(0, true), (1, true), (2, false)] {
        let answer = call.next().await.unwrap();
        assert_eq!(
            (super::number(answer.payload.as_payload()), answer.progress),
            (number, progress)
        );
    }
    call.send(of_number(3), false).await.unwrap();
    drop(call);
    session
        .call("a.b", of_number(9), CallOptions::default())
        .await
        .unwrap();
    assert_eq!(
        peer.expect(called).await,
        (2, false, 9),
        "neither a chunk nor CANCEL for a call that is over"
    );
}

#[tokio::test]
async fn a_call_that_is_dropped_is_cancelled_once() {
    let (session, mut peer) = start();
    let call = session.call("a.b", of_number(0), progressive()).await.unwrap();
    peer.expect(called).await;
    drop(call);
    peer.expect(|message| {
        assert_eq!(
            message,
            Message::Cancel {
                request: 1,
                mode: CancelMode::KillNoWait
            }
        )
    })
    .await;
    peer.send(result(1, true, Payload::EMPTY)).await;
    let _second = session
        .call("a.b", of_number(1), CallOptions::default())
        .await
        .unwrap();
    assert_eq!(peer.expect(called).await, (2, false, 1));
}

#[tokio::test]
async fn cancelling_says_how_and_the_answer_still_comes() {
    let (session, mut peer) = start();
    let mut call = session
        .call("a.b", of_number(0), CallOptions::default())
        .await
        .unwrap();
    peer.expect(called).await;
    call.cancel(CancelMode::Kill).await.unwrap();
    peer.expect(|message| {
        assert_eq!(
            message,
            Message::Cancel {
                request: 1,
                mode: CancelMode::Kill
            }
        )
    })
    .await;
    let (details, payload) = (EMPTY_MAP, Payload::EMPTY);
    peer.send(Message::Error {
        kind: kind::CALL,
        request: 1,
        details,
        error: uri::CANCELED,
        payload,
    })
    .await;
    assert!(matches!(call.next().await, Err(CallError::Answered { uri, .. }) if uri == uri::CANCELED));
}

#[tokio::test]
async fn an_invocation_is_answered_in_parts_and_its_chunks_come_in_order() {
    let (session, mut peer) = start();
    let mut registration = register(&session, &mut peer).await;
    for (number, progress) in [(0, true), (1, true), (2, false)] {
        peer.send(invocation(1, progress, of_number(number).as_payload()))
            .await;
    }
    let mut invocation = registration.next().await.unwrap();
    assert!(invocation.progress && number(invocation.payload.as_payload()) == 0);
    for (number, progress) in [(1, true), (2, false)] {
        let chunk = invocation.chunk().await.unwrap();
        assert_eq!(
            chunk,
            Chunk::More {
                progress,
                payload: of_number(number)
            }
        );
    }
    invocation.answer_part(of_number(7)).await.unwrap();
    invocation.answer(of_number(8)).await.unwrap();
    for (number, progress) in [(7, true), (8, false)] {
        let payload = of_number(number);
        let wanted = Message::Yield {
            request: 1,
            progress,
            payload: payload.as_payload(),
        };
        peer.expect(|message| assert_eq!(message, wanted)).await;
    }
}

#[tokio::test]
async fn a_chunk_that_crossed_with_the_answer_begins_no_new_call() {
    let (session, mut peer) = start();
    let mut registration = register(&session, &mut peer).await;
    peer.send(invocation(1, true, Payload::EMPTY)).await;
    registration
        .next()
        .await
        .unwrap()
        .answer(PayloadBuf::default())
        .await
        .unwrap();
    peer.octets().await;
    peer.send(invocation(1, false, of_number(1).as_payload())).await;
    peer.send(invocation(2, false, of_number(2).as_payload())).await;
    let second = registration.next().await.unwrap();
    assert_eq!(number(second.payload.as_payload()), 2);
}

#[tokio::test]
async fn an_interrupt_is_told_and_a_dropped_invocation_is_an_error_to_its_caller() {
    let (session, mut peer) = start();
    let mut registration = register(&session, &mut peer).await;
    peer.send(invocation(1, false, Payload::EMPTY)).await;
    let mut invocation = registration.next().await.unwrap();
    peer.send(Message::Interrupt {
        request: 1,
        mode: CancelMode::Kill,
        reason: None,
    })
    .await;
    assert_eq!(invocation.chunk().await, Some(Chunk::Interrupted));
    drop(invocation);
    let expect = |message: Message<'_>| match message {
        Message::Error {
            kind: kind::INVOCATION,
            request: 1,
            error,
            ..
        } => assert_eq!(error, uri::CANCELED),
        _ => panic!("{message:?}"),
    };
    peer.expect(expect).await;
}

#[tokio::test]
async fn parts_that_nobody_asked_for_are_not_sent() {
    let (session, mut peer) = start();
    let mut registration = register(&session, &mut peer).await;
    let details = InvocationDetails::default();
    peer.send(Message::Invocation {
        request: 1,
        registration: 5,
        details,
        payload: Payload::EMPTY,
    })
    .await;
    let mut invocation = registration.next().await.unwrap();
    invocation.answer_part(of_number(1)).await.unwrap();
    invocation.fail("x.bad", of_number(2)).await.unwrap();
    peer.expect(|message| {
        assert!(
            matches!(message, Message::Error { error: "x.bad", .. }),
            "{message:?}"
        )
    })
    .await;
}

#[tokio::test]
async fn a_registration_that_is_dropped_is_taken_back() {
    let (session, mut peer) = start();
    let registration = register(&session, &mut peer).await;
    drop(registration);
    peer.expect(|message| {
        assert_eq!(
            message,
            Message::Unregister {
                request: 2,
                registration: 5
            }
        )
    })
    .await;
    peer.send(invocation(1, false, Payload::EMPTY)).await;
    let expect = |message: Message<'_>| match message {
        Message::Error {
            request: 1, error, ..
        } => assert_eq!(error, uri::NO_AVAILABLE_CALLEE),
        _ => panic!("{message:?}"),
    };
    peer.expect(expect).await;
}

#[tokio::test]
async fn a_call_that_nobody_took_up_is_an_error_once_its_procedure_is_taken_back() {
    let (session, mut peer) = start();
    let registration = register(&session, &mut peer).await;
    let called_and_answered = async {
        assert_eq!(peer.expect(called).await, (2, false, 1));
        peer.send(invocation(1, false, Payload::EMPTY)).await;
        peer.send(result(2, false, Payload::EMPTY)).await;
    };
    // Once it has its result, the invocation before that waits to be taken up.
    let (answered, ()) = tokio::join!(
        session.call_once("a.b", vec![1.into()], None),
        called_and_answered
    );
    answered.unwrap();
    drop(registration);
    peer.expect(|message| assert!(matches!(message, Message::Unregister { .. }), "{message:?}"))
        .await;
    let expect = |message: Message<'_>| match message {
        Message::Error {
            request: 1, error, ..
        } => assert_eq!(error, uri::CANCELED),
        _ => panic!("{message:?}"),
    };
    peer.expect(expect).await;
}

#[tokio::test]
async fn calls_beyond_what_may_wait_are_refused_and_answers_still_come() {
    let (session, mut peer) = start();
    let mut registration = register(&session, &mut peer).await;
    for request in 1..=INVOCATIONS_MAX as u64 + 1 {
        peer.send(invocation(request, false, Payload::EMPTY)).await;
    }
    let expect = |message: Message<'_>| match message {
        Message::Error {
            request,
            error: uri::NO_AVAILABLE_CALLEE,
            ..
        } => request,
        _ => panic!("{message:?}"),
    };
    assert_eq!(peer.expect(expect).await, INVOCATIONS_MAX as u64 + 1);
    let _first = registration.next().await.unwrap();
    // A callee that calls over its own session is not kept from its answer by those who wait for it.
    let calling = session.call_once("a.b", vec![1.into()], None);
    let answering = async {
        let (request, ..) = peer.expect(called).await;
        peer.send(result(request, false, Payload::EMPTY)).await;
    };
    let (answer, ()) = tokio::join!(calling, answering);
    answer.unwrap();
}

#[tokio::test]
async fn a_slow_consumer_stops_the_reading_and_loses_nothing() {
    let (session, mut peer) = start();
    let mut call = session.call("a.b", of_number(0), progressive()).await.unwrap();
    peer.expect(called).await;
    let count = 2000_u64;
    let sending = tokio::spawn(async move {
        let data = [0; 4096];
        for number in 0..count {
            let mut payload = Vec::new();
            crate::payload::write_tagged_bytes(&mut payload, 3, &data);
            let payload = Payload {
                parts: 1,
                bytes: &payload,
            };
            peer.send(result(1, number + 1 < count, payload)).await;
        }
        peer
    });
    // 8 MB do not fit into what waits and the sockets: the sender stalls, by time, since it must not go on.
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!sending.is_finished());
    let _other = session
        .call("a.b", of_number(1), CallOptions::default())
        .await
        .expect("commands go on");
    for number in 0..count {
        assert_eq!(call.next().await.unwrap().progress, number + 1 < count);
    }
    sending.await.unwrap();
}

#[tokio::test]
async fn a_call_too_long_for_its_router_fails_alone() {
    let (session, mut peer) = start();
    let long = PayloadBuf::of_bytes(&vec![0; 1 << 24]);
    let is_refused = |error: CallError| matches!(error, CallError::Answered { uri, .. } if uri == uri::PAYLOAD_SIZE_EXCEEDED);
    let refused = session
        .call("a.b", long.clone(), CallOptions::default())
        .await
        .err();
    assert!(refused.is_some_and(is_refused));
    let mut call = session.call("a.b", of_number(0), progressive()).await.unwrap();
    assert_eq!(peer.expect(called).await, (1, true, 0), "no number is left out");
    call.send(long.clone(), true).await.unwrap();
    assert!(call.next().await.is_err_and(is_refused));
    peer.expect(|message| {
        assert!(
            matches!(message, Message::Cancel { request: 1, .. }),
            "{message:?}"
        )
    })
    .await;
    let mut registration = register(&session, &mut peer).await;
    peer.send(invocation(1, false, Payload::EMPTY)).await;
    registration.next().await.unwrap().answer(long).await.unwrap();
    let expect = |message: Message<'_>| match message {
        Message::Error {
            request: 1, error, ..
        } => assert_eq!(error, uri::PAYLOAD_SIZE_EXCEEDED),
        _ => panic!("{message:?}"),
    };
    peer.expect(expect).await;
}
