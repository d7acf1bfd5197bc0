//! A stage's stderr: progressive results of its stage call, under credit of its own.

use pipes_flow::{Read, Source};
use pipes_wamp::message::{Message, Payload};
use pipes_wamp::write;

use crate::connection::Outbox;

/// What the coordinator takes before it has said anything.
const CREDIT_FIRST: u64 = 64 * 1024;

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
        source.grant(CREDIT_FIRST);
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
    pub fn read(&mut self, outbox: &mut Outbox, request: u64) -> Result<(), String> {
        match self.read_once(outbox, request) {
            Ok(_) => Ok(()),
            Err(error) => Err(format!("its stderr cannot be read: {error}")),
        }
    }

    /// Passes on what is still there when nobody is left to write, as far as there is credit and the agent takes it.
    pub fn drain(&mut self, outbox: &mut Outbox, request: u64) {
        outbox.flush();
        while outbox.is_idle() && matches!(self.read_once(outbox, request), Ok(Read::Bytes(_))) {}
    }

    fn read_once(&mut self, outbox: &mut Outbox, request: u64) -> std::io::Result<Read> {
        let read = outbox.send_read(&mut self.source, |out, count| {
            let mut head = Vec::with_capacity(16);
            write::array(&mut head, 2);
            write::text(&mut head, "stderr");
            write::binary_head(&mut head, count);
            let payload = Payload {
                parts: 1,
                bytes: &head,
            };
            Message::Yield {
                request,
                progress: true,
                payload,
            }
            .encode(out);
        })?;
        if let (Some(left), Read::Bytes(count)) = (&mut self.left, &read) {
            *left = left.saturating_sub(*count);
        }
        Ok(read)
    }
}
