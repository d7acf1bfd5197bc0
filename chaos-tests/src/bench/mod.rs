//! Figures of Pipes on this machine, each beside what it is measured against, all from one run.
//!
//! ```text
//! what                                         Pipes      beside                     ratio   aim
//! cat | cat | cat, MB/s                          231      socat, three TCP hops 368   0.63   >= 0.5    met
//! ```
//!
//! Neighbours in a table are measured one after another in turns, since a machine's speed drifts by a third over
//! minutes; a figure is the median of its turns. An aim that is missed is shown as such and needs a profile.

pub mod calls;
pub mod forwarder;
pub mod hops;
pub mod idle;
pub mod jobs;
pub mod latency;
pub mod pipe_http;
pub mod puts;
pub mod spawning;
pub mod starved;
pub mod throughput;

use std::time::Duration;

/// The lines of the table.
#[derive(Default)]
pub struct Table {
    rows: Vec<Row>,
}

struct Row {
    what: String,
    ours: f64,
    beside: Option<(String, f64)>,
    aim: Option<Aim>,
}

/// What a figure should be.
#[derive(Clone, Copy, Debug)]
pub enum Aim {
    /// At least so many times the figure beside it.
    RatioMin(f64),
    /// At most so many times the figure beside it.
    RatioMax(f64),
    /// At least this.
    Min(f64),
    /// At most this.
    Max(f64),
}

impl Table {
    /// A figure alone.
    pub fn figure(&mut self, what: impl Into<String>, ours: f64, aim: Option<Aim>) {
        self.row(Row {
            what: what.into(),
            ours,
            beside: None,
            aim,
        });
    }

    /// A figure beside another.
    pub fn beside(&mut self, what: impl Into<String>, ours: f64, other: &str, theirs: f64, aim: Option<Aim>) {
        self.row(Row {
            what: what.into(),
            ours,
            beside: Some((other.to_owned(), theirs)),
            aim,
        });
    }

    fn row(&mut self, row: Row) {
        println!("{}", row.text());
        self.rows.push(row);
    }

    /// The heads of the columns.
    pub fn head() {
        println!(
            "{:<52} {:>10}   {:<38} {:>6}   aim",
            "what", "Pipes", "beside", "ratio"
        );
    }

    /// How many aims were missed, named.
    pub fn missed(&self) -> Vec<&str> {
        self.rows
            .iter()
            .filter(|row| row.is_met() == Some(false))
            .map(|row| row.what.as_str())
            .collect()
    }
}

impl Row {
    fn ratio(&self) -> Option<f64> {
        self.beside.as_ref().map(|(_, theirs)| self.ours / theirs)
    }

    fn is_met(&self) -> Option<bool> {
        let ratio = self.ratio().unwrap_or(f64::NAN);
        self.aim.map(|aim| match aim {
            Aim::RatioMin(least) => ratio >= least,
            Aim::RatioMax(most) => ratio <= most,
            Aim::Min(least) => self.ours >= least,
            Aim::Max(most) => self.ours <= most,
        })
    }

    fn text(&self) -> String {
        let beside = self
            .beside
            .as_ref()
            .map(|(name, value)| format!("{name} {}", number(*value)))
            .unwrap_or_default();
        let ratio = self
            .ratio()
            .map(|ratio| format!("{ratio:.2}"))
            .unwrap_or_default();
        let aim = match self.aim {
            None => String::new(),
            Some(Aim::RatioMin(least)) => format!("ratio >= {least}"),
            Some(Aim::RatioMax(most)) => format!("ratio <= {most}"),
            Some(Aim::Min(least)) => format!(">= {least}"),
            Some(Aim::Max(most)) => format!("<= {most}"),
        };
        let met = match self.is_met() {
            None => "",
            Some(true) => "  met",
            Some(false) => "  MISSED",
        };
        format!(
            "{:<52} {:>10}   {beside:<38} {ratio:>6}   {aim}{met}",
            self.what,
            number(self.ours)
        )
    }
}

fn number(value: f64) -> String {
    if value >= 100.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.2}")
    }
}

/// The median and the 99th percentile.
pub fn percentiles(mut values: Vec<f64>) -> (f64, f64) {
    values.sort_by(f64::total_cmp);
    if values.is_empty() {
        return (f64::NAN, f64::NAN);
    }
    let at = |part: f64| {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "an index below the length"
        )]
        let index = (values.len() as f64 * part) as usize;
        values[index.min(values.len() - 1)]
    };
    (at(0.5), at(0.99))
}

/// Milliseconds.
pub fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
