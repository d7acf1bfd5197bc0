//! Progress on stderr: on terminals only, and only of what takes longer than a second.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// What is over sooner shows nothing.
pub const SHOWN_AFTER: Duration = Duration::from_secs(1);

/// Between two changes of what a run shows.
pub const EVERY: Duration = Duration::from_millis(200);

/// Something that takes its time and says nothing meanwhile.
pub struct Spinner {
    what: String,
    begun: Instant,
    bar: Option<ProgressBar>,
}

impl Spinner {
    /// Begins to wait.
    pub fn new(what: &str) -> Spinner {
        Spinner {
            what: what.to_owned(),
            begun: Instant::now(),
            bar: None,
        }
    }

    /// Time went by.
    pub fn tick(&mut self) {
        if self.bar.is_none() && self.begun.elapsed() > SHOWN_AFTER && std::io::stderr().is_terminal() {
            let template = if super::error::is_coloured() {
                "{spinner:.green} {msg}"
            } else {
                "{spinner} {msg}"
            };
            let bar = bar(template);
            bar.set_message(self.what.clone());
            self.bar = Some(bar);
        }
        if let Some(bar) = &self.bar {
            bar.tick();
        }
    }
}

impl Drop for Spinner {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// A line that is drawn when its text is set.
pub(super) fn bar(template: &str) -> ProgressBar {
    // Every show is asked for, at intervals of the caller's: nothing is drawn by a thread beside.
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    bar.with_style(
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner()),
    )
}
