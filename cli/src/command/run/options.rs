//! Options as they travel with a run's request: by their long names, the environment among them.

use rmpv::Value;

use super::Arguments;

/// Options that travel with the request, all but the files.
pub fn of(arguments: &Arguments) -> Vec<(Value, Value)> {
    let mut options: Vec<(Value, Value)> = Vec::new();
    for (name, is_set) in [
        ("pipefail", arguments.pipefail),
        ("fresh", arguments.fresh),
        ("retry", arguments.retry),
    ] {
        if is_set {
            options.push((name.into(), true.into()));
        }
    }
    options.extend(
        arguments
            .timeout
            .map(|timeout| ("timeout".into(), timeout.as_secs_f64().into())),
    );
    options.extend(arguments.scratch.map(|bytes| ("scratch".into(), bytes.into())));
    let environment = environment(&arguments.env, std::env::vars_os());
    if !environment.is_empty() {
        options.push(("env".into(), Value::Map(environment)));
    }
    if !arguments.place.is_empty() {
        let place = arguments
            .place
            .iter()
            .map(|(stage, node)| (stage.as_str().into(), node.as_str().into()));
        options.push(("place".into(), Value::Map(place.collect())));
    }
    options.extend(arguments.confined.options());
    options
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
    fn options(&self) -> impl Iterator<Item = (Value, Value)> {
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
        let given = |(name, value): (&str, Option<Value>)| value.map(|value| (name.into(), value));
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
    fn a_place_is_a_stage_and_a_node() {
        assert_eq!(pair("1=n1"), Ok(("1".into(), "n1".into())));
        assert_eq!(pair("n1").unwrap_err(), "'n1' is no place; write STAGE=NODE");
    }
}
