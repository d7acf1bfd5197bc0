//! The same line in `sh`, every stage's status noted: what is correct.
//!
//! ```text
//! given      X=1 sort -r | head -1
//! run        cat INPUT | sh -c 'X=1 note-status F/1 D/1 env sort -r | note-status F/2 D/2 env head -1'
//! ```
//!
//! `note-status` (src/bin) starts its command in an empty directory of its own, closes its own ends of the pipes at
//! once, so that it holds nothing that the command let go, and writes the status to a file. `env` makes every name
//! mean the executable, never a builtin. The words are read by `sh` itself, as they were written.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::lines::Line;
use crate::cluster::binaries;
use crate::command::{self, Input};

/// What came of a line.
#[derive(Debug)]
pub struct Correct {
    /// The last stage's stdout.
    pub stdout: Vec<u8>,
    /// Every stage's status.
    pub statuses: Vec<i64>,
}

/// `note-status`, beside the other binaries or the running test.
fn note_status() -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let beside = own
        .ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join("note-status"));
    beside
        .chain([binaries().join("note-status")])
        .find(|path| path.is_file())
        .context("note-status is not built: cargo build -p pipes-chaos --bins")
}

/// Runs the line in `sh` with this file as input, in a fresh folder under `folder`.
pub fn run(line: &Line, input: &Path, folder: &Path) -> Result<Correct> {
    let place = tempfile::tempdir_in(folder).context("a folder for sh")?;
    let note = note_status()?;
    let mut stages = Vec::new();
    for (index, stage) in line.stages.iter().enumerate() {
        let directory = place.path().join(format!("d{index}"));
        std::fs::create_dir(&directory)?;
        stages.push(format!(
            "{}{} {} {} env {}",
            stage.assignments,
            note.display(),
            place.path().join(format!("s{index}")).display(),
            directory.display(),
            stage.words
        ));
    }
    // An unquoted `*` stays as it is only where no file matches.
    let empty = place.path().join("empty");
    std::fs::create_dir(&empty)?;
    let mut sh = Command::new("sh");
    sh.arg("-c").arg(stages.join(" | ")).current_dir(&empty);
    sh.env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("LANG", "C");
    let done = command::start(sh, Input::Cat(input.to_owned()))?.finish_within(Duration::from_secs(30))?;
    let mut statuses = Vec::new();
    for index in 0..line.stages.len() {
        let path = place.path().join(format!("s{index}"));
        // The last stage's exit ends `sh -c`; an earlier stage may be a moment behind it.
        crate::wait::wait_until("every stage in sh has ended", Duration::from_secs(10), || {
            std::fs::read(&path).is_ok_and(|text| text.ends_with(b"\n"))
        })
        .with_context(|| line.text())?;
        statuses.push(std::fs::read_to_string(&path)?.trim().parse()?);
    }
    Ok(Correct {
        stdout: done.stdout,
        statuses,
    })
}

/// How much the first `stages` stages of the line write in all when everything is read.
pub fn whole_output(line: &Line, stages: usize, input: &Path, folder: &Path) -> Result<u64> {
    ensure!(stages > 0, "a line has a first stage");
    let prefix = Line {
        stages: line.stages[..stages].to_vec(),
        input: line.input,
    };
    if prefix.stages.iter().any(|stage| stage.tool == "yes") {
        return Ok(u64::MAX);
    }
    Ok(run(&prefix, input, folder)?.stdout.len() as u64)
}
