//! The pipe call: bytes down, credit up.
//!
//! ```text
//! upstream     ["run", stage, b""]   [b"bytes"]   [b"more"] ...   [b""] as the last chunk
//! downstream                [32768]            [5] ...                            result
//! ```
//!
//! The first chunk names the receiving stage and brings no bytes: there is no credit yet. Only the last chunk is an end
//! of input; every other end of the call is a break. The result says that all was taken, or that nobody reads any more.

use pipes_wamp::message::Payload;
use pipes_wamp::payload::PayloadBuf;
use rmpv::Value;

/// The first chunk: what the pipe feeds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opening {
    /// The run.
    pub run: String,
    /// The receiving stage, from 1; one after the last stage is the coordinator itself.
    pub stage: u32,
}

impl Opening {
    /// As it travels.
    pub fn encode(&self) -> PayloadBuf {
        let args = vec![
            self.run.as_str().into(),
            self.stage.into(),
            Value::Binary(Vec::new()),
        ];
        PayloadBuf::of_values(args, None)
    }

    /// Reads the first chunk; `None` if it names no stage, or brings bytes.
    pub fn parse(payload: Payload<'_>) -> Option<Opening> {
        let args = payload.args().ok()?;
        let stage = u32::try_from(args.get(1)?.as_u64()?).ok()?;
        match args.get(2) {
            None => {}
            Some(Value::Binary(bytes)) if bytes.is_empty() => {}
            Some(_) => return None,
        }
        let run = args.first()?.as_str()?.to_owned();
        Some(Opening { run, stage })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_call_may_not_bring_bytes_before_it_has_credit() {
        let first = |bytes: &[u8]| {
            let args = vec!["r1".into(), 2.into(), Value::Binary(bytes.to_vec())];
            Opening::parse(PayloadBuf::of_values(args, None).as_payload())
        };
        let opening = Opening {
            run: "r1".into(),
            stage: 2,
        };
        assert_eq!(first(b""), Some(opening.clone()));
        assert_eq!(first(b"x"), None);
        assert_eq!(Opening::parse(opening.encode().as_payload()), Some(opening));
    }
}
