//! The README's shell sessions, run as they stand there.
//!
//! A line `$ COMMAND` is run, and the lines under it are its output, stderr included; `...` stands for whatever comes
//! there. `cat FILE` makes the file first, of what is shown.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use pipes_chaos::cluster::{Cluster, binaries};
use pipes_chaos::command::{self, Input};

/// The indented blocks under these headings.
const HEADINGS: [&str; 2] = ["## As in a shell", "## Behind HTTP"];
/// What the session uses and a reader will have built by then.
const BUILT: [&str; 10] = [
    "cat", "tac", "yes", "head", "sort", "true", "false", "sh", "tr", "rev",
];

fn session(heading: &str) -> Result<Vec<(String, Vec<String>)>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let (_, text) = text.split_once(heading).context("the heading")?;
    let mut steps: Vec<(String, Vec<String>)> = Vec::new();
    for line in text.lines().take_while(|line| !line.starts_with("## ")) {
        let Some(line) = line.strip_prefix("    ") else {
            continue;
        };
        match line.strip_prefix("$ ") {
            Some(command) => steps.push((command.to_owned(), Vec::new())),
            None => steps
                .last_mut()
                .context("output before any command")?
                .1
                .push(line.to_owned()),
        }
    }
    if steps.len() < 5 {
        bail!("only {} commands in the README's session", steps.len());
    }
    Ok(steps)
}

/// Whether a line is as shown, where `...` stands for anything.
fn is_as_shown(line: &str, shown: &str) -> bool {
    let mut rest = line;
    let parts: Vec<&str> = shown.split("...").collect();
    for (index, part) in parts.iter().enumerate() {
        let at = if index == 0 {
            rest.starts_with(part).then_some(0)
        } else {
            rest.find(part)
        };
        let Some(at) = at else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.is_empty() || shown.ends_with("...")
}

#[test]
fn the_readmes_session_is_what_happens() -> Result<()> {
    let cluster = Cluster::start(3)?;
    cluster.build(&BUILT)?;
    let sessions = HEADINGS.map(session).into_iter().collect::<Result<Vec<_>>>()?;
    for (text, shown) in sessions.into_iter().flatten() {
        if let Some(file) = text.strip_prefix("cat ") {
            use std::os::unix::fs::PermissionsExt;
            let path = cluster.write(file, format!("{}\n", shown.join("\n")).as_bytes())?;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
        }
        // The surroundings of the cluster's CLI, with a shell in its place.
        let pipes = cluster.pipes(&[]);
        let mut shell = Command::new("bash");
        shell
            .arg("-c")
            .arg(format!("exec 2>&1; {text}"))
            .current_dir(cluster.file(""));
        for (name, value) in pipes.get_envs() {
            match value {
                Some(value) => shell.env(name, value),
                None => shell.env_remove(name),
            };
        }
        let path = std::env::var("PATH").unwrap_or_default();
        shell.env("PATH", format!("{}:{path}", binaries().display()));
        let said = command::run(shell, Input::None)?.output();
        let lines: Vec<&str> = said.lines().collect();
        let same = lines.len() == shown.len()
            && lines
                .iter()
                .zip(&shown)
                .all(|(line, shown)| is_as_shown(line, shown));
        assert!(same, "$ {text}\nsaid:\n{said}\nand not:\n{}", shown.join("\n"));
    }
    cluster.finish()
}
