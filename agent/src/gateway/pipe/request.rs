//! A daemon workflow's definition as arguments of `pipes.run.start`.

use rmpv::Value;

use crate::gateway::pipe::output::WINDOW;
use crate::workflow::daemon::record::Workflow;

/// The call's first chunk: the line in the versions it was started with, as its options say.
pub fn of(workflow: &Workflow) -> Vec<(&'static str, Value)> {
    vec![
        ("line", workflow.definition.line.as_str().into()),
        ("options", options(workflow)),
        ("credit", WINDOW.into()),
    ]
}

fn options(workflow: &Workflow) -> Value {
    let options = &workflow.definition.options;
    let digests = workflow
        .definition
        .stages
        .iter()
        .map(|stage| Value::from(stage.digest.as_str()));
    let env = options
        .env
        .iter()
        .map(|(name, value)| (name.as_str().into(), Value::Binary(value.to_vec())));
    let place = options
        .place
        .iter()
        .map(|(stage, node)| (stage.as_str().into(), node.as_str().into()));
    let files = options.files.iter().map(|file| {
        let (digest, name) = (file.digest.as_str().into(), file.name.as_str().into());
        Value::Array(vec![digest, name, file.executable.into()])
    });
    let mut pairs: Vec<(Value, Value)> = vec![
        ("announce".into(), true.into()),
        ("workflow".into(), workflow.name.as_str().into()),
        ("versions".into(), Value::Array(digests.collect())),
        ("pipefail".into(), options.pipefail.into()),
        ("env".into(), Value::Map(env.collect())),
        ("place".into(), Value::Map(place.collect())),
        ("file".into(), Value::Array(files.collect())),
    ];
    pairs.extend(options.timeout.map(|seconds| ("timeout".into(), seconds.into())));
    pairs.extend(options.scratch.map(|bytes| ("scratch".into(), bytes.into())));
    Value::Map(pairs)
}
