//! From a request to a plan: parses the line and looks up what its names were built from.

use crate::service;
use crate::workflow::run::Error;
use crate::workflow::run::plan::{Plan, Planned};
use crate::workflow::run::request::Request;
use crate::workflow::run::start::Context;
use crate::workflow::syntax;

/// Plans a run; a line that cannot run whole is refused whole.
pub async fn plan(context: &Context, request: &Request) -> Result<Plan, Error> {
    let line = syntax::parse(&request.line).map_err(|error| Error::Syntax {
        message: error.message.clone(),
        offset: error.offset,
    })?;
    let names: Vec<&str> = line.stages.iter().map(|stage| stage.name.as_str()).collect();
    // One linearizable read for all names: what a build anywhere was answered for is seen here.
    let found = service::find_all(&context.store, &names).await?;
    let mut stages = Vec::with_capacity(line.stages.len());
    for (stage, found) in line.stages.into_iter().zip(found) {
        let Some(record) = found else {
            let known = service::names(&context.store).await?;
            let nearest = service::nearest(&stage.name, &known);
            return Err(Error::UnknownService {
                name: stage.name,
                nearest,
            });
        };
        stages.push(Planned {
            service: record.name,
            digest: record.digest.to_string(),
            args: stage.args,
            env: stage.assignments,
        });
    }
    Ok(Plan {
        id: format!("r{}", ulid::Ulid::new().to_string().to_lowercase()),
        line: request.line.clone(),
        coordinator: context.nodes.own_id(),
        stages,
        options: request.options.clone(),
    })
}
