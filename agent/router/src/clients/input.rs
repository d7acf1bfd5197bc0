//! What was read of a connection and is not understood: messages of a later turn, the beginning of one whose end has not come.

/// One connection's.
#[derive(Default)]
pub(crate) struct Input {
    bytes: Vec<u8>,
    begin: usize,
    /// How long the message that begins there is with its head, where room for the whole of it is held.
    whole: usize,
}

impl Input {
    /// What is there.
    pub fn rest(&self) -> &[u8] {
        &self.bytes[self.begin..]
    }

    /// Room that it takes, or will.
    pub fn held(&self) -> usize {
        self.bytes.capacity().max(self.whole)
    }

    /// Holds room for the whole of what begins there, so that it can be finished.
    pub fn hold_whole(&mut self, length: usize) {
        self.whole = length;
    }

    /// How much of that is missing; 0 where no room is held for it.
    pub fn missing(&self) -> usize {
        self.whole.saturating_sub(self.rest().len())
    }

    /// Puts `rest` in place of what was there; gives room back that is not for it.
    pub fn replace(&mut self, rest: &[u8]) {
        (self.begin, self.whole) = (0, 0);
        if rest.is_empty() || self.bytes.capacity() > 2 * rest.len() {
            self.bytes = rest.to_vec();
        } else {
            self.bytes.clear();
            self.bytes.extend_from_slice(rest);
        }
    }

    /// Takes the buffer out, to be looked at while the connection is changed.
    pub fn take(&mut self) -> Input {
        std::mem::take(self)
    }

    /// Puts a buffer back of which `used` more bytes were understood.
    pub fn put_back(&mut self, mut input: Input, used: usize) {
        input.begin += used;
        if input.begin < input.bytes.len() {
            *self = input;
        }
    }
}
