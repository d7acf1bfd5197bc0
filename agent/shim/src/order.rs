//! What a coordinator orders: the first chunk of a stage call, and the later ones.

use pipes_wamp::message::Payload;
use rmpv::Value;

use crate::signals::SIGNAL_MAX;

/// The longest name of a procedure that is called: it must leave room in a chunk's head.
const PROCEDURE_MAX: usize = 255;

/// One stage of a run, as it is to be started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// The run's id.
    pub run: String,
    /// The stage's number, from 1.
    pub stage: u32,
    /// Which try of the run this is, from 1.
    pub attempt: u64,
    /// Arguments after the service's name.
    pub args: Vec<Vec<u8>>,
    /// Environment beyond what every stage has.
    pub env: Vec<(Vec<u8>, Vec<u8>)>,
    /// Files to lay into the working folder: where each is, and what it is called there.
    pub files: Vec<(String, String)>,
    /// Bytes that the window of its input may grow to, where the agent has less to give than each replica was told.
    pub window: Option<u64>,
    /// The procedure that takes this stage's output.
    pub next: String,
}

impl Order {
    /// Reads the first chunk; the error says what is wrong with it.
    pub fn parse(payload: Payload<'_>) -> Result<Order, String> {
        let args = payload.args().map_err(|error| error.to_string())?;
        let Some(Value::Map(pairs)) = args.into_iter().next() else {
            return Err("a stage call begins with a dictionary".into());
        };
        let mut order = Order {
            run: String::new(),
            stage: 0,
            attempt: 1,
            window: None,
            args: Vec::new(),
            env: Vec::new(),
            files: Vec::new(),
            next: String::new(),
        };
        for (key, value) in pairs {
            match key.as_str() {
                Some("run") => order.run = text(value)?,
                Some("stage") => {
                    order.stage = number(&value)?.try_into().map_err(|_| "stage is too large")?
                }
                Some("window") => order.window = Some(number(&value)?),
                Some("attempt") => order.attempt = number(&value)?,
                Some("args") => order.args = list(value)?.into_iter().map(bytes).collect::<Result<_, _>>()?,
                Some("env") => order.env = pairs_of(value, bytes)?,
                Some("files") => order.files = pairs_of(value, text)?,
                Some("next") => order.next = text(value)?,
                _ => {}
            }
        }
        if order.run.is_empty() || order.stage == 0 || order.next.is_empty() {
            return Err("a stage call needs run, stage and next".into());
        }
        if order.next.len() > PROCEDURE_MAX {
            return Err("the next procedure's name is too long".into());
        }
        Ok(order)
    }
}

/// A later chunk of a stage call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Command {
    /// Start the executable.
    Go,
    /// Send a signal to the stage's process group.
    Signal(i32),
    /// Kill all of the stage's processes.
    Kill,
    /// So many bytes more of stderr.
    Credit(u64),
    /// The run is over: kill what is left, clean up, answer.
    End,
}

impl Command {
    /// Reads a later chunk; `None` for what this version does not know.
    pub fn parse(payload: Payload<'_>) -> Option<Command> {
        let args = payload.args().ok()?;
        Some(match args.first()?.as_str()? {
            "go" => Command::Go,
            "signal" => {
                let number = i32::try_from(args.get(1)?.as_u64()?).ok()?;
                Command::Signal(Some(number).filter(|number| (1..=SIGNAL_MAX).contains(number))?)
            }
            "kill" => Command::Kill,
            "credit" => Command::Credit(args.get(1)?.as_u64()?),
            "end" => Command::End,
            _ => return None,
        })
    }
}

/// The first chunk of a pipe call: the run, the receiving stage, and the first bytes (none, without credit).
pub fn parse_pipe(payload: Payload<'_>) -> Option<(String, u32)> {
    let args = payload.args().ok()?;
    let stage = u32::try_from(args.get(1)?.as_u64()?).ok()?;
    match args.get(2) {
        None => {}
        Some(Value::Binary(bytes)) if bytes.is_empty() => {}
        Some(_) => return None,
    }
    Some((args.first()?.as_str()?.to_owned(), stage))
}

fn text(value: Value) -> Result<String, String> {
    match value {
        Value::String(text) => text.into_str().ok_or_else(|| "a text is not UTF-8".into()),
        _ => Err("a text was expected".into()),
    }
}

fn bytes(value: Value) -> Result<Vec<u8>, String> {
    match value {
        Value::Binary(bytes) => Ok(bytes),
        Value::String(text) => Ok(text.into_bytes()),
        _ => Err("bytes were expected".into()),
    }
}

fn number(value: &Value) -> Result<u64, String> {
    value.as_u64().ok_or_else(|| "a number was expected".into())
}

fn list(value: Value) -> Result<Vec<Value>, String> {
    match value {
        Value::Array(values) => Ok(values),
        _ => Err("a list was expected".into()),
    }
}

fn pairs_of<T>(value: Value, read: fn(Value) -> Result<T, String>) -> Result<Vec<(T, T)>, String> {
    let pair = |value| {
        let [first, second] = <[Value; 2]>::try_from(list(value)?).map_err(|_| "a pair was expected")?;
        Ok((read(first)?, read(second)?))
    };
    list(value)?.into_iter().map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use pipes_wamp::payload::PayloadBuf;

    fn command(args: Vec<Value>) -> Option<Command> {
        Command::parse(PayloadBuf::of_values(args, None).as_payload())
    }

    #[test]
    fn commands_are_known_and_others_are_not() {
        assert_eq!(command(vec!["go".into()]), Some(Command::Go));
        assert_eq!(
            command(vec!["signal".into(), 15.into()]),
            Some(Command::Signal(15))
        );
        assert_eq!(command(vec!["signal".into(), 0.into()]), None);
        assert_eq!(command(vec!["signal".into(), 65.into()]), None);
        assert_eq!(command(vec!["credit".into(), 7.into()]), Some(Command::Credit(7)));
        assert_eq!(command(vec!["later".into()]), None);
        assert_eq!(command(vec![]), None);
    }

    #[test]
    fn an_order_without_a_run_is_refused() {
        let map = Value::Map(vec![("stage".into(), 1.into()), ("next".into(), "a.b".into())]);
        let payload = PayloadBuf::of_values(vec![map], None);
        assert!(Order::parse(payload.as_payload()).unwrap_err().contains("run"));
    }

    #[test]
    fn a_pipe_call_may_not_bring_bytes_before_it_has_credit() {
        let first = |bytes: &[u8]| {
            let args = vec!["r1".into(), 2.into(), Value::Binary(bytes.to_vec())];
            parse_pipe(PayloadBuf::of_values(args, None).as_payload())
        };
        assert_eq!(first(b""), Some(("r1".into(), 2)));
        assert_eq!(first(b"x"), None);
    }
}
