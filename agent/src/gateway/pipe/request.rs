//! A daemon workflow's definition as arguments of `pipes.run.start`.

use rmpv::Value;

use crate::gateway::pipe::output::WINDOW;
use crate::workflow::daemon::record::Workflow;
use crate::workflow::daemon::run_options;

/// The call's first chunk: the line in the versions it was started with, as its options say.
pub fn of(workflow: &Workflow) -> Vec<(&'static str, Value)> {
    vec![
        ("line", workflow.definition.line.as_str().into()),
        ("options", options(workflow)),
        ("credit", WINDOW.into()),
    ]
}

fn options(workflow: &Workflow) -> Value {
    let mut pairs = run_options::of(&workflow.name, &workflow.definition, None);
    pairs.push(("announce".into(), true.into()));
    let timeout = workflow.definition.options.timeout;
    pairs.extend(timeout.map(|seconds| ("timeout".into(), seconds.into())));
    Value::Map(pairs)
}
