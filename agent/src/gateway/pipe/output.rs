//! Output on its way to a client: a little in memory, and behind a client that does not read, on disk.
//!
//! ```text
//! run --[1, bytes]--> queue --> client                  the client reads
//!                      queue --> spool                   it has read nothing for a while, and still sends
//!                      queue     spool --> client        it reads again: first what lies aside
//! ```
//!
//! Always: (1) bytes leave in the order in which they came: the spool's are older than the queue's; (2) what was queued and
//! has not left is no more than a window, since credit is given back for what left; (3) output waits for its client alone
//! where no input is to come.

use std::collections::VecDeque;
use std::time::Duration;

use axum::body::Bytes;
use tokio::time::Instant;

use crate::gateway::error::Error;
use crate::gateway::pipe::spool::Spool;

/// Bytes of output that the run may have under way to us.
pub const WINDOW: u64 = 256 << 10;
/// Bytes that are put aside together: so much is to wait before it is worth a file.
const ASIDE_MIN: usize = 64 << 10;
/// Who has taken nothing for so long, with something ready, does not read.
const PATIENCE: Duration = Duration::from_millis(200);

/// Output that waits.
pub struct Output {
    queue: VecDeque<Bytes>,
    queued: usize,
    spool: Spool,
    /// Left the queue since credit was last given back.
    unreturned: u64,
    /// When the client took something, or there was nothing for it.
    taken: Instant,
}

impl Output {
    /// None yet.
    pub fn new(spool: Spool) -> Output {
        Output {
            queue: VecDeque::new(),
            queued: 0,
            spool,
            unreturned: 0,
            taken: Instant::now(),
        }
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.spool.is_empty()
    }

    /// More came.
    pub fn push(&mut self, bytes: Bytes) {
        if self.is_empty() {
            self.taken = Instant::now();
        }
        self.queued += bytes.len();
        self.queue.push_back(bytes);
    }

    /// The next for the client; there must be any.
    pub async fn take(&mut self) -> Result<Bytes, Error> {
        self.taken = Instant::now();
        if !self.spool.is_empty() {
            return self.spool.take().await;
        }
        let bytes = self.queue.pop_front().unwrap_or_default();
        self.queued -= bytes.len();
        self.unreturned += bytes.len() as u64;
        Ok(bytes)
    }

    /// When what waits in memory is to be put aside, if the client still sends and goes on to take nothing.
    pub fn aside_at(&self) -> Option<Instant> {
        (self.queued >= ASIDE_MIN).then(|| self.taken + PATIENCE)
    }

    /// Puts what waits in memory aside.
    pub async fn put_aside(&mut self) -> Result<(), Error> {
        let parts = std::mem::take(&mut self.queue).into();
        self.unreturned += std::mem::take(&mut self.queued) as u64;
        self.spool.put(parts).await
    }

    /// Credit to give back, if it is worth a message.
    pub fn credit(&mut self) -> Option<u64> {
        (self.unreturned >= WINDOW / 4).then(|| std::mem::take(&mut self.unreturned))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[tokio::test]
    async fn order_is_kept_through_the_spool_and_credit_given_back_once() {
        let folder = tempfile::tempdir().unwrap();
        let mut output = Output::new(Spool::new(Arc::new(folder.path().to_owned()), 1 << 30, "w"));
        let (mut came, mut left, mut returned) = (Vec::new(), Vec::new(), 0);
        for round in 0..200_u8 {
            let bytes = Bytes::from(vec![round; 10_000]);
            came.extend_from_slice(&bytes);
            output.push(bytes);
            match round % 7 {
                3 => output.put_aside().await.unwrap(),
                5 => left.extend(output.take().await.unwrap()),
                _ => {}
            }
            returned += output.credit().unwrap_or(0);
        }
        while !output.is_empty() {
            left.extend(output.take().await.unwrap());
        }
        assert!(left == came);
        assert_eq!(returned + output.unreturned, came.len() as u64);
    }

    #[tokio::test(start_paused = true)]
    async fn who_reads_has_nothing_put_aside() {
        let folder = tempfile::tempdir().unwrap();
        let mut output = Output::new(Spool::new(Arc::new(folder.path().to_owned()), 1 << 30, "w"));
        output.push(Bytes::from_static(b"little"));
        assert_eq!(output.aside_at(), None);
        output.push(Bytes::from(vec![0; ASIDE_MIN]));
        tokio::time::advance(PATIENCE).await;
        assert!(output.aside_at().unwrap() <= Instant::now());
        output.take().await.unwrap();
        assert!(output.aside_at().unwrap() > Instant::now());
    }
}
