//! The router's thread: one loop over its sockets, its commands and its clock.
//!
//! ```text
//! poll -> commands -> who is ready: read once, understand, queue -> what is due -> write what was queued -> poll
//! ```
//!
//! Each turn reads once (256 KiB and 256 messages at most) from those who have something and whose turn it is (`turns`), then
//! writes to everybody who got something: one system call each. Nobody is served twice before all others were once.
//!
//! An idle router wakes for nothing; one with links once a second, to ask whether they live.

use std::io;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use mio::Events;
use mio::event::Event;
use pipes_wamp::error::uri;
use tracing::error;

use crate::commands::Command;
use crate::flow_control::class::Rank;
use crate::state::State;
use crate::token::{self, Kind};
use crate::turns::Ready;

/// Events taken from the kernel at once.
const EVENTS: usize = 1024;

impl State {
    /// Serves until it is told to stop.
    pub fn run(mut self, commands: &Receiver<Command>) {
        let mut events = Events::with_capacity(EVENTS);
        while !self.is_stopping {
            let now = Instant::now();
            let limit = self.timeout(now);
            self.clock.sleep(now, limit);
            if let Err(error) = self.poll.poll(&mut events, limit)
                && error.kind() != io::ErrorKind::Interrupted
            {
                error!(%error, "the router's poll fails: the router ends");
                return;
            }
            self.read_clock();
            while let Ok(command) = commands.try_recv() {
                self.command(command);
            }
            for event in events.iter() {
                self.note(event);
            }
            self.accept_all();
            self.sockets.end_wait_for_others();
            self.turn();
            self.tick();
            self.flush();
        }
        self.say_goodbye();
    }

    fn note(&mut self, event: &Event) {
        match token::kind(event.token().0) {
            Kind::Connection(slot) => self.sockets.note_connection(slot, event),
            Kind::Link(slot) => self.sockets.note_link(slot, event),
            Kind::Listener(place) => self.listeners.note(place),
            Kind::Waker => {}
        }
    }

    /// Serves once everybody who is ready now, each rank for as long as its budget lasts.
    fn turn(&mut self) {
        for rank in Rank::ALL {
            let until = rank.budget().map(|budget| Instant::now() + budget);
            for _ in 0..self.sockets.turns.len(rank) {
                match self.sockets.turns.next(rank) {
                    Some(Ready::Connection(key)) => self.serve(key),
                    Some(Ready::Link(key)) => self.serve_link(key),
                    None => break,
                }
                if until.is_some_and(|until| Instant::now() >= until) {
                    break;
                }
            }
        }
    }

    /// Reads everybody's clock, and the loop's with it.
    fn read_clock(&mut self) -> Instant {
        let now = Instant::now();
        self.sockets.set_now(self.clock.read(now));
        now
    }

    /// Does what time has brought. The time is read here, after the sockets: what came before it was there in time.
    fn tick(&mut self) {
        let now = self.read_clock();
        self.end_overdue_connections();
        // The milliseconds that a process may live fit.
        let now_ms = now.duration_since(self.begin).as_millis() as u64;
        self.dealer.tick(now_ms, &mut self.sockets);
        self.tend_peers(self.sockets.now());
        self.dealer.clear(&mut self.sockets);
        self.confirm_known(self.sockets.now());
        self.sockets.tell_links();
    }

    /// Whether something was not done whole, to let others between, or may go on again.
    fn has_slices_left(&self) -> bool {
        self.dealer.has_leftovers()
            || self.sockets.has_news()
            || self.sockets.registrations.has_known()
            || self.sockets.ends_wait_for_others()
    }

    /// How long the loop may wait from `now` on.
    fn timeout(&self, now: Instant) -> Option<Duration> {
        if !self.sockets.turns.is_empty() || self.listeners.has_pending() || self.has_slices_left() {
            return Some(Duration::ZERO);
        }
        let judged = [self.next_overdue_connection(), self.sockets.next_tend()];
        let judged = judged.into_iter().flatten().min();
        let deadline = self.dealer.next_deadline_ms();
        let next = [
            judged.map(|at| at.saturating_duration_since(self.sockets.now())),
            deadline.map(|ms| (self.begin + Duration::from_millis(ms)).saturating_duration_since(now)),
        ];
        // The kernel counts milliseconds: rounded up, so that it is never woken a moment too early.
        Some(next.into_iter().flatten().min()? + Duration::from_millis(1))
    }

    /// Writes until nobody has got something new.
    pub fn flush(&mut self) {
        while self.sockets.has_dirty() {
            for key in self.sockets.take_dirty() {
                self.flush_connection(key);
            }
            for key in self.sockets.take_dirty_links() {
                if let Err(error) = self.sockets.flush_link(key) {
                    self.lose_link(key, &error.to_string());
                }
            }
        }
    }

    fn say_goodbye(&mut self) {
        let all: Vec<_> = self.sockets.connections().map(|(key, _)| key).collect();
        all.into_iter()
            .for_each(|key| self.leave_and_close(key, uri::SYSTEM_SHUTDOWN));
        self.part_from_peers();
        // What the sockets take at once goes out; nobody is waited for.
        self.flush();
    }
}
