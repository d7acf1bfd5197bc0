//! What an invocation tells its coordinator while it is on, and at its end.

use std::time::Instant;

use pipes_protocol::stage::{Report, Totals};

use super::{Invocation, Main};
use crate::connection::Outbox;

impl Invocation {
    /// Tells the coordinator one thing.
    pub(super) fn report(&self, outbox: &mut Outbox, report: &Report) {
        self.call.part(outbox, report.encode().as_payload());
    }

    /// Its exit and the end of its stdout, once each.
    pub(super) fn report_ends(&mut self, outbox: &mut Outbox) {
        if let Main::Exited(exit) = &self.main
            && !self.is_exit_reported
            && self.stderr.is_told()
        {
            self.is_exit_reported = true;
            self.report(outbox, &Report::Exited(*exit));
        }
        if let Some(bytes) = self.output.newly_closed() {
            self.report(outbox, &Report::Closed(bytes));
        }
    }

    /// How much went through so far.
    pub(super) fn report_counts(&mut self, outbox: &mut Outbox, now: Instant) {
        let (input, output) = (&mut self.input, &self.output);
        let news = self.counts.news(now, || (input.taken(), output.bytes()));
        if let Some((bytes_in, bytes_out)) = news {
            self.report(outbox, &Report::Counts(bytes_in, bytes_out));
        }
    }

    /// The final answer: how much went through in all.
    pub(super) fn answer(&mut self, outbox: &mut Outbox) {
        let totals = Totals {
            bytes_in: Some(self.input.taken()),
            bytes_out: Some(self.output.bytes()),
        };
        self.call.result(outbox, totals.encode().as_payload());
    }
}
