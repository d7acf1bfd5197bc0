//! The shim: the WAMP client beside each stage's executable.
//!
//! It joins realm `pipes.stages` at its agent's unix socket and offers two procedures. The coordinator of a run makes the
//! *stage call*, which lives as long as the stage; the shim of the stage before makes the *pipe call*, which lives as
//! long as the pipe; and this shim calls the next stage's pipe in turn.
//!
//! ```text
//! coordinator --stage call: go, signal, end--> shim <--ready, started, stderr, counts, exited, closed--
//! shim before --pipe call: bytes-------------> shim -> [stdin pipe] child [stdout pipe] -> shim --pipe call--> shim after
//!             <-credit------------------------                                             <-credit-----------
//! ```
//!
//! Always: (1) only the final chunk of a pipe call is an end of input; every other end of it is a break, and then all of the
//! stage's processes are killed and reaped before a pipe of theirs is closed; (2) the shim never stops reading its
//! connection: it holds at most what it gave credit for; (3) when the connection ends, nothing of any stage is left,
//! and the shim exits. One thread, one `poll`, for all that carries bytes or starts processes; what may wait for a disk (a
//! run's files, large scratch folders) has threads of its own.

use std::process::ExitCode;

mod background;
mod child;
mod connection;
mod disk;
mod dispatcher;
mod environment;
mod files;
mod invocation;
mod join;
mod processes;
mod scratch;
mod settings;
mod shim;
mod signals;
mod usage;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pipes-shim: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    let settings = settings::Settings::take()?;
    let signals = signals::Signals::set_up()?;
    let spawner = child::Spawner::new()?;
    signals::harden()?;
    let joined = join::join(&settings)?;
    shim::Shim::new(settings, signals, spawner, joined)?.serve()
}
