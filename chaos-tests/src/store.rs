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

/// A key as the store has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The key.
    pub key: Vec<u8>,
    /// Its value.
    pub value: Vec<u8>,
    /// The revisions of its creation and of its last write, and how often it was written.
    pub numbers: [i64; 3],
}

impl Client {
    /// The store's revision, as of now.
    pub fn revision(&mut self) -> Result<i64> {
        let (revision, _) = self.page(b"test/", 0, 1, "Linearizable")?;
        Ok(revision)
    }

    /// Everything under `test/` at this revision, out of this agent's own replica, which may not have it yet.
    pub fn replica(&mut self, revision: i64) -> Result<Vec<Stored>> {
        const PAGE: i64 = 50;
        let mut all: Vec<Stored> = Vec::new();
        let mut from = b"test/".to_vec();
        loop {
            let (_, page) = self.page(&from, revision, PAGE, "Serializable")?;
            let Some(last) = page.last() else { return Ok(all) };
            from = [&last.key[..], b"\0"].concat();
            all.extend(page);
        }
    }

    fn page(
        &mut self,
        from: &[u8],
        revision: i64,
        limit: i64,
        consistency: &str,
    ) -> Result<(i64, Vec<Stored>)> {
        let keywords = vec![
            ("key", Value::Binary(from.to_vec())),
            ("end", Value::Binary(b"test0".to_vec())),
            ("revision", revision.into()),
            ("limit", limit.into()),
            ("keys_only", false.into()),
            ("count_only", false.into()),
            ("consistency", consistency.into()),
        ];
        let request = self.session.begin("pipes.store.range", vec![], keywords)?;
        let done = self.session.outcome(request)?.done().context("range")?;
        let result = done.first().context("a result")?;
        let kvs = field(result, "kvs").and_then(Value::as_array).context("kvs")?;
        let number = |object, name| field(object, name).and_then(Value::as_i64).context("a number");
        let bytes = |object, name| Some(field(object, name)?.as_slice()?.to_vec());
        let stored = kvs.iter().map(|kv| {
            let names = ["create_revision", "mod_revision", "version"];
            let [create, last, version] = names.map(|name| number(kv, name));
            Ok(Stored {
                key: bytes(kv, "key").context("a key")?,
                value: bytes(kv, "value").context("a value")?,
                numbers: [create?, last?, version?],
            })
        });
        Ok((number(result, "revision")?, stored.collect::<Result<_>>()?))
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
