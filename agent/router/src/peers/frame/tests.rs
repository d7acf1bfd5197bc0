//! Frames there and back.

use super::*;

fn frames(bytes: &[u8]) -> Vec<Frame<'_>> {
    let mut rest = bytes;
    let mut frames = Vec::new();
    while let Some(length) = length(rest).unwrap() {
        frames.push(Frame::read(&rest[LENGTH..length]).unwrap());
        rest = &rest[length..];
    }
    assert!(rest.is_empty());
    frames
}

#[test]
fn messages_come_out_as_they_went_in() {
    let payload = Payload {
        parts: 2,
        bytes: &[0x91, 1, 0x80],
    };
    let call = PeerMessage::Call {
        number: 7,
        realm: "pipes.stages",
        procedure: "pipes.node.2.replica.r.stage",
        progress: true,
        receive_progress: true,
        caller: Some(9),
        grant: Some("pipes.node.3.replica.s.pipe"),
        payload,
    };
    for message in [
        call,
        PeerMessage::Chunk {
            number: 7,
            progress: false,
            payload,
        },
        PeerMessage::Result {
            number: u64::MAX,
            progress: true,
            payload: Payload::EMPTY,
        },
        PeerMessage::Error {
            number: 1,
            details: EMPTY_MAP,
            error: "wamp.error.canceled",
            payload,
        },
        PeerMessage::Cancel {
            number: 1,
            mode: CancelMode::Kill,
        },
    ] {
        let mut out = Vec::new();
        write_message(&message, &mut out);
        assert_eq!(frames(&out), [Frame::Message { message, more: false }]);
    }
    for frame in [
        Frame::Refuse {
            realm: "default",
            procedure: "com.sum",
        },
        Frame::Confirm { change: 2 },
        Frame::Window {
            number: 3,
            way: Way::Down,
            bytes: 65_536,
        },
        Frame::Ping(4),
        Frame::Pong(4),
        Frame::Goodbye,
    ] {
        let mut out = Vec::new();
        write(&frame, &mut out);
        assert_eq!(frames(&out), [frame]);
    }
}

#[test]
fn a_batch_of_changes_is_one_frame() {
    let change = |is_withdrawn| Change {
        realm: "default",
        procedure: "com.sum",
        is_withdrawn,
    };
    let mut out = Vec::new();
    write_changes(&mut out, |out| {
        write_change(&change(false), out);
        write_change(&change(true), out);
        7
    });
    let [
        Frame::Changes {
            number: 7,
            mut changes,
        },
    ] = frames(&out)[..]
    else {
        panic!("{:?}", frames(&out));
    };
    assert_eq!(changes.next(), Ok(Some(change(false))));
    assert_eq!(changes.next(), Ok(Some(change(true))));
    assert_eq!(changes.next(), Ok(None));
    let mut cut = Changes(&out[LENGTH + 9..out.len() - 1]);
    assert_eq!(cut.next(), Ok(Some(change(false))));
    assert_eq!(cut.next(), Err(Malformed));
}

#[test]
fn what_a_later_version_lets_be_skipped_is_skipped() {
    for (kind, read) in [
        (SKIPPABLE | 1, Ok(Frame::Later)),
        (u8::MAX, Ok(Frame::Later)),
        (0, Err(Malformed)),
        (SKIPPABLE - 1, Err(Malformed)),
    ] {
        assert_eq!(Frame::read(&[kind, 1, 2, 3]), read, "{kind}");
    }
}

#[test]
fn a_large_message_goes_in_pieces_that_cost_what_it_costs() {
    let bytes = vec![5; 2 * PIECE + 10];
    let message = PeerMessage::Chunk {
        number: 3,
        progress: true,
        payload: Payload {
            parts: 1,
            bytes: &bytes,
        },
    };
    let mut out = Vec::new();
    write_message(&message, &mut out);
    let frames = frames(&out);
    assert_eq!(frames.len(), 3);
    assert_eq!(frames.iter().map(Frame::cost).sum::<usize>(), cost(&message));
    assert!(matches!(
        frames[1],
        Frame::Piece {
            number: 3,
            way: Way::Up,
            more: true,
            ..
        }
    ));
    assert!(matches!(frames[2], Frame::Piece { more: false, bytes, .. } if bytes.len() == 10));
}

#[test]
fn whatever_octets_come_none_is_taken_for_more_than_it_is() {
    assert_eq!(length(&(FRAME_MAX as u32 + 1).to_le_bytes()), Err(Malformed));
    assert_eq!(length(&[0; 4]), Err(Malformed));
    let mut out = Vec::new();
    write_message(
        &PeerMessage::Error {
            number: 1,
            details: EMPTY_MAP,
            error: "a.b",
            payload: Payload::EMPTY,
        },
        &mut out,
    );
    for end in LENGTH..out.len() - 1 {
        assert_eq!(Frame::read(&out[LENGTH..end]), Err(Malformed), "cut at {end}");
    }
}
