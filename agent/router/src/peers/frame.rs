//! Frames of a link between two nodes.
//!
//! ```text
//! length u32 | kind u8 | number u64 | flags u8 | parts u8 | texts | payload        a message about a call
//! length u32 | kind u8 | number u64 | flags u8 | bytes                             a further piece of it
//! length u32 | kind u8 | number u64 | (is withdrawn u8 | realm | procedure) ...     a batch of changes of registrations
//! ```
//!
//! Integers are little-endian, `length` counts what follows it, texts are a u16 and their UTF-8. A message whose payload is
//! over [`PIECE`] goes in pieces, so that frames of other calls go between them; the first frame and all pieces but the
//! last say that more follow. The far side puts the payload's bytes behind the first frame and reads it as one.
//!
//! A frame whose kind is not known and is [`SKIPPABLE`] is skipped: it is of a later version, and may be left undone. Any
//! other ends the link.
//!
//! What a message costs of its window is its payload and [`MESSAGE_COST`]; a piece costs its bytes. Both sides count so.

use pipes_wamp::message::{CancelMode, EMPTY_MAP, Payload};
use pipes_wamp::router::{PeerMessage, Way};

use crate::flow_control::window::MESSAGE_COST;

/// Payload bytes in one frame: the usual chunk of 64 KiB with the head of its argument.
pub(crate) const PIECE: usize = (64 << 10) + 64;

/// Details of an ERROR that are passed on; longer ones are left out (they are for people to read).
const DETAILS_MAX: usize = 4096;

/// The longest frame: a piece, and a head with three URIs of 1,024 octets and details. A longer one ends the link.
pub(crate) const FRAME_MAX: usize = PIECE + 8192;

/// Octets of a frame's length.
pub(crate) const LENGTH: usize = 4;

const CALL: u8 = 1;
const CHUNK: u8 = 2;
const RESULT: u8 = 3;
const ERROR: u8 = 4;
const CANCEL: u8 = 5;
const PIECE_UP: u8 = 6;
const PIECE_DOWN: u8 = 7;
const CHANGES: u8 = 10;
const REFUSE: u8 = 11;
const CONFIRM: u8 = 12;
const WINDOW_UP: u8 = 20;
const WINDOW_DOWN: u8 = 21;
const PING: u8 = 30;
const PONG: u8 = 31;
const GOODBYE: u8 = 32;

/// Kinds with this bit are skipped where they are not known. No kind of this version has it.
const SKIPPABLE: u8 = 0x80;

const PROGRESS: u8 = 1;
const RECEIVE_PROGRESS: u8 = 2;
const MORE: u8 = 4;
const DISCLOSED: u8 = 8;
const GRANT: u8 = 16;

/// One frame.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Frame<'a> {
    /// A message about a call, or the beginning of one.
    Message { message: PeerMessage<'a>, more: bool },
    /// A further piece of a message.
    Piece {
        number: u64,
        way: Way,
        more: bool,
        bytes: &'a [u8],
    },
    /// What has become of the sender's registrations; `number` is the last change's.
    Changes { number: u64, changes: Changes<'a> },
    /// The sender has what the other is about to register. Goes before the confirmation.
    Refuse { realm: &'a str, procedure: &'a str },
    /// The changes up to this one are known.
    Confirm { change: u64 },
    /// So much of a flow's window is free again.
    Window { number: u64, way: Way, bytes: u64 },
    /// Are you there?
    Ping(u64),
    /// Yes.
    Pong(u64),
    /// The sender stops.
    Goodbye,
    /// Of a later version, and to be skipped.
    Later,
}

/// A change of a registration.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Change<'a> {
    pub realm: &'a str,
    pub procedure: &'a str,
    /// It is registered no more.
    pub is_withdrawn: bool,
}

/// Changes in their order.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Changes<'a>(&'a [u8]);

impl<'a> Changes<'a> {
    /// The next of them.
    pub fn next(&mut self) -> Result<Option<Change<'a>>, Malformed> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let mut rest = Rest(self.0);
        let is_withdrawn = rest.octet()? != 0;
        let (realm, procedure) = (rest.text()?, rest.text()?);
        self.0 = rest.0;
        Ok(Some(Change {
            realm,
            procedure,
            is_withdrawn,
        }))
    }
}

/// Which way a message about a call goes.
pub(crate) fn way(message: &PeerMessage<'_>) -> Way {
    match message {
        PeerMessage::Result { .. } | PeerMessage::Error { .. } => Way::Down,
        _ => Way::Up,
    }
}

/// What a whole message costs of its flow's window.
pub(crate) fn cost(message: &PeerMessage<'_>) -> usize {
    match message {
        PeerMessage::Cancel { .. } => 0,
        other => other.payload().bytes.len() + MESSAGE_COST,
    }
}

/// Appends a message about a call, in as many frames as it needs.
pub(crate) fn write_message(message: &PeerMessage<'_>, out: &mut Vec<u8>) {
    let payload = message.payload();
    let (first, mut rest) = payload.bytes.split_at(payload.bytes.len().min(PIECE));
    let more = if rest.is_empty() { 0 } else { MORE };
    framed(out, |out| {
        write_head(message, more, out);
        out.extend_from_slice(first);
    });
    while !rest.is_empty() {
        let (piece, after) = rest.split_at(rest.len().min(PIECE));
        rest = after;
        framed(out, |out| {
            out.push(if way(message) == Way::Up {
                PIECE_UP
            } else {
                PIECE_DOWN
            });
            out.extend_from_slice(&message.number().to_le_bytes());
            out.push(if rest.is_empty() { 0 } else { MORE });
            out.extend_from_slice(piece);
        });
    }
}

fn write_head(message: &PeerMessage<'_>, more: u8, out: &mut Vec<u8>) {
    let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
    let mut head = |kind: u8, flags: u8, parts: u8| {
        out.push(kind);
        out.extend_from_slice(&message.number().to_le_bytes());
        out.push(flags | more);
        out.push(parts);
    };
    match *message {
        PeerMessage::Call {
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
        PeerMessage::Chunk {
            progress, payload, ..
        } => head(CHUNK, flag(progress, PROGRESS), payload.parts),
        PeerMessage::Result {
            progress, payload, ..
        } => head(RESULT, flag(progress, PROGRESS), payload.parts),
        PeerMessage::Error {
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
        PeerMessage::Cancel { mode, .. } => head(CANCEL, 0, mode as u8),
    }
}

/// Appends any other frame.
pub(crate) fn write(frame: &Frame<'_>, out: &mut Vec<u8>) {
    framed(out, |out| match *frame {
        Frame::Refuse { realm, procedure } => {
            out.push(REFUSE);
            text(out, realm);
            text(out, procedure);
        }
        Frame::Confirm { change } => numbers(out, CONFIRM, &[change]),
        Frame::Window {
            number,
            way: Way::Up,
            bytes,
        } => numbers(out, WINDOW_UP, &[number, bytes]),
        Frame::Window {
            number,
            way: Way::Down,
            bytes,
        } => numbers(out, WINDOW_DOWN, &[number, bytes]),
        Frame::Ping(number) => numbers(out, PING, &[number]),
        Frame::Pong(number) => numbers(out, PONG, &[number]),
        Frame::Goodbye => out.push(GOODBYE),
        // Written by `write_message` and `write_changes`, or not at all.
        Frame::Message { .. } | Frame::Piece { .. } | Frame::Changes { .. } | Frame::Later => {
            debug_assert!(false, "not written here");
        }
    });
}

/// Appends a batch of changes, which `write` writes one by one and gives the last one's number of. It has to stop at
/// [`PIECE`] octets.
pub(crate) fn write_changes(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>) -> u64) {
    framed(out, |out| {
        numbers(out, CHANGES, &[0]);
        let end = out.len();
        let number = write(out);
        out[end - size_of::<u64>()..end].copy_from_slice(&number.to_le_bytes());
    });
}

/// Appends one change of a batch.
pub(crate) fn write_change(change: &Change<'_>, out: &mut Vec<u8>) {
    out.push(u8::from(change.is_withdrawn));
    text(out, change.realm);
    text(out, change.procedure);
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
pub(crate) fn length(bytes: &[u8]) -> Result<Option<usize>, Malformed> {
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

/// A frame that no node of ours sends; the link is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a malformed frame")]
pub(crate) struct Malformed;

impl<'a> Frame<'a> {
    /// Reads a frame without its length. One that was put together from pieces may be as long as a message.
    pub fn read(bytes: &'a [u8]) -> Result<Frame<'a>, Malformed> {
        let mut rest = Rest(bytes);
        let frame = match rest.octet()? {
            kind @ CALL..=CANCEL => return rest.message(kind),
            kind @ (PIECE_UP | PIECE_DOWN) => {
                let way = if kind == PIECE_UP { Way::Up } else { Way::Down };
                let (number, more) = (rest.number()?, rest.octet()? & MORE != 0);
                return Ok(Frame::Piece {
                    number,
                    way,
                    more,
                    bytes: rest.0,
                });
            }
            CHANGES => {
                return Ok(Frame::Changes {
                    number: rest.number()?,
                    changes: Changes(rest.0),
                });
            }
            REFUSE => Frame::Refuse {
                realm: rest.text()?,
                procedure: rest.text()?,
            },
            CONFIRM => Frame::Confirm {
                change: rest.number()?,
            },
            WINDOW_UP => Frame::Window {
                number: rest.number()?,
                way: Way::Up,
                bytes: rest.number()?,
            },
            WINDOW_DOWN => Frame::Window {
                number: rest.number()?,
                way: Way::Down,
                bytes: rest.number()?,
            },
            PING => Frame::Ping(rest.number()?),
            PONG => Frame::Pong(rest.number()?),
            GOODBYE => Frame::Goodbye,
            later if later & SKIPPABLE != 0 => return Ok(Frame::Later),
            _ => return Err(Malformed),
        };
        if rest.0.is_empty() {
            Ok(frame)
        } else {
            Err(Malformed)
        }
    }

    /// What a frame of a waiting message costs.
    pub fn cost(&self) -> usize {
        match self {
            Frame::Message { message, .. } => cost(message),
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

    fn message(mut self, kind: u8) -> Result<Frame<'a>, Malformed> {
        let (number, flags, parts) = (self.number()?, self.octet()?, self.octet()?);
        let progress = flags & PROGRESS != 0;
        if kind != CANCEL && parts > 2 {
            return Err(Malformed);
        }
        let message = match kind {
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
                PeerMessage::Call {
                    number,
                    realm,
                    procedure,
                    progress,
                    receive_progress,
                    caller,
                    grant,
                    payload,
                }
            }
            CHUNK => PeerMessage::Chunk {
                number,
                progress,
                payload: Payload { parts, bytes: self.0 },
            },
            RESULT => PeerMessage::Result {
                number,
                progress,
                payload: Payload { parts, bytes: self.0 },
            },
            ERROR => {
                let (error, details) = (self.text()?, self.bytes()?);
                PeerMessage::Error {
                    number,
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
                PeerMessage::Cancel { number, mode }
            }
            _ => return Err(Malformed),
        };
        Ok(Frame::Message {
            message,
            more: flags & MORE != 0,
        })
    }
}

#[cfg(test)]
mod tests;
