//! A streaming call, seen from its two ends: what each may say, as messages.
//!
//! ```text
//! caller   CALL first chunk   CALL chunk ...            CALL last chunk     or CANCEL
//! callee           YIELD credit   YIELD part ...                YIELD result   or ERROR
//! ```
//!
//! Chunks and parts say `progress`, the last chunk and the result do not. *Credit* is a part of one number: so many
//! bytes more may be sent. Who gives how much, and what is done with bytes, is not decided here.
//!
//! Always: the ends hold nothing but the call's name, so that messages are only formed here, and ordered by who queues.

use crate::message::{CallOptions, CancelMode, EMPTY_MAP, Message, Payload, kind};
use crate::scan::Scan;
use crate::write;

/// Where messages are put to be sent: a client's writer, a shim's connection.
pub trait Queue {
    /// Appends one message.
    fn queue(&mut self, message: &Message<'_>);
}

/// The callee's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Callee {
    /// The invocation's id.
    pub request: u64,
}

impl Callee {
    /// Queues a part of the answer.
    pub fn part(self, to: &mut impl Queue, payload: Payload<'_>) {
        to.queue(&self.part_message(payload));
    }

    /// A part of the answer, for those who write its payload by themselves.
    pub fn part_message(self, payload: Payload<'_>) -> Message<'_> {
        Message::Yield {
            request: self.request,
            progress: true,
            payload,
        }
    }

    /// Lets the caller send so many bytes more. Said for nearly every chunk, so without a detour.
    pub fn credit(self, to: &mut impl Queue, count: u64) {
        let mut bytes = Vec::with_capacity(10);
        write::array(&mut bytes, 1);
        write::unsigned(&mut bytes, count);
        self.part(
            to,
            Payload {
                parts: 1,
                bytes: &bytes,
            },
        );
    }

    /// Queues the final answer.
    pub fn result(self, to: &mut impl Queue, payload: Payload<'_>) {
        to.queue(&Message::Yield {
            request: self.request,
            progress: false,
            payload,
        });
    }

    /// Queues the final answer: an error.
    pub fn error(self, to: &mut impl Queue, error: &str, payload: Payload<'_>) {
        to.queue(&Message::Error {
            kind: kind::INVOCATION,
            request: self.request,
            details: EMPTY_MAP,
            error,
            payload,
        });
    }
}

/// The caller's end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller<'a> {
    /// The call's id.
    pub request: u64,
    /// What is called.
    pub procedure: &'a str,
}

impl<'a> Caller<'a> {
    /// Queues a chunk: the first one makes the call.
    pub fn chunk(self, to: &mut impl Queue, payload: Payload<'_>, is_last: bool) {
        to.queue(&self.chunk_message(payload, is_last));
    }

    /// A chunk, for those who write its payload by themselves.
    pub fn chunk_message<'m>(self, payload: Payload<'m>, is_last: bool) -> Message<'m>
    where
        'a: 'm,
    {
        Message::Call {
            request: self.request,
            options: options(is_last),
            procedure: self.procedure,
            payload,
        }
    }

    /// Gives the call up.
    pub fn cancel(self, to: &mut impl Queue, mode: CancelMode) {
        to.queue(&Message::Cancel {
            request: self.request,
            mode,
        });
    }
}

/// Options of a chunk.
pub fn options(is_last: bool) -> CallOptions<'static> {
    CallOptions {
        progress: !is_last,
        receive_progress: true,
        ..CallOptions::default()
    }
}

/// How many bytes a part gives credit for; `None` if it is no credit.
pub fn credit_of(payload: Payload<'_>) -> Option<u64> {
    let mut scan = Scan::new(payload.bytes);
    if payload.parts == 0 || scan.array().ok()? == 0 {
        return None;
    }
    scan.unsigned().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payload::PayloadBuf;

    #[derive(Default)]
    struct Octets(Vec<Vec<u8>>);

    impl Queue for Octets {
        fn queue(&mut self, message: &Message<'_>) {
            let mut octets = Vec::new();
            message.encode(&mut octets);
            self.0.push(octets);
        }
    }

    #[test]
    fn credit_is_read_as_it_was_given() {
        for count in [0, 1, 127, 128, 65_536, u64::from(u32::MAX) + 1] {
            let mut sent = Octets::default();
            Callee { request: 7 }.credit(&mut sent, count);
            let message = Message::parse(&sent.0[0]).unwrap();
            assert!(matches!(
                message,
                Message::Yield {
                    request: 7,
                    progress: true,
                    ..
                }
            ));
            assert_eq!(credit_of(message.payload()), Some(count));
        }
        let text = PayloadBuf::of_values(vec!["ready".into()], None);
        assert_eq!(credit_of(text.as_payload()), None);
        assert_eq!(credit_of(Payload::EMPTY), None);
    }
}
