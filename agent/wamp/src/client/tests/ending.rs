//! How a session ends.

use super::session::{called, invocation, register, result, start};
use super::*;
use crate::client::{CallError, CallOptions};
use crate::error::uri;
use crate::message::EMPTY_MAP;

/// Messages that lie before the one of interest.
const WAITING: usize = 50;

#[tokio::test]
async fn stopping_says_goodbye_after_what_was_asked_for_and_ends_every_call() {
    let (session, mut peer) = start();
    let mut call = session
        .call("a.b", of_number(0), CallOptions::default())
        .await
        .unwrap();
    let stopping = async {
        session.stop().await;
        assert!(session.is_closed());
    };
    let answering = async {
        peer.expect(called).await;
        peer.expect(|message| {
            assert_eq!(
                message,
                Message::Goodbye {
                    details: EMPTY_MAP,
                    reason: uri::CLOSE_REALM
                }
            );
        })
        .await;
        peer.send(Message::Goodbye {
            details: EMPTY_MAP,
            reason: uri::GOODBYE_AND_OUT,
        })
        .await;
        assert_eq!(peer.octets().await, None);
    };
    tokio::join!(stopping, answering);
    assert_eq!(call.next().await, Err(CallError::Closed));
    assert_eq!(
        session.call_once("a.b", vec![], None).await,
        Err(CallError::Closed)
    );
}

#[tokio::test]
async fn the_last_handle_ends_the_session_and_a_registration_is_one() {
    let (session, mut peer) = start();
    let registration = register(&session, &mut peer).await;
    drop(session);
    peer.send(invocation(1, false, Payload::EMPTY)).await;
    let mut registration = registration;
    registration
        .next()
        .await
        .unwrap()
        .answer(PayloadBuf::default())
        .await
        .unwrap();
    peer.expect(|message| assert!(matches!(message, Message::Yield { .. }), "{message:?}"))
        .await;
    drop(registration);
    while let Some(octets) = peer.octets().await {
        if matches!(Message::parse(&octets).unwrap(), Message::Goodbye { .. }) {
            return;
        }
    }
    panic!("the session ended without GOODBYE");
}

#[tokio::test]
async fn a_goodbye_or_a_loss_of_the_router_ends_everything() {
    for orderly in [true, false] {
        let (session, mut peer) = start();
        let mut registration = register(&session, &mut peer).await;
        let mut call = session
            .call("a.b", of_number(0), CallOptions::default())
            .await
            .unwrap();
        peer.expect(called).await;
        if orderly {
            peer.send(Message::Goodbye {
                details: EMPTY_MAP,
                reason: uri::SYSTEM_SHUTDOWN,
            })
            .await;
            peer.expect(|message| {
                assert_eq!(
                    message,
                    Message::Goodbye {
                        details: EMPTY_MAP,
                        reason: uri::GOODBYE_AND_OUT
                    }
                );
            })
            .await;
        } else {
            drop(peer);
        }
        assert_eq!(call.next().await, Err(CallError::Closed));
        assert!(registration.next().await.is_none());
        session.closed().await;
    }
}

#[tokio::test]
async fn an_answer_sent_before_the_router_left_is_not_lost_with_what_could_not_be_written() {
    let (session, mut peer) = start();
    let mut call = session
        .call("a.b", of_number(0), CallOptions::default())
        .await
        .unwrap();
    peer.expect(called).await;
    for _ in 0..WAITING {
        // Events that nobody here knows what to do with fill the time until the write fails.
        peer.send(Message::Unregistered { request: 0 }).await;
    }
    peer.send(result(1, false, of_number(7).as_payload())).await;
    drop(peer);
    // Whether the task reads the answer first or fails to write this first is for chance to decide.
    let _second = session.call("a.b", of_number(1), CallOptions::default()).await;
    assert_eq!(number(call.result().await.unwrap().as_payload()), 7);
    session.closed().await;
}
