//! The store through `pipes.store.range` and `pipes.store.txn`: keys outside `/pipes/` only.

use anyhow::{Context, Result};
use rmpv::Value;

use crate::wamp::{Outcome, Session, map};

/// A client of the store at one agent.
pub struct Client {
    session: Session,
}

impl Client {
    /// Over a session of realm `pipes`.
    pub fn new(session: Session) -> Client {
        Client { session }
    }

    /// Puts one key; answered only when it is durable.
    pub fn put(&mut self, key: &str, value: &[u8]) -> Result<()> {
        let request = self.begin_put(key, value)?;
        self.session
            .outcome(request)?
            .done()
            .with_context(|| format!("put {key}"))?;
        Ok(())
    }

    /// Sends a put and does not wait.
    pub fn begin_put(&mut self, key: &str, value: &[u8]) -> Result<u64> {
        let put = map(vec![
            ("key", Value::Binary(key.into())),
            ("value", Value::Binary(value.to_vec())),
            ("lease", Value::Nil),
        ]);
        let keywords = vec![
            ("compares", Value::Array(vec![])),
            ("success", Value::Array(vec![map(vec![("Put", put)])])),
            ("failure", Value::Array(vec![])),
        ];
        self.session.begin("pipes.store.txn", vec![], keywords)
    }

    /// Sends a linearizable read and does not wait.
    pub fn begin_read(&mut self, key: &str) -> Result<u64> {
        let keywords = vec![
            ("key", Value::Binary(key.into())),
            ("end", Value::Nil),
            ("revision", 0.into()),
            ("limit", 0.into()),
            ("keys_only", false.into()),
            ("count_only", false.into()),
            ("consistency", "Linearizable".into()),
        ];
        self.session.begin("pipes.store.range", vec![], keywords)
    }

    /// What a read or a put came to.
    pub fn outcome(&mut self, request: u64) -> Result<Outcome> {
        self.session.outcome(request)
    }

    /// Reads one key, linearizably.
    pub fn read(&mut self, key: &str) -> Result<Option<Vec<u8>>> {
        let request = self.begin_read(key)?;
        let done = self
            .session
            .outcome(request)?
            .done()
            .with_context(|| format!("read {key}"))?;
        value(&done)
    }
}

/// The value in a range's result, where there is one.
pub fn value(result: &[Value]) -> Result<Option<Vec<u8>>> {
    let kvs = field(result.first().context("a result")?, "kvs").context("kvs in the result")?;
    let Some(first) = kvs.as_array().and_then(|kvs| kvs.first()) else {
        return Ok(None);
    };
    let bytes = field(first, "value").context("a value")?;
    Ok(Some(
        bytes
            .as_slice()
            .with_context(|| format!("a value in bytes: {bytes}"))?
            .to_vec(),
    ))
}

fn field<'a>(object: &'a Value, name: &str) -> Option<&'a Value> {
    object
        .as_map()?
        .iter()
        .find(|(key, _)| key.as_str() == Some(name))
        .map(|(_, value)| value)
}
