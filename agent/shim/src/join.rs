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

/// Joins realm `pipes.stages` as this replica, and offers its procedures.
pub fn join(settings: &Settings) -> anyhow::Result<Joined> {
    let mut stream = enter(settings)?;
    let stage = register(&mut stream, settings, 1, Offered::Stage)?;
    let pipe = register(&mut stream, settings, 2, Offered::Pipe)?;
    stream.set_read_timeout(None)?;
    stream.set_nonblocking(true)?;
    Ok(Joined { stream, stage, pipe })
}

/// A session of its own in realm `pipes.stages`, as this replica.
pub fn enter(settings: &Settings) -> anyhow::Result<UnixStream> {
    let mut stream = UnixStream::connect(&settings.socket)
        .with_context(|| format!("no agent answers at {}", settings.socket.display()))?;
    stream.set_read_timeout(Some(ANSWER_MAX))?;
    stream.write_all(&rawsocket::client_handshake())?;
    let mut octets = [0; HEAD];
    stream
        .read_exact(&mut octets)
        .context("the agent did not answer the handshake")?;
    rawsocket::accepted(octets)?;

    write(&mut stream, |out| {
        session::hello(
            out,
            uris::REALM_STAGES,
            "ticket",
            Some(&settings.replica),
            session::Signing::default(),
        );
    })?;
    let mut body = Vec::new();
    let mut next = |stream: &mut UnixStream| -> anyhow::Result<bool> {
        let message = receive(stream, &mut body, MESSAGE_MAX_JOINING)?;
        Ok(matches!(session::answer(&message)?, Step::Challenge(_)))
    };
    while next(&mut stream)? {
        write(&mut stream, |out| {
            session::authenticate(out, settings.token.reveal())
        })?;
    }
    Ok(stream)
}

fn register(
    stream: &mut UnixStream,
    settings: &Settings,
    request: u64,
    offered: Offered,
) -> anyhow::Result<u64> {
    let procedure = uris::of_replica(settings.node_number, &settings.replica, offered);
    let options = RegisterOptions::default();
    send(
        stream,
        &Message::Register {
            request,
            options,
            procedure: &procedure,
        },
    )?;
    match receive(stream, &mut Vec::new(), MESSAGE_MAX_JOINING)? {
        Message::Registered {
            request: answered,
            registration,
        } if answered == request => Ok(registration),
        Message::Error { error, .. } => bail!("the agent refused to register {procedure}: {error}"),
        other => bail!("the agent answered REGISTER with {other:?}"),
    }
}

/// Sends one message.
pub fn send(to: &mut impl Write, message: &Message<'_>) -> anyhow::Result<()> {
    write(to, |out| message.encode(out))
}

fn write(to: &mut impl Write, write: impl FnOnce(&mut Vec<u8>)) -> anyhow::Result<()> {
    let mut out = Vec::new();
    rawsocket::frame(&mut out, write);
    Ok(to.write_all(&out)?)
}

/// Reads one message of at most `max` octets into `body`, no octet beyond it.
pub fn receive<'b>(
    from: &mut (impl Read + Write),
    body: &'b mut Vec<u8>,
    max: usize,
) -> anyhow::Result<Message<'b>> {
    loop {
        let mut head = [0; HEAD];
        from.read_exact(&mut head).context("the agent did not answer")?;
        let (kind, length) = rawsocket::read_frame_head(head, max)?;
        body.resize(length, 0);
        from.read_exact(body).context("the agent did not answer")?;
        match kind {
            FrameKind::Message => break,
            FrameKind::Ping => {
                from.write_all(&rawsocket::frame_head(FrameKind::Pong, length))?;
                from.write_all(body)?;
            }
            FrameKind::Pong => {}
        }
    }
    Ok(Message::parse(body)?)
}
