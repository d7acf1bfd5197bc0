//! What invocations are made with, and the start of one.

use std::ffi::CString;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::Arc;

use pipes_protocol::stage::Spec;

use crate::background::Background;
use crate::child::stdio::Stdio;
use crate::child::{self, Program, Spawner, missing};
use crate::disk::Disk;
use crate::environment::environment;
use crate::processes::Groups;
use crate::scratch::Scratch;
use crate::settings::Settings;

/// What all invocations of a replica share.
pub struct Replica {
    /// The replica's settings.
    pub settings: Arc<Settings>,
    /// Starts programs.
    pub spawner: Spawner,
    /// Folders.
    pub scratch: Scratch,
    /// The disk that they are on.
    pub disk: Disk,
    /// Cgroups.
    pub groups: Groups,
    /// Does what may wait for the disk.
    pub background: Background,
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
    /// Starts the service's executable as a stage; `pipes` are the child's ends.
    pub fn start(
        &mut self,
        spec: &Spec,
        folder: &Path,
        pipes: [BorrowedFd<'_>; 3],
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
        let stdio =
            Stdio::open(spec.descriptors, pipes, folder).map_err(|error| refuse(error.to_string()))?;
        let program = Program {
            path: &path,
            args: &args,
            env: &env,
            folder: &c_folder,
            stdio: stdio.given(),
            group,
        };
        self.spawner.spawn(&program).map_err(|error| {
            if error.is_busy() {
                return Error::Busy;
            }
            let missing = match &error {
                child::Error::Exec(error) => missing::beside(&self.settings.executable, error),
                _ => None,
            };
            refuse(missing.unwrap_or_else(|| error.to_string()))
        })
    }
}
