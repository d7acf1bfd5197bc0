//! One stage of a run, as its coordinator sees it.
//!
//! ```text
//! placed -> called -> ready -> (go) -> started -> exited -> closed -> ended
//! ```
//!
//! *Exited*: the process is gone and its status known. *Closed*: its stdout ended, which descendants may put off.
//! *Ended*: the shim has killed what was left, cleaned up and said how many bytes went through.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use pipes_wamp::message::Payload;
use rmpv::Value;

/// How far a stage has come, and what it left.
#[derive(Debug, Clone, Default)]
pub struct Stage {
    /// Node it was placed on.
    pub node: u64,
    /// That node's name, for people.
    pub node_name: String,
    /// The replica that serves it, once reserved.
    pub replica: String,
    /// Where that node keeps the run's files: digest and path.
    pub files: Vec<(String, String)>,
    /// How far that node lets the window of its input grow, in bytes.
    pub window: Option<u64>,
    /// Request id of its stage call; 0 before.
    pub call: u64,
    /// Its hop to the next stage is proved.
    pub ready: bool,
    /// Its process began.
    pub started: Option<SystemTime>,
    /// Its process ended.
    pub exit: Option<Exit>,
    /// Its stdout ended, after so many bytes.
    pub closed: Option<u64>,
    /// Bytes in and out so far, as the shim said last.
    pub counts: Option<(u64, u64)>,
    /// Bytes in and out, once the shim is done with it.
    pub ended: Option<(u64, u64)>,
    /// The stage call's error, its URI first.
    pub error: Option<(String, String)>,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// As a shell gives it.
    pub status: i32,
    /// The signal, if one ended it.
    pub signal: Option<i32>,
    /// When.
    pub at: SystemTime,
}

/// A progressive result of a stage call.
#[derive(Debug, PartialEq)]
pub enum Event {
    /// The hop to the next stage is proved.
    Ready,
    /// The process began.
    Started(SystemTime),
    /// Bytes of its standard error.
    Stderr(Vec<u8>),
    /// Bytes in and out so far.
    Counts(u64, u64),
    /// The process ended.
    Exited(Exit),
    /// Its stdout ended.
    Closed(u64),
}

impl Event {
    /// Decodes a progressive result; `None` for what this version does not know.
    pub fn parse(payload: Payload<'_>) -> Option<Event> {
        let mut args = payload.args().ok()?.into_iter();
        let name = args.next()?;
        Some(match name.as_str()? {
            "ready" => Event::Ready,
            "started" => Event::Started(time(args.next()?.as_u64()?)),
            "stderr" => match args.next()? {
                Value::Binary(bytes) => Event::Stderr(bytes),
                _ => return None,
            },
            "counts" => Event::Counts(args.next()?.as_u64()?, args.next()?.as_u64()?),
            "exited" => {
                let status = args.next()?.as_i64()?.try_into().ok()?;
                let signal = args.next()?.as_i64().and_then(|number| number.try_into().ok());
                Event::Exited(Exit {
                    status,
                    signal,
                    at: time(args.next()?.as_u64()?),
                })
            }
            "closed" => Event::Closed(args.next()?.as_u64()?),
            _ => return None,
        })
    }
}

impl Stage {
    /// Whether its call has been answered for good.
    pub fn over(&self) -> bool {
        self.ended.is_some() || self.error.is_some()
    }

    /// Takes the final result of its call.
    pub fn end(&mut self, payload: Payload<'_>) {
        let mut counts = (0, self.closed.unwrap_or(0));
        for value in payload.args().unwrap_or_default() {
            let Value::Map(pairs) = value else { continue };
            for (key, value) in pairs {
                match key.as_str() {
                    Some("bytes_in") => counts.0 = value.as_u64().unwrap_or(0),
                    Some("bytes_out") => counts.1 = value.as_u64().unwrap_or(0),
                    _ => {}
                }
            }
        }
        self.ended = Some(counts);
    }
}

/// A time as the shim sends it, in milliseconds since 1970.
fn time(milliseconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(milliseconds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pipes_wamp::payload::PayloadBuf;

    #[test]
    fn an_exit_by_a_signal_keeps_both_numbers() {
        let payload = PayloadBuf::of_values(vec!["exited".into(), 137.into(), 9.into(), 1000.into()], None);
        let at = UNIX_EPOCH + Duration::from_secs(1);
        let expected = Event::Exited(Exit {
            status: 137,
            signal: Some(9),
            at,
        });
        assert_eq!(Event::parse(payload.as_payload()), Some(expected));
    }

    #[test]
    fn counts_are_bytes_in_and_bytes_out() {
        let payload = PayloadBuf::of_values(vec!["counts".into(), 3.into(), 5.into()], None);
        assert_eq!(Event::parse(payload.as_payload()), Some(Event::Counts(3, 5)));
    }

    #[test]
    fn what_is_not_known_is_no_event() {
        let payload = PayloadBuf::of_values(vec!["later".into()], None);
        assert_eq!(Event::parse(payload.as_payload()), None);
    }
}
