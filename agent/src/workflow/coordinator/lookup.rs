//! From a request to a plan: parses the line and has looked up what its names were built from (`../versions.rs`).

use pipes_protocol::supply::Kind;
use pipes_syntax::Stage;

use crate::service;
use crate::workflow::coordinator::context::Context;
use crate::workflow::coordinator::error::Error;
use crate::workflow::coordinator::plan::{Plan, Planned};
use crate::workflow::coordinator::request::Request;
use crate::workflow::versions;

/// Plans a run; a line that cannot run whole is refused whole.
pub async fn plan(context: &Context, request: &Request) -> Result<Plan, Error> {
    let line = pipes_syntax::parse(&request.line).map_err(|error| Error::Syntax {
        message: error.message.clone(),
        offset: error.offset,
    })?;
    let kinds = match request.options.versions.as_slice() {
        [] => versions::look_up(&context.store, &context.quorum, &line.stages).await?,
        known => given(&line.stages, known)?,
    };
    let stages = line.stages.into_iter().zip(kinds).map(|(stage, kind)| Planned {
        kind,
        args: stage.args,
        env: stage.assignments,
    });
    let stages = stages.collect();
    Ok(Plan {
        id: format!("r{}", ulid::Ulid::new().to_string().to_lowercase()),
        line: request.line.clone(),
        coordinator: context.nodes.own_id(),
        stages,
        options: request.options.clone(),
        descriptors: request.descriptors,
    })
}

/// What they stood for when somebody looked them up before.
fn given(stages: &[Stage], versions: &[String]) -> Result<Vec<Kind>, Error> {
    if versions.len() != stages.len() {
        return Err(Error::Usage(format!(
            "{} versions were given for {} stages",
            versions.len(),
            stages.len()
        )));
    }
    let kinds = stages.iter().zip(versions).map(|(stage, digest)| Kind {
        service: service::split(&stage.name).0.to_owned(),
        digest: digest.clone(),
    });
    Ok(kinds.collect())
}
