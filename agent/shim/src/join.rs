//! Joining the agent's router: handshake, session, and the two procedures of this replica.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::{Context, bail};
use pipes_protocol::uris::{self, Offered};
use pipes_wamp::message::{MESSAGE_MAX_JOINING, Message, RegisterOptions};
use pipes_wamp::session::{self, Step};
use pipes_wamp::transport::rawsocket::{self, FrameKind, HEAD};

use crate::settings::Settings;

/// How long the agent may take to answer; it is on this server, and gives a replica 10 s in all.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// A session with its two registrations.
pub struct Joined {
    /// The connection, which does not block any more.
    pub stream: UnixStream,
    /// Registration of the stage call.
    pub stage: u64,
    /// Registration of the pipe call.
    pub pipe: u64,
}

/// Joins realm `pipes.stages` as this replica.
pub fn join(settings: &Settings) -> anyhow::Result<Joined> {
    let mut stream = UnixStream::connect(&settings.socket)
        .with_context(|| format!("no agent answers at {}", settings.socket.display()))?;
    stream.set_read_timeout(Some(ANSWER_MAX))?;
    stream.write_all(&rawsocket::client_handshake())?;
    let mut octets = [0; HEAD];
    stream
        .read_exact(&mut octets)
        .context("the agent did not answer the handshake")?;
    rawsocket::accepted(octets)?;

    send(&mut stream, |out| {
        session::hello(out, uris::REALM_STAGES, "ticket", Some(&settings.replica), None);
    })?;
    while let Step::Challenge(_) = receive(&mut stream, |message| Ok(session::answer(message)?))? {
        send(&mut stream, |out| {
            session::authenticate(out, settings.token.reveal())
        })?;
    }
    let stage = register(&mut stream, settings, 1, Offered::Stage)?;
    let pipe = register(&mut stream, settings, 2, Offered::Pipe)?;
    stream.set_read_timeout(None)?;
    stream.set_nonblocking(true)?;
    Ok(Joined { stream, stage, pipe })
}

fn register(
    stream: &mut UnixStream,
    settings: &Settings,
    request: u64,
    offered: Offered,
) -> anyhow::Result<u64> {
    let procedure = uris::of_replica(settings.node_number, &settings.replica, offered);
    let options = RegisterOptions::default();
    send(stream, |out| {
        Message::Register {
            request,
            options,
            procedure: &procedure,
        }
        .encode(out)
    })?;
    receive(stream, |message| match message {
        Message::Registered {
            request: answered,
            registration,
        } if *answered == request => Ok(*registration),
        Message::Error { error, .. } => bail!("the agent refused to register {procedure}: {error}"),
        other => bail!("the agent answered REGISTER with {other:?}"),
    })
}

fn send(stream: &mut UnixStream, write: impl FnOnce(&mut Vec<u8>)) -> anyhow::Result<()> {
    let mut out = Vec::new();
    rawsocket::frame(&mut out, write);
    Ok(stream.write_all(&out)?)
}

/// Reads one message, no byte beyond it, and hands it to `read`.
fn receive<T>(
    stream: &mut UnixStream,
    read: impl FnOnce(&Message<'_>) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    loop {
        let mut head = [0; HEAD];
        stream.read_exact(&mut head).context("the agent did not answer")?;
        let (kind, length) = rawsocket::read_frame_head(head, MESSAGE_MAX_JOINING)?;
        let mut body = vec![0; length];
        stream.read_exact(&mut body).context("the agent did not answer")?;
        match kind {
            FrameKind::Message => return read(&Message::parse(&body)?),
            FrameKind::Ping => {
                stream.write_all(&rawsocket::frame_head(FrameKind::Pong, length))?;
                stream.write_all(&body)?;
            }
            FrameKind::Pong => {}
        }
    }
}
