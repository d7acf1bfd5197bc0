//! A program run on a terminal, as a user sees it.

use std::fs::File;
use std::io::Read;
use std::os::fd::{FromRawFd, OwnedFd};
use std::process::{Command, ExitStatus};
use std::time::Instant;

use anyhow::{Result, bail};

use crate::command::LIMIT;

/// Runs a program with stdin, stdout and stderr on a terminal of its own; gives its status and all that was written
/// there, control sequences included.
pub fn run(mut command: Command) -> Result<(ExitStatus, String)> {
    let (ours, theirs) = open()?;
    // No progress is drawn where TERM is not set or says `dumb`.
    command
        .env("TERM", "xterm")
        .stdin(theirs.try_clone()?)
        .stdout(theirs.try_clone()?)
        .stderr(theirs);
    let mut child = command.spawn()?;
    // The last of the program's own ends must be its own, for the reader to see an end.
    drop(command);
    let reading = std::thread::spawn(move || {
        let (mut file, mut text, mut buffer) = (File::from(ours), Vec::new(), [0; 4096]);
        // EIO once nobody has the other end.
        while let Ok(count @ 1..) = file.read(&mut buffer) {
            text.extend_from_slice(&buffer[..count]);
        }
        String::from_utf8_lossy(&text).into_owned()
    });
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if begun.elapsed() > LIMIT {
            child.kill()?;
            child.wait()?;
            bail!(
                "still running after {LIMIT:?}; on its terminal: {:?}",
                reading.join()
            );
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
    };
    Ok((status, reading.join().unwrap_or_default()))
}

fn open() -> Result<(OwnedFd, OwnedFd)> {
    let (mut ours, mut theirs) = (-1, -1);
    let size = libc::winsize {
        ws_row: 24,
        ws_col: 100,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: writes two descriptors, which nobody else owns; the rest is not given, or only read.
    unsafe {
        let done = libc::openpty(
            &mut ours,
            &mut theirs,
            std::ptr::null_mut(),
            std::ptr::null(),
            &size,
        );
        if done != 0 {
            bail!("openpty: {}", std::io::Error::last_os_error());
        }
        // Not the program's: it would be its own reader.
        libc::fcntl(ours, libc::F_SETFD, libc::FD_CLOEXEC);
        libc::fcntl(theirs, libc::F_SETFD, libc::FD_CLOEXEC);
        Ok((OwnedFd::from_raw_fd(ours), OwnedFd::from_raw_fd(theirs)))
    }
}
