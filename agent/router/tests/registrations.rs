//! Many registrations at once: known everywhere, gone everywhere, and in nobody's way.

use pipes_router::{Counts, Refused};
use pipes_wamp::client::{CallOptions, Session};
use pipes_wamp::error::uri;
use pipes_wamp::message::{Message, RegisterOptions};
use pipes_wamp::payload::PayloadBuf;

use super::links::answers_bytes;
use super::nodes::{RouterNode, link, within};
use super::one_node::{failed, failure};
use super::storm::until;

/// As many as one session may have.
const EACH: usize = 1_000;

/// A session that says nothing more, with so many procedures; how many of them it was refused.
async fn register(node: &RouterNode, name: &str, count: usize) -> (impl Sized + use<>, usize) {
    let (mut from_router, mut to_router) = node.raw("default").split();
    for number in 0..count {
        to_router.queue(&Message::Register {
            request: number as u64 + 1,
            options: RegisterOptions::default(),
            procedure: &format!("com.{name}.{number}"),
        });
    }
    within(to_router.flush()).await.unwrap();
    let mut refused = 0;
    for _ in 0..count {
        match within(from_router.next()).await.unwrap() {
            Some(Message::Registered { .. }) => {}
            Some(Message::Error { error: uri::BUSY, .. }) => refused += 1,
            other => panic!("{other:?}"),
        }
    }
    ((from_router, to_router), refused)
}

/// Waits until a call of a silent procedure finds a callee, or none.
async fn until_found(caller: &Session, procedure: &str, is_there: bool) {
    let found = async {
        loop {
            let options = CallOptions {
                timeout_ms: 5,
                ..CallOptions::default()
            };
            let mut call = caller
                .call(procedure, PayloadBuf::default(), options)
                .await
                .unwrap();
            if (failed(call.result().await) == uri::TIMEOUT) == is_there {
                return;
            }
        }
    };
    within(found).await;
}

#[tokio::test]
async fn a_new_link_learns_of_thousands_and_they_go_with_their_sessions() {
    let (one, two) = (RouterNode::start(1), RouterNode::start(2));
    let mut silent = Vec::new();
    for name in ["a", "b", "c"] {
        let (connection, refused) = register(&two, name, EACH).await;
        assert_eq!(refused, 0);
        silent.push(connection);
    }
    let caller = one.anybody().await;
    link(&one, 1, &two, 2);
    until_found(&caller, "com.c.999", true).await;
    let (late, _) = register(&two, "late", EACH).await;
    until_found(&caller, "com.late.999", true).await;
    // Others are served while all of them leave.
    let callee = two.anybody().await;
    answers_bytes(&callee, "com.stays", 1).await;
    drop((silent, late));
    assert_eq!(failure(&caller, "com.stays").await, "answered");
    until(&two, |counts| counts.registrations == 1).await;
    until_found(&caller, "com.late.999", false).await;
}

#[tokio::test]
async fn one_registration_too_many_is_refused_and_counted() {
    let node = RouterNode::start(1);
    let (_connection, refused) = register(&node, "many", EACH + 7).await;
    assert_eq!(refused, 7);
    let (of_session, of_realm) = (7, 0);
    until(&node, |counts: Counts| {
        counts.refused == Refused { of_session, of_realm } && counts.registrations == EACH
    })
    .await;
}

/// Both at once: each node asks before it has heard of the other's.
#[tokio::test]
async fn of_two_registrations_at_once_at_two_nodes_one_is_confirmed() {
    let (one, two) = RouterNode::pair().await;
    let (at_one, at_two) = (one.anybody().await, two.anybody().await);
    let mut won = [0, 0];
    for number in 0..200 {
        let uri = format!("com.both.{number}");
        let (first, second) =
            within(async { tokio::join!(at_one.register(&uri), at_two.register(&uri)) }).await;
        let refused = match (first, second) {
            (Ok(_kept), Err(refused)) => {
                won[0] += 1;
                refused
            }
            (Err(refused), Ok(_kept)) => {
                won[1] += 1;
                refused
            }
            (Ok(_), Ok(_)) => panic!("{uri} is registered twice"),
            (Err(_), Err(_)) => panic!("{uri} is registered by nobody"),
        };
        assert_eq!(failed::<()>(Err(refused)), uri::PROCEDURE_ALREADY_EXISTS);
    }
    println!("won: {won:?}");
}
