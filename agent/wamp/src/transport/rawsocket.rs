//! RawSocket: a handshake of four octets, then frames with a head of four (specification, RawSocket Transport).
//!
//! ```text
//! client  7F F2 00 00      magic, length exponent 15 (2^24), serializer 2 (MessagePack)
//! router  7F F2 00 00      its own length, the same serializer; or 7F e0 00 00 with an error e
//! frame   00 00 01 2C      type 0 (message), 300 octets follow
//! ```
//!
//! A length is checked before anything is allocated. 24 bits hold 2^24 - 1, so that is the largest message
//! ([`MESSAGE_MAX`]).

use crate::error::Error;

/// The largest message: what the 24 bits of a frame can say. A longer one is refused before anything is allocated for it.
pub const MESSAGE_MAX: usize = (1 << 24) - 1;
/// Octets of the handshake and of a frame's head.
pub const HEAD: usize = 4;
/// A PING's payload may be as long as a message; ours never is, and a longer one ends the connection.
pub const PING_MAX: usize = 4096;

const MAGIC: u8 = 0x7f;
const LENGTH_EXPONENT: u8 = 15;
const MSGPACK: u8 = 2;

/// Why a router refuses a handshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// It does not speak that serializer.
    Serializer = 1,
    /// It does not take that length.
    Length = 2,
    /// Reserved bits were used.
    Reserved = 3,
    /// It has too many connections.
    Connections = 4,
}

/// What a frame holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameKind {
    /// One WAMP message.
    Message = 0,
    /// To be answered by a PONG with the same payload.
    Ping = 1,
    /// The answer.
    Pong = 2,
}

/// What a client sends first.
pub const fn client_handshake() -> [u8; HEAD] {
    [MAGIC, LENGTH_EXPONENT << 4 | MSGPACK, 0, 0]
}

/// Reads a client's handshake: the answer to send and the largest message it takes, or the refusal to send.
pub fn accept(octets: [u8; HEAD]) -> Result<([u8; HEAD], usize), Option<[u8; HEAD]>> {
    if octets[0] != MAGIC {
        // Not RawSocket at all: no answer would be understood.
        return Err(None);
    }
    let refuse = |refusal: Refusal| Err(Some([MAGIC, (refusal as u8) << 4, 0, 0]));
    if octets[2..] != [0, 0] {
        return refuse(Refusal::Reserved);
    }
    if octets[1] & 0x0f != MSGPACK {
        return refuse(Refusal::Serializer);
    }
    Ok((client_handshake(), length(octets[1] >> 4)))
}

/// The answer to one connection too many.
pub const fn too_many_connections() -> [u8; HEAD] {
    [MAGIC, (Refusal::Connections as u8) << 4, 0, 0]
}

/// Reads the router's answer: the largest message it takes.
pub fn accepted(octets: [u8; HEAD]) -> Result<usize, Error> {
    let [magic, answer, ..] = octets;
    if magic != MAGIC {
        return Err(Error::Handshake("the other side does not speak RawSocket".into()));
    }
    if answer & 0x0f == 0 {
        let reason = match answer >> 4 {
            1 => "serializer unsupported".into(),
            2 => "message length unacceptable".into(),
            3 => "reserved bits used".into(),
            4 => "too many connections".into(),
            other => format!("error {other}"),
        };
        return Err(Error::Handshake(reason));
    }
    if answer & 0x0f != MSGPACK {
        return Err(Error::Handshake("another serializer than asked for".into()));
    }
    Ok(length(answer >> 4))
}

fn length(exponent: u8) -> usize {
    (1_usize << (9 + usize::from(exponent))).min(MESSAGE_MAX)
}

/// A frame's head.
pub fn frame_head(kind: FrameKind, length: usize) -> [u8; HEAD] {
    debug_assert!(length <= MESSAGE_MAX);
    let [_, a, b, c] = (length as u32).to_be_bytes();
    [kind as u8, a, b, c]
}

/// Reads a frame's head; `limit` is the longest message taken.
pub fn read_frame_head(octets: [u8; HEAD], limit: usize) -> Result<(FrameKind, usize), Error> {
    let kind = match octets[0] {
        0 => FrameKind::Message,
        1 => FrameKind::Ping,
        2 => FrameKind::Pong,
        _ => return Err(Error::Malformed("an unknown type of frame")),
    };
    let length = u32::from_be_bytes([0, octets[1], octets[2], octets[3]]) as usize;
    let limit = if kind == FrameKind::Message {
        limit
    } else {
        PING_MAX
    };
    if length > limit {
        Err(Error::TooLarge { length, limit })
    } else {
        Ok((kind, length))
    }
}

/// Appends a whole frame that `write` fills.
pub fn frame(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let begin = out.len();
    out.extend_from_slice(&[0; HEAD]);
    write(out);
    let length = out.len() - begin - HEAD;
    out[begin..begin + HEAD].copy_from_slice(&frame_head(FrameKind::Message, length));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handshake_is_answered_in_kind() {
        let (answer, limit) = accept(client_handshake()).unwrap();
        assert_eq!((answer, limit), ([0x7f, 0xf2, 0, 0], MESSAGE_MAX));
        assert_eq!(accepted(answer).unwrap(), MESSAGE_MAX);
        assert_eq!(accept([0x7f, 0x02, 0, 0]).unwrap().1, 512);
    }

    #[test]
    fn what_is_not_spoken_is_refused_with_its_number() {
        assert_eq!(accept([0x7f, 0xf1, 0, 0]), Err(Some([0x7f, 0x10, 0, 0])));
        assert_eq!(accept([0x7f, 0xf2, 0, 1]), Err(Some([0x7f, 0x30, 0, 0])));
        assert_eq!(accept(*b"GET "), Err(None));
        assert!(
            accepted([0x7f, 0x40, 0, 0])
                .unwrap_err()
                .to_string()
                .contains("too many connections")
        );
    }

    #[test]
    fn a_length_is_checked_before_it_is_believed() {
        assert!(read_frame_head([0, 0xff, 0xff, 0xff], 1024).is_err());
        assert!(read_frame_head([3, 0, 0, 1], 1024).is_err());
        assert!(read_frame_head([1, 0, 0x10, 1], MESSAGE_MAX).is_err());
        assert_eq!(
            read_frame_head(frame_head(FrameKind::Message, 300), 300).unwrap(),
            (FrameKind::Message, 300)
        );
    }
}
