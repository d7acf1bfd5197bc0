//! `pipes.run.logs`: what a run's or a job's stages said on standard error, as far as it is kept.
//!
//! Each agent keeps what the runs that it coordinated said; of a job's attempts, under the job's ID. Whoever is asked asks a
//! run's coordinator, or all agents where that is not known, since a finished run's record does not tell it, and a job's
//! attempts may have been at several; and passes on what comes.
//!
//! ```text
//! caller <─ [bytes] {stage} ─ agent asked ── {id, from: 0} ─────────────> coordinator
//!        <─ [bytes] {stage} ─             <─ {records, next: 8120, ...} ─
//!                                         ── {id, from: 8120, wait: 10} ─>            answered once there is more
//! ```
//!
//! An answer is asked for when the one before it has been passed on: a caller that reads slowly holds up nobody, and is told
//! how much went by meanwhile: `[b""] {stage, missed_bytes, missed_lines}`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures::future::join_all;
use pipes_job::Found;
use pipes_wamp::payload::PayloadBuf;
use rmpv::Value;
use tokio::time::{Instant, sleep};

use crate::api::arguments::Arguments;
use crate::api::streaming::{self, Caller};
use crate::api::{Api, Error, attempt, job, run, uris, value};
use crate::cluster::quorum::listed;
use crate::workflow::placement;
use crate::workflow::runs::stderr_log::record::{self, Entry, Said};
use crate::workflow::runs::stderr_log::{Answer, Question};
use crate::workflow::runs::view::time;
use pipes_router::OwnSession;

/// How long an agent may take to read its logs.
const ASK_MAX: Duration = Duration::from_secs(5);
/// How long one that has nothing more waits for something, before it is asked again: whoever is gone is noticed then.
const WAIT: Duration = Duration::from_secs(10);
/// What several entries are put together to, for the caller.
const PART_MAX: usize = 32 << 10;
/// Rest before a question that was answered at once with nothing: too many wait there.
const REST: Duration = Duration::from_millis(300);

/// What is asked for.
struct Asked {
    id: String,
    stage: Option<u32>,
    tail: Option<u64>,
    since: Option<f64>,
    /// Each line is told with when it came.
    timestamps: bool,
}

/// What this agent keeps of a run.
pub(super) async fn own(api: &Api, arguments: &mut Arguments) -> Result<Value, Error> {
    let ago = |ago: f64| SystemTime::now().checked_sub(Duration::try_from_secs_f64(ago).ok()?);
    let question = Question {
        run: arguments.text("id")?,
        from: arguments.number("from").unwrap_or(0),
        tail: arguments.number("tail").map(|lines| lines as usize),
        since: arguments.seconds("since").and_then(ago),
        stage: arguments.number("stage").map(|stage| stage as u32),
        wait: Duration::from_secs(arguments.number("wait").unwrap_or(0)).min(WAIT),
    };
    let stopping = api.lifecycle.stopping();
    let answer = stopping.run_until_cancelled(api.logs.read(question)).await;
    let answer = answer.ok_or_else(|| Error::Unavailable("the agent is stopping".into()))?;
    Ok(value(&answer))
}

/// Serves one call, on a session of its own.
pub(super) async fn serve(api: &Api, own: OwnSession) {
    let Some((mut chunks, mut caller, asked)) = streaming::accept(api, uris::RUN_LOGS, own.stream).await
    else {
        return;
    };
    // Dropped when the caller gives up or is gone, or the agent stops.
    let stopping = api.lifecycle.stopping();
    let told = tokio::select! {
        told = tell(api, asked, &mut caller) => told,
        _ = chunks.next() => return,
        () = stopping.cancelled() => Err(Error::Unavailable("the agent is stopping".into())),
    };
    caller.end(told.map(|()| PayloadBuf::default())).await;
}

async fn tell(api: &Api, asked: Result<Arguments, Error>, caller: &mut Caller) -> Result<(), Error> {
    let mut arguments = asked?;
    let is_followed = arguments.flag("follow");
    let Kept {
        id,
        stages,
        keeper,
        runner,
    } = match arguments.take("job") {
        Some(job) => of_job(api, job.as_str().unwrap_or_default()).await?,
        None => of_run(api, &arguments.text("id")?).await?,
    };
    let stage = match arguments.take("stage") {
        None => None,
        Some(value) => Some(stage_number(&value, &stages)?),
    };
    let asked = Asked {
        id,
        stage,
        tail: arguments.number("tail"),
        since: arguments.seconds("since"),
        timestamps: arguments.flag("timestamps"),
    };
    let nodes: Vec<u64> = match keeper {
        None => api.nodes.reached().into_iter().map(|(node, _)| node).collect(),
        Some(node) => vec![node],
    };
    let first = join_all(nodes.iter().map(|node| ask(api, *node, &asked, None))).await;
    let told: Vec<(u64, Answer)> = nodes
        .into_iter()
        .zip(first)
        .filter_map(|(node, told)| Some((node, told?)))
        .collect();
    let heard: BTreeSet<u64> = told.iter().map(|(node, _)| *node).collect();
    for (node, told) in told {
        // Of all agents few kept any, and one has it come.
        if keeper.is_some() || runner == Some(node) || !told.records.is_empty() {
            pass_on(api, node, &asked, told, is_followed, caller).await?;
        }
    }
    was_heard(api, &asked.id, keeper, &heard)
}

/// What is asked of, and who keeps it.
struct Kept {
    id: String,
    /// The services of its stages.
    stages: Vec<String>,
    /// The one agent that does; `None`: any may.
    keeper: Option<u64>,
    /// Where more of it comes.
    runner: Option<u64>,
}

async fn of_run(api: &Api, id: &str) -> Result<Kept, Error> {
    let (coordinator, found) = run::find(api, id).await?;
    let keeper = match coordinator {
        0 => run::finder(api).keeper(&found.id).await?,
        node => Some(node),
    };
    Ok(Kept {
        id: found.id,
        stages: found.stages.into_iter().map(|stage| stage.service).collect(),
        keeper,
        runner: keeper,
    })
}

/// Its attempts may have been at several agents.
async fn of_job(api: &Api, part: &str) -> Result<Kept, Error> {
    let found = api.jobs.look(&job::whole_id(api, part).await?).await?;
    let (workflow, runner) = match &found {
        Found::Open(job) => (&job.workflow, attempt::runner(job)),
        Found::Done { workflow, .. } => (workflow, None),
    };
    let known = attempt::stages(api, &found).await.into_iter();
    let mut stages: Vec<String> = known.map(|stage| stage.service).collect();
    if stages.is_empty()
        && let Some(workflow) = api.workflows.get(workflow)
    {
        let defined = workflow.definition.stages.iter();
        stages = defined.map(|stage| stage.service.clone()).collect();
    }
    Ok(Kept {
        id: found.id().to_owned(),
        stages,
        keeper: None,
        runner,
    })
}

/// An error where the agent that keeps what the run's stages said has not answered: what was told is not all.
fn was_heard(api: &Api, id: &str, keeper: Option<u64>, heard: &BTreeSet<u64>) -> Result<(), Error> {
    let silent = match keeper {
        Some(keeper) if heard.contains(&keeper) => return Ok(()),
        Some(keeper) => run::finder(api).name(keeper),
        // Of an older version: any of those that have not answered may keep it.
        None => {
            let known = api.nodes.records().into_values();
            let silent = known.filter(|record| !heard.contains(&record.id));
            let names: Vec<String> = silent.map(|record| record.name).collect();
            if names.is_empty() {
                return Ok(());
            }
            listed(&names)
        }
    };
    Err(silent_keeper(api, id, &silent))
}

fn silent_keeper(api: &Api, id: &str, names: &str) -> Error {
    Error::Unavailable(format!(
        "what the stages of {id} said is kept by {names}, which does not answer; if that is down, start it with: {}",
        api.quorum.start()
    ))
}

/// Passes on what a node keeps, from its first answer on; where it is followed, until the run is over.
async fn pass_on(
    api: &Api,
    node: u64,
    asked: &Asked,
    told: Answer,
    is_followed: bool,
    caller: &mut Caller,
) -> Result<(), Error> {
    let mut seen = Seen::new(asked.tail.is_none() && asked.since.is_none());
    let mut stamps = asked.timestamps.then(Stamps::default);
    let mut told = Some(told);
    loop {
        let Some(Answer {
            records,
            next,
            is_all,
            is_over,
            said,
        }) = told
        else {
            let name = run::finder(api).name(node);
            return Err(silent_keeper(api, &asked.id, &name));
        };
        show(&records, &mut seen, stamps.as_mut(), caller).await?;
        seen.begin(&said);
        if is_over || (is_all && !is_followed) {
            return Ok(());
        }
        let begun = Instant::now();
        told = ask(api, node, asked, Some((next, is_all))).await;
        let is_quiet = |told: &Answer| told.records.is_empty() && told.is_all && !told.is_over;
        if told.as_ref().is_some_and(is_quiet) && begun.elapsed() < REST {
            sleep(REST).await;
        }
    }
}

/// Shows records to the caller: what a stage said one after another in one part, and what is missing of it.
async fn show(
    records: &[u8],
    seen: &mut Seen,
    mut stamps: Option<&mut Stamps>,
    caller: &mut Caller,
) -> Result<(), Error> {
    let (mut stage, mut bytes) = (0, Vec::new());
    for entry in record::entries(records) {
        let missed = seen.take(&entry);
        if missed.is_some() || entry.stage != stage || bytes.len() >= PART_MAX {
            say(caller, stage, std::mem::take(&mut bytes)).await?;
        }
        if let Some(missed) = missed {
            caller.part(&gap(entry.stage, missed)).await?;
        }
        stage = entry.stage;
        match &mut stamps {
            Some(stamps) => bytes.extend(stamps.stamped(&entry)),
            None => bytes.extend(entry.bytes),
        }
    }
    say(caller, stage, bytes).await
}

async fn say(caller: &mut Caller, stage: u32, bytes: Vec<u8>) -> Result<(), Error> {
    if bytes.is_empty() {
        return Ok(());
    }
    let kwargs = Value::Map(vec![("stage".into(), stage.into())]);
    let part = PayloadBuf::of_values(vec![Value::Binary(bytes)], Some(kwargs));
    caller.part(&part).await
}

fn gap(stage: u32, missed: Said) -> PayloadBuf {
    let kwargs = vec![
        ("stage".into(), stage.into()),
        ("missed_bytes".into(), missed.bytes.into()),
        ("missed_lines".into(), missed.lines.into()),
    ];
    PayloadBuf::of_values(vec![Value::Binary(Vec::new())], Some(Value::Map(kwargs)))
}

/// Puts before each line when its beginning came.
#[derive(Default)]
struct Stamps {
    /// Stages that are in the middle of a line.
    in_line: BTreeSet<u32>,
}

impl Stamps {
    fn stamped(&mut self, entry: &Entry) -> Vec<u8> {
        let at = time(UNIX_EPOCH + Duration::from_millis(entry.at));
        let mut stamped = Vec::with_capacity(entry.bytes.len() + at.len() + 1);
        for piece in entry.bytes.split_inclusive(|byte| *byte == b'\n') {
            if self.in_line.insert(entry.stage) {
                stamped.extend_from_slice(at.as_bytes());
                stamped.push(b' ');
            }
            stamped.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                self.in_line.remove(&entry.stage);
            }
        }
        stamped
    }
}

/// How much of each stage a caller has seen, or has not asked for.
struct Seen {
    stages: BTreeMap<u32, Said>,
    /// From the beginning on all was asked for.
    is_from_start: bool,
}

impl Seen {
    fn new(is_from_start: bool) -> Seen {
        Seen {
            stages: BTreeMap::new(),
            is_from_start,
        }
    }

    /// Takes an entry in; what of its stage is missing before it.
    fn take(&mut self, entry: &Entry) -> Option<Said> {
        let unasked = if self.is_from_start {
            Said::default()
        } else {
            entry.before
        };
        let seen = self.stages.entry(entry.stage).or_insert(unasked);
        let missed = entry.before.beyond(*seen);
        *seen = entry.before.and(Said::of(&entry.bytes));
        missed
    }

    /// After the first answer: what the stages had said that are not in it was not asked for; after it, all is.
    fn begin(&mut self, said: &[(u32, Said)]) {
        if !std::mem::replace(&mut self.is_from_start, true) {
            for (stage, said) in said {
                self.stages.entry(*stage).or_insert(*said);
            }
        }
    }
}

/// A stage by its number or, where one stage has it, its service's name.
fn stage_number(value: &Value, services: &[String]) -> Result<u32, Error> {
    let number = value.as_u64().map(|number| number.to_string());
    let name = number.as_deref().or(value.as_str()).unwrap_or_default();
    let services: Vec<&str> = services.iter().map(String::as_str).collect();
    placement::stage_index(&services, name)
        .map(|index| index as u32 + 1)
        .map_err(|error| Error::Usage(format!("--stage {error}")))
}

/// Asks a node; after its first answer from where that ended, and to wait if that was all. Nothing if it does not answer
/// in time.
async fn ask(api: &Api, node: u64, asked: &Asked, further: Option<(u64, bool)>) -> Option<Answer> {
    let mut kwargs = vec![("id".into(), asked.id.as_str().into())];
    kwargs.extend(asked.stage.map(|stage| ("stage".into(), stage.into())));
    let mut limit = ASK_MAX;
    match further {
        None => {
            kwargs.extend(asked.tail.map(|tail| ("tail".into(), tail.into())));
            kwargs.extend(asked.since.map(|since| ("since".into(), since.into())));
        }
        Some((from, is_all)) => {
            kwargs.push(("from".into(), from.into()));
            if is_all {
                kwargs.push(("wait".into(), WAIT.as_secs().into()));
                limit += WAIT;
            }
        }
    }
    let uri = uris::of_node(node, uris::node::RUN_LOGS);
    let call = api.agents.call_once(&uri, vec![], Some(Value::Map(kwargs)));
    match tokio::time::timeout(limit, call).await {
        Ok(Ok(answer)) => answer.as_payload().first_as().ok(),
        Ok(Err(_)) | Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_is_refused_by_the_option_that_named_it() {
        let stages = ["cat", "wc", "cat"].map(str::to_owned);
        assert_eq!(stage_number(&"wc".into(), &stages).unwrap(), 2);
        assert_eq!(stage_number(&3.into(), &stages).unwrap(), 3);
        let said = |value: Value| stage_number(&value, &stages).unwrap_err().to_string();
        assert_eq!(
            said("cat".into()),
            "--stage cat: stages 1 and 3 run cat; give a number"
        );
        assert_eq!(
            said(4.into()),
            "--stage 4: the line has 3 stages, numbered from 1"
        );
    }

    fn entry(stage: u32, (bytes, lines): (u64, u64), said: &str) -> Entry {
        Entry {
            at: 0,
            stage,
            before: Said { bytes, lines },
            bytes: said.into(),
        }
    }

    #[test]
    fn each_line_is_told_with_when_it_began() {
        let mut stamps = Stamps::default();
        let mut said = |stage, at, bytes: &str| {
            let entry = Entry {
                at,
                stage,
                before: Said::default(),
                bytes: bytes.into(),
            };
            String::from_utf8(stamps.stamped(&entry)).unwrap()
        };
        let first = "1970-01-01T00:00:01.000Z";
        assert_eq!(
            said(1, 1_000, "one\ntwo\nthr"),
            format!("{first} one\n{first} two\n{first} thr")
        );
        assert_eq!(said(2, 1_000, "a\n"), format!("{first} a\n"));
        assert_eq!(said(1, 2_000, "ee\n"), "ee\n");
        assert_eq!(said(1, 2_000, "x\n"), "1970-01-01T00:00:02.000Z x\n");
    }

    #[test]
    fn what_went_by_is_told_once_and_for_its_own_stage() {
        let mut seen = Seen::new(true);
        assert_eq!(seen.take(&entry(1, (0, 0), "one\n")), None);
        assert_eq!(seen.take(&entry(2, (0, 0), "two\n")), None);
        let missed = Said { bytes: 96, lines: 9 };
        assert_eq!(seen.take(&entry(1, (100, 10), "three\n")), Some(missed));
        assert_eq!(seen.take(&entry(1, (106, 11), "four\n")), None);
        assert_eq!(seen.take(&entry(2, (4, 1), "five\n")), None);
    }

    #[test]
    fn what_was_not_asked_for_is_not_missed() {
        let mut seen = Seen::new(false);
        assert_eq!(seen.take(&entry(1, (100, 10), "the last line\n")), None);
        seen.begin(&[
            (
                1,
                Said {
                    bytes: 114,
                    lines: 11,
                },
            ),
            (2, Said { bytes: 50, lines: 5 }),
        ]);
        assert_eq!(seen.take(&entry(2, (50, 5), "later\n")), None);
        let missed = Said { bytes: 3, lines: 0 };
        assert_eq!(
            seen.take(&entry(3, (3, 0), "a stage that was silent\n")),
            Some(missed)
        );
    }
}
