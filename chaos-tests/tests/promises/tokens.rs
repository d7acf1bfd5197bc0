//! Rights that end when they are taken back, and reach no further than they were given.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use pipes_chaos::cluster::Cluster;
use pipes_chaos::command::{self, Input};
use pipes_chaos::wait::wait_for;
use pipes_chaos::wamp::{Address, Outcome, Session};
use rmpv::Value;

/// How long a change of rights may take to be known at every agent.
const KNOWN_WITHIN: Duration = Duration::from_secs(5);

/// A session with a token, once the agent knows that.
fn with_token(cluster: &Cluster, node: usize, token: &str) -> Result<Session> {
    let socket = Address::Unix(cluster.nodes[node].socket());
    wait_for("the token is known", KNOWN_WITHIN, || {
        Session::join(&socket, "pipes", "ticket", Some(("x", token)))
    })
}

fn make(session: &mut Session, keywords: Vec<(&str, Value)>) -> Result<Outcome> {
    session.call("pipes.token.create", vec![], keywords)
}

/// The token in what `pipes.token.create` answers.
fn made(outcome: Outcome) -> Result<String> {
    let answer = outcome.done()?;
    let fields = answer.first().and_then(Value::as_map).context("a map")?;
    let token = fields.iter().find(|(key, _)| key.as_str() == Some("token"));
    let token = token.and_then(|(_, token)| token.as_str());
    Ok(token.context("a token")?.to_owned())
}

/// Whether the session still answers.
fn lives(session: &mut Session) -> bool {
    let listed = session.call("pipes.node.list", vec![], vec![]);
    matches!(listed, Ok(Outcome::Done(_)))
}

#[test]
fn a_removed_token_takes_its_sessions_with_it_and_the_tokens_it_made() -> Result<()> {
    let cluster = Cluster::start(3)?;
    let parent = cluster.call(&["token", "create", "parent"])?.trim().to_owned();
    let other = cluster.call(&["token", "create", "other"])?.trim().to_owned();
    let mut of_parent = with_token(&cluster, 0, &parent)?;
    let child = made(make(&mut of_parent, vec![("name", "child".into())])?)?;
    let mut of_child = with_token(&cluster, 1, &child)?;
    let grandchild = made(make(&mut of_child, vec![("name", "grandchild".into())])?)?;
    let mut of_grandchild = with_token(&cluster, 2, &grandchild)?;
    let mut of_other = with_token(&cluster, 1, &other)?;
    cluster.call(&["token", "rm", "parent"])?;
    for (name, session) in [
        ("parent", &mut of_parent),
        ("child", &mut of_child),
        ("grandchild", &mut of_grandchild),
    ] {
        wait_for("the session ends", KNOWN_WITHIN, || {
            ensure!(!lives(session), "the session of {name} goes on");
            Ok(())
        })?;
    }
    for token in [&parent, &child, &grandchild] {
        let socket = Address::Unix(cluster.nodes[2].socket());
        let joined = Session::join(&socket, "pipes", "ticket", Some(("x", token)));
        assert!(joined.is_err(), "a token of a removed one opens realm pipes");
    }
    assert!(lives(&mut of_other), "another token's session ended");
    assert_eq!(cluster.call(&["token", "ls", "-q"])?, "other\n");
    // A new one of its name brings nothing back.
    cluster.call(&["token", "create", "parent"])?;
    let socket = Address::Unix(cluster.nodes[0].socket());
    assert!(Session::join(&socket, "pipes", "ticket", Some(("x", &child))).is_err());
    cluster.finish()
}

#[test]
fn of_those_who_want_a_name_for_a_token_at_once_one_gets_it() -> Result<()> {
    let cluster = Cluster::start(3)?;
    for round in 0..5 {
        let name = format!("robot-{round}");
        let asking: Vec<_> = (0..6)
            .map(|index| {
                let mut command = cluster.pipes(&["token", "create", &name]);
                command.env("PIPES_AGENT", cluster.nodes[index % 3].wamp());
                command::start(command, Input::None)
            })
            .collect::<Result<_>>()?;
        let mut made = 0;
        for asked in asking {
            let done = asked.finish()?;
            match done.code() {
                0 => made += 1,
                _ => ensure!(done.errors().contains("already"), "{}", done.errors()),
            }
        }
        assert_eq!(made, 1, "of token {name} several were made, or none");
    }
    cluster.finish()
}

/// A call's keyword arguments.
type Arguments = Vec<(&'static str, Value)>;
/// A procedure, what it is called with, and whether a token may.
type Cell = (&'static str, Arguments, bool);

#[test]
fn a_token_of_one_workflow_reaches_no_other() -> Result<()> {
    let cluster = Cluster::start(1)?;
    cluster.build(&["cat"])?;
    for name in ["mine", "other"] {
        cluster.call(&["run", "-d", "--name", name, "cat"])?;
    }
    let others_job = cluster.call(&["query", "-w", "other", "--detach", "secret"])?;
    let own_job = cluster.call(&["query", "-w", "mine", "--detach", "ours"])?;
    let (others_job, own_job) = (others_job.trim().to_owned(), own_job.trim().to_owned());
    cluster.call(&["result", &others_job])?;
    cluster.call(&["result", &own_job])?;
    let token = cluster.call(&["token", "create", "narrow", "--workflow", "mine"])?;
    let mut session = with_token(&cluster, 0, token.trim())?;
    let workflow = |name: &'static str| vec![("workflow", Value::from(name))];
    let named = |name: &'static str| vec![("name", Value::from(name))];
    let id = |id: &str| vec![("id", Value::from(id.to_owned()))];
    let make = |name: &'static str, reach: Option<&'static str>| -> Arguments {
        let reach = reach.map(|reach| ("workflow", Value::from(reach)));
        [("name", Value::from(name))].into_iter().chain(reach).collect()
    };
    let cells: Vec<Cell> = vec![
        ("pipes.workflow.get", named("mine"), true),
        ("pipes.workflow.get", named("other"), false),
        ("pipes.workflow.stop", named("other"), false),
        ("pipes.workflow.remove", named("other"), false),
        ("pipes.workflow.scale", named("other"), false),
        ("pipes.workflow.start", vec![("line", "cat".into())], false),
        ("pipes.job.list", workflow("mine"), true),
        ("pipes.job.list", workflow("other"), false),
        ("pipes.job.list", vec![], false),
        ("pipes.job.get", id(&own_job), true),
        ("pipes.job.get", id(&others_job), false),
        ("pipes.job.result", id(&others_job), false),
        ("pipes.job.cancel", id(&others_job), false),
        ("pipes.job.retry", id(&others_job), false),
        ("pipes.job.submit", workflow("other"), false),
        ("pipes.run.start", vec![("line", "cat".into())], false),
        ("pipes.node.list", vec![], true),
        ("pipes.node.reset", named("n1"), false),
        ("pipes.cluster.set", vec![], false),
        ("pipes.token.create", make("more", None), false),
        ("pipes.token.create", make("more", Some("other")), false),
        ("pipes.token.create", make("more", Some("mine")), true),
        ("pipes.token.remove", named("narrow"), false),
        ("pipes.store.range", vec![], false),
    ];
    for (procedure, keywords, may) in cells {
        let said = format!("{procedure} {keywords:?}");
        match (session.call(procedure, vec![], keywords)?, may) {
            (Outcome::Done(_), true) => {}
            (Outcome::Failed(uri, _), false) if uri == "wamp.error.not_authorized" => {}
            (outcome, _) => panic!("{said}: {outcome:?}"),
        }
    }
    let listed = session.call("pipes.workflow.list", vec![], vec![("all", true.into())])?;
    let shown = Value::Array(listed.done()?).to_string();
    assert!(shown.contains("mine") && !shown.contains("other"), "{shown}");
    for name in ["mine", "other"] {
        cluster.call(&["stop", name])?;
    }
    cluster.finish()
}

#[test]
fn a_removed_node_is_let_in_nowhere() -> Result<()> {
    let cluster = Cluster::start(3)?;
    cluster.build(&["cat"])?;
    let mut command = cluster.pipes(&["node", "rm", "n3"]);
    command.env("PIPES_AGENT", cluster.nodes[0].wamp());
    let pid = cluster.nodes[2].pid()?;
    command::run(command, Input::None)?.success()?;
    ensure!(!pipes_chaos::proc::is_alive(pid), "its agent goes on");
    let nodes = cluster.json(&["node", "ls"])?;
    let names: Vec<&str> = nodes
        .as_array()
        .context("an array")?
        .iter()
        .filter_map(|node| node["name"].as_str())
        .collect();
    assert_eq!(names, ["n1", "n2"]);
    let done = cluster
        .run("cat")
        .input(Input::Bytes(b"as before\n".to_vec()))
        .finish()?
        .success()?;
    assert_eq!(done.output(), "as before\n");
    cluster.finish()
}
