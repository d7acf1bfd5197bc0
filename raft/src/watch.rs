//! A watch as its owner sees it.

use crate::{Error, Event};

/// Tells changes one by one, in order, each once.
pub struct Watch {}

impl Watch {
    /// The next change; cancel safe. [`Error::Compacted`] ends it: list anew and watch from there.
    pub async fn next(&mut self) -> Result<Event, Error> {
        std::future::pending().await
    }
}
