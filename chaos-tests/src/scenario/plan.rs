//! Which faults come when: a list that a seed stands for.

use std::time::Duration;

use rand::Rng;
use rand::rngs::StdRng;

use crate::random;

/// What is done to a cluster. Nodes are counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// An agent is killed, and started again after so long.
    Kill(usize, Duration),
    /// The same, of whoever leads then.
    KillLeader(Duration),
    /// All agents are killed at once, and started again.
    KillAll,
    /// An agent is killed while it writes a snapshot.
    KillInSnapshot(usize),
    /// An agent is stopped (SIGSTOP) for so long.
    Pause(usize, Duration),
    /// An agent is stopped while it runs an attempt, whose stages end before it goes on.
    LateEnd(usize),
    /// Two agents do not hear each other for so long.
    Cut(usize, usize, Duration),
    /// The second does not hear the first.
    OneWay(usize, usize, Duration),
    /// An agent hears nobody, and nobody hears it.
    Isolate(usize, Duration),
    /// An agent's wall clock jumps to so many seconds from the right time.
    StepClock(usize, i64),
}

impl Fault {
    /// Its kind, for a summary.
    pub fn kind(self) -> &'static str {
        match self {
            Fault::Kill(..) => "kills",
            Fault::KillLeader(_) => "kills of the leader",
            Fault::KillAll => "kills of all",
            Fault::KillInSnapshot(_) => "kills in a snapshot",
            Fault::Pause(..) => "pauses",
            Fault::LateEnd(_) => "late ends",
            Fault::Cut(..) => "cuts",
            Fault::OneWay(..) => "one-way cuts",
            Fault::Isolate(..) => "isolations",
            Fault::StepClock(..) => "steps of a clock",
        }
    }
}

/// A fault, and the calm before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// How long nothing is done.
    pub calm: Duration,
    /// What is done then.
    pub fault: Fault,
}

/// So many faults for a cluster of so many nodes.
pub fn random(seed: u64, nodes: usize, count: usize) -> Vec<Step> {
    let mut random = random::generator(seed);
    (0..count)
        .map(|_| Step {
            calm: Duration::from_millis(random.random_range(200..4_000)),
            fault: fault(&mut random, nodes),
        })
        .collect()
}

fn fault(random: &mut StdRng, nodes: usize) -> Fault {
    let node = random.random_range(0..nodes);
    let other = (node + random.random_range(1..nodes)) % nodes;
    // From what nobody notices to what every lease ends in.
    let time = Duration::from_millis(match random.random_range(0..3) {
        0 => random.random_range(50..800),
        1 => random.random_range(800..4_000),
        _ => random.random_range(4_000..15_000),
    });
    match random.random_range(0..20) {
        0..3 => Fault::Kill(node, time / 4),
        3..5 => Fault::KillLeader(time / 4),
        5 => Fault::KillAll,
        6..8 => Fault::KillInSnapshot(node),
        8..10 => Fault::Pause(node, time),
        10..12 => Fault::LateEnd(node),
        12..14 => Fault::Cut(node, other, time),
        14..16 => Fault::OneWay(node, other, time),
        16..18 => Fault::Isolate(node, time),
        _ => {
            // Certificates begin an hour before they were made: an agent that lives before that is no member.
            let seconds = [-3_000, -30, -2, 0, 2, 30, 3_600, 86_400 * 30];
            Fault::StepClock(node, seconds[random.random_range(0..seconds.len())])
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_seed_stands_for_one_plan_and_every_kind_comes_up() {
        assert_eq!(random(1, 3, 50), random(1, 3, 50));
        assert_ne!(random(1, 3, 50), random(2, 3, 50));
        let kinds: BTreeSet<_> = random(1, 3, 300).iter().map(|step| step.fault.kind()).collect();
        assert_eq!(kinds.len(), 10, "{kinds:?}");
        for step in random(1, 3, 300) {
            if let Fault::Cut(one, other, _) | Fault::OneWay(one, other, _) = step.fault {
                assert_ne!(one, other);
            }
        }
    }
}
