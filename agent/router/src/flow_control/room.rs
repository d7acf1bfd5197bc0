//! The room of sessions: how much is held for one, and for all of users' realms together.
//!
//! | held of a session | counts |
//! |---|---|
//! | what waits for its socket | to itself, and to its realms |
//! | what was read of it and is not understood | to its realms |
//! | what waits for another node, and was sent by it | to itself (`ledger`), and to its realms |
//!
//! | beyond | who waits |
//! |---|---|
//! | half of a session's room | who sends it parts of calls; a new call or a last answer has the other half |
//! | a session's room | nobody: a call to it is refused, an answer to it becomes an error |
//! | the users' | the same for each of their sessions that holds more than a little; who holds less goes on, in small reads |
//!
//! So whoever reads what it asked for goes on, whatever others leave unread. The agent's own sessions and stages are
//! bounded by their windows and by the credit that an agent's shims give in all.

use crate::flow_control::class::Class;

/// What is held for one session, all its calls together.
pub(crate) const SESSION_MAX: usize = 8 << 20;
/// What is held for all sessions of users' realms: four that use up their room, or thousands that hold a little.
const USERS_MAX: usize = 32 << 20;
/// A little: what a session holds though there is no room. The smallest block of a queue and some small messages.
pub(crate) const LITTLE: usize = 4 << 10;

/// An answer of so many bytes is an operator's whatever waits for it: that of a run, which carries none of its output.
const OUTCOME_MAX: usize = 64 << 10;

/// How much of it is used.
#[derive(Debug, Default)]
pub(crate) struct Room {
    users: usize,
}

impl Room {
    /// A session of users' realms holds so much now, and not so much any more.
    pub fn change(&mut self, before: usize, after: usize) {
        self.users = self.users + after - before;
    }

    /// What users' sessions hold.
    pub fn users(&self) -> usize {
        self.users
    }

    /// Whether that of users' realms is used up, where so much waits for other nodes.
    pub fn is_short(&self, for_nodes: usize) -> bool {
        self.users + for_nodes >= USERS_MAX
    }

    /// Whether who sends parts of calls to a session that holds `held` has to wait.
    pub fn is_full(&self, class: Class, held: usize, for_nodes: usize) -> bool {
        match class {
            Class::Own | Class::Stages => false,
            Class::Operators => held >= SESSION_MAX / 2,
            Class::Users => held >= SESSION_MAX / 2 || (held > LITTLE && self.is_short(for_nodes)),
        }
    }

    /// Whether a session that holds `held` takes a new call, or a last answer, of so many bytes.
    pub fn takes(&self, class: Class, held: usize, size: usize, for_nodes: usize) -> bool {
        match class {
            Class::Own | Class::Stages => true,
            // What became of a run is told, however much of its output waits: it cannot be asked for again.
            Class::Operators => held < SESSION_MAX || size <= OUTCOME_MAX,
            Class::Users => {
                let has_room = self.users + for_nodes + size <= USERS_MAX;
                held + size <= LITTLE || (held < SESSION_MAX && has_room)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_holds_a_little_goes_on_whatever_others_hold() {
        let mut room = Room::default();
        let users = Class::Users;
        assert!(room.takes(users, 0, 16 << 20, 0), "the largest message");
        room.change(0, SESSION_MAX);
        assert!(!room.takes(users, SESSION_MAX, 10, 0) && room.takes(users, 0, SESSION_MAX, 0));
        assert!(room.is_full(users, SESSION_MAX / 2, 0) && !room.is_full(users, SESSION_MAX / 2 - 1, 0));
        room.change(SESSION_MAX, USERS_MAX - 100);
        assert!(room.takes(users, LITTLE, 100, 0) && !room.takes(users, LITTLE, 101, 0));
        assert!(
            !room.takes(users, LITTLE, 100, 1),
            "what waits for other nodes counts"
        );
        assert!(!room.is_full(users, LITTLE + 1, 0) && room.is_full(users, LITTLE + 1, 100));
        room.change(0, 100);
        assert!(room.takes(users, 0, LITTLE, 0) && !room.is_full(users, LITTLE, 0));
    }

    #[test]
    fn stages_and_operators_do_not_feel_what_users_hold() {
        let mut room = Room::default();
        room.change(0, 2 * USERS_MAX);
        for class in [Class::Own, Class::Stages, Class::Operators] {
            assert!(room.takes(class, 0, 16 << 20, 0) && !room.is_full(class, 0, 0));
        }
        assert!(room.takes(Class::Stages, 2 * SESSION_MAX, 1, 0));
        assert!(room.takes(Class::Operators, SESSION_MAX, OUTCOME_MAX, 0));
        assert!(!room.takes(Class::Operators, SESSION_MAX, OUTCOME_MAX + 1, 0));
    }
}
