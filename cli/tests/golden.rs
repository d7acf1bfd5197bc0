//! Golden scripts: `testscripts/command/*` hold commands with the exact stdout, stderr
//! and status they give without a cluster.

use std::error::Error;
use std::path::Path;
use std::process::{Command, Stdio};

/// Runs `pipes` in an empty home of its own.
struct Shell {
    home: tempfile::TempDir,
}

impl Shell {
    fn new() -> std::io::Result<Shell> {
        let home = tempfile::tempdir()?;
        std::fs::create_dir(home.path().join("here"))?;
        Ok(Shell { home })
    }

    fn pipes(&self, arguments: &[String]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pipes"));
        command
            .args(arguments)
            .current_dir(self.home.path().join("here"))
            .stdin(Stdio::null());
        command
            .env_clear()
            .env("HOME", self.home.path())
            .env("PATH", "/usr/bin:/bin");
        command
    }
}

impl goldenscript::Runner for Shell {
    type Command = goldenscript::Command;

    fn run(&mut self, command: &Self::Command, _: &goldenscript::Context) -> Result<String, Box<dyn Error>> {
        let words: Vec<String> = command.args.iter().map(word).collect();
        if command.name == "file" {
            let (name, content) = (words.first().ok_or("a name")?, words.get(1).ok_or("its content")?);
            let path = self.home.path().join(name);
            std::fs::create_dir_all(path.parent().ok_or("a folder")?)?;
            std::fs::write(path, content)?;
            return Ok(String::new());
        }
        let (variables, words): (Vec<_>, Vec<_>) = words.iter().partition(is_variable);
        let mut command = self.pipes(&words.into_iter().cloned().collect::<Vec<_>>());
        command.envs(variables.iter().filter_map(|variable| variable.split_once('=')));
        let done = command.output()?;
        let mut shown = String::from_utf8_lossy(&done.stdout).into_owned();
        for line in String::from_utf8_lossy(&done.stderr).lines() {
            shown.push_str(&format!("stderr: {line}\n"));
        }
        shown.push_str(&format!("status: {}\n", done.status.code().unwrap_or(-1)));
        Ok(shown.replace(&self.home.path().display().to_string(), "HOME"))
    }
}

fn word(argument: &goldenscript::Argument) -> String {
    match argument {
        goldenscript::Argument::KeyValue(key, value) => format!("{key}={value}"),
        goldenscript::Argument::Positional(value) => value.clone(),
        other => other.to_string(),
    }
}

fn is_variable(word: &&String) -> bool {
    word.starts_with("PIPES_") || word.starts_with("XDG_")
}

#[test]
fn commands_answer_as_recorded() {
    let folder = Path::new("testscripts/command");
    let mut scripts: Vec<_> = folder
        .read_dir()
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    scripts.sort();
    for script in scripts {
        goldenscript::run(&mut Shell::new().unwrap(), &script).unwrap();
    }
}
