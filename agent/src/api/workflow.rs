//! `pipes.workflow.start|stop|remove|list|get|update|scale`: daemon workflows, shown and changed.
//!
//! Keyword arguments by the long names of the command line's options; unknown ones are ignored. `start` with a name alone
//! starts a stopped one. What is answered is the workflow, with `token` where one was made.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use pipes_job::record::OpenState;
use pipes_job::{Question, Which};
use rmpv::Value;
use serde::Serialize;
use tokio::time::{Instant, sleep};

use crate::api::arguments::Arguments;
use crate::api::{Answer, Api, Error, value};
use crate::listing::Page;
use crate::workflow::daemon;
use crate::workflow::daemon::asked::{self, Asked};
use crate::workflow::daemon::record::{Wish, Workflow};
use crate::workflow::daemon::rollout::OnNodes;
use crate::workflow::daemon::wish::Wishes;
use crate::workflow::options::GRACE;

/// How long jobs that are cancelled may take to have ended: five seconds and then SIGKILL, in turn as they come to be run.
const CANCELLED_WITHIN: Duration = Duration::from_secs(60);
/// Jobs that are cancelled at a time.
const PAGE: usize = 100;
/// What is waited for one of them at a time.
const WAIT: Duration = Duration::from_secs(10);
/// Rest before they are asked for again where one is open and is not among them.
const REST: Duration = Duration::from_millis(50);

/// A workflow as everybody outside sees it: fields are added, never renamed.
#[derive(Debug, Serialize)]
struct Shown {
    name: String,
    line: String,
    /// `running` or `stopped`: what is wished; `stages` say how much of it is there.
    state: &'static str,
    reason: Option<String>,
    port: Option<u16>,
    bind: Option<String>,
    addresses: Vec<String>,
    stages: Vec<ShownStage>,
    /// Raised with each change of what it runs.
    revision: u64,
    created: String,
    /// Whoever uses it must show a token.
    has_token: bool,
    /// The token, where it was made just now.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
}

#[derive(Debug, Serialize)]
struct ShownStage {
    stage: u32,
    service: String,
    digest: String,
    args: Vec<String>,
    /// Replicas that are wished.
    replicas: u32,
    /// Those that can be called; `None` where it is stopped.
    ready: Option<u32>,
}

pub(super) async fn start(api: &Api, arguments: &mut Arguments) -> Result<Value, Error> {
    let name = arguments.take("name");
    let name = name.map(|name| text(&name, "name")).transpose()?;
    let asked = Asked::parse(arguments.rest())?;
    let wishes = wishes(api);
    match &name {
        Some(name) if asked == Asked::default() => {
            Ok(value(&shown(api, &wishes.start_again(name).await?, None)))
        }
        _ if asked.line.is_none() => Err(Error::Usage(
            "a line is needed, such as \"a | b\"; or a name alone, to start a stopped workflow".into(),
        )),
        name => {
            let (workflow, token) = wishes.start(name.as_deref(), &asked).await?;
            Ok(value(&shown(api, &workflow, token)))
        }
    }
}

pub(super) async fn stop(api: &Api, arguments: &mut Arguments) -> Result<Value, Error> {
    let grace = arguments.seconds("grace").unwrap_or(GRACE.as_secs_f64());
    let grace = Duration::try_from_secs_f64(grace)
        .map_err(|_| Error::Usage("grace must be a number of seconds".into()))?;
    let workflow = wishes(api).stop(&arguments.text("name")?, grace).await?;
    Ok(value(&shown(api, &workflow, None)))
}

pub(super) async fn remove(api: &Api, arguments: &mut Arguments) -> Result<Value, Error> {
    let name = arguments.text("name")?;
    let force = arguments.flag("force");
    let wishes = wishes(api);
    if force {
        // Nothing new comes from now on, and what is there has to end.
        wishes.stop(&name, Duration::ZERO).await?;
        cancel_jobs(api, &wishes, &name).await?;
    }
    wishes.removable(&name, force).await?;
    // First, so that one of its name that comes later shows none of them, whatever ends on the way.
    api.jobs.forget_all(&name).await?;
    wishes.remove(&name, force).await?;
    Ok(Value::from(name))
}

/// Those that run, or all; those that this agent has heard of, where the store decides nothing.
pub(super) async fn list(api: &Api, arguments: &mut Arguments) -> Result<Answer, Error> {
    let (is_all, after) = (arguments.flag("all"), arguments.after()?);
    let (mut workflows, unknown) = match api.quorum.decided(wishes(api).list()).await {
        Ok(workflows) => (workflows?, Vec::new()),
        Err(undecided) => {
            let known = api.workflows.all().into_values();
            let known = known.map(|workflow| workflow.as_ref().clone());
            (known.collect(), vec![undecided.to_string()])
        }
    };
    workflows.retain(|workflow| is_all || workflow.wish == Wish::Running);
    workflows.sort_by(|one, other| one.name.cmp(&other.name));
    let placed = workflows
        .iter()
        .map(|workflow| (workflow.name.clone(), shown(api, workflow, None)));
    Ok(Answer::page(&Page::of(placed, after.as_deref()), unknown))
}

pub(super) async fn get(api: &Api, arguments: &mut Arguments) -> Result<Value, Error> {
    let workflow = wishes(api).get(&arguments.text("name")?).await?;
    Ok(value(&shown(api, &workflow, None)))
}

pub(super) async fn update(api: &Api, arguments: &mut Arguments) -> Result<Value, Error> {
    let name = arguments.text("name")?;
    let is_rollback = arguments.flag("rollback");
    let asked = Asked::parse(arguments.rest())?;
    let (wishes, rollout) = (wishes(api), rollout(api));
    if !is_rollback {
        let (workflow, token) = wishes.update(&name, &asked, &rollout).await?;
        return Ok(value(&shown(api, &workflow, token)));
    }
    if asked != Asked::default() {
        return Err(Error::Usage(
            "--rollback takes what was there before the last update as it was; give no line or option beside it".into(),
        ));
    }
    Ok(value(&shown(
        api,
        &wishes.roll_back(&name, &rollout).await?,
        None,
    )))
}

pub(super) async fn scale(api: &Api, arguments: &mut Arguments) -> Result<Value, Error> {
    let name = arguments.text("name")?;
    let replicas = arguments.take("replicas");
    let replicas =
        replicas.ok_or_else(|| Error::Usage("replicas must be given, a number for each STAGE".into()))?;
    let workflow = wishes(api).scale(&name, &asked::replicas(replicas)?).await?;
    Ok(value(&shown(api, &workflow, None)))
}

fn wishes(api: &Api) -> Wishes<'_> {
    let ports = api.config.ports;
    Wishes {
        store: &api.store,
        quorum: &api.quorum,
        holders: &api.blobs,
        nodes: api
            .nodes
            .records()
            .into_values()
            .map(|record| record.name)
            .collect(),
        reserved: vec![
            ports.gateway,
            ports.mesh,
            ports.wamp,
            ports.etcd,
            ports.registry,
            ports.workflows,
        ],
    }
}

fn rollout(api: &Api) -> OnNodes<'_> {
    OnNodes {
        nodes: &api.nodes,
        agents: &api.agents,
    }
}

/// Cancels the jobs of a workflow and waits until they have ended.
async fn cancel_jobs(api: &Api, wishes: &Wishes<'_>, workflow: &str) -> Result<(), Error> {
    let begun = Instant::now();
    while begun.elapsed() < CANCELLED_WITHIN {
        let mut ids = Vec::new();
        for state in [OpenState::Queued, OpenState::Running] {
            let question = Question {
                workflow: Some(workflow.to_owned()),
                which: Which::Open(state),
                limit: PAGE,
                after: None,
            };
            let page = api.jobs.list(&question).await?;
            ids.extend(page.jobs.iter().map(|job| job.id().to_owned()));
        }
        if ids.is_empty() {
            match wishes.removable(workflow, true).await {
                // One that went from running back to waiting between the two questions: the next ones find it.
                Err(daemon::Error::HasJobs(_)) => {
                    sleep(REST).await;
                    continue;
                }
                removable => return Ok(removable.map(drop)?),
            }
        }
        for id in &ids {
            or_forgotten(api.jobs.cancel(id).await)?;
        }
        for id in &ids {
            or_forgotten(api.jobs.wait(id, WAIT).await)?;
        }
    }
    Err(Error::Unavailable(format!(
        "workflow {workflow} is stopped, and its jobs have not all ended within {} s; try again",
        CANCELLED_WITHIN.as_secs()
    )))
}

/// One that ended and was forgotten meanwhile is over as well.
fn or_forgotten<T>(answered: Result<T, pipes_job::Error>) -> Result<(), Error> {
    match answered {
        Ok(_) | Err(pipes_job::Error::NoJob(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn shown(api: &Api, workflow: &Workflow, token: Option<String>) -> Shown {
    let definition = &workflow.definition;
    let is_running = workflow.wish == Wish::Running;
    let readiness = api.readiness.of(workflow);
    let reason = (readiness.iter().zip(1..)).find_map(|(ready, number)| {
        let why = ready.reason.as_ref()?;
        Some(format!("stage {number}: {why}"))
    });
    let own_name = api.nodes.own_name();
    let reason = reason.or_else(|| {
        let why = api.endpoints.why_down(&workflow.name)?;
        Some(format!("its port is not served on {own_name}: {why}"))
    });
    let stages = definition
        .stages
        .iter()
        .zip(&readiness)
        .zip(1..)
        .map(|((stage, ready), number)| ShownStage {
            stage: number,
            service: stage.service.clone(),
            digest: stage.digest.clone(),
            args: stage.args.clone(),
            replicas: definition.options.replicas.get(&number).copied().unwrap_or(1),
            ready: is_running.then_some(ready.ready),
        });
    let nodes = api.nodes.records();
    let nodes = nodes.values().map(|record| record.address.as_str());
    Shown {
        name: workflow.name.clone(),
        line: definition.line.clone(),
        state: if is_running { "running" } else { "stopped" },
        reason,
        port: workflow.port,
        bind: workflow.bind.map(|bind| bind.to_string()),
        addresses: addresses(workflow, nodes, api.config.ports.workflows),
        stages: stages.collect(),
        revision: workflow.revision,
        created: workflow.created.clone(),
        has_token: workflow.token_sha256.is_some(),
        token,
    }
}

/// Where it is reached, at each node: at its own port, or by its name at the one of all workflows.
fn addresses<'n>(workflow: &Workflow, nodes: impl Iterator<Item = &'n str>, common: u16) -> Vec<String> {
    let mut addresses: Vec<IpAddr> = nodes.filter_map(|address| address.parse().ok()).collect();
    if let (Some(_), Some(bind)) = (workflow.port, workflow.bind)
        && !bind.is_unspecified()
    {
        addresses = vec![bind];
    }
    let scheme = if workflow.tls.is_some() { "https" } else { "http" };
    let address = |address| match workflow.port {
        Some(port) => format!("{scheme}://{}/", SocketAddr::new(address, port)),
        None => format!(
            "{scheme}://{}/{}/",
            SocketAddr::new(address, common),
            workflow.name
        ),
    };
    addresses.into_iter().map(address).collect()
}

fn text(value: &Value, what: &str) -> Result<String, Error> {
    let text = value.as_str().map(str::to_owned);
    text.ok_or_else(|| Error::Usage(format!("{what} must be text")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workflow(port: Option<u16>, bind: Option<&str>) -> Workflow {
        let wish = serde_json::json!({
            "name": "words", "wish": "running", "port": port, "bind": bind, "revision": 1, "created": "",
            "definition": {"line": "cat", "stages": [], "options": {}},
        });
        serde_json::from_value(wish).unwrap()
    }

    #[test]
    fn a_workflow_is_reached_at_its_port_or_by_its_name_at_every_node() {
        let nodes = || ["127.77.0.1", "fd00::2"].into_iter();
        assert_eq!(
            addresses(&workflow(Some(7100), None), nodes(), 7080),
            ["http://127.77.0.1:7100/", "http://[fd00::2]:7100/"]
        );
        assert_eq!(
            addresses(&workflow(None, None), nodes(), 7080),
            ["http://127.77.0.1:7080/words/", "http://[fd00::2]:7080/words/"]
        );
        let secure = Workflow {
            tls: Some(crate::workflow::daemon::record::Tls { pair: None }),
            ..workflow(Some(7100), None)
        };
        assert_eq!(addresses(&secure, nodes(), 7080)[0], "https://127.77.0.1:7100/");
        assert_eq!(
            addresses(&workflow(Some(7100), Some("127.0.0.1")), nodes(), 7080),
            ["http://127.0.0.1:7100/"]
        );
        assert_eq!(
            addresses(&workflow(Some(7100), Some("0.0.0.0")), nodes(), 7080).len(),
            2,
            "every address of each"
        );
    }
}
