//! What feeds a stage: the pipe call that it received, and its stdin.

use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::time::Duration;

use pipes_flow::Sink;
use pipes_wamp::message::Payload;
use pipes_wamp::payload::bytes_arg;

use crate::connection::Outbox;
use crate::report;

/// The receiving end of a hop.
pub struct Input {
    call: Option<u64>,
    sink: Sink,
    is_untouched: bool,
    is_answered: bool,
}

impl Input {
    /// Feeds `pipe`; its window may grow up to `window` bytes.
    pub fn new(pipe: OwnedFd, window: usize) -> io::Result<Input> {
        Ok(Input {
            call: None,
            sink: Sink::new(pipe, window)?,
            is_untouched: true,
            is_answered: false,
        })
    }

    /// The pipe call.
    pub fn call(&self) -> Option<u64> {
        self.call
    }

    /// Whether nothing has come yet, neither a byte nor the end.
    pub fn is_untouched(&self) -> bool {
        self.is_untouched && !self.is_answered
    }

    /// Whether the pipe call has its final answer.
    pub fn is_answered(&self) -> bool {
        self.is_answered
    }

    /// Takes a pipe call for the one that feeds the stage.
    pub fn join(&mut self, call: u64, outbox: &mut Outbox) {
        match self.call.replace(call) {
            // The sink has given its first credit to the one before; the new one gets the same.
            Some(before) => {
                report::error(outbox, before, report::BROKEN, "another attempt took its place");
                report::credit(outbox, call, self.sink.credit_left());
            }
            None => self.advance(outbox),
        }
    }

    /// Takes a chunk; the error says how the pipe broke.
    pub fn chunk(&mut self, payload: Payload<'_>, is_last: bool) -> Result<(), String> {
        if self.is_answered {
            // On its way when the final answer was given.
            return Ok(());
        }
        self.is_untouched = false;
        let bytes = match bytes_arg(payload) {
            Some(bytes) => bytes,
            None if is_last && payload.parts == 0 => &[],
            None => return Err("a chunk of the pipe from the stage before is no bytes".into()),
        };
        let mut pushed = self.sink.push(bytes);
        if is_last && pushed.is_ok() {
            pushed = self.sink.end();
        }
        pushed.map_err(|error| format!("the pipe from the stage before broke: {error}"))
    }

    /// Gives credit, or the final answer.
    pub fn advance(&mut self, outbox: &mut Outbox) {
        let Some(call) = self.call.filter(|_| !self.is_answered) else {
            return;
        };
        if self.sink.is_over() {
            self.is_answered = true;
            report::result(outbox, call, Vec::new());
        } else if let Some(count) = self.sink.grant() {
            report::credit(outbox, call, count);
        }
    }

    /// What to watch.
    pub fn watch(&self) -> Option<(RawFd, libc::c_short)> {
        self.sink.watch()
    }

    /// How long to wait at most before [`Input::advance`].
    pub fn patience(&self) -> Option<Duration> {
        self.sink.lingers()
    }

    /// Its pipe is ready.
    pub fn ready(&mut self, events: libc::c_short) -> Result<(), String> {
        if events & libc::POLLERR != 0 {
            self.sink.deafen();
            return Ok(());
        }
        self.sink
            .pump()
            .map_err(|error| format!("the pipe to the stage broke: {error}"))
    }

    /// Closes it when nobody is left; a pipe call that was not answered breaks.
    pub fn close(&mut self, outbox: &mut Outbox) {
        if let Some(call) = self.call.filter(|_| !self.is_answered) {
            self.is_answered = true;
            report::error(outbox, call, report::BROKEN, "the stage was ended");
        }
        self.sink.deafen();
    }

    /// Bytes that the stage has taken.
    pub fn taken(&mut self) -> u64 {
        self.sink.taken()
    }
}
