//! Values of a line's options, as callers of runs and of daemon workflows give them. Pure.
//!
//! | option | value |
//! |---|---|
//! | `pipefail` | true or false |
//! | `timeout` | seconds |
//! | `env`, `place` | a map |
//! | `file` | `[[digest, name, executable?], ...]` |
//! | `scratch` | bytes |
//!
//! Always: what cannot be meant is refused in a sentence that names the option.

use std::collections::BTreeSet;
use std::time::Duration;

use pipes_protocol::stage::{self, File};
use rmpv::Value;

/// What `stop` gives stages to end by themselves, unless told otherwise.
pub const GRACE: Duration = Duration::from_secs(30);
/// Bytes of an input and of a result where the workflow says nothing: beyond any sane one, below what fills a disk by
/// mistake.
pub const BODY_MAX: u64 = 10 << 30;
/// How long a client may wait for a job's end in one request, so that none waits for ever.
pub const WAIT_MAX: Duration = Duration::from_secs(3_600);

/// An option that cannot be meant: the caller's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Error(pub String);

/// Options that the executor `process`, so far the only one, cannot carry out. Refused rather than ignored: a run
/// without the limit or the secret that was asked for is worse than none.
pub const BEYOND_PROCESS: [&str; 6] = ["memory", "cpus", "pids", "network", "mount", "secret"];

/// Refuses an option that no executor can carry out.
pub fn refuse_beyond_process(name: &str) -> Result<(), Error> {
    match BEYOND_PROCESS.contains(&name) {
        true => Err(Error(format!(
            "--{name} asks for more than the executor process, which runs stages as plain processes, can do; leave it out"
        ))),
        false => Ok(()),
    }
}

/// The entries of a map with text keys.
pub fn entries(value: Value, what: &str) -> Result<Vec<(String, Value)>, Error> {
    let Value::Map(pairs) = value else {
        return Err(Error(format!("{what} must be a map")));
    };
    pairs
        .into_iter()
        .map(|(key, value)| Ok((text(key, what)?, value)))
        .collect()
}

/// A text; a number counts as its digits.
pub fn text(value: Value, what: &str) -> Result<String, Error> {
    match value {
        Value::String(text) => text
            .into_str()
            .ok_or_else(|| Error(format!("{what} is not UTF-8"))),
        Value::Integer(number) => Ok(number.to_string()),
        _ => Err(Error(format!("{what} must be text"))),
    }
}

/// Bytes, or a text's.
pub fn bytes(value: Value, what: &str) -> Result<Vec<u8>, Error> {
    match value {
        Value::Binary(bytes) => Ok(bytes),
        Value::String(text) => Ok(text.into_bytes()),
        _ => Err(Error(format!("{what} must be bytes or text"))),
    }
}

/// True or false.
pub fn flag(value: &Value, what: &str) -> Result<bool, Error> {
    value
        .as_bool()
        .ok_or_else(|| Error(format!("{what} must be true or false")))
}

/// A time of more than nothing.
pub fn seconds(value: &Value, what: &str) -> Result<Option<Duration>, Error> {
    let seconds = value
        .as_f64()
        .or_else(|| value.as_u64().map(|whole| whole as f64));
    match seconds.map(Duration::try_from_secs_f64) {
        None if value.is_nil() => Ok(None),
        Some(Ok(duration)) if !duration.is_zero() => Ok(Some(duration)),
        _ => Err(Error(format!("{what} must be more than 0 seconds"))),
    }
}

/// So many bytes, more than none.
pub fn size(value: &Value, what: &str) -> Result<Option<u64>, Error> {
    match value.as_u64() {
        None if value.is_nil() => Ok(None),
        Some(bytes) if bytes > 0 => Ok(Some(bytes)),
        _ => Err(Error(format!(
            "{what} must be a whole number of bytes, more than 0"
        ))),
    }
}

/// Variables for every stage.
pub fn variables(value: Value) -> Result<Vec<(String, Vec<u8>)>, Error> {
    let variables = entries(value, "env")?.into_iter().map(|(name, value)| {
        let is_good = !name.is_empty() && !name.contains(['=', '\0']);
        match is_good {
            true => Ok((name, bytes(value, "env")?)),
            false => Err(Error(format!("'{name}' cannot be the name of a variable"))),
        }
    });
    variables.collect()
}

/// STAGE to NODE, as written.
pub fn places(value: Value) -> Result<Vec<(String, String)>, Error> {
    let places = entries(value, "place")?.into_iter();
    places
        .map(|(stage, node)| Ok((stage, text(node, "place")?)))
        .collect()
}

/// Files that lie in each stage's working directory.
pub fn files(value: Value) -> Result<Vec<File>, Error> {
    let Value::Array(list) = value else {
        return Err(Error("file must be a list".into()));
    };
    let files: Vec<File> = list.into_iter().map(file).collect::<Result<_, Error>>()?;
    let mut names = BTreeSet::new();
    match files.iter().find(|file| !names.insert(&file.name)) {
        Some(File { name, .. }) => Err(Error(format!(
            "two files are called {name}; give one another name with --file PATH=NAME"
        ))),
        None => Ok(files),
    }
}

fn file(entry: Value) -> Result<File, Error> {
    match entry {
        Value::Array(mut file) if matches!(file.len(), 2 | 3) => {
            // Whether it may be executed, where that is said.
            let executable = file.get(2) == Some(&Value::Boolean(true));
            let name = text(file.remove(1), "file")?;
            let digest = text(file.remove(0), "file")?;
            match stage::unfit_name(&name) {
                None => Ok(File {
                    digest,
                    name,
                    executable,
                }),
                Some(why) => Err(Error(why)),
            }
        }
        _ => Err(Error("file must be a list of digests and names".into())),
    }
}
