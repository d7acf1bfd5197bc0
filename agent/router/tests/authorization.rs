//! Who is let in, and what each may do.

use std::collections::HashMap;
use std::sync::Arc;

use pipes_router::{Credentials, Rights, Token};
use pipes_wamp::client::{Auth, CallOptions, Endpoint, Session, connect};
use pipes_wamp::payload::PayloadBuf;
use ring::signature::{Ed25519KeyPair, KeyPair};
use sha2::{Digest, Sha256};

use super::nodes::{RouterNode, within};
use super::one_node::{failed, failure};

#[tokio::test]
async fn operators_come_in_by_key_token_or_user_and_nobody_else() {
    let node = RouterNode::start(1);
    let key = |seed| Arc::new(Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap());
    let public = |key: &Ed25519KeyPair| <[u8; 32]>::try_from(key.public_key().as_ref()).unwrap();
    let operators = [(public(&key(1)), "ada".to_owned())].into();
    let tokens = [(Sha256::digest(b"secret").into(), token("ci", Rights::Operator))].into();
    node.router.set_credentials(Credentials { operators, tokens });
    let tcp = Endpoint::Tcp(node.tcp);
    let sign = |seed| Auth::Cryptosign {
        authid: "ada".into(),
        key: key(seed),
        channel: None,
    };
    let ticket = |ticket: &str| Auth::Ticket {
        authid: "ci".into(),
        ticket: ticket.into(),
    };
    let own = Endpoint::Unix(node.operators.clone());
    for (endpoint, realm, auth, is_let_in) in [
        (&own, "pipes", sign(1), true),
        (&own, "pipes", sign(2), false),
        (&own, "pipes", ticket("secret"), true),
        (&own, "pipes", ticket("wrong"), false),
        // Whoever answers at an address may be anybody: nothing is proved there.
        (&tcp, "pipes", sign(1), false),
        (&tcp, "pipes", ticket("secret"), false),
        (&tcp, "pipes", Auth::Anonymous, false),
        (&tcp, "pipes.stages", Auth::Anonymous, false),
        (&tcp, "pipes.stages", ticket("secret"), false),
        (&tcp, "elsewhere", Auth::Anonymous, false),
        (
            &Endpoint::Unix(node.operators.clone()),
            "pipes",
            Auth::Anonymous,
            true,
        ),
        (
            &Endpoint::Unix(node.stages.clone()),
            "pipes",
            Auth::Anonymous,
            false,
        ),
        (
            &Endpoint::Unix(node.stages.clone()),
            "pipes.stages",
            Auth::Anonymous,
            false,
        ),
    ] {
        let joined = within(connect(endpoint, realm, &auth)).await;
        assert_eq!(
            joined.is_ok(),
            is_let_in,
            "{endpoint:?} {realm} {auth:?}: {:?}",
            joined.err()
        );
    }
}

fn token(name: &str, rights: Rights) -> Token {
    Token {
        name: name.to_owned(),
        rights,
        is_narrow: name == "narrow",
    }
}

#[tokio::test]
async fn a_session_ends_with_the_key_or_token_that_let_it_in() {
    let node = RouterNode::start(1);
    let key = Arc::new(Ed25519KeyPair::from_seed_unchecked(&[1; 32]).unwrap());
    let public = <[u8; 32]>::try_from(key.public_key().as_ref()).unwrap();
    let all = Credentials {
        operators: [(public, "ada".to_owned())].into(),
        tokens: [
            (Sha256::digest(b"one").into(), token("one", Rights::Operator)),
            (Sha256::digest(b"other").into(), token("other", Rights::Reader)),
        ]
        .into(),
    };
    node.router.set_credentials(all.clone());
    let join = async |auth: Auth| {
        let connection = within(connect(&Endpoint::Unix(node.operators.clone()), "pipes", &auth)).await;
        Session::start(connection.unwrap())
    };
    let ticket = |secret: &str| Auth::Ticket {
        authid: "x".into(),
        ticket: secret.into(),
    };
    let by_key = join(Auth::Cryptosign {
        authid: "ada".into(),
        key,
        channel: None,
    })
    .await;
    let (one, other) = (join(ticket("one")).await, join(ticket("other")).await);
    node.router.set_credentials(Credentials {
        tokens: HashMap::from([(Sha256::digest(b"other").into(), token("other", Rights::Reader))]),
        ..all
    });
    within(one.closed()).await;
    let answered = "wamp.error.no_such_procedure";
    assert_eq!(failure(&by_key, "pipes.run.list").await, answered);
    assert_eq!(failure(&other, "pipes.run.list").await, answered);
    node.router.set_credentials(Credentials::default());
    within(by_key.closed()).await;
    within(other.closed()).await;
}

#[tokio::test]
async fn a_token_may_what_its_role_may() {
    let node = RouterNode::start(1);
    let tokens = [
        ("operator", Rights::Operator),
        ("runner", Rights::Runner),
        ("reader", Rights::Reader),
        ("narrow", Rights::Runner),
    ];
    let known = tokens.map(|(name, rights)| {
        let sha256 = <[u8; 32]>::from(Sha256::digest(name));
        (sha256, token(name, rights))
    });
    node.router.set_credentials(Credentials {
        tokens: known.into(),
        ..Credentials::default()
    });
    for (name, rights) in tokens {
        let auth = Auth::Ticket {
            authid: "x".into(),
            ticket: name.into(),
        };
        let joined = within(connect(&Endpoint::Unix(node.operators.clone()), "pipes", &auth)).await;
        let session = Session::start(joined.unwrap());
        let (is_operator, is_reader) = (rights == Rights::Operator, rights == Rights::Reader);
        for (uri, may) in [
            ("pipes.run.start", !is_reader && name != "narrow"),
            ("pipes.job.submit", !is_reader),
            ("pipes.run.list", rights != Rights::Runner),
            ("pipes.job.list", rights != Rights::Runner),
            ("pipes.run.get", true),
            ("pipes.job.result", true),
            ("pipes.workflow.start", is_operator),
            ("pipes.service.put", is_operator),
            ("pipes.token.create", is_operator),
            ("pipes.token.list", is_operator),
            ("pipes.node.reset", is_operator),
            ("pipes.store.txn", is_operator),
            ("pipes.what.comes.later", is_operator),
            ("pipes.node.1.executor.prepare", false),
        ] {
            let expected = match may {
                true => "wamp.error.no_such_procedure",
                false => "wamp.error.not_authorized",
            };
            assert_eq!(failure(&session, uri).await, expected, "{name} {uri}");
        }
        let refused = failed(within(session.register("com.sum")).await);
        assert_eq!(refused, "wamp.error.not_authorized", "{name}");
    }
}

#[tokio::test]
async fn a_replica_does_its_own_and_what_it_was_granted() {
    let node = RouterNode::start(7);
    let stages = Endpoint::Unix(node.stages.clone());
    let auth = Auth::Ticket {
        authid: "r1".into(),
        ticket: "t".into(),
    };
    assert!(
        within(connect(&stages, "pipes.stages", &auth)).await.is_err(),
        "not admitted yet"
    );
    node.router.admit_replica("r1", Sha256::digest(b"t").into());
    let ready = node.router.replica_ready("r1");
    let replica = Session::start(within(connect(&stages, "pipes.stages", &auth)).await.unwrap());
    let mut stage = within(replica.register("pipes.node.7.replica.r1.stage"))
        .await
        .unwrap();
    let _pipe = within(replica.register("pipes.node.7.replica.r1.pipe"))
        .await
        .unwrap();
    within(ready).await.unwrap();
    within(node.router.replica_ready("r1")).await.unwrap();
    assert_eq!(
        failed(within(replica.register("pipes.node.7.replica.r2.stage")).await),
        "wamp.error.not_authorized"
    );
    assert_eq!(
        failed(within(replica.register("com.sum")).await),
        "wamp.error.not_authorized"
    );

    let agent = node.agent("pipes.stages");
    let mut out = within(agent.register("pipes.node.7.run.1.out")).await.unwrap();
    tokio::spawn(async move {
        while let Some(call) = out.next().await {
            call.answer(PayloadBuf::default()).await.unwrap();
        }
    });
    assert_eq!(
        failure(&replica, "pipes.node.7.run.1.out").await,
        "wamp.error.not_authorized"
    );
    let options = CallOptions {
        grant: Some("pipes.node.7.run.1.out".into()),
        ..CallOptions::default()
    };
    let mut call = within(agent.call("pipes.node.7.replica.r1.stage", PayloadBuf::default(), options))
        .await
        .unwrap();
    let invocation = within(stage.next()).await.unwrap();
    assert_eq!(failure(&replica, "pipes.node.7.run.1.out").await, "answered");
    invocation.answer(PayloadBuf::default()).await.unwrap();
    within(call.result()).await.unwrap();
    assert_eq!(
        failure(&replica, "pipes.node.7.run.1.out").await,
        "wamp.error.not_authorized",
        "the grant went with the call"
    );

    node.router.expel_replica("r1");
    within(replica.closed()).await;
    assert!(within(connect(&stages, "pipes.stages", &auth)).await.is_err());
}

#[tokio::test]
async fn an_operator_calls_the_cluster_and_not_its_insides() {
    let node = RouterNode::start(1);
    let joined = connect(&Endpoint::Unix(node.operators.clone()), "pipes", &Auth::Anonymous)
        .await
        .unwrap();
    let operator = Session::start(joined);
    assert_eq!(
        failure(&operator, "pipes.run.list").await,
        "wamp.error.no_such_procedure"
    );
    assert_eq!(
        failure(&operator, "pipes.node.1.executor.prepare").await,
        "wamp.error.not_authorized"
    );
    assert_eq!(failure(&operator, "com.sum").await, "wamp.error.not_authorized");
    assert_eq!(
        failed(within(operator.register("pipes.run.list")).await),
        "wamp.error.not_authorized"
    );
}
