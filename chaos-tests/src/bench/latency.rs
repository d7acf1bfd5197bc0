//! How long a small warm line takes: over an open WAMP session, by the CLI, and in `sh`.

use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use rmpv::Value;

use super::{Aim, Table, milliseconds, percentiles};
use crate::cluster::{Cluster, Node};
use crate::command::{self, Input};
use crate::wamp::{self, Session, map};

/// Runs of each form; p99 is then the second or third worst.
const RUNS: usize = 200;
/// The line: three processes and a few bytes.
const LINE: &str = "echo x | cat | cat";

/// Runs a line over an open session, as `pipes run` would; gives its output.
pub fn run_over(session: &mut Session, line: &str) -> Result<Vec<u8>> {
    let request = session.request();
    let options = map(vec![("receive_progress", true.into())]);
    let keywords = map(vec![
        ("line", line.into()),
        ("options", map(vec![])),
        ("stdin", Value::Binary(Vec::new())),
    ]);
    let call = vec![
        48.into(),
        request.into(),
        options,
        "pipes.run.start".into(),
        Value::Array(vec![]),
        keywords,
    ];
    session.send(&Value::Array(call))?;
    let mut output = Vec::new();
    loop {
        let message = session.receive()?;
        match message.kind() {
            50 if message.items.get(2).is_some_and(wamp::is_progress) => {
                let arguments = message
                    .items
                    .get(3)
                    .and_then(Value::as_array)
                    .context("a result's arguments")?;
                if arguments.first().and_then(Value::as_u64) == Some(1) {
                    output.extend_from_slice(arguments.get(1).and_then(Value::as_slice).unwrap_or_default());
                }
            }
            50 => return Ok(output),
            kind => anyhow::bail!("{line}: a message of kind {kind}: {:?}", message.items),
        }
    }
}

fn timed(mut one: impl FnMut() -> Result<()>) -> Result<f64> {
    let begun = Instant::now();
    one()?;
    Ok(milliseconds(begun.elapsed()))
}

/// All three forms in turns.
pub fn measure(cluster: &Cluster, table: &mut Table) -> Result<()> {
    let node: &Node = &cluster.nodes[0];
    let mut session = node.operator()?;
    let pipes = || -> Result<()> {
        let done = command::run(cluster.pipes(&["run", "-n", "-q", LINE]), Input::None)?.success()?;
        ensure!(done.output() == "x\n", "{:?}", done.output());
        Ok(())
    };
    let sh = || -> Result<()> {
        let mut command = Command::new("sh");
        command.args(["-c", "/bin/echo x | cat | cat"]);
        let done = command::run(command, Input::None)?.success()?;
        ensure!(done.output() == "x\n", "{:?}", done.output());
        Ok(())
    };
    for _ in 0..10 {
        pipes()?;
        run_over(&mut session, LINE)?;
    }
    let mut values: [Vec<f64>; 3] = Default::default();
    for _ in 0..RUNS {
        values[0].push(timed(|| {
            let output = run_over(&mut session, LINE)?;
            ensure!(output == b"x\n", "{output:?}");
            Ok(())
        })?);
        values[1].push(timed(pipes)?);
        values[2].push(timed(sh)?);
    }
    let [session, cli, sh] = values.map(percentiles);
    table.beside(
        "warm run of three stages, open session, ms",
        session.0,
        "sh -c",
        sh.0,
        Some(Aim::RatioMax(1.5)),
    );
    table.beside("  its p99", session.1, "sh -c, p99", sh.1, None);
    table.beside(
        "warm run of three stages, pipes run, ms",
        cli.0,
        "sh -c",
        sh.0,
        Some(Aim::RatioMax(3.0)),
    );
    table.beside("  its p99", cli.1, "sh -c, p99", sh.1, None);
    Ok(())
}
