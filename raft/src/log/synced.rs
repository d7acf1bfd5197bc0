//! Which entries are on this node's disk, for whoever must not run ahead of its log.
//!
//! A leader commits and applies what a majority of the others has on disk, before its own disk has it.

use std::sync::Arc;

use super::index::Index;
use crate::Error;
use crate::type_config::LogId;

/// Tells of each entry whether it is on disk.
#[derive(Clone)]
pub(crate) struct Synced {
    index: Arc<Index>,
}

impl Synced {
    pub(super) fn new(index: Arc<Index>) -> Synced {
        Synced { index }
    }

    /// Whether the log has all up to an entry on disk, or has purged it; an error once it never will.
    #[cfg(sim)]
    pub(crate) fn has(&self, upto: Option<LogId>) -> Result<bool, Error> {
        if crate::mutant!(PurgedToApplied) {
            return Ok(true);
        }
        let has = upto.map_or(Some(true), |upto| self.index.lock().is_written(upto.index));
        has.ok_or(Error::Stopped)
    }

    /// Waits until it has. A simulation, which has one thread for all, asks again instead.
    #[cfg(not(sim))]
    pub(crate) fn wait(&self, upto: Option<LogId>) -> Result<(), Error> {
        let will = upto.is_none_or(|upto| self.index.wait_until_written(upto.index));
        if will { Ok(()) } else { Err(Error::Stopped) }
    }
}

#[cfg(test)]
impl Synced {
    /// Of a log that has everything on disk.
    pub(crate) fn all() -> Synced {
        let mut inner = super::index::Inner::default();
        let leader = <openraft::alias::LeaderIdOf<crate::type_config::TypeConfig> as openraft::vote::RaftLeaderId>::new(1, 1);
        inner.purge(LogId::new(
            openraft::vote::RaftLeaderId::to_committed(&leader),
            u64::MAX - 1,
        ));
        Synced::new(Arc::new(Index::new(inner)))
    }

    /// Of a log that has nothing on disk yet; with [`Synced::end`] it never will have more.
    pub(crate) fn nothing() -> Synced {
        Synced::new(Arc::new(Index::new(super::index::Inner::default())))
    }

    pub(crate) fn end(&self) {
        self.index.end();
    }

    /// As if all up to an entry had been purged.
    pub(crate) fn catch_up(&self, upto: LogId) {
        self.index.lock().purge(upto);
        self.index.tell();
    }
}
