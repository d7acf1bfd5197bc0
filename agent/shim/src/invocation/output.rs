//! Where a stage's stdout goes: the pipe call to the next stage.

use pipes_flow::{Read, Source};
use pipes_wamp::message::{Message, Payload};
use pipes_wamp::scan::Scan;

use crate::connection::{Outbox, bytes_follow};
use crate::report;

/// The sending end of a hop.
pub struct Output {
    /// The stage's stdout.
    pub source: Source,
    call: u64,
    procedure: String,
    is_ready: bool,
    is_ended: bool,
    is_answered: bool,
    is_reported: bool,
}

impl Output {
    /// From `source` to `procedure`, by the call `call`.
    pub fn new(source: Source, call: u64, procedure: String) -> Output {
        let (is_ready, is_ended, is_answered, is_reported) = (false, false, false, false);
        Output {
            source,
            call,
            procedure,
            is_ready,
            is_ended,
            is_answered,
            is_reported,
        }
    }

    /// The pipe call.
    pub fn call(&self) -> u64 {
        self.call
    }

    /// Makes the pipe call.
    pub fn open(&self, outbox: &mut Outbox, run: &str, stage: u32) {
        report::open_pipe(outbox, self.call, &self.procedure, run, stage);
    }

    /// Reads once, and passes on what that gave; the error says how the pipe broke.
    pub fn read(&mut self, outbox: &mut Outbox) -> Result<(), String> {
        let (request, procedure) = (self.call, &self.procedure);
        let read = outbox.send_read(&mut self.source, |out, count| {
            let mut head = Vec::with_capacity(8);
            let (options, payload) = (report::chunk_options(false), bytes_follow(&mut head, count));
            Message::Call {
                request,
                options,
                procedure,
                payload,
            }
            .encode(out);
        });
        match read {
            Ok(Read::End) if !self.is_ended && !self.is_answered => {
                self.is_ended = true;
                report::end_pipe(outbox, self.call, &self.procedure);
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
            return false;
        }
        let mut scan = Scan::new(payload.bytes);
        if payload.parts == 0 || !matches!(scan.array(), Ok(1..)) {
            return false;
        }
        self.source.grant(scan.unsigned().unwrap_or(0));
        !std::mem::replace(&mut self.is_ready, true)
    }

    /// The call has ended by an error.
    pub fn failed(&mut self) {
        self.is_answered = true;
    }

    /// Bytes sent, once, when stdout has ended and the next stage has said so.
    pub fn newly_closed(&mut self) -> Option<u64> {
        if !self.is_answered || std::mem::replace(&mut self.is_reported, true) {
            return None;
        }
        Some(self.bytes())
    }

    /// Closes it when nobody is left; a pipe call that was not answered breaks.
    pub fn close(&mut self, outbox: &mut Outbox) {
        if !std::mem::replace(&mut self.is_answered, true) {
            report::break_pipe(outbox, self.call);
        }
        self.source.close();
    }

    /// Bytes read from stdout.
    pub fn bytes(&self) -> u64 {
        self.source.bytes()
    }
}
