//! `pipes.run.logs`: what a run's stages said on standard error, as far as it is kept.
//!
//! Each agent keeps what the runs that it coordinated said. Whoever is asked asks all agents, since a finished run's
//! record does not tell its coordinator, and passes on what comes; to follow a run is to ask again until it is over.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::future::join_all;
use pipes_wamp::payload::PayloadBuf;
use rmpv::Value;

use crate::api::arguments::Arguments;
use crate::api::streaming::{self, Caller};
use crate::api::{Api, Error, run, uris};
use crate::workflow::placement;
use crate::workflow::runs::stderr_log::{Entry, Filter};
use crate::workflow::runs::view::Run;
use pipes_router::OwnSession;

/// How long an agent may take to read its logs.
const ASK_MAX: Duration = Duration::from_secs(5);
/// Between two questions while a run is followed.
const FOLLOW_EVERY: Duration = Duration::from_millis(300);
/// Bytes of entries in one answer: well under a message's limit.
const ANSWER_MAX: usize = 8 << 20;

/// One entry as it travels: stage, milliseconds since 1970, bytes.
type Line = (u32, u64, Vec<u8>);

/// What is asked for.
struct Question {
    id: String,
    stage: Option<u32>,
    tail: Option<u64>,
    since: Option<f64>,
}

/// Entries of a run that this agent keeps, the first `skip` left out.
pub(super) async fn own(api: &Api, arguments: &mut Arguments) -> Result<Value, Error> {
    let id = arguments.text("id")?;
    let filter = Filter {
        tail: arguments.number("tail").map(|lines| lines as usize),
        since: arguments
            .seconds("since")
            .and_then(|ago| SystemTime::now().checked_sub(Duration::try_from_secs_f64(ago).ok()?)),
        stage: arguments.number("stage").map(|stage| stage as u32),
        skip: arguments.number("skip").unwrap_or(0) as usize,
    };
    let logs = api.logs.clone();
    let read = tokio::task::spawn_blocking(move || logs.read(&id, &filter)).await;
    let entries = read.map_err(|_| Error::Unavailable("the logs cannot be read".into()))?;
    let mut room = ANSWER_MAX;
    let fitting = entries.into_iter().take_while(|entry| {
        let fits = entry.bytes.len() <= room;
        room = room.saturating_sub(entry.bytes.len());
        fits
    });
    Ok(Value::Array(fitting.map(encode).collect()))
}

fn encode(entry: Entry) -> Value {
    let at = entry
        .at
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_millis() as u64;
    Value::Array(vec![entry.stage.into(), at.into(), Value::Binary(entry.bytes)])
}

/// Serves one call, on a session of its own.
pub(super) async fn serve(api: &Api, own: OwnSession) {
    let Some((mut chunks, mut caller, asked)) = streaming::accept(own.stream).await else {
        return;
    };
    // Dropped when the caller gives up or is gone.
    let told = tokio::select! {
        told = tell(api, asked, &mut caller) => told,
        _ = chunks.next() => return,
    };
    caller.end(told.map(|()| PayloadBuf::default())).await;
}

async fn tell(api: &Api, asked: Result<Arguments, Error>, caller: &mut Caller) -> Result<(), Error> {
    let mut arguments = asked?;
    let follow = arguments.flag("follow");
    let (mut coordinator, found) = run::find(api, &arguments.text("id")?).await?;
    let stage = match arguments.take("stage") {
        None => None,
        Some(value) => Some(stage_number(&value, &found)?),
    };
    let mut question = Question {
        id: found.id.clone(),
        stage,
        tail: arguments.number("tail"),
        since: arguments.seconds("since"),
    };
    let lines = ask_all(api, &question).await;
    send(caller, &lines).await?;
    // From here on nothing is left out but what was told already.
    (question.tail, question.since) = (None, None);
    let mut told = if coordinator == 0 {
        0
    } else {
        ask(api, coordinator, &question, 0).await.len()
    };
    while follow && coordinator != 0 {
        tokio::time::sleep(FOLLOW_EVERY).await;
        let still = run::find(api, &question.id).await.map_or(0, |(node, _)| node);
        let lines = ask(api, coordinator, &question, told).await;
        told += lines.len();
        send(caller, &lines).await?;
        coordinator = if still == 0 { 0 } else { coordinator };
    }
    Ok(())
}

/// A stage by its number or, where one stage has it, its service's name.
fn stage_number(value: &Value, run: &Run) -> Result<u32, Error> {
    let number = value.as_u64().map(|number| number.to_string());
    let name = number.as_deref().or(value.as_str()).unwrap_or_default();
    let services: Vec<&str> = run.stages.iter().map(|stage| stage.service.as_str()).collect();
    placement::stage_index(&services, name)
        .map(|index| index as u32 + 1)
        .map_err(|error| Error::Usage(format!("--stage {error}")))
}

async fn ask_all(api: &Api, question: &Question) -> Vec<Line> {
    let nodes = api
        .nodes
        .reached()
        .into_iter()
        .map(|(node, _)| ask(api, node, question, 0));
    let mut lines: Vec<Line> = join_all(nodes).await.into_iter().flatten().collect();
    lines.sort_by_key(|(_, at, _)| *at);
    lines
}

/// An agent that does not answer in time has nothing to tell now.
async fn ask(api: &Api, node: u64, question: &Question, skip: usize) -> Vec<Line> {
    let mut kwargs = vec![
        ("id".into(), question.id.as_str().into()),
        ("skip".into(), (skip as u64).into()),
    ];
    kwargs.extend(question.stage.map(|stage| ("stage".into(), stage.into())));
    kwargs.extend(question.tail.map(|tail| ("tail".into(), tail.into())));
    kwargs.extend(question.since.map(|since| ("since".into(), since.into())));
    let uri = uris::of_node(node, uris::node::RUN_LOGS);
    let call = api.agents.call_once(&uri, vec![], Some(Value::Map(kwargs)));
    let Ok(Ok(answer)) = tokio::time::timeout(ASK_MAX, call).await else {
        return Vec::new();
    };
    let args = answer.as_payload().args().unwrap_or_default();
    let Some(Value::Array(entries)) = args.into_iter().next() else {
        return Vec::new();
    };
    entries.into_iter().filter_map(decode).collect()
}

fn decode(entry: Value) -> Option<Line> {
    let Value::Array(fields) = entry else { return None };
    let [stage, at, Value::Binary(bytes)] = fields.as_slice() else {
        return None;
    };
    Some((stage.as_u64()? as u32, at.as_u64()?, bytes.clone()))
}

async fn send(caller: &mut Caller, lines: &[Line]) -> Result<(), Error> {
    for (stage, _, bytes) in lines {
        let kwargs = Value::Map(vec![("stage".into(), (*stage).into())]);
        let line = PayloadBuf::of_values(vec![Value::Binary(bytes.clone())], Some(kwargs));
        caller.part(&line).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workflow::runs::view::RunStage;

    #[test]
    fn a_stage_is_refused_by_the_option_that_named_it() {
        let stage = |service: &str| RunStage {
            service: service.into(),
            ..RunStage::default()
        };
        let run = Run {
            stages: vec![stage("cat"), stage("wc"), stage("cat")],
            ..Run::default()
        };
        assert_eq!(stage_number(&"wc".into(), &run).unwrap(), 2);
        assert_eq!(stage_number(&3.into(), &run).unwrap(), 3);
        let said = |value: Value| stage_number(&value, &run).unwrap_err().to_string();
        assert_eq!(
            said("cat".into()),
            "--stage cat: stages 1 and 3 run cat; give a number"
        );
        assert_eq!(
            said(4.into()),
            "--stage 4: the line has 3 stages, numbered from 1"
        );
    }
}
