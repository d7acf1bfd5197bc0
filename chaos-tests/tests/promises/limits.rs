//! What Pipes itself ends is a break: 125 or 124, with the reason, and no stage takes it for the end of its input.

use std::path::PathBuf;

use anyhow::Result;
use pipes_chaos::cluster::{Cluster, GONE_LIMIT};
use pipes_chaos::command::Finished;
use pipes_chaos::wamp::map;
use rmpv::Value;

struct Line {
    cluster: Cluster,
    file: PathBuf,
}

impl Line {
    fn new() -> Result<Line> {
        let cluster = Cluster::start(2)?;
        cluster.build(&["sh", "wc"])?;
        let file = cluster.write("F", b"")?;
        Ok(Line { cluster, file })
    }

    /// A first stage, and one after it that writes into a file when its input has ended.
    fn run(&self, first: &str, then: &str, options: &[&str]) -> Result<Finished> {
        let line = format!("sh -c '{first}' | sh -c '{then} >>{}'", self.file.display());
        self.cluster
            .run(&line)
            .options(&["-n"])
            .options(options)
            .placed(&["n1", "n2"])
            .finish()
    }

    fn no_end_was_seen(&self) -> Result<()> {
        let seen = std::fs::read_to_string(&self.file)?;
        assert_eq!(seen, "", "the break was taken for the end of the input");
        Ok(())
    }
}

#[test]
fn a_stage_that_outgrows_its_scratch_directory_breaks_the_run_and_says_why() -> Result<()> {
    let line = Line::new()?;
    let hog = "for n in 1 2 3; do head -c 4000000 /dev/zero >$n; done; exec sleep 100";
    let done = line
        .run(&format!("echo half; {hog}"), "wc -c", &["--scratch", "10m"])?
        .expect(125)?;
    let why = "(sh) was ended on n1: its scratch directory held more than 10 MiB";
    assert!(done.errors().contains(why), "{}", done.errors());
    line.no_end_was_seen()?;
    // Over WAMP the option is a number of bytes.
    let mut session = line.cluster.nodes[0].operator()?;
    let keywords = |bytes: Value| {
        vec![
            ("line", format!("sh -c '{hog}'").into()),
            ("options", map(vec![("scratch", bytes)])),
            ("stdin", Value::Binary(Vec::new())),
        ]
    };
    let mut run = |bytes: Value| session.call("pipes.run.start", vec![], keywords(bytes));
    let run_of = format!("{:?}", run(10_000_000.into())?);
    assert!(
        run_of.contains("its scratch directory held more than 9.5 MiB"),
        "{run_of}"
    );
    assert_eq!(run("10m".into())?.failed()?, "pipes.error.usage");
    line.cluster.finish()
}

#[test]
fn a_file_may_be_as_large_as_in_a_shell() -> Result<()> {
    let line = Line::new()?;
    // It holds nothing, so it is not counted, and a limit of its size would end the stage.
    let script = "sh -c 'ulimit -f; head -c 0 /dev/zero >x; truncate -s 3G x; wc -c <x'";
    let done = line.cluster.run(script).options(&["-n"]).finish()?.success()?;
    let own = std::process::Command::new("sh")
        .args(["-c", "ulimit -f"])
        .output()?;
    let own = String::from_utf8(own.stdout)?;
    assert_eq!(done.output(), format!("{own}3221225472\n"));
    line.cluster.finish()
}

/// The first stage dies of SIGTERM, the second would go on at an end of input.
#[test]
fn a_timeout_gives_no_stage_an_end_of_its_input() -> Result<()> {
    let line = Line::new()?;
    let then = "trap \"\" TERM; cat >/dev/null; echo done";
    let done = line.run("echo half; exec sleep 100", then, &["--timeout", "0.5s"])?;
    done.expect(124)?;
    line.no_end_was_seen()?;
    // What the last stage wrote before it was ended comes out all the same, as with timeout(1).
    let done = line
        .cluster
        .run("sh -c 'seq 1 20000; exec sleep 100'")
        .options(&["-n", "--timeout", "5s"])
        .finish()?
        .expect(124)?;
    let own = std::process::Command::new("timeout")
        .args(["5", "sh", "-c", "seq 1 20000; exec sleep 100"])
        .output()?;
    assert_eq!((own.status.code(), own.stdout == done.stdout), (Some(124), true));
    line.cluster.finish()
}

/// The callee of a call that was cancelled by `skip` is told nothing then; a run goes on for nobody until it says something.
#[test]
fn a_run_whose_call_was_skipped_ends_with_its_next_output() -> Result<()> {
    let line = Line::new()?;
    let mut session = line.cluster.nodes[0].operator()?;
    let request = session.request();
    let ticker = "sh -c 'while :; do echo x; sleep 0.2; done'";
    session.send(&Value::Array(vec![
        48.into(),
        request.into(),
        map(vec![("receive_progress", true.into())]),
        "pipes.run.start".into(),
        Value::Array(vec![]),
        map(vec![
            ("line", ticker.into()),
            ("stdin", Value::Binary(Vec::new())),
        ]),
    ]))?;
    assert_eq!(session.receive()?.kind(), 50, "its first output");
    session.send(&Value::Array(vec![
        49.into(),
        request.into(),
        map(vec![("mode", "skip".into())]),
    ]))?;
    let mut kind = 50;
    while kind == 50 {
        kind = session.receive()?.kind();
    }
    assert_eq!(kind, 8, "the caller is answered");
    line.cluster.no_stages(GONE_LIMIT)?;
    line.cluster.finish()
}
