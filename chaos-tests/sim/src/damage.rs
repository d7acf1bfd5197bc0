//! Damage: an octet in one host's files changes. Never in the last frame of its log, which nobody can tell from a torn one.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use pipes_raft::{Error, sim};
use pipes_sim_seam::{Chance, disk};

/// Mean simulated milliseconds between two blows.
const GAP_MS: u64 = 3_000;

/// What is damaged, and what the operator is about.
pub struct Damage {
    chance: Chance,
    next_ms: u64,
    /// The host in whose files an octet changed, until it is a new member.
    pub host: Option<usize>,
    /// That it is made one.
    pub reset: Option<Reset>,
}

/// A host that waits to be made a new member.
pub struct Reset {
    /// The member that it was.
    pub id: u64,
    /// When the others are asked again to remove it.
    pub ask_at: u64,
    /// What they answered.
    pub answer: Answer,
}

/// What the others answered, once they have.
#[derive(Clone, Default)]
pub struct Answer(Arc<Mutex<Option<Result<(), Error>>>>);

impl Answer {
    /// Takes it.
    pub fn take(&self) -> Option<Result<(), Error>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Gives it.
    pub fn give(&self, answer: Result<(), Error>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(answer);
    }
}

impl Damage {
    /// None yet.
    pub fn new(mut chance: Chance) -> Damage {
        Damage {
            next_ms: chance.between(1, 4 * GAP_MS),
            chance,
            host: None,
            reset: None,
        }
    }

    /// Whether the files of this host may be damaged.
    pub fn is_of(&self, number: usize) -> bool {
        self.host == Some(number)
    }

    /// Whether another blow is due.
    pub fn is_due(&self, now_ms: u64) -> bool {
        self.host.is_none() && now_ms >= self.next_ms
    }

    /// Draws one of `hosts` hosts, and for how long it is down.
    pub fn draw(&mut self, now_ms: u64, hosts: usize) -> (usize, u64) {
        self.next_ms = now_ms + self.chance.between(1, 2 * GAP_MS);
        let number = self.chance.between(1, hosts as u64) as usize;
        (number, self.chance.scaled(1, 2_000))
    }

    /// Changes an octet in a host's files; says which.
    pub fn strike(&mut self, number: usize) -> Option<String> {
        let files = disk::files(&format!("n{number}"));
        let segments = files.iter().map(|(path, _)| path);
        let last_segment = segments.filter(|path| path.ends_with(".seg")).next_back();
        let (path, size) = files.get(self.chance.below(files.len() as u64) as usize)?;
        let end = match Some(path) == last_segment {
            true => sim::last_frame(&disk::content(Path::new(path))),
            false => *size,
        };
        if end == 0 {
            return None;
        }
        let offset = self.chance.below(end);
        disk::flip(Path::new(path), offset, 1 << self.chance.below(8));
        self.host = Some(number);
        Some(format!("octet {offset} of {path} changes"))
    }
}

/// Whether an operator is told to begin this host anew.
pub(crate) fn advises_reset(why: &str, number: usize) -> bool {
    why.contains(&format!("pipes node reset n{number}"))
}
