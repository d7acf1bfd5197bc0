//! Laying a run's files into the folder of an invocation: asked of the agent by a call, under credit, on a thread and a
//! connection of their own, so that the bytes of others neither wait for a disk nor behind a file.

use std::fs::{File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Component, Path};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use pipes_protocol::{file, stage, uris};
use pipes_wamp::message::Message;
use pipes_wamp::payload;
use pipes_wamp::streaming::Caller;

use crate::background::Watched;
use crate::join;
use crate::settings::Settings;

/// How often somebody who waits for the agent looks whether the file is still wanted.
const LOOK: Duration = Duration::from_millis(100);
/// How long the agent may be silent: it may have to fetch the file from another server, or wait for its disk.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// Longest message: a part of the file with its head.
const MESSAGE_MAX: usize = file::PART_MAX + 1024;
/// The only call of the session.
const CALL: u64 = 1;

/// Lays files into a folder, one after another.
pub fn lay(
    settings: &Settings,
    folder: &Path,
    files: &[stage::File],
    watched: &Watched,
) -> Result<(), String> {
    for file in files {
        lay_one(settings, folder, file, watched).map_err(|error| {
            let name = &file.name;
            format!("the file {name} cannot be laid into its working folder: {error:#}")
        })?;
    }
    Ok(())
}

/// Read-only, a copy, since through a link a stage could change it for all others.
fn lay_one(settings: &Settings, folder: &Path, file: &stage::File, watched: &Watched) -> anyhow::Result<()> {
    let mut parts = Path::new(&file.name).components();
    if !matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None)) {
        bail!("a file's name must be one word without a slash");
    }
    let mut options = File::options();
    let to = options.write(true).create_new(true).mode(0o600);
    let mut to = to.open(folder.join(&file.name))?;
    fetch(settings, &file.digest, &mut to, watched)?;
    let mode = if file.executable { 0o555 } else { 0o444 };
    Ok(to.set_permissions(Permissions::from_mode(mode))?)
}

/// Asks the agent for a file and writes it.
fn fetch(settings: &Settings, digest: &str, to: &mut File, watched: &Watched) -> anyhow::Result<()> {
    let stream = join::enter(settings)?;
    stream.set_read_timeout(Some(LOOK))?;
    stream.set_write_timeout(Some(SILENCE_MAX))?;
    let mut connection = Connection { stream, watched };
    let procedure = uris::of_node(settings.node_number, uris::node::FILE);
    let caller = Caller {
        request: CALL,
        procedure: &procedure,
    };
    let begin = file::begin(digest, file::WINDOW);
    join::send(&mut connection, &caller.chunk_message(begin.as_payload(), false))?;
    let (mut body, mut size, mut unreturned) = (Vec::new(), 0, 0);
    loop {
        match join::receive(&mut connection, &mut body, MESSAGE_MAX)? {
            Message::Result {
                progress: true,
                payload,
                ..
            } => {
                let bytes = payload::bytes_arg(payload).context("the agent sent what are no bytes")?;
                to.write_all(bytes)?;
                size += bytes.len() as u64;
                unreturned += bytes.len() as u64;
                // An empty part says that the agent has it fetched still.
                watched.add(1);
            }
            Message::Result { payload, .. } if file::size(payload) == Some(size) => return Ok(()),
            Message::Result { .. } => bail!("it broke off after {size} bytes"),
            Message::Error { error, payload, .. } => bail!("{error} {}", payload.sentence()),
            other => bail!("the agent answered the call for it with {other:?}"),
        }
        if unreturned >= file::WINDOW / 4 {
            let credit = file::credit(unreturned);
            // An agent that has sent all may have gone; one that has not is missed at the next read.
            let _ = join::send(&mut connection, &caller.chunk_message(credit.as_payload(), false));
            unreturned = 0;
        }
    }
}

/// A connection whose reader looks up now and then.
struct Connection<'a> {
    stream: UnixStream,
    watched: &'a Watched,
}

impl Read for Connection<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let begun = Instant::now();
        loop {
            if self.watched.is_unwanted() {
                return Err(io::Error::other("nobody wants it any more"));
            }
            match self.stream.read(into) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && begun.elapsed() < SILENCE_MAX => {}
                done => return done,
            }
        }
    }
}

impl Write for Connection<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}
