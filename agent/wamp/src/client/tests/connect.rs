//! From a stream to a session.

use std::sync::Arc;

use ring::signature::{Ed25519KeyPair, KeyPair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::client::{Auth, join};
use crate::error::{Error, uri};
use crate::message::EMPTY_MAP;
use crate::session::verify_cryptosign;
use crate::transport::rawsocket;

const WELCOME: Message<'static> = Message::Welcome {
    session: 9,
    details: EMPTY_MAP,
};

/// The router's side up to HELLO: checks the handshake and answers it.
async fn router(mut stream: UnixStream) -> Peer {
    let mut octets = [0; 4];
    stream.read_exact(&mut octets).await.unwrap();
    let (answer, _) = rawsocket::accept(octets).unwrap();
    stream.write_all(&answer).await.unwrap();
    Peer::new(stream)
}

#[tokio::test]
async fn an_anonymous_client_announces_all_it_can() {
    let (ours, theirs) = pair();
    let joining = tokio::spawn(async move { join(ours, "default", &Auth::Anonymous).await });
    let mut peer = router(theirs).await;
    peer.expect(|message| {
        let Message::Hello { realm, details } = message else {
            panic!("{message:?}")
        };
        assert_eq!((realm, details.authid, details.pubkey), ("default", None, None));
        assert!(details.offers("anonymous") && !details.offers("ticket"));
        for role in [details.caller, details.callee] {
            assert!(role.present && role.progressive_results && role.progressive_invocations);
            assert!(role.canceling && role.timeout);
        }
    })
    .await;
    peer.send(WELCOME).await;
    assert_eq!(joining.await.unwrap().unwrap().session(), 9);
}

#[tokio::test]
async fn a_ticket_is_sent_only_when_asked_for() {
    let (ours, theirs) = pair();
    let auth = Auth::Ticket {
        authid: "r1".into(),
        ticket: "secret".into(),
    };
    let joining = tokio::spawn(async move { join(ours, "pipes.stages", &auth).await });
    let mut peer = router(theirs).await;
    peer.expect(|message| {
        let Message::Hello { details, .. } = message else {
            panic!("{message:?}")
        };
        assert!(details.offers("ticket") && details.authid == Some("r1"));
    })
    .await;
    peer.send(Message::Challenge {
        method: "ticket",
        extra: EMPTY_MAP,
    })
    .await;
    peer.expect(|message| {
        assert_eq!(
            message,
            Message::Authenticate {
                signature: "secret",
                extra: EMPTY_MAP
            }
        );
    })
    .await;
    peer.send(WELCOME).await;
    joining.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_key_signs_the_challenge_of_its_router() {
    let (ours, theirs) = pair();
    let key = Arc::new(Ed25519KeyPair::from_seed_unchecked(&[3; 32]).unwrap());
    let public: [u8; 32] = key.public_key().as_ref().try_into().unwrap();
    let auth = Auth::Cryptosign {
        authid: "me".into(),
        key,
        channel: None,
    };
    let joining = tokio::spawn(async move { join(ours, "pipes", &auth).await });
    let mut peer = router(theirs).await;
    peer.expect(|message| {
        let Message::Hello { details, .. } = message else {
            panic!("{message:?}")
        };
        assert_eq!(details.pubkey, Some(&*hex::encode(public)));
    })
    .await;
    let mut extra = vec![0x81];
    crate::write::text(&mut extra, "challenge");
    crate::write::text(&mut extra, &hex::encode([8; 32]));
    peer.send(Message::Challenge {
        method: "cryptosign",
        extra: &extra,
    })
    .await;
    peer.expect(|message| {
        let Message::Authenticate { signature, .. } = message else {
            panic!("{message:?}")
        };
        assert_eq!(signature.len(), 192, "signature and challenge, in hex");
        assert!(verify_cryptosign(&public, &[8; 32], signature));
    })
    .await;
    peer.send(WELCOME).await;
    joining.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_refusal_says_why() {
    let (ours, theirs) = pair();
    let joining = tokio::spawn(async move { join(ours, "nowhere", &Auth::Anonymous).await.err() });
    let mut peer = router(theirs).await;
    peer.octets().await;
    let mut details = vec![0x81];
    crate::write::text(&mut details, "message");
    crate::write::text(&mut details, "there is no such realm");
    peer.send(Message::Abort {
        details: &details,
        reason: uri::NO_SUCH_REALM,
    })
    .await;
    match joining.await.unwrap() {
        Some(Error::Refused { reason, message }) => {
            assert_eq!(
                (&*reason, &*message),
                (uri::NO_SUCH_REALM, "there is no such realm")
            );
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_is_no_router_is_told_apart_from_a_refusal() {
    for (answer, wanted) in [
        (&b"HTTP"[..], "does not speak RawSocket"),
        (&[0x7f, 0x40, 0, 0], "too many connections"),
        (&[0x7f], "the connection ended"),
    ] {
        let (ours, mut theirs) = pair();
        theirs.write_all(answer).await.unwrap();
        theirs.shutdown().await.unwrap();
        let error = join(ours, "default", &Auth::Anonymous)
            .await
            .err()
            .expect("no session");
        assert!(error.to_string().contains(wanted), "{error}");
    }
}

#[tokio::test]
async fn a_client_sends_nothing_that_the_router_said_it_does_not_take() {
    let (ours, mut theirs) = pair();
    let joining = tokio::spawn(async move { join(ours, "default", &Auth::Anonymous).await });
    let mut octets = [0; 4];
    theirs.read_exact(&mut octets).await.unwrap();
    // 2^(9 + 1): messages of a KiB.
    theirs.write_all(&[0x7f, 0x12, 0, 0]).await.unwrap();
    let mut peer = Peer::new(theirs);
    peer.octets().await;
    peer.send(WELCOME).await;
    let (_reader, mut writer) = joining.await.unwrap().unwrap().split();
    writer.queue_bytes(&[0; 2000], |payload| Message::Yield {
        request: 1,
        progress: false,
        payload,
    });
    assert!(matches!(
        writer.flush().await,
        Err(Error::TooLarge { limit: 1024, .. })
    ));
}
