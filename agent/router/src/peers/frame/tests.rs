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
    let call = Crossing::Call {
        flow: 7,
        realm: "pipes.stages",
        procedure: "pipes.node.2.replica.r.stage",
        progress: true,
        receive_progress: true,
        caller: Some(9),
        grant: Some("pipes.node.3.replica.s.pipe"),
        payload,
    };
    for crossing in [
        call,
        Crossing::Chunk {
            flow: 7,
            progress: false,
            payload,
        },
        Crossing::Result {
            flow: u64::MAX,
            progress: true,
            payload: Payload::EMPTY,
        },
        Crossing::Error {
            flow: 1,
            details: EMPTY_MAP,
            error: "wamp.error.canceled",
            payload,
        },
        Crossing::Cancel {
            flow: 1,
            mode: CancelMode::Kill,
        },
    ] {
        let mut out = Vec::new();
        write_crossing(&crossing, &mut out);
        assert_eq!(
            frames(&out),
            [Frame::Crossing {
                crossing,
                more: false
            }]
        );
    }
    for frame in [
        Frame::Add {
            number: 1,
            realm: "default",
            procedure: "com.sum",
        },
        Frame::Remove {
            number: 2,
            realm: "default",
            procedure: "com.sum",
        },
        Frame::Confirm { number: 2 },
        Frame::Window {
            flow: 3,
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
fn a_large_message_goes_in_pieces_that_cost_what_it_costs() {
    let bytes = vec![5; 2 * PIECE + 10];
    let crossing = Crossing::Chunk {
        flow: 3,
        progress: true,
        payload: Payload {
            parts: 1,
            bytes: &bytes,
        },
    };
    let mut out = Vec::new();
    write_crossing(&crossing, &mut out);
    let frames = frames(&out);
    assert_eq!(frames.len(), 3);
    assert_eq!(frames.iter().map(Frame::cost).sum::<usize>(), cost(&crossing));
    assert!(matches!(
        frames[1],
        Frame::Piece {
            flow: 3,
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
    write_crossing(
        &Crossing::Error {
            flow: 1,
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
