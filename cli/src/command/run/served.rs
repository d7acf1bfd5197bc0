//! Options of a workflow that stays up, which `run -d` and `update` take alike.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pipes_protocol::{duration, size};
use rmpv::Value;

use crate::error::Error;
use crate::given;

/// Longest file of a certificate or a key that an agent takes.
const PEM_FILE_MAX: u64 = 32 << 10;
/// Longest file of a token: one that is longer is another file.
const TOKEN_FILE_MAX: u64 = 64 << 10;

#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Options of a workflow that stays up")]
pub struct Served {
    /// Its own port at every server instead of the next free one, or none: then at port 7080 alone
    #[arg(long, value_name = "P", value_parser = port)]
    port: Option<Port>,
    /// The address to listen at, where it is not each server's own
    #[arg(long, value_name = "ADDRESS")]
    bind: Option<IpAddr>,
    /// How many replicas a stage keeps
    #[arg(long, value_name = "STAGE=N", value_parser = count)]
    replicas: Vec<(String, u32)>,
    /// Jobs at once a replica
    #[arg(long, value_name = "N")]
    concurrency: Option<u32>,
    /// How often a job is tried again that ended with another status than 0 [default: 0]
    #[arg(long, value_name = "N")]
    retries: Option<u32>,
    /// How long jobs are kept after their end, the last million of them [default: 24h]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse_positive)]
    keep: Option<Duration>,
    /// Makes a token, shown this once, that users must show
    #[arg(long, conflicts_with = "token_file")]
    token: bool,
    /// The token that users must show, from a file
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Lists jobs over HTTP without a token
    #[arg(long)]
    list: bool,
    /// Largest body and result, such as 100m [default: 10g]
    #[arg(long, value_name = "SIZE", value_parser = size::parse_positive)]
    body: Option<u64>,
    /// An origin whose web pages may send requests
    #[arg(long, value_name = "ORIGIN")]
    cors: Vec<String>,
    /// Serves it over https alone: by a certificate of the cluster's own authority, or by this one
    #[arg(long, value_name = "CERT,KEY", num_args = 0..=1, default_missing_value = "")]
    tls: Option<String>,
    // Shown in no help until they can be carried out; the agent refuses them.
    #[arg(long, hide = true)]
    callback: Option<String>,
    #[arg(long, hide = true)]
    every: Option<String>,
    #[arg(long, hide = true)]
    cron: Option<String>,
    #[arg(long, hide = true)]
    tz: Option<String>,
}

/// A port, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Port {
    Own(u16),
    None,
}

impl Served {
    /// What follows `--tls` is the line where it is no pair of files: gives it back to who has none.
    pub fn give_back_line(&mut self, line: &mut Vec<String>) {
        if let Some(given) = &mut self.tls
            && line.is_empty()
            && !given.is_empty()
            && pair_of(given).is_none()
        {
            line.push(std::mem::take(given));
        }
    }

    /// As they travel.
    pub fn options(&self) -> Result<Vec<(&'static str, Value)>, Error> {
        let token = match &self.token_file {
            Some(path) => Some(token_of(path)?.into()),
            None => self.token.then(|| true.into()),
        };
        let text = |text: &Option<String>| text.as_deref().map(Value::from);
        let replicas = self.replicas.iter();
        let replicas = replicas.map(|(stage, count)| (stage.as_str().into(), (*count).into()));
        let origins: Vec<Value> = self.cors.iter().map(|origin| origin.as_str().into()).collect();
        let options = [
            (
                "port",
                self.port.map(|port| match port {
                    Port::Own(port) => port.into(),
                    Port::None => "none".into(),
                }),
            ),
            ("bind", self.bind.map(|bind| bind.to_string().into())),
            (
                "replicas",
                (!self.replicas.is_empty()).then(|| Value::Map(replicas.collect())),
            ),
            ("concurrency", self.concurrency.map(Value::from)),
            ("retries", self.retries.map(Value::from)),
            ("keep", self.keep.map(|keep| keep.as_secs_f64().into())),
            ("token", token),
            ("list", self.list.then(|| true.into())),
            ("body", self.body.map(Value::from)),
            ("cors", (!origins.is_empty()).then_some(Value::Array(origins))),
            ("callback", text(&self.callback)),
            ("every", text(&self.every)),
            ("cron", text(&self.cron)),
            ("tz", text(&self.tz)),
            ("tls", self.tls.as_deref().map(tls).transpose()?),
        ];
        let given = options.into_iter();
        Ok(given.filter_map(|(name, value)| Some((name, value?))).collect())
    }

    /// The first of those that are given, by its name on the command line.
    pub fn first(&self) -> Option<String> {
        if self.token_file.is_some() {
            return Some("--token-file".into());
        }
        if self.tls.is_some() {
            return Some("--tls".into());
        }
        let given = self.options().unwrap_or_default();
        given.first().map(|(name, _)| format!("--{name}"))
    }
}

/// The files of `CERT,KEY`, where both are there.
fn pair_of(text: &str) -> Option<(&Path, &Path)> {
    let (certificate, key) = text.split_once(',')?;
    let (certificate, key) = (Path::new(certificate), Path::new(key));
    (certificate.is_file() && key.is_file()).then_some((certificate, key))
}

/// As it travels: what lies in the two files, or that the cluster is to make a certificate.
fn tls(given: &str) -> Result<Value, Error> {
    if given.is_empty() {
        return Ok(true.into());
    }
    let Some((certificate, key)) = pair_of(given) else {
        return Err(Error::Usage(format!(
            "--tls {given}: the files of a certificate and its key are needed, as CERT,KEY, or nothing"
        )));
    };
    let read = |path: &Path| {
        let length = std::fs::metadata(path)
            .map_err(|error| Error::read(path, error))?
            .len();
        if length > PEM_FILE_MAX {
            let path = path.display();
            return Err(Error::Usage(format!(
                "{path} is too long for a certificate or a key"
            )));
        }
        let bytes = std::fs::read(path).map_err(|error| Error::read(path, error))?;
        Ok(Value::Binary(bytes))
    };
    Ok(Value::Array(vec![read(certificate)?, read(key)?]))
}

fn token_of(path: &Path) -> Result<String, Error> {
    let text = given::text(path, TOKEN_FILE_MAX)?;
    Ok(text.trim().to_owned())
}

fn port(text: &str) -> Result<Port, String> {
    match text.parse::<u16>() {
        _ if text == "none" => Ok(Port::None),
        Ok(port) if port > 0 => Ok(Port::Own(port)),
        _ => Err(format!("'{text}' is no port; give one from 1 to 65535, or none")),
    }
}

/// `STAGE=N`.
pub fn count(text: &str) -> Result<(String, u32), String> {
    let pair = text
        .rsplit_once('=')
        .and_then(|(stage, count)| Some((stage.to_owned(), count.parse().ok().filter(|count| *count > 0)?)));
    pair.filter(|(stage, _)| !stage.is_empty())
        .ok_or_else(|| format!("'{text}' is no number of replicas; write STAGE=N, with N from 1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_a_stage_and_a_number() {
        assert_eq!(count("2=5"), Ok(("2".into(), 5)));
        assert_eq!(count("a=b=5"), Ok(("a=b".into(), 5)));
        for wrong in ["2", "=5", "2=", "2=0", "2=-1", "2=x"] {
            assert!(count(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_follows_tls_is_a_pair_of_files_or_the_line() {
        #[derive(clap::Parser)]
        struct Run {
            line: Vec<String>,
            #[command(flatten)]
            served: Served,
        }
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, name).unwrap();
            path.to_str().unwrap().to_owned()
        };
        let pair = format!("{},{}", path("c"), path("k"));
        let parsed = |words: &[&str]| {
            let mut run = <Run as clap::Parser>::parse_from([&["run"][..], words].concat());
            run.served.give_back_line(&mut run.line);
            let tls = run.served.tls.as_deref().map(|given| tls(given).unwrap());
            (run.line, tls)
        };
        let both = Value::Array(vec![Value::Binary(b"c".to_vec()), Value::Binary(b"k".to_vec())]);
        let line = vec!["a | b".to_owned()];
        assert_eq!(parsed(&["a | b"]), (line.clone(), None));
        assert_eq!(parsed(&["--tls", "a | b"]), (line.clone(), Some(true.into())));
        assert_eq!(parsed(&["a | b", "--tls"]), (line.clone(), Some(true.into())));
        assert_eq!(parsed(&["--tls", pair.as_str(), "a | b"]), (line, Some(both)));
        assert!(tls("no,pair").is_err());
    }

    #[test]
    fn a_port_is_a_number_or_none() {
        assert_eq!(
            (port("7100"), port("none")),
            (Ok(Port::Own(7100)), Ok(Port::None))
        );
        for wrong in ["0", "65536", "None", ""] {
            assert!(port(wrong).is_err(), "{wrong}");
        }
    }
}
