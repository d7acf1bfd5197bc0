//! What a shim says: answers to its callers, and calls to the next stage.

use std::time::{SystemTime, UNIX_EPOCH};

use pipes_wamp::message::{CallOptions, CancelMode, EMPTY_MAP, Message, Payload, kind};
use pipes_wamp::payload::PayloadBuf;
use pipes_wamp::write;
use rmpv::Value;

use crate::connection::Outbox;

/// The executable could not be started; the argument says why.
pub const CANNOT_START: &str = "pipes.error.cannot_start";
/// A pipe broke, and the stage was killed; the argument says how.
pub const BROKEN: &str = "pipes.error.broken";
/// All slots are taken.
pub const BUSY: &str = "pipes.error.busy";
/// The call was given up by its caller.
pub const CANCELED: &str = pipes_wamp::error::uri::CANCELED;

/// A progressive result.
pub fn progress(outbox: &mut Outbox, request: u64, args: Vec<Value>) {
    let payload = PayloadBuf::of_values(args, None);
    outbox.queue(&Message::Yield {
        request,
        progress: true,
        payload: payload.as_payload(),
    });
}

/// Credit: a progressive result of one number. Sent for nearly every chunk, so without a detour.
pub fn credit(outbox: &mut Outbox, request: u64, count: u64) {
    let mut bytes = Vec::with_capacity(10);
    write::array(&mut bytes, 1);
    write::unsigned(&mut bytes, count);
    outbox.queue(&Message::Yield {
        request,
        progress: true,
        payload: Payload {
            parts: 1,
            bytes: &bytes,
        },
    });
}

/// The final result.
pub fn result(outbox: &mut Outbox, request: u64, args: Vec<Value>) {
    let payload = PayloadBuf::of_values(args, None);
    outbox.queue(&Message::Yield {
        request,
        progress: false,
        payload: payload.as_payload(),
    });
}

/// The final answer, as an error with a sentence.
pub fn error(outbox: &mut Outbox, request: u64, error: &str, why: &str) {
    let payload = PayloadBuf::of_values(vec![why.into()], None);
    let payload = payload.as_payload();
    outbox.queue(&Message::Error {
        kind: kind::INVOCATION,
        request,
        details: EMPTY_MAP,
        error,
        payload,
    });
}

/// Options of a pipe call's chunk.
pub fn chunk_options(is_last: bool) -> CallOptions<'static> {
    CallOptions {
        progress: !is_last,
        receive_progress: true,
        ..CallOptions::default()
    }
}

/// Begins the pipe call to `procedure`, naming the run and the receiving stage.
pub fn open_pipe(outbox: &mut Outbox, request: u64, procedure: &str, run: &str, stage: u32) {
    let args = vec![run.into(), stage.into(), Value::Binary(Vec::new())];
    let payload = PayloadBuf::of_values(args, None);
    let (options, payload) = (chunk_options(false), payload.as_payload());
    outbox.queue(&Message::Call {
        request,
        options,
        procedure,
        payload,
    });
}

/// Ends the input of the next stage.
pub fn end_pipe(outbox: &mut Outbox, request: u64, procedure: &str) {
    let payload = PayloadBuf::of_bytes(&[]);
    let (options, payload) = (chunk_options(true), payload.as_payload());
    outbox.queue(&Message::Call {
        request,
        options,
        procedure,
        payload,
    });
}

/// Breaks the pipe to the next stage.
pub fn break_pipe(outbox: &mut Outbox, request: u64) {
    outbox.queue(&Message::Cancel {
        request,
        mode: CancelMode::KillNoWait,
    });
}

/// Milliseconds since 1970.
pub fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
