//! Signals that may be sent to the stages of a run, by their names.

/// What a caller may send to the stages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// A signal to each stage's process group.
    Group(i32),
    /// SIGKILL to every process of every stage.
    Kill,
}

impl Signal {
    /// Those that are taken, by their names.
    pub const NAMES: [(&str, Signal); 7] = [
        ("HUP", Signal::Group(libc::SIGHUP)),
        ("INT", Signal::Group(libc::SIGINT)),
        ("QUIT", Signal::Group(libc::SIGQUIT)),
        ("TERM", Signal::Group(libc::SIGTERM)),
        ("USR1", Signal::Group(libc::SIGUSR1)),
        ("USR2", Signal::Group(libc::SIGUSR2)),
        ("KILL", Signal::Kill),
    ];

    /// The signal of that name, with or without `SIG`.
    pub fn parse(name: &str) -> Option<Signal> {
        let name = name.strip_prefix("SIG").unwrap_or(name);
        let known = Signal::NAMES.iter().find(|(known, _)| *known == name);
        known.map(|(_, signal)| *signal)
    }

    /// The number a shell adds to 128.
    pub fn number(self) -> i32 {
        match self {
            Signal::Group(number) => number,
            Signal::Kill => libc::SIGKILL,
        }
    }
}
