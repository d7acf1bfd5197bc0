//! What a token reaches of what its role may: one workflow, where it was made for one; of runs and jobs, its own.
//!
//! The router holds a session to its role by the procedure's URI (`pipes_wamp`, `authorization.rs`). What is in arguments and
//! answers is looked at here, before the procedure and after it:
//!
//! | a runner names | by |
//! |---|---|
//! | its runs and jobs | their whole ID, which it alone was told and nobody guesses |
//!
//! | a token of workflow W | |
//! |---|---|
//! | `pipes.workflow.*`, `job.submit`, `job.list`, `token.create` | of W by name |
//! | one run or job | of W, as its record says |
//! | `pipes.workflow.list`, `run.list` | what is W's |
//! | nodes, services, the cluster's state, uploads | as without |
//! | all else | refused |

use pipes_job::Found;
use pipes_protocol::uris;
use pipes_router::Rights;
use rmpv::Value;

use crate::api::arguments::Arguments;
use crate::api::{Answer, Api, Error, run};
use crate::cluster::tokens::Bearer;

/// Characters of a run's or job's whole ID: a letter and a ULID.
const ID_LENGTH: usize = 27;

/// What a procedure is about, as far as a token's reach goes.
enum About {
    /// The workflow that this argument names.
    Named(&'static str),
    /// A job, by `id`.
    Job,
    /// A run, by `id`; or what `job` names.
    Run,
    /// Objects whose field says which workflow they are of.
    Listed(&'static str),
    /// What all may know, or what does nothing by itself.
    Common,
    /// The whole cluster.
    Whole,
}

fn about(procedure: &str) -> About {
    match procedure {
        uris::WORKFLOW_START
        | uris::WORKFLOW_STOP
        | uris::WORKFLOW_REMOVE
        | uris::WORKFLOW_GET
        | uris::WORKFLOW_UPDATE
        | uris::WORKFLOW_SCALE => About::Named("name"),
        uris::JOB_SUBMIT | uris::JOB_LIST | uris::TOKEN_CREATE => About::Named("workflow"),
        uris::JOB_GET | uris::JOB_RESULT | uris::JOB_CANCEL | uris::JOB_RETRY => About::Job,
        uris::RUN_GET | uris::RUN_STOP | uris::RUN_LOGS => About::Run,
        uris::RUN_LIST => About::Listed("workflow"),
        uris::WORKFLOW_LIST => About::Listed("name"),
        uris::SERVICE_LIST
        | uris::SERVICE_GET
        | uris::BLOB_PUT
        | uris::BLOB_HAS
        | uris::NODE_LIST
        | uris::NODE_SUPPLY
        | uris::CLUSTER_STATUS => About::Common,
        _ => About::Whole,
    }
}

/// Takes a call with these arguments up, or refuses it; `token` is the name of the one that let its caller in.
pub(super) async fn admit(
    api: &Api,
    procedure: &str,
    token: Option<&str>,
    arguments: &mut Arguments,
) -> Result<(), Error> {
    let Some(name) = token else { return Ok(()) };
    let known = api.tokens.get(name);
    let bearer = known.ok_or_else(|| refused(format!("the token {name} was taken back")))?;
    if bearer.token.rights() == Some(Rights::Runner) {
        names_its_own(procedure, arguments)?;
    }
    if let Some(workflow) = &bearer.token.workflow {
        within(api, procedure, workflow, arguments).await?;
    }
    arguments.caller = Some(bearer);
    Ok(())
}

/// What of an answer its caller is told.
pub(super) fn narrowed(procedure: &str, caller: Option<&Bearer>, answer: Answer) -> Answer {
    let workflow = caller.and_then(|caller| caller.token.workflow.as_deref());
    match (workflow, about(procedure)) {
        (Some(workflow), About::Listed(field)) => {
            answer.of_those(|object| text(object, field) == Some(workflow))
        }
        _ => answer,
    }
}

fn text<'v>(object: &'v Value, field: &str) -> Option<&'v str> {
    let (_, value) = object
        .as_map()?
        .iter()
        .find(|(key, _)| key.as_str() == Some(field))?;
    value.as_str()
}

fn names_its_own(procedure: &str, arguments: &Arguments) -> Result<(), Error> {
    if !matches!(about(procedure), About::Job | About::Run) {
        return Ok(());
    }
    let mut ids = ["id", "job"]
        .into_iter()
        .filter_map(|name| arguments.text_given(name));
    match ids.all(|id| id.len() == ID_LENGTH) {
        true => Ok(()),
        false => Err(refused(
            "a runner's token sees its own runs and jobs alone, each by its whole ID".into(),
        )),
    }
}

async fn within(api: &Api, procedure: &str, workflow: &str, arguments: &Arguments) -> Result<(), Error> {
    let of = match about(procedure) {
        About::Common | About::Listed(_) => return Ok(()),
        About::Whole => None,
        About::Named(argument) => arguments.text_given(argument).map(str::to_owned),
        About::Job => job(api, arguments.text_given("id").unwrap_or_default()).await?,
        About::Run => match arguments.text_given("job") {
            Some(id) => job(api, id).await?,
            None => {
                let id = arguments.text_given("id").unwrap_or_default();
                run::find(api, id).await?.1.workflow
            }
        },
    };
    match of.as_deref() == Some(workflow) {
        true => Ok(()),
        false => Err(refused(format!(
            "this token is for workflow {workflow} alone, and this is not said to be of it"
        ))),
    }
}

/// The workflow of the one job whose ID this is, or begins or ends.
async fn job(api: &Api, id: &str) -> Result<Option<String>, Error> {
    let id = match id.len() {
        ID_LENGTH => id.to_owned(),
        _ => match api.jobs.find(id).await? {
            Ok(id) => id,
            Err(_) => {
                return Err(Error::Usage(format!(
                    "{id} names several jobs; give more of the ID"
                )));
            }
        },
    };
    Ok(Some(match api.jobs.look(&id).await? {
        Found::Open(job) => job.workflow,
        Found::Done { workflow, .. } => workflow,
    }))
}

fn refused(why: String) -> Error {
    Error::NotAuthorized(why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::procedures::{PROCEDURES, Right};

    #[test]
    fn a_token_of_one_workflow_reaches_what_is_said_to_be_its_and_nothing_of_the_cluster() {
        let mut whole: Vec<&str> = PROCEDURES
            .iter()
            .filter(|procedure| matches!(procedure.right, Right::Operators))
            .map(|procedure| procedure.uri)
            .filter(|uri| matches!(about(uri), About::Whole))
            .collect();
        whole.sort_unstable();
        // What comes later is here until somebody has thought of it.
        assert_eq!(
            whole,
            [
                uris::CLUSTER_CHECK,
                uris::CLUSTER_SET,
                uris::NODE_REMOVE,
                uris::NODE_RESET,
                uris::RUN_START,
                uris::SERVICE_PUT,
                uris::SERVICE_REMOVE,
                uris::STORE_RANGE,
                uris::STORE_TXN,
                uris::TOKEN_CHECK,
                uris::TOKEN_LIST,
                uris::TOKEN_REMOVE,
            ]
        );
    }

    #[test]
    fn a_runner_names_runs_and_jobs_by_their_whole_id() {
        let whole = format!("r{}", ulid::Ulid::new().to_string().to_lowercase());
        let asked = |name: &str, id: &str| Arguments::with(vec![(name.to_owned(), id.into())]);
        for procedure in [uris::RUN_GET, uris::JOB_RESULT, uris::RUN_LOGS] {
            assert!(
                names_its_own(procedure, &asked("id", &whole)).is_ok(),
                "{procedure}"
            );
            assert!(
                names_its_own(procedure, &asked("id", "r0")).is_err(),
                "{procedure}"
            );
        }
        assert!(names_its_own(uris::RUN_LOGS, &asked("job", "j")).is_err());
        assert!(names_its_own(uris::WORKFLOW_GET, &asked("name", "w")).is_ok());
    }
}
