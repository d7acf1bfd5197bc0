//! The task behind a session: commands in, messages out, and back.
//!
//! What a consumer has no room for is held, one item at most, and the connection is not read meanwhile; commands and
//! writing go on, so that two sides that wait for each other's answers do not wait for ever.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::client::command::Command;
use crate::client::connection::{Connection, Reader, Writer};
use crate::client::delivery::Held;
use crate::client::leaver::Leaver;
use crate::client::state::State;
use crate::error::uri;
use crate::message::{EMPTY_MAP, Message};

/// Bytes queued for the socket beyond which no command is taken.
const QUEUED_MAX: usize = 1 << 20;
/// Commands taken together before their messages are written: one system call for many small calls.
const BATCH_MAX: usize = 64;
/// How long the router may take to say GOODBYE back, and how long what it sent before it left is still read. Nothing
/// depends on the one, and the other lies in the socket already.
const FAREWELL_MAX: Duration = Duration::from_secs(1);

/// How the loop ended.
enum End {
    /// The handles are gone, or one said stop.
    Ours,
    /// The router said GOODBYE.
    Theirs,
    /// The connection is gone or broken.
    Broken,
}

/// Runs until the connection ends, every handle is gone, or one says stop.
pub(super) async fn run(connection: Connection, mut commands: mpsc::Receiver<Command>, leaver: Leaver) {
    let (mut reader, writer) = connection.split();
    let mut state = State::new(writer, leaver.clone());
    let end = drive(&mut reader, &mut state, &mut commands, &leaver).await;
    // All queues are dropped, which tells everybody; then the router is told.
    let mut writer = state.into_writer();
    // A router that does not answer in time loses the connection all the same.
    let _ = tokio::time::timeout(FAREWELL_MAX, farewell(&end, &mut reader, &mut writer)).await;
}

async fn drive(
    reader: &mut Reader,
    state: &mut State,
    commands: &mut mpsc::Receiver<Command>,
    leaver: &Leaver,
) -> End {
    let mut held: Option<Held> = None;
    // Set once writing failed: the answers that came before the router left are still read.
    let mut deadline: Option<Instant> = None;
    loop {
        let writes = deadline.is_none();
        let pending = state.pending();
        // Not `biased`: a flood from one side must not keep the others from their turn.
        tokio::select! {
            () = Held::deliver(&mut held), if held.is_some() => {}
            message = reader.next(), if held.is_none() => match message {
                Ok(Some(Message::Goodbye { .. })) => return End::Theirs,
                Ok(Some(Message::Abort { .. }) | None) | Err(_) => return End::Broken,
                Ok(Some(message)) => held = state.receive(message).and_then(Held::try_now),
            },
            command = commands.recv(), if writes && pending < QUEUED_MAX => {
                let Some(command) = command else { return End::Ours };
                if obey(state, command, commands).is_none() {
                    return End::Ours;
                }
            }
            written = state.flush(), if writes && pending > 0 => if written.is_err() {
                deadline = Some(Instant::now() + FAREWELL_MAX);
            },
            () = reached(deadline) => return End::Broken,
            () = leaver.left() => {
                for left in leaver.take() {
                    state.leave(left);
                }
            }
        }
    }
}

/// Waits for a moment that may never come.
async fn reached(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Obeys a command and those that wait behind it, up to a batch; `None` when one says stop.
fn obey(state: &mut State, first: Command, commands: &mut mpsc::Receiver<Command>) -> Option<()> {
    let mut next = Some(first);
    for _ in 0..BATCH_MAX {
        match next.take() {
            None => return Some(()),
            Some(Command::Stop) => return None,
            Some(command) => state.obey(command),
        }
        if state.pending() < QUEUED_MAX {
            next = commands.try_recv().ok();
        }
    }
    match next {
        Some(Command::Stop) => None,
        Some(command) => {
            state.obey(command);
            Some(())
        }
        None => Some(()),
    }
}

/// Leaves as the specification asks for: who was told GOODBYE says it back, who says it waits for the answer.
async fn farewell(end: &End, reader: &mut Reader, writer: &mut Writer) -> Result<(), crate::Error> {
    let reason = match end {
        End::Ours => uri::CLOSE_REALM,
        End::Theirs => uri::GOODBYE_AND_OUT,
        End::Broken => return Ok(()),
    };
    writer.queue(&Message::Goodbye {
        details: EMPTY_MAP,
        reason,
    });
    writer.flush().await?;
    if matches!(end, End::Ours) {
        // What still comes before it is ignored.
        while !matches!(reader.next().await?, None | Some(Message::Goodbye { .. })) {}
    }
    writer.close().await
}
