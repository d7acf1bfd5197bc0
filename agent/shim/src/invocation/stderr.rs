//! A stage's stderr: progressive results of its stage call, under credit of its own.

use pipes_flow::{Read, Source};
use pipes_protocol::stage;
use pipes_wamp::message::Payload;
use pipes_wamp::streaming::Callee;

use crate::connection::Outbox;

/// The reading end of stderr.
pub struct Stderr {
    /// The pipe.
    pub source: Source,
    /// Bytes that the pipe held when the process ended, as far as they are not yet passed on.
    left: Option<usize>,
}

impl Stderr {
    /// Of this pipe.
    pub fn new(mut source: Source) -> Stderr {
        source.grant(stage::STDERR_WINDOW);
        Stderr { source, left: None }
    }

    /// The process has ended: what its pipe holds now comes before its exit is told. Descendants may write on.
    pub fn process_has_ended(&mut self) {
        self.left = Some(self.source.waiting().unwrap_or(0));
    }

    /// Whether all that the process wrote was passed on.
    pub fn is_told(&self) -> bool {
        self.source.is_closed() || self.left == Some(0)
    }

    /// Reads once, and passes on what that gave.
    pub fn read(&mut self, outbox: &mut Outbox, call: Callee) -> Result<(), String> {
        match self.read_once(outbox, call) {
            Ok(_) => Ok(()),
            Err(error) => Err(format!("its stderr cannot be read: {error}")),
        }
    }

    /// Passes on what is still there when nobody is left to write, as far as there is credit and the agent takes it.
    pub fn drain(&mut self, outbox: &mut Outbox, call: Callee) {
        outbox.flush();
        while outbox.is_idle() && matches!(self.read_once(outbox, call), Ok(Read::Bytes(_))) {}
    }

    fn read_once(&mut self, outbox: &mut Outbox, call: Callee) -> std::io::Result<Read> {
        let read = outbox.send_read(&mut self.source, |out, count| {
            let mut head = Vec::with_capacity(16);
            stage::stderr_head(&mut head, count);
            let payload = Payload {
                parts: 1,
                bytes: &head,
            };
            call.part_message(payload).encode(out);
        })?;
        if let (Some(left), Read::Bytes(count)) = (&mut self.left, &read) {
            *left = left.saturating_sub(*count);
        }
        Ok(read)
    }
}
