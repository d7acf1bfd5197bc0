//! The examples of `cli/examples`, run as a user runs them.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use pipes_chaos::cluster::{Cluster, binaries};
use pipes_chaos::command::{self, Input};

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../cli/examples")
        .join(name)
}

/// Runs an example as an executable, with the cluster's CLI on PATH.
fn run(cluster: &Cluster, name: &str, arguments: &[&str], input: &str) -> Result<String> {
    let pipes = cluster.pipes(&[]);
    let mut command = Command::new(example(name));
    command.args(arguments).current_dir(cluster.file(""));
    for (name, value) in pipes.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{}:{path}", binaries().display()));
    let input = match input {
        "" => Input::None,
        text => Input::Bytes(text.into()),
    };
    Ok(command::run(command, input)?.success()?.output())
}

#[test]
fn the_ten_most_frequent_words() -> Result<()> {
    let cluster = Cluster::start(3)?;
    cluster.build(&["tr", "sort", "uniq", "head"])?;
    let said = run(&cluster, "words", &[], "The cat, the dog: the Cat\nthe\n")?;
    let counts: Vec<Vec<&str>> = said
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(counts, [["4", "the"], ["2", "cat"], ["1", "dog"]]);
    cluster.finish()
}

#[test]
fn the_slowest_requests_of_a_log() -> Result<()> {
    let cluster = Cluster::start(3)?;
    cluster.build(&["grep", "awk", "sort", "head"])?;
    let line =
        |path: &str, time: &str| format!("10.0.0.1 - - [now +0000] \"GET {path} HTTP/1.1\" 200 512 {time}\n");
    let log = line("/a", "0.25") + &line("/b", "12.5").replace("GET", "PUT") + &line("/c", "3.75");
    assert_eq!(run(&cluster, "slowest", &[], &log)?, "3.75 /c\n0.25 /a\n");
    cluster.finish()
}

#[test]
fn checksums_of_lines_build_what_they_need() -> Result<()> {
    let cluster = Cluster::start(3)?;
    let said = run(&cluster, "checksums", &[], "1\n2\n")?;
    let digests: Vec<&str> = said.lines().collect();
    // As `printf 1 | sha256sum` says.
    assert_eq!(
        digests,
        [
            "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b",
            "d4735e3a265e16eee03f59718b9b5d03019c07d8b6c51f90da3a666eec13ab35",
        ]
    );
    cluster.finish()
}

#[test]
fn a_python_program_calls_over_wamp() -> Result<()> {
    let cluster = Cluster::start(3)?;
    for node in &cluster.nodes {
        let url = format!("rs://{}", node.wamp());
        assert_eq!(run(&cluster, "wamp.py", &[&url], "")?, "2 + 3 = 5\n");
    }
    cluster.finish()
}
