//! A daemon workflow's definition as options of `pipes.run.start`, for whoever runs it: the gateway, and jobs.

use rmpv::Value;

use crate::workflow::daemon::record::{Definition, Stage};

/// The options, by their long names: the versions it was started with, and all that a run is given. A timeout is the
/// caller's. `here`: the node of whatever stage has no place of its own; without it the cluster chooses.
pub fn of(workflow: &str, definition: &Definition, here: Option<&str>) -> Vec<(Value, Value)> {
    let options = &definition.options;
    let placed = &options.place;
    let stages = definition.stages.iter();
    let versions = stages.map(|stage| Value::from(stage.digest.as_str()));
    let env = options.env.iter();
    let env = env.map(|(name, value)| (name.as_str().into(), Value::Binary(value.to_vec())));
    let mut place: Vec<(Value, Value)> = Vec::new();
    place.extend(
        placed
            .iter()
            .map(|(stage, node)| (stage.as_str().into(), node.as_str().into())),
    );
    if let Some(node) = here {
        let stages = definition.stages.iter().zip(1_u32..);
        let is_placed =
            |stage: &Stage, number: &str| placed.contains_key(number) || placed.contains_key(&stage.service);
        let stages = stages.map(|(stage, number)| (stage, number.to_string()));
        let unplaced = stages.filter(|(stage, number)| !is_placed(stage, number));
        place.extend(unplaced.map(|(_, number)| (number.into(), node.into())));
    }
    let files = options.files.iter().map(|file| {
        let (digest, name) = (file.digest.as_str().into(), file.name.as_str().into());
        Value::Array(vec![digest, name, file.executable.into()])
    });
    let mut pairs: Vec<(Value, Value)> = vec![
        ("workflow".into(), workflow.into()),
        ("versions".into(), Value::Array(versions.collect())),
        ("pipefail".into(), options.pipefail.into()),
        ("env".into(), Value::Map(env.collect())),
        ("place".into(), Value::Map(place)),
        ("file".into(), Value::Array(files.collect())),
    ];
    pairs.extend(options.scratch.map(|bytes| ("scratch".into(), bytes.into())));
    pairs
}
