//! Signals to the CLI while a run is on: they are the stages'.
//!
//! | signal | first time | second | third |
//! |---|---|---|---|
//! | INT, TERM, QUIT, HUP | passed on to every stage's process group | SIGKILL to all the stages' processes | the CLI dies of it |
//!
//! What was ignored when the CLI began stays ignored (`nohup`, a shell's `&`). TSTP and CONT are left to the kernel.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::error::Error;

const CAUGHT: [(libc::c_int, &str); 4] = [
    (libc::SIGINT, "INT"),
    (libc::SIGTERM, "TERM"),
    (libc::SIGHUP, "HUP"),
    (libc::SIGQUIT, "QUIT"),
];

/// What a signal means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// To be passed on, under this name.
    Pass(&'static str),
    /// The agent was told twice: nothing is waited for any more.
    Die(i32),
}

/// The signals that are caught.
pub struct Signals {
    streams: [Option<Signal>; CAUGHT.len()],
    counts: Counts,
}

/// How often each came.
#[derive(Default)]
struct Counts([u32; CAUGHT.len()]);

impl Signals {
    /// Catches from now on what was not ignored.
    pub fn catch() -> Result<Signals, Error> {
        let mut streams = [const { None }; CAUGHT.len()];
        for (stream, (number, name)) in streams.iter_mut().zip(CAUGHT) {
            if !is_ignored(number) {
                let caught = signal(SignalKind::from_raw(number));
                *stream =
                    Some(caught.map_err(|error| Error::Local(format!("cannot catch SIG{name}: {error}")))?);
            }
        }
        Ok(Signals {
            streams,
            counts: Counts::default(),
        })
    }

    /// The next one, and what it means.
    pub async fn next(&mut self) -> Order {
        let index = self.index().await;
        self.counts.came(index)
    }

    /// The number of the next one, while there is nobody to pass it on to.
    pub async fn number(&mut self) -> i32 {
        CAUGHT[self.index().await].0
    }

    async fn index(&mut self) -> usize {
        let streams = &mut self.streams;
        std::future::poll_fn(|context| {
            for (index, stream) in streams.iter_mut().enumerate() {
                if let Some(stream) = stream
                    && stream.poll_recv(context).is_ready()
                {
                    return std::task::Poll::Ready(index);
                }
            }
            std::task::Poll::Pending
        })
        .await
    }

    /// Whether any came.
    pub fn came(&self) -> bool {
        self.counts.0.iter().any(|count| *count > 0)
    }

    /// After its own Ctrl-C the CLI dies of SIGINT, as its shell expects, unless the run survived it.
    pub fn dies_of(&self) -> Option<i32> {
        self.counts.dies_of()
    }
}

impl Counts {
    fn came(&mut self, index: usize) -> Order {
        let (number, name) = CAUGHT[index];
        self.0[index] += 1;
        match self.0[index] {
            1 => Order::Pass(name),
            2 => Order::Pass("KILL"),
            _ => Order::Die(number),
        }
    }

    fn dies_of(&self) -> Option<i32> {
        (self.0[0] > 0).then_some(libc::SIGINT)
    }
}

fn is_ignored(number: libc::c_int) -> bool {
    // SAFETY: asks for the disposition, changes nothing; a zeroed sigaction is a valid one.
    unsafe {
        let mut now: libc::sigaction = std::mem::zeroed();
        libc::sigaction(number, std::ptr::null(), &mut now) == 0 && now.sa_sigaction == libc::SIG_IGN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_passed_on_then_kills_then_is_died_of() {
        let mut counts = Counts::default();
        assert_eq!(counts.came(0), Order::Pass("INT"));
        assert_eq!(counts.came(1), Order::Pass("TERM"));
        assert_eq!(counts.came(0), Order::Pass("KILL"));
        assert_eq!(counts.came(0), Order::Die(libc::SIGINT));
    }

    #[test]
    fn only_ctrl_c_is_died_of_at_the_end() {
        let mut counts = Counts::default();
        counts.came(1);
        assert_eq!(counts.dies_of(), None);
        counts.came(0);
        assert_eq!(counts.dies_of(), Some(libc::SIGINT));
    }
}
