//! The loop: what to wait for, and who is told what came.

use std::io;
use std::time::Duration;

use pipes_wamp::message::Message;

use crate::child::Spawner;
use crate::connection::{Frame, Inbox};
use crate::dispatcher::Dispatcher;
use crate::invocation::Watched;
use crate::join::Joined;
use crate::settings::Settings;
use crate::signals::Signals;

/// A replica at work.
pub struct Shim {
    inbox: Inbox,
    signals: Signals,
    dispatcher: Dispatcher,
}

impl Shim {
    /// A replica that has joined its router.
    pub fn new(
        settings: Settings,
        signals: Signals,
        spawner: Spawner,
        joined: Joined,
    ) -> anyhow::Result<Shim> {
        let inbox = Inbox::new(joined.stream.try_clone()?);
        Ok(Shim {
            inbox,
            signals,
            dispatcher: Dispatcher::new(settings, spawner, joined)?,
        })
    }

    /// Serves until the connection ends, or a signal asks to stop; returns when nothing is left of any stage.
    pub fn serve(mut self) -> anyhow::Result<()> {
        let (mut polls, mut watched, mut turn) = (Vec::new(), Vec::new(), 0_usize);
        loop {
            self.dispatcher.advance();
            if self.dispatcher.is_done() {
                break;
            }
            self.fill_polls(&mut polls, &mut watched);
            poll(&mut polls, self.dispatcher.patience())?;
            if polls[0].revents != 0 {
                let seen = self.signals.take();
                if seen.child {
                    self.dispatcher.reap();
                }
                if seen.stop {
                    self.dispatcher.close();
                }
            }
            if polls[1].revents & libc::POLLOUT != 0 {
                self.dispatcher.flush();
            }
            if polls[1].revents & !libc::POLLOUT != 0 {
                self.receive();
            }
            if polls[2].revents != 0 {
                self.dispatcher.seen_background();
            }
            // The first one may fill the connection: each turn another is the first.
            turn = turn.wrapping_add(1);
            for step in 0..watched.len() {
                let at = turn.wrapping_add(step) % watched.len();
                let ((index, what), events) = (watched[at], polls[3 + at].revents);
                if events != 0 {
                    self.dispatcher.ready(index, what, events);
                }
            }
        }
        self.dispatcher.leave_nothing();
        Ok(())
    }

    fn fill_polls(&self, polls: &mut Vec<libc::pollfd>, watched: &mut Vec<(usize, Watched)>) {
        let entry = |fd, events| libc::pollfd {
            fd,
            events,
            revents: 0,
        };
        polls.clear();
        watched.clear();
        polls.push(entry(self.signals.watch(), libc::POLLIN));
        let (connection, events) = self.dispatcher.watch_connection();
        polls.push(entry(connection, events));
        polls.push(entry(self.dispatcher.watch_background(), libc::POLLIN));
        self.dispatcher.watch(|fd, events, index, what| {
            polls.push(entry(fd, events));
            watched.push((index, what));
        });
    }

    /// Reads once, and handles every message that is whole.
    fn receive(&mut self) {
        let is_open = self.inbox.fill().unwrap_or(false);
        loop {
            match self.inbox.next() {
                Ok(Some(Frame::Message(bytes))) => match Message::parse(bytes) {
                    Ok(message) => self.dispatcher.handle(message),
                    Err(error) => return self.dispatcher.broken(&error),
                },
                Ok(Some(Frame::Ping(payload))) => self.dispatcher.pong(payload),
                Ok(None) => break,
                Err(error) => return self.dispatcher.broken(&error),
            }
        }
        if !is_open || self.dispatcher.is_lost() {
            self.dispatcher.close();
        }
    }
}

/// Waits until something is ready, at most so long.
fn poll(polls: &mut [libc::pollfd], patience: Option<Duration>) -> io::Result<()> {
    let timeout = patience.map_or(-1, |time| {
        // Rounded up: a wait of less than a millisecond is no busy loop.
        libc::c_int::try_from(time.as_micros().div_ceil(1000)).unwrap_or(libc::c_int::MAX)
    });
    // SAFETY: the kernel writes `revents` of the entries of this slice.
    let count = unsafe { libc::poll(polls.as_mut_ptr(), polls.len() as libc::nfds_t, timeout) };
    if count < 0 {
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
        polls.iter_mut().for_each(|poll| poll.revents = 0);
    }
    Ok(())
}
