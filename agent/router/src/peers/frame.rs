//! Frames of a link between two shards.
//!
//! ```text
//! length u32 | kind u8 | number u64 | flags u8 | parts u8 | texts | payload        a message about a call
//! length u32 | kind u8 | number u64 | flags u8 | bytes                             a further piece of it
//! ```
//!
//! Integers are little-endian, `length` counts what follows it, texts are a u16 and their UTF-8. A message whose payload is
//! over [`PIECE`] goes in pieces, so that frames of other calls go between them; the first frame and all pieces but the
//! last say that more follow. The far side puts the payload's bytes behind the first frame and reads it as one.
//!
//! What a message costs of its window is its payload and [`MESSAGE_COST`]; a piece costs its bytes. Both sides count so.

use pipes_wamp::message::{CancelMode, EMPTY_MAP, Payload};
use pipes_wamp::router::{Crossing, Way};

use crate::flow_control::window::MESSAGE_COST;

/// Payload bytes in one frame: the usual chunk of 64 KiB with the head of its argument.
pub const PIECE: usize = (64 << 10) + 64;

/// Details of an ERROR that are passed on; longer ones are left out (they are for people to read).
const DETAILS_MAX: usize = 4096;

/// The longest frame: a piece, and a head with three URIs of 1,024 octets and details. A longer one ends the link.
pub const FRAME_MAX: usize = PIECE + 8192;

/// Octets of a frame's length.
pub const LENGTH: usize = 4;

const CALL: u8 = 1;
const CHUNK: u8 = 2;
const RESULT: u8 = 3;
const ERROR: u8 = 4;
const CANCEL: u8 = 5;
const PIECE_UP: u8 = 6;
const PIECE_DOWN: u8 = 7;
const ADD: u8 = 10;
const REMOVE: u8 = 11;
const CONFIRM: u8 = 12;
const WINDOW_UP: u8 = 20;
const WINDOW_DOWN: u8 = 21;
const PING: u8 = 30;
const PONG: u8 = 31;
const GOODBYE: u8 = 32;

const PROGRESS: u8 = 1;
const RECEIVE_PROGRESS: u8 = 2;
const MORE: u8 = 4;
const DISCLOSED: u8 = 8;
const GRANT: u8 = 16;

/// One frame.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Frame<'a> {
    /// A message about a call, or the beginning of one.
    Crossing { crossing: Crossing<'a>, more: bool },
    /// A further piece of a message.
    Piece {
        flow: u64,
        way: Way,
        more: bool,
        bytes: &'a [u8],
    },
    /// The sender has registered a procedure; `number` counts its changes.
    Add {
        number: u64,
        realm: &'a str,
        procedure: &'a str,
    },
    /// The sender has it no more.
    Remove {
        number: u64,
        realm: &'a str,
        procedure: &'a str,
    },
    /// The changes up to this one are known.
    Confirm { number: u64 },
    /// So much of a flow's window is free again.
    Window { flow: u64, way: Way, bytes: u64 },
    /// Are you there?
    Ping(u64),
    /// Yes.
    Pong(u64),
    /// The sender stops.
    Goodbye,
}

/// Which way a message about a call goes.
pub fn way(crossing: &Crossing<'_>) -> Way {
    match crossing {
        Crossing::Result { .. } | Crossing::Error { .. } => Way::Down,
        _ => Way::Up,
    }
}

/// What a whole message costs of its flow's window.
pub fn cost(crossing: &Crossing<'_>) -> usize {
    match crossing {
        Crossing::Cancel { .. } => 0,
        other => other.payload().bytes.len() + MESSAGE_COST,
    }
}

/// Appends a message about a call, in as many frames as it needs.
pub fn write_crossing(crossing: &Crossing<'_>, out: &mut Vec<u8>) {
    let payload = crossing.payload();
    let (first, mut rest) = payload.bytes.split_at(payload.bytes.len().min(PIECE));
    let more = if rest.is_empty() { 0 } else { MORE };
    framed(out, |out| {
        write_head(crossing, more, out);
        out.extend_from_slice(first);
    });
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(rest.len().min(PIECE));
        rest = after;
        framed(out, |out| {
            out.push(if way(crossing) == Way::Up {
                PIECE_UP
            } else {
                PIECE_DOWN
            });
            out.extend_from_slice(&crossing.flow().to_le_bytes());
            out.push(if rest.is_empty() { 0 } else { MORE });
            out.extend_from_slice(piece);
        });
    }
}

fn write_head(crossing: &Crossing<'_>, more: u8, out: &mut Vec<u8>) {
    let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
    let mut head = |kind: u8, flags: u8, parts: u8| {
        out.push(kind);
        out.extend_from_slice(&crossing.flow().to_le_bytes());
        out.push(flags | more);
        out.push(parts);
    };
    match *crossing {
        Crossing::Call {
            realm,
            procedure,
            progress,
            receive_progress,
            caller,
            grant,
            payload,
            ..
        } => {
            let flags = flag(progress, PROGRESS)
                | flag(receive_progress, RECEIVE_PROGRESS)
                | flag(caller.is_some(), DISCLOSED)
                | flag(grant.is_some(), GRANT);
            head(CALL, flags, payload.parts);
            text(out, realm);
            text(out, procedure);
            if let Some(caller) = caller {
                out.extend_from_slice(&caller.to_le_bytes());
            }
            if let Some(grant) = grant {
                text(out, grant);
            }
        }
        Crossing::Chunk {
            progress, payload, ..
        } => head(CHUNK, flag(progress, PROGRESS), payload.parts),
        Crossing::Result {
            progress, payload, ..
        } => head(RESULT, flag(progress, PROGRESS), payload.parts),
        Crossing::Error {
            details,
            error,
            payload,
            ..
        } => {
            head(ERROR, 0, payload.parts);
            text(out, error);
            bytes(
                out,
                if details.len() <= DETAILS_MAX {
                    details
                } else {
                    EMPTY_MAP
                },
            );
        }
        Crossing::Cancel { mode, .. } => head(CANCEL, 0, mode as u8),
    }
}

/// Appends any other frame.
pub fn write(frame: &Frame<'_>, out: &mut Vec<u8>) {
    framed(out, |out| match *frame {
        Frame::Add {
            number,
            realm,
            procedure,
        } => change(out, ADD, number, realm, procedure),
        Frame::Remove {
            number,
            realm,
            procedure,
        } => change(out, REMOVE, number, realm, procedure),
        Frame::Confirm { number } => numbers(out, CONFIRM, &[number]),
        Frame::Window {
            flow,
            way: Way::Up,
            bytes,
        } => numbers(out, WINDOW_UP, &[flow, bytes]),
        Frame::Window {
            flow,
            way: Way::Down,
            bytes,
        } => numbers(out, WINDOW_DOWN, &[flow, bytes]),
        Frame::Ping(number) => numbers(out, PING, &[number]),
        Frame::Pong(number) => numbers(out, PONG, &[number]),
        Frame::Goodbye => out.push(GOODBYE),
        // Written by `write_crossing`.
        Frame::Crossing { .. } | Frame::Piece { .. } => debug_assert!(false, "not written here"),
    });
}

fn change(out: &mut Vec<u8>, kind: u8, number: u64, realm: &str, procedure: &str) {
    numbers(out, kind, &[number]);
    text(out, realm);
    text(out, procedure);
}

fn numbers(out: &mut Vec<u8>, kind: u8, numbers: &[u64]) {
    out.push(kind);
    numbers
        .iter()
        .for_each(|number| out.extend_from_slice(&number.to_le_bytes()));
}

fn framed(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let begin = out.len();
    out.extend_from_slice(&[0; LENGTH]);
    write(out);
    // Frames are far below 4 GiB.
    let length = (out.len() - begin - LENGTH) as u32;
    out[begin..begin + LENGTH].copy_from_slice(&length.to_le_bytes());
}

fn text(out: &mut Vec<u8>, text: &str) {
    bytes(out, text.as_bytes());
}

fn bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    // URIs and details are bounded far below 64 KiB.
    out.extend_from_slice(&(bytes.len() as u16).to_le_bytes());
    out.extend_from_slice(bytes);
}

/// The length of the frame that begins here, its four octets included; `None`: not enough is there to know.
pub fn length(bytes: &[u8]) -> Result<Option<usize>, Malformed> {
    let Some(head) = bytes.first_chunk::<LENGTH>() else {
        return Ok(None);
    };
    let length = u32::from_le_bytes(*head) as usize;
    if length == 0 || length > FRAME_MAX {
        Err(Malformed)
    } else {
        Ok(Some(length + LENGTH))
    }
}

/// A frame that no shard of ours sends; the link is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a malformed frame")]
pub struct Malformed;

impl<'a> Frame<'a> {
    /// Reads a frame without its length. One that was put together from pieces may be as long as a message.
    pub fn read(bytes: &'a [u8]) -> Result<Frame<'a>, Malformed> {
        let mut rest = Rest(bytes);
        let frame = match rest.octet()? {
            kind @ CALL..=CANCEL => return rest.crossing(kind),
            kind @ (PIECE_UP | PIECE_DOWN) => {
                let way = if kind == PIECE_UP { Way::Up } else { Way::Down };
                let (flow, more) = (rest.number()?, rest.octet()? & MORE != 0);
                return Ok(Frame::Piece {
                    flow,
                    way,
                    more,
                    bytes: rest.0,
                });
            }
            ADD => Frame::Add {
                number: rest.number()?,
                realm: rest.text()?,
                procedure: rest.text()?,
            },
            REMOVE => Frame::Remove {
                number: rest.number()?,
                realm: rest.text()?,
                procedure: rest.text()?,
            },
            CONFIRM => Frame::Confirm {
                number: rest.number()?,
            },
            WINDOW_UP => Frame::Window {
                flow: rest.number()?,
                way: Way::Up,
                bytes: rest.number()?,
            },
            WINDOW_DOWN => Frame::Window {
                flow: rest.number()?,
                way: Way::Down,
                bytes: rest.number()?,
            },
            PING => Frame::Ping(rest.number()?),
            PONG => Frame::Pong(rest.number()?),
            GOODBYE => Frame::Goodbye,
            _ => return Err(Malformed),
        };
        if rest.0.is_empty() {
            Ok(frame)
        } else {
            Err(Malformed)
        }
    }

    /// What a frame of a waiting message costs, whose it is, and whether it is the message's last.
    pub fn cost(&self) -> usize {
        match self {
            Frame::Crossing { crossing, .. } => cost(crossing),
            Frame::Piece { bytes, .. } => bytes.len(),
            _ => 0,
        }
    }
}

/// What is left to read.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Malformed)?;
        self.0 = rest;
        Ok(taken)
    }

    fn octet(&mut self) -> Result<u8, Malformed> {
        Ok(self.take(1)?[0])
    }

    fn number(&mut self) -> Result<u64, Malformed> {
        let (number, rest) = self.0.split_first_chunk::<8>().ok_or(Malformed)?;
        self.0 = rest;
        Ok(u64::from_le_bytes(*number))
    }

    fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let (length, rest) = self.0.split_first_chunk::<2>().ok_or(Malformed)?;
        self.0 = rest;
        self.take(usize::from(u16::from_le_bytes(*length)))
    }

    fn text(&mut self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Malformed)
    }

    fn crossing(mut self, kind: u8) -> Result<Frame<'a>, Malformed> {
        let (flow, flags, parts) = (self.number()?, self.octet()?, self.octet()?);
        let progress = flags & PROGRESS != 0;
        if kind != CANCEL && parts > 2 {
            return Err(Malformed);
        }
        let crossing = match kind {
            CALL => {
                let (realm, procedure) = (self.text()?, self.text()?);
                let caller = if flags & DISCLOSED != 0 {
                    Some(self.number()?)
                } else {
                    None
                };
                let grant = if flags & GRANT != 0 {
                    Some(self.text()?)
                } else {
                    None
                };
                let receive_progress = flags & RECEIVE_PROGRESS != 0;
                let payload = Payload { parts, bytes: self.0 };
                Crossing::Call {
                    flow,
                    realm,
                    procedure,
                    progress,
                    receive_progress,
                    caller,
                    grant,
                    payload,
                }
            }
            CHUNK => Crossing::Chunk {
                flow,
                progress,
                payload: Payload { parts, bytes: self.0 },
            },
            RESULT => Crossing::Result {
                flow,
                progress,
                payload: Payload { parts, bytes: self.0 },
            },
            ERROR => {
                let (error, details) = (self.text()?, self.bytes()?);
                Crossing::Error {
                    flow,
                    details,
                    error,
                    payload: Payload { parts, bytes: self.0 },
                }
            }
            CANCEL => {
                let mode = match parts {
                    0 => CancelMode::Skip,
                    1 => CancelMode::Kill,
                    2 => CancelMode::KillNoWait,
                    _ => return Err(Malformed),
                };
                Crossing::Cancel { flow, mode }
            }
            _ => return Err(Malformed),
        };
        Ok(Frame::Crossing {
            crossing,
            more: flags & MORE != 0,
        })
    }
}

#[cfg(test)]
mod tests;
