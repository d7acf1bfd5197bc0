//! Messages of every shape go out as they came in; what is malformed is an error, never a panic.

use super::*;

mod noise;
mod scripts;

fn all() -> Vec<Message<'static>> {
    let payload = Payload {
        parts: 2,
        bytes: &[0x91, 0xcd, 0x00, 0x05, 0x82, 0xa1, b'a', 1, 0xa1, b'a', 2],
    };
    let on = RoleFeatures {
        present: true,
        progressive_results: true,
        canceling: true,
        ..Default::default()
    };
    let details = HelloDetails {
        has_role: true,
        caller: on,
        authid: Some("me"),
        ..Default::default()
    };
    let options = CallOptions {
        progress: true,
        timeout_ms: 300,
        grant: Some("a.b"),
        ..Default::default()
    };
    let invocation = InvocationDetails {
        receive_progress: true,
        caller: Some(9),
        ..Default::default()
    };
    vec![
        Message::Hello {
            realm: "default",
            details,
        },
        Message::Welcome {
            session: MAX_ID,
            details: EMPTY_MAP,
        },
        Message::Abort {
            details: EMPTY_MAP,
            reason: "a.b",
        },
        Message::Challenge {
            method: "ticket",
            extra: EMPTY_MAP,
        },
        Message::Authenticate {
            signature: "s",
            extra: EMPTY_MAP,
        },
        Message::Goodbye {
            details: EMPTY_MAP,
            reason: "a.b",
        },
        Message::Error {
            kind: kind::CALL,
            request: 1,
            details: EMPTY_MAP,
            error: "a.b",
            payload,
        },
        Message::Register {
            request: 1,
            options: Default::default(),
            procedure: "a.b",
        },
        Message::Registered {
            request: 1,
            registration: 70_000,
        },
        Message::Unregister {
            request: 200,
            registration: 2,
        },
        Message::Unregistered { request: 1 },
        Message::Call {
            request: 1,
            options,
            procedure: "a.b",
            payload,
        },
        Message::Cancel {
            request: 1,
            mode: CancelMode::Skip,
        },
        Message::Result {
            request: 1,
            progress: true,
            payload: Payload::EMPTY,
        },
        Message::Invocation {
            request: 1,
            registration: 2,
            details: invocation,
            payload,
        },
        Message::Interrupt {
            request: 1,
            mode: CancelMode::Kill,
            reason: Some("a.b"),
        },
        Message::Yield {
            request: 1,
            progress: false,
            payload,
        },
    ]
}

const MAX_ID: u64 = crate::id::MAX;

#[test]
fn every_message_survives_the_wire() {
    for message in all() {
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        // HELLO's method list is absent here and in what comes back.
        assert_eq!(Message::parse(&bytes).unwrap(), message);
    }
}

#[test]
fn a_cut_message_is_an_error() {
    for message in all() {
        let mut bytes = Vec::new();
        message.encode(&mut bytes);
        for length in 0..bytes.len() {
            assert!(
                Message::parse(&bytes[..length]).is_err(),
                "{message:?} cut to {length}"
            );
        }
        bytes.push(0);
        assert!(Message::parse(&bytes).is_err(), "{message:?} with a tail");
    }
}

#[test]
fn integers_of_every_width_are_ids_and_floats_are_not() {
    for id in [
        vec![5],
        vec![0xcc, 5],
        vec![0xcd, 0, 5],
        vec![0xce, 0, 0, 0, 5],
        vec![0xd3, 0, 0, 0, 0, 0, 0, 0, 5],
    ] {
        let bytes = [vec![0x93, 65, 1], id].concat();
        assert_eq!(
            Message::parse(&bytes).unwrap(),
            Message::Registered {
                request: 1,
                registration: 5
            }
        );
    }
    for id in [vec![0xca, 0x40, 0xa0, 0, 0], vec![0xd0, 0xff], vec![0]] {
        assert!(Message::parse(&[vec![0x93, 65, 1], id].concat()).is_err());
    }
}
