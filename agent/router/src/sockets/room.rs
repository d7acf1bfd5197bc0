//! Who waits because of what sessions hold, and for how long (`flow_control/room`).

use crate::clients::connection::{Connection, ConnectionKey};
use crate::flow_control::class::Class;
use crate::flow_control::room::LITTLE;
use crate::sockets::Sockets;

impl Sockets {
    /// Tells the room what a connection holds now.
    pub fn recount(&mut self, key: ConnectionKey) {
        if let Some(connection) = self.connections.get_mut(key) {
            let (before, after) = connection.recount();
            self.room.change(before, after);
        }
    }

    /// Whether it is used up, and concerns a connection.
    pub fn is_short_for(&self, key: ConnectionKey) -> bool {
        let is_users = |connection: &Connection| connection.class() == Class::Users;
        self.is_short() && self.connection(key).is_some_and(is_users)
    }

    /// Whether it is used up.
    pub fn is_short(&self) -> bool {
        self.room.is_short(self.ledger.users_over())
    }

    /// What is held of it.
    pub fn users_held(&self) -> usize {
        self.room.users() + self.ledger.users_over()
    }

    /// Whether who sends parts of calls to a connection has to wait.
    pub fn is_full(&self, key: ConnectionKey) -> bool {
        let over = self.ledger.users_over();
        let is_full =
            |connection: &Connection| self.room.is_full(connection.class(), connection.waiting(), over);
        self.connection(key).is_some_and(is_full)
    }

    /// Whether a connection takes a new call, or a last answer, of so many bytes.
    pub fn has_room(&self, connection: &Connection, size: usize) -> bool {
        let over = self.ledger.users_over();
        self.room
            .takes(connection.class(), connection.waiting(), size, over)
    }

    /// A connection is served again when users' sessions hold less.
    pub fn wait_for_others(&mut self, key: ConnectionKey) {
        if let Some(connection) = self.connections.get_mut(key)
            && self.waiting_for_others.insert(key)
        {
            connection.waits_for_others(true);
            self.met.users_held += 1;
        }
    }

    /// Whether some wait and there is room again.
    pub fn ends_wait_for_others(&self) -> bool {
        !self.waiting_for_others.is_empty() && !self.is_short()
    }

    /// Those that wait go on, if there is room again.
    pub fn end_wait_for_others(&mut self) {
        if !self.ends_wait_for_others() {
            return;
        }
        for key in std::mem::take(&mut self.waiting_for_others) {
            if let Some(connection) = self.connections.get_mut(key) {
                connection.waits_for_others(false);
                self.queue(key);
            }
        }
    }

    /// A connection for which little waits goes on whatever others hold.
    pub(super) fn go_on_with_little(&mut self, key: ConnectionKey) {
        if let Some(connection) = self.connections.get_mut(key)
            && connection.waiting() <= LITTLE
            && self.waiting_for_others.remove(&key)
        {
            connection.waits_for_others(false);
        }
    }
}
