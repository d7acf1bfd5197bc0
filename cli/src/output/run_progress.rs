//! What goes through the hops of a run, on one line of stderr: on terminals only, and of what takes longer than a second.
//!
//! ```text
//! in 0 B  1>2 1.2 GB (310.0 MB/s)  2>3 1.2 GB (309.8 MB/s)  out 8 B
//! ```
//!
//! Always: (1) what the stages write to the same terminal is left as it is: the line is taken away before, and shown
//! again only where the cursor is at the beginning of a line and nothing was written for a second.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;

use super::spinner::{SHOWN_AFTER, bar};

/// The agent tells once a second what has changed: when nothing came for so long, nothing flows.
const STILL_AFTER: Duration = Duration::from_millis(2_500);

/// Where a stage's bytes are written to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// The line, and what it says.
pub struct RunProgress {
    bar: Option<ProgressBar>,
    meter: Meter,
    /// Since when nothing was written to the terminal.
    quiet_since: Instant,
    /// What was written there last ended its line.
    is_line_ended: bool,
    /// Stdout goes to a terminal, as stderr does.
    shares_stdout: bool,
}

impl RunProgress {
    /// Begins; `None` where nothing is to be shown: without a terminal, and where somebody types into it.
    pub fn new(is_quiet: bool, reads_terminal: bool) -> Option<RunProgress> {
        let is_shown = !is_quiet && !reads_terminal && std::io::stderr().is_terminal();
        let now = Instant::now();
        is_shown.then(|| RunProgress {
            bar: None,
            meter: Meter::new(now),
            quiet_since: now,
            is_line_ended: true,
            shares_stdout: std::io::stdout().is_terminal(),
        })
    }

    /// The agent told the bytes in and out of each stage.
    pub fn told(&mut self, stages: &[(u64, u64)]) {
        self.meter.told(stages, Instant::now());
        self.show(Instant::now());
    }

    /// Time went by; `is_writing`: bytes wait to be written.
    pub fn tick(&mut self, is_writing: bool) {
        let now = Instant::now();
        if is_writing {
            self.quiet_since = now;
        }
        self.meter.passed(now);
        self.show(now);
    }

    /// Takes the line away, so that these bytes can be written.
    pub fn make_room(&mut self, stream: Stream, bytes: &[u8]) {
        if stream == Stream::Stdout && !self.shares_stdout {
            return;
        }
        if let Some(last) = bytes.last() {
            self.hide();
            self.quiet_since = Instant::now();
            self.is_line_ended = *last == b'\n';
        }
    }

    /// Takes the line away.
    pub fn hide(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    fn show(&mut self, now: Instant) {
        if self.is_line_ended
            && now.duration_since(self.quiet_since) >= SHOWN_AFTER
            && let Some(text) = self.meter.text(now)
        {
            // Setting the text draws it; what does not fit into the line is cut off.
            let bar = self.bar.get_or_insert_with(|| bar("{wide_msg}"));
            if bar.message() != text {
                bar.set_message(text);
            }
        }
    }
}

impl Drop for RunProgress {
    fn drop(&mut self) {
        self.hide();
    }
}

/// Bytes of each hop and what they were a while ago.
struct Meter {
    hops: Vec<Hop>,
    since: Instant,
}

#[derive(Default, Clone)]
struct Hop {
    bytes: u64,
    /// Bytes a second.
    rate: u64,
}

impl Meter {
    fn new(now: Instant) -> Meter {
        Meter {
            hops: Vec::new(),
            since: now,
        }
    }

    fn told(&mut self, stages: &[(u64, u64)], now: Instant) {
        let seconds = now.duration_since(self.since).as_secs_f64().max(0.001);
        self.since = now;
        let into_first = stages.first().map(|(bytes_in, _)| *bytes_in);
        let counts = into_first
            .into_iter()
            .chain(stages.iter().map(|(_, bytes_out)| *bytes_out));
        self.hops.resize(stages.len() + 1, Hop::default());
        for (hop, bytes) in self.hops.iter_mut().zip(counts) {
            hop.rate = (bytes.saturating_sub(hop.bytes) as f64 / seconds) as u64;
            hop.bytes = bytes;
        }
    }

    /// Nothing was told up to now.
    fn passed(&mut self, now: Instant) {
        if now.duration_since(self.since) >= STILL_AFTER {
            self.since = now - STILL_AFTER;
            self.hops.iter_mut().for_each(|hop| hop.rate = 0);
        }
    }

    /// `None` as long as the first counts may be on their way.
    fn text(&self, now: Instant) -> Option<String> {
        if self.hops.is_empty() {
            let is_waiting = now.duration_since(self.since) >= STILL_AFTER;
            return is_waiting.then(|| "waiting to start".into());
        }
        let last = self.hops.len().saturating_sub(1);
        let hops = self.hops.iter().enumerate().map(|(index, hop)| {
            let name = match index {
                0 => "in".to_owned(),
                _ if index == last => "out".to_owned(),
                _ => format!("{index}>{}", index + 1),
            };
            match hop.rate {
                0 => format!("{name} {}", bytes(hop.bytes)),
                rate => format!("{name} {} ({}/s)", bytes(hop.bytes), bytes(rate)),
            }
        });
        Some(hops.collect::<Vec<_>>().join("  "))
    }
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
    fn each_hop_is_shown_with_its_rate() {
        let begun = Instant::now();
        let mut meter = Meter::new(begun);
        assert_eq!(meter.text(begun + SHOWN_AFTER), None);
        let waiting = meter.text(begun + STILL_AFTER);
        assert_eq!(waiting.as_deref(), Some("waiting to start"));
        meter.told(&[(0, 0), (0, 0)], begun + Duration::from_secs(1));
        meter.told(&[(10, 3_000_000), (3_000_000, 8)], begun + Duration::from_secs(3));
        assert_eq!(
            meter.text(begun).as_deref(),
            Some("in 10 B (5 B/s)  1>2 3.0 MB (1.5 MB/s)  out 8 B (4 B/s)")
        );
    }

    #[test]
    fn nothing_flows_where_nothing_is_told() {
        let begun = Instant::now();
        let at = |seconds: u64| begun + Duration::from_secs(seconds);
        let mut meter = Meter::new(begun);
        meter.told(&[(0, 1_000)], at(1));
        meter.passed(at(2));
        let flowing = meter.text(at(2));
        assert_eq!(flowing.as_deref(), Some("in 0 B  out 1.0 kB (1.0 kB/s)"));
        meter.passed(at(60));
        assert_eq!(meter.text(at(60)).as_deref(), Some("in 0 B  out 1.0 kB"));
    }

    #[test]
    fn the_line_gives_way_to_what_is_written_to_its_terminal() {
        let begun = Instant::now();
        let long_ago = begun - SHOWN_AFTER;
        let mut progress = RunProgress {
            bar: None,
            meter: Meter::new(begun),
            quiet_since: long_ago,
            is_line_ended: true,
            shares_stdout: false,
        };
        progress.meter.told(&[(0, 1)], begun);
        progress.make_room(Stream::Stdout, b"a prompt: ");
        progress.show(begun);
        assert!(progress.bar.is_some(), "stdout goes elsewhere");
        progress.make_room(Stream::Stderr, b"a line\n");
        assert!(progress.bar.is_none());
        progress.show(begun);
        assert!(progress.bar.is_none(), "something was written a moment ago");
        progress.quiet_since = long_ago;
        progress.show(begun);
        assert!(progress.bar.is_some());
        progress.make_room(Stream::Stderr, b"a prompt: ");
        progress.quiet_since = long_ago;
        progress.show(begun);
        assert!(progress.bar.is_none(), "it would overwrite the prompt");
    }
}
