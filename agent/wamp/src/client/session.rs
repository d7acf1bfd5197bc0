//! A session with calls and registrations as values; one task drives its connection.
//!
//! ```text
//! Session, Call, Registration, Invocation  --commands-->  task  ==messages==>  router
//!                                          <--answers, chunks, invocations--
//! ```
//!
//! Always: (1) every queue is bounded. A full queue of answers or chunks stops the reading of the connection: who shares
//! a session among slow consumers slows all of them, and must not wait for one call while leaving another's answers
//! lie. A full queue of invocations refuses further ones instead, so that a callee may itself call over its session.
//! (2) A call that is dropped before its end is cancelled, an invocation without an answer fails, a registration is
//! taken back. (3) The task ends with the connection, with the last handle or by `stop`, and every call then ends with
//! [`CallError::Closed`].

use rmpv::Value;
use tokio::sync::{mpsc, oneshot};

use crate::client::call::Call;
use crate::client::command::{CallOptions, Command};
use crate::client::connection::Connection;
use crate::client::delivery::{INVOCATIONS_MAX, WAITING_MAX};
use crate::client::error::CallError;
use crate::client::leaver::{Leaver, Left};
use crate::client::register::Registration;
use crate::client::task;
use crate::payload::PayloadBuf;

/// Commands that may wait for the task: callers beyond wait with them.
const COMMANDS_MAX: usize = 256;
/// A joined session. A cheap handle; the last one closes it.
#[derive(Clone)]
pub struct Session {
    commands: mpsc::Sender<Command>,
    leaver: Leaver,
}

impl Session {
    /// Drives a joined connection in a task of its own.
    pub fn start(connection: Connection) -> Session {
        let (session, driven) = Session::over(connection);
        tokio::spawn(driven);
        session
    }

    /// A session, and the future that drives it and ends with it: for who awaits all its tasks by name.
    pub fn over(connection: Connection) -> (Session, impl Future<Output = ()> + Send + 'static) {
        let (commands, receiver) = mpsc::channel(COMMANDS_MAX);
        let leaver = Leaver::default();
        let driven = task::run(connection, receiver, leaver.clone());
        (Session { commands, leaver }, driven)
    }

    /// Begins a call.
    pub async fn call(
        &self,
        uri: &str,
        payload: PayloadBuf,
        options: CallOptions,
    ) -> Result<Call, CallError> {
        let (sender, answers) = mpsc::channel(WAITING_MAX);
        // The task gives the number, in the order in which calls go out (request ids rise by one).
        let (numbered, number) = oneshot::channel();
        let command = Command::Call {
            uri: uri.to_owned(),
            payload,
            options: options.clone(),
            answers: sender,
            number: numbered,
        };
        self.commands.send(command).await.map_err(|_| CallError::Closed)?;
        let request = number.await.map_err(|_| CallError::Closed)??;
        Ok(Call {
            guard: self.leaver.guard(Left::Call(request)),
            request,
            uri: uri.to_owned(),
            options,
            answers,
            commands: self.commands.clone(),
        })
    }

    /// Calls and waits for the one answer.
    pub async fn call_once(
        &self,
        uri: &str,
        args: Vec<Value>,
        kwargs: Option<Value>,
    ) -> Result<PayloadBuf, CallError> {
        let payload = PayloadBuf::of_values(args, kwargs);
        self.call(uri, payload, CallOptions::default())
            .await?
            .result()
            .await
    }

    /// Offers a procedure.
    pub async fn register(&self, uri: &str) -> Result<Registration, CallError> {
        let (sender, invocations) = mpsc::channel(INVOCATIONS_MAX);
        let (done, registered) = oneshot::channel();
        let command = Command::Register {
            uri: uri.to_owned(),
            invocations: sender,
            done,
        };
        self.commands.send(command).await.map_err(|_| CallError::Closed)?;
        let id = registered.await.map_err(|_| CallError::Closed)??;
        Ok(Registration {
            _guard: self.leaver.guard(Left::Registration(id)),
            invocations,
            commands: self.commands.clone(),
        })
    }

    /// Whether the session is over.
    pub fn is_closed(&self) -> bool {
        self.commands.is_closed()
    }

    /// Waits until the session is over.
    pub async fn closed(&self) {
        self.commands.closed().await;
    }

    /// Leaves in order: what was asked for before goes out, then GOODBYE. Returns when the session is over.
    pub async fn stop(&self) {
        // A task that is gone has nothing to stop.
        let _ = self.commands.send(Command::Stop).await;
        self.closed().await;
    }
}
