//! `note-status FILE DIRECTORY COMMAND ARG...`: runs the command there and writes its status, as a shell gives it,
//! to the file. It lets go of stdin and stdout as soon as the command has them, so that the pipes' ends are the
//! command's alone.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let (Some(file), Some(directory), Some(command)) = (arguments.next(), arguments.next(), arguments.next())
    else {
        eprintln!("usage: note-status FILE DIRECTORY COMMAND ARG...");
        return ExitCode::from(2);
    };
    let child = Command::new(command)
        .args(arguments)
        .current_dir(&directory)
        .env("HOME", &directory)
        .spawn();
    // SAFETY: descriptors 0 and 1 are this process's own, and nothing here uses them from now on.
    unsafe {
        libc::close(0);
        libc::close(1);
    }
    let status = match child.and_then(|mut child| child.wait()) {
        Ok(status) => status
            .code()
            .or_else(|| status.signal().map(|signal| 128 + signal))
            .unwrap_or(125),
        Err(error) => {
            eprintln!("note-status: {error}");
            125
        }
    };
    if let Err(error) = std::fs::write(&file, format!("{status}\n")) {
        eprintln!("note-status: {}: {error}", file.display());
    }
    ExitCode::from(u8::try_from(status).unwrap_or(255))
}
