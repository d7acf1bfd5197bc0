//! A daemon workflow's definition as options of `pipes.run.start`, for whoever runs it: the gateway, and jobs.

use rmpv::Value;

use crate::workflow::daemon::record::Definition;

/// The options, by their long names: the versions it was started with, and all that a run is given. A timeout is the
/// caller's.
pub fn of(workflow: &str, definition: &Definition) -> Vec<(Value, Value)> {
    let options = &definition.options;
    let stages = definition.stages.iter();
    let versions = stages.map(|stage| Value::from(stage.digest.as_str()));
    let env = options.env.iter();
    let env = env.map(|(name, value)| (name.as_str().into(), Value::Binary(value.to_vec())));
    let place = options.place.iter();
    let place = place.map(|(stage, node)| (stage.as_str().into(), node.as_str().into()));
    let files = options.files.iter().map(|file| {
        let (digest, name) = (file.digest.as_str().into(), file.name.as_str().into());
        Value::Array(vec![digest, name, file.executable.into()])
    });
    let mut pairs: Vec<(Value, Value)> = vec![
        ("workflow".into(), workflow.into()),
        ("versions".into(), Value::Array(versions.collect())),
        ("pipefail".into(), options.pipefail.into()),
        ("env".into(), Value::Map(env.collect())),
        ("place".into(), Value::Map(place.collect())),
        ("file".into(), Value::Array(files.collect())),
    ];
    pairs.extend(options.scratch.map(|bytes| ("scratch".into(), bytes.into())));
    pairs
}
