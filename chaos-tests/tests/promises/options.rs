//! The options of `pipes run`, each by what it promises.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use anyhow::{Context, Result};
use pipes_chaos::cluster::{Cluster, START_LIMIT};
use pipes_chaos::command::{self, Finished, Input};

#[test]
fn exit_statuses_are_a_shells() -> Result<()> {
    let cluster = Cluster::start(3)?;
    cluster.build(&["sh", "cat", "true", "false"])?;
    for (line, options, status) in [
        ("true", &[][..], 0),
        ("false", &[], 1),
        ("sh -c 'exit 42'", &[], 42),
        ("false | true", &[], 0),
        ("false | true", &["--pipefail"], 1),
        ("sh -c 'exit 3' | sh -c 'exit 4' | true", &["--pipefail"], 4),
        ("sh -c 'kill -9 $$'", &[], 137),
        ("sh -c 'kill -TERM $$' | cat", &["--pipefail"], 143),
        ("no-such-service", &[], 127),
        ("cat | 'no such'", &[], 127),
        ("sh -c 'sleep 60'", &["--timeout", "0.3s"], 124),
        ("cat |", &[], 125),
        ("cat $HOME", &[], 125),
    ] {
        let done = cluster.run(line).options(options).options(&["-n"]).finish()?;
        assert_eq!(done.code(), status, "{options:?} {line}: {}", done.errors());
    }
    cluster.no_stages(Duration::from_secs(1))?;
    cluster.finish()
}

#[test]
fn a_service_that_cannot_be_executed_is_126() -> Result<()> {
    let cluster = Cluster::start(3)?;
    cluster.build(&["cat"])?;
    cluster.script("orphan", "#!/no/such/interpreter\n")?;
    let done = cluster.run("orphan").options(&["-n"]).finish()?.expect(126)?;
    assert!(done.errors().contains("orphan"), "{}", done.errors());
    let done = cluster
        .run("orphan | cat")
        .options(&["-n", "--pipefail"])
        .finish()?;
    assert_eq!(done.code(), 126, "{}", done.errors());
    cluster.finish()
}

#[test]
fn stderr_of_every_stage_comes_to_stderr() -> Result<()> {
    let cluster = Cluster::start(3)?;
    cluster.build(&["sh", "cat"])?;
    let line = "sh -c 'echo one >&2; echo out' | sh -c 'cat; echo two >&2; exit 5'";
    let done = cluster.run(line).options(&["-n"]).finish()?.expect(5)?;
    assert_eq!(done.output(), "out\n");
    assert!(
        done.errors().contains("one\n") && done.errors().contains("two\n"),
        "{}",
        done.errors()
    );
    // More than any window of it.
    let line = "sh -c 'head -c 3000000 /dev/zero | tr \"\\0\" e >&2'";
    let done = cluster.run(line).options(&["-n"]).finish()?.success()?;
    assert_eq!(
        done.stderr.iter().filter(|byte| **byte == b'e').count(),
        3_000_000
    );
    // What cannot be said there stops nothing.
    let mut command = cluster.pipes(&["run", "-n", "sh -c 'echo out; echo err >&2; echo more' | cat"]);
    command.stderr(std::fs::File::options().write(true).open("/dev/full")?);
    let done = command.output()?;
    assert_eq!(String::from_utf8_lossy(&done.stdout), "out\nmore\n");
    assert!(done.status.success(), "{}", done.status);
    cluster.finish()
}

#[test]
fn files_travel_with_the_line() -> Result<()> {
    let cluster = Cluster::start(3)?;
    cluster.build(&["cat", "sh"])?;
    let words = cluster.write("words.txt", b"some words\n")?;
    let path = words.to_string_lossy().into_owned();
    for node in ["n1", "n2", "n3"] {
        let run = cluster.run("cat words.txt other").placed(&[node]);
        let done = run
            .options(&["-n", "--file", &path, "--file", &format!("{path}=other")])
            .finish()?
            .success()?;
        assert_eq!(done.output(), "some words\nsome words\n");
    }
    // A pipe is read whole, and leaves no stdin.
    let done = cluster
        .run("cat words -")
        .options(&["--file", "/dev/stdin=words"])
        .input(Input::Bytes(b"piped\n".to_vec()))
        .finish()?
        .success()?;
    assert_eq!(done.output(), "piped\n");
    let done = cluster
        .run("cat")
        .options(&["-n", "--file", "/tmp"])
        .finish()?
        .expect(125)?;
    assert!(
        done.errors().contains("/tmp: it is a directory"),
        "{}",
        done.errors()
    );
    let line = "sh -c 'echo more >>words.txt'";
    let done = cluster.run(line).options(&["-n", "--file", &path]).finish()?;
    let status = done.code();
    let kept = cluster
        .run("cat words.txt")
        .options(&["-n", "--file", &path])
        .finish()?
        .success()?
        .output();
    assert_eq!(
        kept, "some words\n",
        "a stage changed a file that lies read-only (status {status})"
    );
    let done = cluster
        .run("cat x")
        .options(&["-n", "--file", "/no/such/file"])
        .finish()?;
    assert!(
        done.code() != 0 && done.errors().contains("/no/such/file"),
        "{}",
        done.errors()
    );
    cluster.finish()
}

#[test]
fn stages_go_where_they_are_placed() -> Result<()> {
    let cluster = Cluster::start(3)?;
    cluster.build(&["cat", "tr", "wc"])?;
    let (_, report) = cluster
        .run("cat | tr a b | wc -c")
        .options(&["--place", "tr=n3", "--place", "1=n2"])
        .reported()?;
    assert_eq!(
        (report.nodes()[0].as_str(), report.nodes()[1].as_str()),
        ("n2", "n3"),
        "{}",
        report.whole
    );
    let done = cluster
        .run("cat | cat")
        .options(&["-n", "--place", "1=n9"])
        .finish()?
        .expect(125)?;
    assert!(done.errors().contains("n9"), "{}", done.errors());
    let done = cluster
        .run("cat | cat")
        .options(&["-n", "--place", "cat=n1"])
        .finish()?
        .expect(125)?;
    assert!(
        done.errors().contains("cat"),
        "which of two is not said: {}",
        done.errors()
    );
    cluster.finish()
}

#[test]
fn a_workflow_may_be_an_executable_file() -> Result<()> {
    let cluster = Cluster::start(3)?;
    cluster.build(&["seq", "grep", "wc"])?;
    let text =
        "#!/usr/bin/env -S pipes run -f\n# odd numbers\nseq 1 10 |   # all\n  grep '[13579]$' |\n  wc -l\n";
    let file = cluster.write("odd", text.as_bytes())?;
    let done = command::run(
        cluster.pipes(&["run", "-f", &file.to_string_lossy()]),
        Input::None,
    )?
    .success()?;
    assert_eq!(done.output().trim(), "5");
    cluster.finish()
}

/// `pipes run --build`, with the test's folder of tools first on PATH.
fn build_and_run(cluster: &Cluster, line: &str) -> Result<Finished> {
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = cluster.pipes(&["run", "--build", line]);
    command.env("PATH", format!("{}:{path}", cluster.file("bin").display()));
    command::run(command, Input::Bytes(b"hey\n".to_vec()))
}

/// Writes an executable of the test.
fn executable(cluster: &Cluster, name: &str, text: &str) -> Result<()> {
    let path = cluster.write(name, text.as_bytes())?;
    Ok(std::fs::set_permissions(
        path,
        std::fs::Permissions::from_mode(0o755),
    )?)
}

#[test]
fn build_makes_what_the_line_names() -> Result<()> {
    let cluster = Cluster::start(3)?;
    cluster.script("unrelated", "#!/bin/sh\n")?;
    std::fs::create_dir(cluster.file("bin"))?;
    executable(&cluster, "bin/shout.sh", "#!/bin/sh\ntr a-z A-Z\n")?;
    let run = || build_and_run(&cluster, "shout.sh | cat");
    assert_eq!(run()?.success()?.output(), "HEY\n");
    executable(&cluster, "bin/shout.sh", "#!/bin/sh\ntr a-z A-Z | tr Y W\n")?;
    assert_eq!(
        run()?.success()?.output(),
        "HEW\n",
        "a changed executable was not built again"
    );
    cluster.finish()
}

#[test]
fn a_file_that_somebody_left_in_the_folder_is_not_run_in_a_tools_place() -> Result<()> {
    let cluster = Cluster::start(1)?;
    for planted in ["seq", "not-on-path"] {
        executable(&cluster, planted, "#!/bin/sh\necho planted\n")?;
    }
    let done = build_and_run(&cluster, "seq 2")?.success()?;
    assert_eq!(done.output(), "1\n2\n");
    let refused = build_and_run(&cluster, "not-on-path")?;
    assert!(
        refused.errors().contains("it is not on PATH") && refused.output().is_empty(),
        "{}",
        refused.errors()
    );
    // Who asks for it by its path means it, and who asks by a name that PATH has not is told.
    let built = cluster.attempt(&["build", "not-on-path"])?.success()?;
    assert_eq!(
        built.errors(),
        "not-on-path is not on PATH: ./not-on-path is meant\n"
    );
    cluster.finish()
}

#[test]
fn stdin_is_taken_when_asked_for() -> Result<()> {
    let cluster = Cluster::start(3)?;
    cluster.build(&["wc"])?;
    let with = |options: &[&str]| -> Result<String> {
        let run = cluster
            .run("wc -c")
            .options(options)
            .input(Input::Bytes(b"12345".to_vec()));
        Ok(run.finish()?.success()?.output().trim().to_owned())
    };
    assert_eq!(with(&[])?, "5");
    assert_eq!(with(&["-i"])?, "5");
    assert_eq!(with(&["-n"])?, "0");
    cluster.finish()
}

#[test]
fn an_older_version_is_called_by_its_digest() -> Result<()> {
    let cluster = Cluster::start(3)?;
    cluster.script("say", "#!/bin/sh\necho old\n")?;
    let digest = |cluster: &Cluster| -> Result<String> {
        let services = cluster.json(&["service", "ls"])?;
        let service = services
            .as_array()
            .and_then(|all| all.iter().find(|one| one["name"] == "say"))
            .cloned();
        let digest = service.unwrap_or_default()["digest"]
            .as_str()
            .unwrap_or_default()
            .to_owned();
        Ok(digest.trim_start_matches("sha256:").chars().take(12).collect())
    };
    let old = digest(&cluster)?;
    cluster.script("say", "#!/bin/sh\necho new\n")?;
    assert_ne!(digest(&cluster)?, old);
    assert_eq!(
        cluster.run("say").options(&["-n"]).finish()?.success()?.output(),
        "new\n"
    );
    assert_eq!(
        cluster
            .run(&format!("say@{old}"))
            .options(&["-n"])
            .finish()?
            .success()?
            .output(),
        "old\n"
    );
    cluster.finish()
}

#[test]
fn a_server_lost_after_the_start_is_125_unless_retry_was_asked_for() -> Result<()> {
    let cluster = Cluster::start(3)?;
    cluster.build(&["cat"])?;
    let mark = cluster.file("mark");
    cluster.script(
        "slow",
        &format!("#!/bin/sh\necho begun >>{}\nsleep 3\necho done\n", mark.display()),
    )?;
    // The node that runs `slow` is lost while it runs; the coordinator is another one.
    let lose = |options: &[&str]| -> Result<(command::Finished, String)> {
        let _ = std::fs::remove_file(&mark);
        let running = cluster
            .run("slow")
            .options(options)
            .options(&["-n"])
            .through(0)
            .start()?;
        pipes_chaos::wait::wait_until("the stage has begun", Duration::from_secs(10), || mark.exists())?;
        let lost = node_of_stage(&cluster)?;
        cluster.kill(lost)?;
        let done = running.finish()?;
        cluster.start_again()?;
        cluster.all_up(START_LIMIT)?;
        Ok((done, cluster.nodes[lost].name.clone()))
    };
    let (done, lost) = lose(&["--place", "1=n2"])?;
    let done = done.expect(125)?;
    assert!(
        done.errors().contains(&lost) && done.errors().contains("slow"),
        "{}",
        done.errors()
    );
    assert_eq!(
        std::fs::read_to_string(&mark)?.lines().count(),
        1,
        "it was run again unasked"
    );
    cluster.no_stages(Duration::from_secs(1))?;
    cluster.finish()
}

#[test]
fn a_time_longer_than_the_clock_counts_is_no_limit() -> Result<()> {
    let cluster = Cluster::start(1)?;
    cluster.build(&["cat", "sleep"])?;
    let long = "10000000000000000000s";
    cluster
        .run("cat")
        .options(&["-n", "--timeout", long])
        .finish()?
        .success()?;
    let running = cluster.run("sleep 1000").options(&["-n"]).start()?;
    cluster.stages_run(1)?;
    let id = cluster.call(&["ps", "-q"])?;
    cluster.call(&["stop", "--grace", long, id.trim()])?;
    running.finish()?.expect(143)?;
    cluster.finish()
}

#[test]
fn retry_runs_a_lost_line_once_more() -> Result<()> {
    let cluster = Cluster::start(3)?;
    cluster.build(&["cat"])?;
    let mark = cluster.file("mark");
    cluster.script(
        "slow",
        &format!(
            "#!/bin/sh\necho $PIPES_ATTEMPT >>{}\nsleep 3\necho done\n",
            mark.display()
        ),
    )?;
    // Unplaced lines of three stages have one on every node: whichever is lost, one was there.
    let running = cluster
        .run("slow | cat | cat")
        .options(&["-n", "--retry"])
        .through(0)
        .start()?;
    pipes_chaos::wait::wait_until("the first stage has begun", Duration::from_secs(10), || {
        mark.exists()
    })?;
    let lost = match node_of_stage(&cluster)? {
        0 => 1,
        other => other,
    };
    cluster.kill(lost)?;
    let done = running.finish()?.success()?;
    assert_eq!(done.output(), "done\n");
    assert_eq!(
        std::fs::read_to_string(&mark)?,
        "1\n2\n",
        "each is told which it is"
    );
    cluster.start_again()?;
    cluster.all_up(START_LIMIT)?;
    cluster.finish()
}

#[test]
fn retry_runs_a_lost_line_no_third_time() -> Result<()> {
    let cluster = Cluster::start(3)?;
    let mark = cluster.file("mark");
    cluster.script(
        "slow",
        &format!("#!/bin/sh\necho begun >>{}\nsleep 30\n", mark.display()),
    )?;
    let running = cluster.run("slow").options(&["-n", "--retry"]).start()?;
    for times in 1..=2 {
        pipes_chaos::wait::wait_until("the stage has begun", Duration::from_secs(10), || {
            std::fs::read_to_string(&mark).is_ok_and(|marks| marks.lines().count() == times)
        })?;
        let stages = pipes_chaos::proc::stages(&cluster.id, None);
        let shim = stages
            .into_iter()
            .filter_map(pipes_chaos::proc::parent)
            .find(|parent| pipes_chaos::proc::is_shim(*parent))
            .context("no shim of slow")?;
        pipes_chaos::proc::signal(shim, libc::SIGKILL)?;
    }
    let done = running.finish()?.expect(125)?;
    assert!(done.errors().contains("once more already"), "{}", done.errors());
    assert_eq!(std::fs::read_to_string(&mark)?.lines().count(), 2);
    cluster.no_stages(Duration::from_secs(1))?;
    cluster.finish()
}

/// The node on which `slow` runs, by its stage's environment.
fn node_of_stage(cluster: &Cluster) -> Result<usize> {
    let pids = pipes_chaos::proc::stages(&cluster.id, None);
    let value = |pid: i32, wanted: &str| {
        let environment = pipes_chaos::proc::environment(pid);
        environment
            .into_iter()
            .find(|(name, _)| name == wanted)
            .map(|(_, value)| value)
            .unwrap_or_default()
    };
    let pid = pids
        .into_iter()
        .find(|pid| value(*pid, "PIPES_SERVICE") == "slow")
        .context("no process of slow")?;
    // The scratch directory, its HOME, lies in its node's folder.
    let home = value(pid, "HOME");
    let found = cluster
        .nodes
        .iter()
        .position(|node| std::path::Path::new(&home).starts_with(&node.folder));
    found.with_context(|| format!("{home} is in no node's folder"))
}
