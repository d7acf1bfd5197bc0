//! WAMP messages in MessagePack: heads decoded, payloads passed on as bytes.
//!
//! ```text
//! [48, 7, {"progress": true}, "com.app.sum", [1, 2], {}]
//!  CALL  request 7           procedure       `Payload { parts: 2, bytes: <the last two values> }`
//! ```
//!
//! Always: (1) a payload goes out byte for byte as it came in, whatever integers, floats or duplicate keys it holds;
//! (2) unknown options are ignored, unknown message types refused; (3) parsing allocates nothing.
//! Not here: who may say what and when (`router::session`, `router::dealer`).

use crate::error::Error;
use crate::scan::Scan;

mod encode;
mod options;

pub use options::{CallOptions, CancelMode, HelloDetails, InvocationDetails, RegisterOptions, RoleFeatures};

/// The longest message while a session joins: names and a key. A longer one ends the connection.
pub const MESSAGE_MAX_JOINING: usize = 64 << 10;

/// An empty dictionary, for details that say nothing.
pub const EMPTY_MAP: &[u8] = &[0x80];

/// Message types (specification, Message Codes).
#[expect(missing_docs, reason = "the specification's own names and numbers")]
pub mod kind {
    pub const HELLO: u64 = 1;
    pub const WELCOME: u64 = 2;
    pub const ABORT: u64 = 3;
    pub const CHALLENGE: u64 = 4;
    pub const AUTHENTICATE: u64 = 5;
    pub const GOODBYE: u64 = 6;
    pub const ERROR: u64 = 8;
    pub const CALL: u64 = 48;
    pub const CANCEL: u64 = 49;
    pub const RESULT: u64 = 50;
    pub const REGISTER: u64 = 64;
    pub const REGISTERED: u64 = 65;
    pub const UNREGISTER: u64 = 66;
    pub const UNREGISTERED: u64 = 67;
    pub const INVOCATION: u64 = 68;
    pub const INTERRUPT: u64 = 69;
    pub const YIELD: u64 = 70;
}

/// Arguments and keyword arguments as they lie in the message.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Payload<'a> {
    /// 0: neither; 1: arguments; 2: arguments and keyword arguments.
    pub parts: u8,
    /// Their MessagePack, back to back.
    pub bytes: &'a [u8],
}

impl Payload<'_> {
    /// Neither arguments nor keyword arguments.
    pub const EMPTY: Payload<'static> = Payload { parts: 0, bytes: &[] };
}

/// Octets of a payload that are shown in logs: enough to know it by.
const SHOWN_MAX: usize = 32;

impl std::fmt::Debug for Payload<'_> {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}:", self.parts)?;
        for octet in self.bytes.iter().take(SHOWN_MAX) {
            write!(out, " {octet:02x}")?;
        }
        match self.bytes.len().saturating_sub(SHOWN_MAX) {
            0 => Ok(()),
            more => write!(out, " and {more} more"),
        }
    }
}

/// One message, borrowed from the buffer it was read into.
#[derive(Debug, Clone, Copy, PartialEq)]
#[expect(
    missing_docs,
    reason = "fields have the specification's names; `details` are undecoded MessagePack"
)]
pub enum Message<'a> {
    /// A client asks to join a realm.
    Hello {
        realm: &'a str,
        details: HelloDetails<'a>,
    },
    /// The router lets it in.
    Welcome { session: u64, details: &'a [u8] },
    /// Either side refuses the session.
    Abort { details: &'a [u8], reason: &'a str },
    /// The router asks for a proof of identity.
    Challenge { method: &'a str, extra: &'a [u8] },
    /// The proof.
    Authenticate { signature: &'a str, extra: &'a [u8] },
    /// Either side closes the session.
    Goodbye { details: &'a [u8], reason: &'a str },
    /// An answer that is an error; `kind` is the request's message type.
    Error {
        kind: u64,
        request: u64,
        details: &'a [u8],
        error: &'a str,
        payload: Payload<'a>,
    },
    /// A callee offers a procedure.
    Register {
        request: u64,
        options: RegisterOptions<'a>,
        procedure: &'a str,
    },
    /// It is offered.
    Registered { request: u64, registration: u64 },
    /// A callee takes a procedure back.
    Unregister { request: u64, registration: u64 },
    /// It is taken back; request 0 says that the router did so by itself.
    Unregistered { request: u64 },
    /// A call, or a further chunk of one.
    Call {
        request: u64,
        options: CallOptions<'a>,
        procedure: &'a str,
        payload: Payload<'a>,
    },
    /// The caller gives a call up.
    Cancel { request: u64, mode: CancelMode },
    /// An answer to the caller, or a part of one.
    Result {
        request: u64,
        progress: bool,
        payload: Payload<'a>,
    },
    /// A call, or a chunk of one, as the callee gets it.
    Invocation {
        request: u64,
        registration: u64,
        details: InvocationDetails<'a>,
        payload: Payload<'a>,
    },
    /// The callee's work is no longer wanted.
    Interrupt {
        request: u64,
        mode: CancelMode,
        reason: Option<&'a str>,
    },
    /// The callee's answer, or a part of one.
    Yield {
        request: u64,
        progress: bool,
        payload: Payload<'a>,
    },
}

impl<'a> Message<'a> {
    /// Decodes the head of one message.
    pub fn parse(bytes: &'a [u8]) -> Result<Message<'a>, Error> {
        let mut scan = Scan::new(bytes);
        let length = scan.array()?;
        let kind = scan.unsigned()?;
        let least = least_length(kind)?;
        if length < least {
            return Err(Error::Malformed("a message has too few elements"));
        }
        let message = match kind {
            kind::HELLO => Message::Hello {
                realm: scan.text()?,
                details: HelloDetails::read(&mut scan)?,
            },
            kind::WELCOME => Message::Welcome {
                session: scan.id()?,
                details: dictionary(&mut scan)?,
            },
            kind::ABORT => Message::Abort {
                details: dictionary(&mut scan)?,
                reason: scan.text()?,
            },
            kind::CHALLENGE => Message::Challenge {
                method: scan.text()?,
                extra: dictionary(&mut scan)?,
            },
            kind::AUTHENTICATE => Message::Authenticate {
                signature: scan.text()?,
                extra: dictionary(&mut scan)?,
            },
            kind::GOODBYE => Message::Goodbye {
                details: dictionary(&mut scan)?,
                reason: scan.text()?,
            },
            kind::REGISTER => Message::Register {
                request: scan.id()?,
                options: RegisterOptions::read(&mut scan)?,
                procedure: scan.text()?,
            },
            kind::REGISTERED => Message::Registered {
                request: scan.id()?,
                registration: scan.id()?,
            },
            kind::UNREGISTER => Message::Unregister {
                request: scan.id()?,
                registration: scan.id()?,
            },
            kind::UNREGISTERED => Message::Unregistered {
                request: scan.id_or_zero()?,
            },
            kind::CANCEL => Message::Cancel {
                request: scan.id()?,
                mode: CancelMode::read(&mut scan)?.0,
            },
            kind::INTERRUPT => {
                let request = scan.id()?;
                let (mode, reason) = CancelMode::read(&mut scan)?;
                Message::Interrupt {
                    request,
                    mode,
                    reason,
                }
            }
            _ => return Message::parse_with_payload(scan, kind, length - least),
        };
        end(scan, kind, length - least)?;
        Ok(message)
    }

    /// What the message carries for the application.
    pub fn payload(&self) -> Payload<'a> {
        match self {
            Message::Error { payload, .. }
            | Message::Call { payload, .. }
            | Message::Result { payload, .. }
            | Message::Invocation { payload, .. }
            | Message::Yield { payload, .. } => *payload,
            _ => Payload::EMPTY,
        }
    }

    /// The messages that carry a payload, each as far as its payload.
    fn parse_with_payload(mut scan: Scan<'a>, kind: u64, parts: usize) -> Result<Message<'a>, Error> {
        let message = match kind {
            kind::ERROR => Message::Error {
                kind: scan.unsigned()?,
                request: scan.id()?,
                details: dictionary(&mut scan)?,
                error: scan.text()?,
                payload: payload(scan, parts)?,
            },
            kind::CALL => Message::Call {
                request: scan.id()?,
                options: CallOptions::read(&mut scan)?,
                procedure: scan.text()?,
                payload: payload(scan, parts)?,
            },
            kind::RESULT => Message::Result {
                request: scan.id()?,
                progress: options::progress(&mut scan)?,
                payload: payload(scan, parts)?,
            },
            kind::INVOCATION => Message::Invocation {
                request: scan.id()?,
                registration: scan.id()?,
                details: InvocationDetails::read(&mut scan)?,
                payload: payload(scan, parts)?,
            },
            kind::YIELD => Message::Yield {
                request: scan.id()?,
                progress: options::progress(&mut scan)?,
                payload: payload(scan, parts)?,
            },
            _ => return Err(Error::Malformed("an unknown message type")),
        };
        Ok(message)
    }
}

/// Elements that a message has at least, its type included.
fn least_length(kind: u64) -> Result<usize, Error> {
    Ok(match kind {
        kind::UNREGISTERED => 2,
        kind::HELLO..=kind::GOODBYE => 3,
        kind::CANCEL | kind::RESULT | kind::REGISTERED | kind::UNREGISTER => 3,
        kind::INTERRUPT | kind::YIELD => 3,
        kind::CALL | kind::REGISTER | kind::INVOCATION => 4,
        kind::ERROR => 5,
        _ => return Err(Error::Malformed("an unknown message type")),
    })
}

/// Checks that a message without a payload ends where its kind does. What the specification lets some of them say
/// besides is passed over.
fn end(mut scan: Scan<'_>, kind: u64, further: usize) -> Result<(), Error> {
    let further_max = match kind {
        // Arguments and keyword arguments of the reason.
        kind::ABORT => 2,
        // Details of a revocation.
        kind::UNREGISTERED => 1,
        _ => 0,
    };
    if further > further_max {
        return Err(Error::Malformed("a message has too many elements"));
    }
    for _ in 0..further {
        scan.skip()?;
    }
    if scan.rest().is_empty() {
        Ok(())
    } else {
        Err(Error::Malformed("bytes follow the message"))
    }
}

/// A dictionary, undecoded.
fn dictionary<'a>(scan: &mut Scan<'a>) -> Result<&'a [u8], Error> {
    let mut ahead = *scan;
    ahead.map()?;
    scan.skip()
}

/// What is left of the message: a list, then perhaps a dictionary. Checked to be whole, not looked into.
fn payload(mut scan: Scan<'_>, parts: usize) -> Result<Payload<'_>, Error> {
    let bytes = scan.rest();
    let fast = parts == 1 && is_one_binary(bytes);
    if !fast {
        for part in 0..parts {
            let mut ahead = scan;
            match part {
                0 => ahead.array()?,
                1 => ahead.map()?,
                _ => return Err(Error::Malformed("a message has too many elements")),
            };
            scan.skip()?;
        }
        if !scan.rest().is_empty() {
            return Err(Error::Malformed("bytes follow the message"));
        }
    }
    // At most 2 by the loop above.
    Ok(Payload {
        parts: parts as u8,
        bytes,
    })
}

/// `[bin]` and nothing after it: what nearly all chunks are.
fn is_one_binary(bytes: &[u8]) -> bool {
    let mut scan = Scan::new(bytes);
    matches!(scan.array(), Ok(1)) && scan.binary().is_ok() && scan.rest().is_empty()
}

#[cfg(test)]
mod tests;
