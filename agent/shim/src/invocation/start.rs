//! What invocations are made with, and the start of one.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::BorrowedFd;
use std::path::Path;

use pipes_protocol::stage::Spec;

use crate::child::{self, Program, Spawner};
use crate::environment::environment;
use crate::processes::Groups;
use crate::scratch::Scratch;
use crate::settings::Settings;

/// What all invocations of a replica share.
pub struct Replica {
    /// The replica's settings.
    pub settings: Settings,
    /// Starts programs.
    pub spawner: Spawner,
    /// Folders.
    pub scratch: Scratch,
    /// Cgroups.
    pub groups: Groups,
}

/// Why nothing was started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The executable is still open for writing somewhere; worth another try.
    #[error("its executable is still being written")]
    Busy,
    /// Anything else, in a sentence.
    #[error("{0}")]
    Refused(String),
}

impl Replica {
    /// Starts the service's executable as a stage.
    pub fn start(
        &mut self,
        spec: &Spec,
        folder: &Path,
        stdio: [BorrowedFd<'_>; 3],
        group: Option<BorrowedFd<'_>>,
    ) -> Result<libc::pid_t, Error> {
        let service = &self.settings.service;
        let refuse = |why: String| Error::Refused(format!("{service} cannot be started: {why}"));
        let args = std::iter::once(service.as_bytes())
            .chain(spec.args.iter().map(|arg| arg.as_slice()))
            .map(CString::new);
        let args: Vec<CString> = args
            .collect::<Result<_, _>>()
            .map_err(|_| refuse("an argument holds a NUL byte".into()))?;
        let env = environment(&self.settings, spec, folder)
            .map_err(|_| refuse("its environment holds a NUL byte".into()))?;
        let path = child::c_path(&self.scratch.executable).map_err(|error| refuse(error.to_string()))?;
        let c_folder = child::c_path(folder).map_err(|error| refuse(error.to_string()))?;
        let program = Program {
            path: &path,
            args: &args,
            env: &env,
            folder: &c_folder,
            stdio,
            group,
        };
        self.spawner.spawn(&program).map_err(|error| {
            if error.is_busy() {
                return Error::Busy;
            }
            let missing = match &error {
                child::Error::Exec(error) if error.kind() == io::ErrorKind::NotFound => {
                    interpreter(&self.settings.executable)
                }
                _ => None,
            };
            refuse(missing.map_or(error.to_string(), |name| {
                format!("its interpreter {name} is not there")
            }))
        })
    }
}

/// The interpreter that a script names: what is missing when the script itself is there.
fn interpreter(path: &Path) -> Option<String> {
    let mut head = [0; 256];
    let count = File::open(path).ok()?.read(&mut head).ok()?;
    let line = head[..count]
        .strip_prefix(b"#!")?
        .split(|byte| *byte == b'\n')
        .next()?;
    Some(
        String::from_utf8_lossy(line)
            .split_whitespace()
            .next()?
            .to_owned(),
    )
}
