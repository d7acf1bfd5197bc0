//! What is asked for of a daemon workflow: keyword arguments by the long names of the command line, read and checked.
//!
//! ```text
//! {name: "words", line: "tr a-z A-Z | sort", replicas: {"2": 3}, keep: 86400.0, port: "none", token: true}
//! ```
//!
//! What is not given stays as it is, or as it is by default; what is not known is ignored, but for options that the
//! command line has and nothing here carries out.

use std::net::IpAddr;
use std::time::Duration;

use pipes_protocol::stage::File;
use rmpv::Value;

use crate::certificate::{self, PEM_MAX, Pair};
use crate::workflow::daemon::error::Error;
use crate::workflow::daemon::port::Port;
use crate::workflow::daemon::record::Tls;
use crate::workflow::options::{self, entries, flag, text};

/// Most replicas of a stage, and most jobs at once of each: as many as can be set for a node.
const COUNT_MAX: u32 = 256;
/// Longest that jobs are kept: ten years, so that sums of times do not overflow.
const KEEP_MAX: Duration = Duration::from_secs(10 * 365 * 86_400);
/// Most times that a job is tried again: with a minute between two of them it takes most of a day.
const RETRIES_MAX: u32 = 1_000;
/// Shortest and longest token: one that is guessed in an afternoon is none, and it travels in a head of 64 KiB.
const TOKEN_LENGTH: std::ops::RangeInclusive<usize> = 8..=1_024;
/// Origins whose pages may send requests; a request is compared with each.
const ORIGINS_MAX: usize = 64;

/// Options that are somebody's to build yet: refused rather than ignored, or a schedule would silently never run.
const NOT_YET: [&str; 4] = ["callback", "every", "cron", "tz"];

/// What is asked for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Asked {
    /// The line.
    pub line: Option<String>,
    /// Its own port.
    pub port: Option<Port>,
    /// The address to listen at.
    pub bind: Option<IpAddr>,
    /// The token its users must show.
    pub token: Option<Token>,
    /// It is served over TLS alone, by this certificate.
    pub tls: Option<Tls>,
    /// The status is the last stage's that failed.
    pub pipefail: Option<bool>,
    /// Of each job and each streamed request, in seconds.
    pub timeout: Option<f64>,
    /// Variables for every stage, beside those there are.
    pub env: Vec<(String, Vec<u8>)>,
    /// STAGE to NODE, beside those there are.
    pub place: Vec<(String, String)>,
    /// Files for every stage, beside those there are.
    pub files: Vec<File>,
    /// Bytes that each stage's scratch directory may hold.
    pub scratch: Option<u64>,
    /// STAGE to replicas, beside those there are.
    pub replicas: Vec<(String, u32)>,
    /// Jobs at once a replica.
    pub concurrency: Option<u32>,
    /// How often a job is tried again.
    pub retries: Option<u32>,
    /// How long jobs are kept, in seconds.
    pub keep: Option<f64>,
    /// Jobs are listed over HTTP without a token.
    pub list: Option<bool>,
    /// Largest body and result in bytes.
    pub body: Option<u64>,
    /// Origins whose pages may send requests, beside those there are.
    pub cors: Vec<String>,
}

/// A token for a workflow's users.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Token {
    /// One is to be made.
    Made,
    /// This one.
    Given(String),
}

impl Asked {
    /// Reads keyword arguments.
    pub fn parse(kwargs: Vec<(String, Value)>) -> Result<Asked, Error> {
        let mut asked = Asked::default();
        for (key, value) in kwargs.into_iter().filter(|(_, value)| !value.is_nil()) {
            match key.as_str() {
                "line" => asked.line = Some(text(value, "line")?),
                "port" => asked.port = Some(port(value)?),
                "bind" => asked.bind = Some(bind(value)?),
                "token" => asked.token = token(value)?,
                "tls" => asked.tls = tls(value)?,
                "pipefail" => asked.pipefail = Some(flag(&value, "pipefail")?),
                "timeout" => {
                    asked.timeout = options::seconds(&value, "timeout")?.map(|time| time.as_secs_f64())
                }
                "env" => asked.env = options::variables(value)?,
                "place" => asked.place = options::places(value)?,
                "file" => asked.files = options::files(value)?,
                "scratch" => asked.scratch = options::size(&value, "scratch")?,
                "replicas" => asked.replicas = replicas(value)?,
                "concurrency" => asked.concurrency = Some(count(&value, "concurrency", 1, COUNT_MAX)?),
                "retries" => asked.retries = Some(count(&value, "retries", 0, RETRIES_MAX)?),
                "keep" => asked.keep = keep(&value)?,
                "list" => asked.list = Some(flag(&value, "list")?),
                "body" => asked.body = options::size(&value, "body")?,
                "cors" => asked.cors = origins(value)?,
                name if NOT_YET.contains(&name) => {
                    return Err(Error::Usage(format!(
                        "--{name} cannot be carried out yet; leave it out"
                    )));
                }
                name => options::refuse_beyond_process(name)?,
            }
        }
        Ok(asked)
    }
}

/// STAGE to replicas.
pub fn replicas(value: Value) -> Result<Vec<(String, u32)>, Error> {
    let replicas = entries(value, "replicas")?.into_iter();
    replicas
        .map(|(stage, wanted)| Ok((stage, count(&wanted, "replicas", 1, COUNT_MAX)?)))
        .collect()
}

fn count(value: &Value, what: &str, min: u32, max: u32) -> Result<u32, Error> {
    let count = value.as_u64().and_then(|count| u32::try_from(count).ok());
    count
        .filter(|count| (min..=max).contains(count))
        .ok_or_else(|| Error::Usage(format!("--{what} must be a number from {min} to {max}")))
}

fn port(value: Value) -> Result<Port, Error> {
    let refuse = || Error::Usage("--port must be a number from 1 to 65535, or none".into());
    match (&value, value.as_u64()) {
        (Value::String(text), _) if text.as_str() == Some("none") => Ok(Port::None),
        (_, Some(port)) => match u16::try_from(port) {
            Ok(port) if port > 0 => Ok(Port::Own(port)),
            _ => Err(refuse()),
        },
        _ => Err(refuse()),
    }
}

fn bind(value: Value) -> Result<IpAddr, Error> {
    let text = text(value, "bind")?;
    text.parse().map_err(|_| {
        Error::Usage(format!(
            "--bind {text}: an address such as 127.0.0.1 or 0.0.0.0 is needed"
        ))
    })
}

fn token(value: Value) -> Result<Option<Token>, Error> {
    match value {
        Value::Boolean(is_wanted) => Ok(is_wanted.then_some(Token::Made)),
        value => {
            let token = text(value, "token")?;
            // What a head can carry as one word.
            let is_word = token.bytes().all(|byte| byte.is_ascii_graphic());
            if !is_word || !TOKEN_LENGTH.contains(&token.len()) {
                return Err(Error::Usage(format!(
                    "a token must be one word of {} to {} ASCII characters",
                    TOKEN_LENGTH.start(),
                    TOKEN_LENGTH.end()
                )));
            }
            Ok(Some(Token::Given(token)))
        }
    }
}

/// `true`: by the cluster's own authority; `[CERTIFICATE, KEY]`: by these, PEM.
fn tls(value: Value) -> Result<Option<Tls>, Error> {
    match value {
        Value::Boolean(is_wanted) => Ok(is_wanted.then_some(Tls { pair: None })),
        Value::Array(mut files) if files.len() == 2 => {
            let mut pem = || {
                let bytes = options::bytes(files.remove(0), "tls")?;
                let text = String::from_utf8(bytes).ok().filter(|text| text.len() <= PEM_MAX);
                text.ok_or_else(|| {
                    Error::Usage("--tls takes a certificate and a key in PEM, some kB at most".into())
                })
            };
            let pair = Pair {
                certificate: pem()?,
                key: pem()?,
            };
            certificate::given(&pair).map_err(|error| Error::Usage(format!("--tls: {error}")))?;
            Ok(Some(Tls { pair: Some(pair) }))
        }
        _ => Err(Error::Usage(
            "tls must be true, or a certificate and a key".into(),
        )),
    }
}

fn keep(value: &Value) -> Result<Option<f64>, Error> {
    match options::seconds(value, "keep")? {
        Some(time) if time > KEEP_MAX => Err(Error::Usage("--keep must be at most ten years".into())),
        time => Ok(time.map(|time| time.as_secs_f64())),
    }
}

fn origins(value: Value) -> Result<Vec<String>, Error> {
    let Value::Array(list) = value else {
        return Err(Error::Usage("cors must be a list of origins".into()));
    };
    if list.len() > ORIGINS_MAX {
        return Err(Error::Usage(format!("--cors: {ORIGINS_MAX} origins at most")));
    }
    let origins = list.into_iter().map(|origin| {
        let origin = text(origin, "cors")?;
        let host = origin.split_once("://").map(|(_, host)| host);
        let is_origin = host.is_some_and(|host| !host.is_empty() && !host.contains('/'));
        match is_origin && origin.bytes().all(|byte| byte.is_ascii_graphic()) {
            true => Ok(origin),
            false => Err(Error::Usage(format!(
                "--cors {origin}: an origin such as https://example.org is needed"
            ))),
        }
    });
    origins.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pairs: Vec<(&str, Value)>) -> Result<Asked, Error> {
        Asked::parse(
            pairs
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value))
                .collect(),
        )
    }

    fn refused(name: &str, value: Value) -> String {
        parse(vec![(name, value)]).unwrap_err().to_string()
    }

    #[test]
    fn what_is_asked_for_is_read_by_the_long_names_of_options() {
        let replicas = Value::Map(vec![("2".into(), 3.into())]);
        let asked = parse(vec![
            ("name", "words".into()),
            ("line", "a | b".into()),
            ("port", "none".into()),
            ("bind", "0.0.0.0".into()),
            ("token", true.into()),
            ("tls", true.into()),
            ("replicas", replicas),
            ("keep", 3600.into()),
            ("timeout", Value::Nil),
            ("later", 1.into()),
        ]);
        let asked = asked.unwrap();
        assert_eq!(asked.line.as_deref(), Some("a | b"));
        assert_eq!(asked.port, Some(Port::None));
        assert_eq!(asked.token, Some(Token::Made));
        assert_eq!(asked.tls, Some(Tls { pair: None }));
        assert_eq!(asked.replicas, [("2".to_owned(), 3)]);
        assert_eq!((asked.keep, asked.timeout), (Some(3600.0), None));
    }

    #[test]
    fn what_nothing_carries_out_is_refused_by_its_option() {
        for name in NOT_YET {
            assert!(refused(name, "x".into()).starts_with(&format!("--{name} cannot be carried out yet")));
        }
        assert!(
            refused("memory", "1g".into()).starts_with("--memory asks for more than the executor process")
        );
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        let map = |value: Value| Value::Map(vec![("1".into(), value)]);
        for (name, value) in [
            ("port", Value::from(0)),
            ("port", 70_000.into()),
            ("port", "some".into()),
            ("bind", "here".into()),
            ("replicas", map(0.into())),
            ("replicas", map(257.into())),
            ("replicas", 3.into()),
            ("concurrency", 0.into()),
            ("retries", (-1).into()),
            ("keep", 0.into()),
            ("keep", 1e12.into()),
            ("keep", f64::NAN.into()),
            ("timeout", 0.into()),
            ("token", "short".into()),
            ("token", "two words".into()),
            ("list", 1.into()),
            ("body", 0.into()),
            ("tls", "own".into()),
            ("tls", Value::Array(vec!["none".into(), "none".into()])),
            ("cors", Value::Array(vec!["example.org".into()])),
            ("cors", Value::Array(vec!["https://example.org/x".into()])),
        ] {
            assert!(parse(vec![(name, value.clone())]).is_err(), "{name} {value}");
        }
    }
}
