//! Drives an attempt: waits for the next event, hands it to the bridge, does what that asks for.
//!
//! Always: (1) a session is read only while what it would be passed on to is nearly empty, so that no more than a
//! window lies here; (2) both sessions are written as soon as nothing more is to be read; (3) between two attempts the
//! caller is heard all the same.

use std::time::Duration;

use pipes_protocol::run::{Part, STDOUT};
use pipes_wamp::client::{Reader, Writer};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use crate::workflow::coordinator::attempt::{Attempt, Phase};
use crate::workflow::coordinator::bridge::{Action, Bridge, Event, Start};
use crate::workflow::coordinator::caller::{CallerIn, CallerOut, Input};
use crate::workflow::coordinator::outcome::{Outcome, TIMEOUT};
use crate::workflow::coordinator::publish::Publisher;
use crate::workflow::runs::record::LOST;
use crate::workflow::runs::registry::Notice;
use pipes_router::{Onto, Router};

/// Queued bytes beyond which the other side is not read.
const QUEUED_MAX: usize = 256 << 10;

/// The sides of a run that outlive its attempts, and what passes between them.
pub struct Sides {
    /// Lets bytes go past us.
    pub router: Router,
    /// What the caller sends.
    pub input: CallerIn,
    /// What the caller gets.
    pub output: CallerOut,
    /// What others say to the run.
    pub notices: mpsc::Receiver<Notice>,
    /// The state between the caller and an attempt.
    pub bridge: Bridge,
}

/// What an event may come from.
struct Sources<'e> {
    replies: &'e mut Reader,
    input: &'e mut CallerIn,
    notices: &'e mut mpsc::Receiver<Notice>,
    is_caller_gone: bool,
}

/// Runs an attempt to its end; `replies` reads its session.
pub async fn drive(
    attempt: &mut Attempt<'_>,
    replies: &mut Reader,
    sides: &mut Sides,
    publisher: &mut Publisher<'_>,
) {
    let Sides {
        router,
        input,
        output,
        notices,
        bridge,
    } = sides;
    attempt.begin();
    bridge.begin(attempt);
    bridge.deadlines.begin(Instant::now());
    while attempt.phase != Phase::Over {
        bridge
            .deadlines
            .enter(attempt.phase, attempt.steps(), Instant::now());
        if output.pending() == 0 {
            bridge.taken(attempt);
        }
        publisher.show(attempt, output);
        let until = bridge.deadlines.next(attempt);
        let until = publisher.due().map_or(until, |due| due.min(until));
        let sources = Sources {
            replies,
            input,
            notices,
            is_caller_gone: bridge.is_caller_gone(),
        };
        let event = next_event(sources, &mut attempt.writer, output, until).await;
        match bridge.on(attempt, event, Instant::now()) {
            Action::None => {}
            Action::Stdout(bytes) => output.part(&Part::Stdout(bytes)),
            Action::Stderr(stage, bytes) => {
                let (stage, bytes) = (stage as u32 + 1, &bytes);
                publisher.keep_stderr(stage, bytes);
                output.part(&Part::Stderr { stage, bytes });
            }
            Action::StdinCredit(bytes) => output.part(&Part::Credit(bytes)),
            Action::Progress => publisher.note_progress(),
            Action::Start(start) => {
                splice(router, &start, attempt, output);
                if start.stdin_credit > 0 {
                    output.part(&Part::Credit(start.stdin_credit));
                }
                publisher.update(attempt);
            }
        }
    }
}

/// Whatever happens first: replies before the caller, and reading before writing.
async fn next_event<'e>(
    sources: Sources<'e>,
    to_stages: &mut Writer,
    to_caller: &mut CallerOut,
    until: Instant,
) -> Event<'e> {
    let Sources {
        replies,
        input,
        notices,
        is_caller_gone,
    } = sources;
    let (for_stages, for_caller) = (to_stages.pending(), to_caller.pending());
    tokio::select! {
        biased;
        reply = replies.next(), if for_caller < QUEUED_MAX => match reply {
            Ok(Some(message)) => Event::Reply(message),
            Ok(None) | Err(_) => Event::RepliesEnded,
        },
        said = input.next(), if !is_caller_gone && for_stages < QUEUED_MAX => match said {
            Input::Chunk(chunk) => Event::Caller(chunk),
            Input::Misuse(why) => Event::CallerMisuse(why),
            Input::Gone => Event::CallerGone,
            Input::Nothing => Event::Nothing,
        },
        written = to_stages.flush(), if for_stages > 0 => match written {
            Ok(()) => Event::Nothing,
            Err(_) => Event::RepliesEnded,
        },
        written = to_caller.flush(), if for_caller > 0 && !is_caller_gone => match written {
            Ok(()) => Event::Nothing,
            Err(_) => Event::CallerGone,
        },
        Some(notice) = notices.recv() => Event::Notice(notice),
        () = sleep_until(until) => Event::Deadline,
    }
}

/// Lets the caller's stdin and the last stage's output go past us from the start.
fn splice(router: &Router, start: &Start, attempt: &Attempt<'_>, output: &CallerOut) {
    if let Some(request) = start.stdin {
        router.splice(output.call(), Onto::Call(attempt.own(request)));
    }
    if let Some(invocation) = start.stdout {
        router.splice(attempt.own(invocation), Onto::Answer(output.call(), STDOUT));
    }
}

/// Between two attempts: waits so long, or until a slot is free; an outcome when the run ended meanwhile.
pub async fn wait(longest: Duration, sides: &mut Sides, publisher: &mut Publisher<'_>) -> Option<Outcome> {
    if let Some(signal) = sides.bridge.early_signal() {
        return Some(Outcome::cancelled(128 + signal.number()));
    }
    let again = Instant::now() + longest;
    loop {
        publisher.show_waiting();
        let record = publisher.record_due().map_or(again, |due| due.min(again));
        let until = sides.bridge.deadlines.while_waiting(record);
        tokio::select! {
            notice = sides.notices.recv() => return match notice {
                Some(Notice::Freed) => None,
                Some(Notice::Stop { .. }) | None => Some(Outcome::cancelled(128 + libc::SIGTERM)),
            },
            said = sides.input.next() => match said {
                Input::Misuse(why) => return Some(Outcome::misuse(why)),
                Input::Gone => return Some(Outcome::cancelled(LOST)),
                Input::Chunk(chunk) => {
                    if let Some(signal) = chunk.signal {
                        return Some(Outcome::cancelled(128 + signal.number()));
                    }
                    sides.bridge.note(&chunk);
                    if !sides.bridge.has_all_stdin() {
                        return Some(Outcome::incomplete());
                    }
                }
                Input::Nothing => {}
            },
            () = sleep_until(until) => {
                let why = "the timeout ran out while the run waited for a free slot";
                let now = Instant::now();
                if sides.bridge.deadlines.is_timed_out(now) {
                    return Some(Outcome::failed(TIMEOUT, why.into()));
                }
                if now >= again {
                    return None;
                }
            }
        }
    }
}
