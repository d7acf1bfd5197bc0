//! From a request to a plan: parses the line and looks up what its names were built from.

use pipes_protocol::supply::Kind;
use pipes_syntax::Stage;

use crate::service;
use crate::workflow::coordinator::context::Context;
use crate::workflow::coordinator::error::Error;
use crate::workflow::coordinator::plan::{Plan, Planned};
use crate::workflow::coordinator::request::Request;

/// Plans a run; a line that cannot run whole is refused whole.
pub async fn plan(context: &Context, request: &Request) -> Result<Plan, Error> {
    let line = pipes_syntax::parse(&request.line).map_err(|error| Error::Syntax {
        message: error.message.clone(),
        offset: error.offset,
    })?;
    let kinds = match request.options.versions.as_slice() {
        [] => look_up(context, &line.stages).await?,
        versions => given(&line.stages, versions)?,
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

/// What the names stand for now.
async fn look_up(context: &Context, stages: &[Stage]) -> Result<Vec<Kind>, Error> {
    let names: Vec<&str> = stages.iter().map(|stage| stage.name.as_str()).collect();
    // One linearizable read for all names: what a build anywhere was answered for is seen here.
    let found = service::find_all(&context.store, &names);
    let found = context.quorum.decided(found).await??;
    let mut kinds = Vec::with_capacity(stages.len());
    for (stage, found) in stages.iter().zip(found) {
        let Some(record) = found else {
            return Err(unknown(context, stage.name.clone()).await?);
        };
        kinds.push(Kind {
            service: record.name,
            digest: record.digest.to_string(),
        });
    }
    Ok(kinds)
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

/// Why nothing of this name was found.
async fn unknown(context: &Context, reference: String) -> Result<Error, Error> {
    if let (name, Some(digits)) = service::split(&reference) {
        let versions = context
            .quorum
            .decided(service::versions(&context.store, name))
            .await??;
        if !versions.is_empty() {
            return Ok(Error::UnknownVersion {
                name: name.to_owned(),
                digits: digits.to_owned(),
                versions: versions.iter().map(|version| version.digest.hex()).collect(),
            });
        }
    }
    let known = context.quorum.decided(service::names(&context.store)).await??;
    let nearest = service::nearest(&reference, &known);
    Ok(Error::UnknownService {
        name: reference,
        nearest,
    })
}
