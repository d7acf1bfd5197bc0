//! Where a stage's stdout goes: the pipe call to the next stage.

use pipes_flow::{Read, Source};
use pipes_protocol::pipe::Opening;
use pipes_wamp::message::{CancelMode, Payload};
use pipes_wamp::payload::PayloadBuf;
use pipes_wamp::streaming::{self, Caller};

use crate::connection::{Outbox, bytes_follow};

/// The sending end of a hop.
pub struct Output {
    /// The stage's stdout.
    pub source: Source,
    call: u64,
    procedure: String,
    is_ready: bool,
    is_ended: bool,
    /// It is not the stage that ends it: the next one is told no end.
    gives_no_end: bool,
    is_answered: bool,
    is_reported: bool,
}

impl Output {
    /// From `source` to `procedure`, by the call `call`.
    pub fn new(source: Source, call: u64, procedure: String) -> Output {
        let (is_ready, is_ended, gives_no_end) = (false, false, false);
        let (is_answered, is_reported) = (false, false);
        Output {
            source,
            call,
            procedure,
            is_ready,
            is_ended,
            gives_no_end,
            is_answered,
            is_reported,
        }
    }

    /// The pipe call.
    pub fn call(&self) -> u64 {
        self.call
    }

    /// Makes the pipe call.
    pub fn open(&self, outbox: &mut Outbox, opening: &Opening) {
        self.caller().chunk(outbox, opening.encode().as_payload(), false);
    }

    fn caller(&self) -> Caller<'_> {
        Caller {
            request: self.call,
            procedure: &self.procedure,
        }
    }

    /// Reads once, and passes on what that gave; the error says how the pipe broke.
    pub fn read(&mut self, outbox: &mut Outbox) -> Result<(), String> {
        // As `caller` makes it, which would borrow the source as well.
        let caller = Caller {
            request: self.call,
            procedure: &self.procedure,
        };
        let read = outbox.send_read(&mut self.source, |out, count| {
            let mut head = Vec::with_capacity(8);
            caller
                .chunk_message(bytes_follow(&mut head, count), false)
                .encode(out);
        });
        match read {
            Ok(Read::End) if !self.is_ended && !self.is_answered => {
                self.is_ended = true;
                if !self.gives_no_end {
                    self.caller()
                        .chunk(outbox, PayloadBuf::of_bytes(&[]).as_payload(), true);
                }
                Ok(())
            }
            Ok(_) => Ok(()),
            Err(error) => Err(format!("its output cannot be read: {error}")),
        }
    }

    /// An answer, or a part of one: credit. True for the first: the hop is proved.
    pub fn result(&mut self, progress: bool, payload: Payload<'_>) -> bool {
        if !progress {
            // All was taken, or nobody reads any more: the next write gets SIGPIPE.
            self.is_answered = true;
            self.source.close();
        } else if let Some(count) = streaming::credit_of(payload) {
            self.source.grant(count);
        } else {
            return false;
        }
        !std::mem::replace(&mut self.is_ready, true)
    }

    /// Whether the hop is proved.
    pub fn is_ready(&self) -> bool {
        self.is_ready
    }

    /// From now on the end of stdout is none of the stage's own.
    pub fn give_no_end(&mut self) {
        self.gives_no_end = true;
    }

    /// The call has ended by an error.
    pub fn failed(&mut self) {
        self.is_answered = true;
    }

    /// Bytes sent, once, when stdout has ended and the next stage, if it was told, has said so.
    pub fn newly_closed(&mut self) -> Option<u64> {
        let is_closed = self.is_answered || (self.is_ended && self.gives_no_end);
        if !is_closed || std::mem::replace(&mut self.is_reported, true) {
            return None;
        }
        Some(self.bytes())
    }

    /// Closes it when nobody is left; a pipe call that was not answered breaks.
    pub fn close(&mut self, outbox: &mut Outbox) {
        if !std::mem::replace(&mut self.is_answered, true) {
            self.caller().cancel(outbox, CancelMode::KillNoWait);
        }
        self.source.close();
    }

    /// Bytes read from stdout.
    pub fn bytes(&self) -> u64 {
        self.source.bytes()
    }
}
