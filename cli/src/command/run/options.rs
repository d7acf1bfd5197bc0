//! Options as they travel with a run's request: by their long names, the environment among them.

use std::path::{Path, PathBuf};
use std::time::Duration;

use pipes_protocol::{duration, size};
use rmpv::Value;

use crate::error::Error;

/// Longest file of variables: a line's environment has room for less.
const ENV_FILE_MAX: u64 = 1 << 20;

/// What `run`, `run -d` and `update` take alike.
#[derive(Debug, clap::Args)]
pub struct Common {
    /// Exits as the last stage that failed
    #[arg(long)]
    pub pipefail: bool,
    /// Ends the run, or each job, after this time
    #[arg(long, value_name = "DURATION", value_parser = duration::parse_positive)]
    pub timeout: Option<Duration>,
    /// A variable for every stage; K alone takes the caller's value
    #[arg(long, value_name = "K=V")]
    pub env: Vec<String>,
    /// Variables for every stage from a file: K=V a line, or K alone; # begins a comment
    #[arg(long, value_name = "FILE")]
    pub env_file: Vec<PathBuf>,
    /// Where a stage runs: its number or its service's name, and a node
    #[arg(long, value_name = "STAGE=NODE", value_parser = pair)]
    pub place: Vec<(String, String)>,
    /// A file that lies in each stage's working directory, under NAME
    #[arg(long, value_name = "PATH[=NAME]")]
    pub file: Vec<String>,
    /// How much each stage's scratch directory may hold, such as 10g
    #[arg(long, value_name = "SIZE", value_parser = size::parse_positive)]
    pub scratch: Option<u64>,
    /// First builds what is missing or changed of the stages' executables
    #[arg(long)]
    pub build: bool,
    #[command(flatten)]
    pub confined: Confined,
}

impl Common {
    /// As they travel, all but the files; what travels of the caller's own environment is among them.
    pub fn options(&self) -> Result<Vec<(&'static str, Value)>, Error> {
        let environment = environment(&self.asked()?, std::env::vars_os());
        Ok(self.with(environment))
    }

    /// The same of a change of what there is: of the environment only what is asked for.
    pub fn changes(&self) -> Result<Vec<(&'static str, Value)>, Error> {
        let asked = self.asked()?;
        let mut environment = environment(&asked, std::env::vars_os());
        let is_asked = |name: &Value| {
            let mut asked = asked.iter().map(|asked| asked.split('=').next());
            asked.any(|asked| asked == name.as_str())
        };
        environment.retain(|(name, _)| is_asked(name));
        Ok(self.with(environment))
    }

    /// The variables that are asked for: those of files, and after them those of the command line, which count.
    fn asked(&self) -> Result<Vec<String>, Error> {
        let mut asked = Vec::new();
        for path in &self.env_file {
            asked.extend(of_file(path)?);
        }
        asked.extend(self.env.iter().cloned());
        Ok(asked)
    }

    fn with(&self, environment: Vec<(Value, Value)>) -> Vec<(&'static str, Value)> {
        let place = self.place.iter();
        let place = place.map(|(stage, node)| (stage.as_str().into(), node.as_str().into()));
        let options = [
            ("pipefail", self.pipefail.then(|| true.into())),
            (
                "timeout",
                self.timeout.map(|timeout| timeout.as_secs_f64().into()),
            ),
            ("scratch", self.scratch.map(Value::from)),
            (
                "env",
                (!environment.is_empty()).then_some(Value::Map(environment)),
            ),
            (
                "place",
                (!self.place.is_empty()).then(|| Value::Map(place.collect())),
            ),
        ];
        let given = options
            .into_iter()
            .filter_map(|(name, value)| Some((name, value?)));
        given.chain(self.confined.options()).collect()
    }
}

/// What a file asks for, as docker's are: `K=V` or `K` a line, everything behind the first `=` as it stands.
fn of_file(path: &Path) -> Result<Vec<String>, Error> {
    let length = std::fs::metadata(path)
        .map_err(|error| Error::read(path, error))?
        .len();
    let wrong = |why: &str| Error::Usage(format!("--env-file {}: {why}", path.display()));
    if length > ENV_FILE_MAX {
        return Err(wrong("it is too long for variables"));
    }
    let bytes = std::fs::read(path).map_err(|error| Error::read(path, error))?;
    let text = String::from_utf8(bytes).map_err(|_| wrong("it is not UTF-8"))?;
    variables(&text).map_err(|line| wrong(&format!("'{line}' is no variable; write K=V")))
}

/// The variables of a file's text; a line that names none is the error.
fn variables(text: &str) -> Result<Vec<String>, String> {
    let lines = text.lines().map(str::trim_start);
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    let read = lines.map(|line| {
        let name = line.split('=').next().unwrap_or_default();
        match !name.is_empty() && !name.contains(char::is_whitespace) {
            true => Ok(line.to_owned()),
            false => Err(line.to_owned()),
        }
    });
    read.collect()
}

/// What travels of the caller's environment, as ssh sends it, then what was asked for.
fn environment(
    asked: &[String],
    own: impl Iterator<Item = (std::ffi::OsString, std::ffi::OsString)>,
) -> Vec<(Value, Value)> {
    use std::os::unix::ffi::OsStringExt;
    let own: Vec<(Vec<u8>, Vec<u8>)> = own
        .map(|(name, value)| (name.into_vec(), value.into_vec()))
        .collect();
    let mut variables: Vec<(Vec<u8>, Vec<u8>)> = own
        .iter()
        .filter(|(name, _)| name == b"LANG" || name == b"TZ" || name.starts_with(b"LC_"))
        .cloned()
        .collect();
    for asked in asked {
        let (name, value) = match asked.split_once('=') {
            Some((name, value)) => (name, Some(value.as_bytes().to_vec())),
            None => (
                asked.as_str(),
                own.iter()
                    .find(|(own, _)| own == asked.as_bytes())
                    .map(|(_, value)| value.clone()),
            ),
        };
        if let Some(value) = value {
            variables.retain(|(known, _)| known != name.as_bytes());
            variables.push((name.as_bytes().to_vec(), value));
        }
    }
    let text = |bytes: Vec<u8>| {
        String::from_utf8(bytes).map_or_else(|error| Value::Binary(error.into_bytes()), Value::from)
    };
    variables
        .into_iter()
        .map(|(name, value)| (text(name), Value::Binary(value)))
        .collect()
}

/// What an executor may be able to do; the agent knows what its own can, and refuses the rest. Shown in no help until
/// one can do it.
#[derive(Debug, clap::Args)]
pub struct Confined {
    #[arg(long, hide = true)]
    memory: Option<String>,
    #[arg(long, hide = true)]
    cpus: Option<String>,
    #[arg(long, hide = true)]
    pids: Option<String>,
    #[arg(long, hide = true)]
    network: Option<String>,
    #[arg(long, hide = true)]
    mount: Vec<String>,
    #[arg(long, hide = true)]
    secret: Vec<String>,
}

impl Confined {
    /// As they travel.
    fn options(&self) -> impl Iterator<Item = (&'static str, Value)> {
        let single = [
            ("memory", &self.memory),
            ("cpus", &self.cpus),
            ("pids", &self.pids),
            ("network", &self.network),
        ];
        let several = [("mount", &self.mount), ("secret", &self.secret)];
        let single = single.map(|(name, value)| (name, value.as_deref().map(Value::from)));
        let several = several.map(|(name, values)| {
            let list = values.iter().map(|value| value.as_str().into()).collect();
            (name, (!values.is_empty()).then_some(Value::Array(list)))
        });
        let given = |(name, value): (&'static str, Option<Value>)| Some((name, value?));
        single.into_iter().chain(several).filter_map(given)
    }
}

/// `STAGE=NODE`.
pub fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((stage, node)) if !stage.is_empty() && !node.is_empty() => {
            Ok((stage.to_owned(), node.to_owned()))
        }
        _ => Err(format!("'{text}' is no place; write STAGE=NODE")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_the_environment_only_the_language_travels_and_what_is_asked_for() {
        let own = [
            ("HOME", "/root"),
            ("LANG", "C"),
            ("LC_ALL", "de"),
            ("TZ", "UTC"),
            ("SECRET", "x"),
        ];
        let own = own.map(|(name, value)| (name.into(), value.into()));
        let asked = [
            "A=1=2".to_owned(),
            "LANG=fr".to_owned(),
            "SECRET".to_owned(),
            "UNSET".to_owned(),
        ];
        let sent: Vec<String> = environment(&asked, own.into_iter())
            .into_iter()
            .map(|(name, value)| {
                format!(
                    "{}={}",
                    name.as_str().unwrap(),
                    String::from_utf8_lossy(value.as_slice().unwrap())
                )
            })
            .collect();
        assert_eq!(sent, ["LC_ALL=de", "TZ=UTC", "A=1=2", "LANG=fr", "SECRET=x"]);
    }

    #[test]
    fn a_file_of_variables_is_read_as_docker_reads_it() {
        let read = variables("# comment\n\nA=1\n  B = no\n").unwrap_err();
        assert_eq!(read, "B = no");
        assert_eq!(variables("=x").unwrap_err(), "=x");
        let read = variables("# comment\n\nA=1 # 2\r\nB=\"x\"\nC=a=b \n D\n").unwrap();
        assert_eq!(read, ["A=1 # 2", "B=\"x\"", "C=a=b ", "D"]);
    }

    #[test]
    fn a_place_is_a_stage_and_a_node() {
        assert_eq!(pair("1=n1"), Ok(("1".into(), "n1".into())));
        assert_eq!(pair("n1").unwrap_err(), "'n1' is no place; write STAGE=NODE");
    }
}
