//! How long the log is, for whoever bounds it.

use std::sync::Arc;

use tokio::sync::watch;

use super::index::Index;

/// Tells the length of the log in octets.
#[derive(Clone)]
pub(crate) struct Length {
    index: Arc<Index>,
}

impl Length {
    pub(super) fn new(index: Arc<Index>) -> Length {
        Length { index }
    }

    /// Notices that it has grown, one for each mebibyte or so.
    pub(crate) fn growth(&self) -> watch::Receiver<()> {
        self.index.growth()
    }

    /// Octets of the entries after index `after` up to and with `upto`.
    pub(crate) fn octets(&self, after: u64, upto: u64) -> u64 {
        self.index.lock().octets(after, upto)
    }

    /// The index after which the entries up to and with `upto` have at most `most` octets.
    pub(crate) fn leaving(&self, most: u64, upto: u64) -> u64 {
        self.index.lock().leaving(most, upto)
    }
}
