//! Progress on stderr: on terminals only, and only of what takes longer than a second.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// What is over sooner shows nothing.
pub const SHOWN_AFTER: Duration = Duration::from_secs(1);

/// Between two changes of what a run shows.
pub const EVERY: Duration = Duration::from_millis(200);

/// Something that takes its time and says nothing meanwhile.
pub struct Waiting {
    what: String,
    begun: Instant,
    bar: Option<ProgressBar>,
}

impl Waiting {
    /// Begins to wait.
    pub fn new(what: &str) -> Waiting {
        Waiting {
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

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Bytes that went in and came out, while a run is on.
pub struct Traffic {
    begun: Instant,
    bar: Option<ProgressBar>,
    last: (Instant, u64, u64),
}

impl Traffic {
    /// Begins; nothing is shown unless stderr is a terminal and stdout is not, which the bytes would share.
    pub fn new(is_quiet: bool) -> Option<Traffic> {
        let shown = !is_quiet && std::io::stderr().is_terminal() && !std::io::stdout().is_terminal();
        let now = Instant::now();
        shown.then_some(Traffic {
            begun: now,
            bar: None,
            last: (now, 0, 0),
        })
    }

    /// Shows the bytes so far.
    pub fn show(&mut self, bytes_in: u64, bytes_out: u64) {
        if self.begun.elapsed() < SHOWN_AFTER {
            return;
        }
        let (at, before_in, before_out) = self.last;
        let seconds = at.elapsed().as_secs_f64().max(0.001);
        let text = line((bytes_in, before_in), (bytes_out, before_out), seconds);
        self.last = (Instant::now(), bytes_in, bytes_out);
        // Setting the text draws it.
        self.bar.get_or_insert_with(|| bar("{msg}")).set_message(text);
    }

    /// Takes the line away, so that something else can be written to stderr.
    pub fn hide(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.hide();
    }
}

fn bar(template: &str) -> ProgressBar {
    // Every show is asked for, at intervals of the caller's: nothing is drawn by a thread beside.
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
    bar.with_style(
        ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner()),
    )
}

/// `in 12.0 MB (3.1 MB/s)  out ...`, of total bytes and those of the last look.
fn line((bytes_in, before_in): (u64, u64), (bytes_out, before_out): (u64, u64), seconds: f64) -> String {
    let rate = |now: u64, before: u64| bytes((now.saturating_sub(before) as f64 / seconds) as u64);
    format!(
        "in {} ({}/s)  out {} ({}/s)",
        bytes(bytes_in),
        rate(bytes_in, before_in),
        bytes(bytes_out),
        rate(bytes_out, before_out)
    )
}

/// Bytes for people, in powers of ten.
fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["kB", "MB", "GB", "TB", "PB"];
    if count < 1_000 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1_000.0;
    let mut unit = 0;
    while value >= 999.95 && unit + 1 < UNITS.len() {
        value /= 1_000.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_shown_in_a_unit_that_fits() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(1_500), "1.5 kB");
        assert_eq!(bytes(999_990), "1.0 MB");
        assert_eq!(bytes(12_345_678_901), "12.3 GB");
    }

    #[test]
    fn a_run_shows_both_ends_with_their_rates() {
        let shown = line((3_000_000, 1_000_000), (10, 10), 2.0);
        assert_eq!(shown, "in 3.0 MB (1.0 MB/s)  out 10 B (0 B/s)");
    }
}
