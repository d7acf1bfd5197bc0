//! What an invocation tells its coordinator while it is on, and at its end.

use std::time::Instant;

use rmpv::Value;

use super::{Invocation, Main};
use crate::connection::Outbox;
use crate::report;

impl Invocation {
    /// Kills the stage, and says why where its stderr goes.
    pub(super) fn outgrew_its_folder(&mut self, outbox: &mut Outbox) {
        if !std::mem::replace(&mut self.is_killing, true) {
            let why =
                "pipes: the stage is killed: its working folder holds more than 1 GiB or too many folders\n";
            let args = vec!["stderr".into(), Value::Binary(why.into())];
            report::progress(outbox, self.request, args);
        }
    }

    /// Its exit and the end of its stdout, once each.
    pub(super) fn report(&mut self, outbox: &mut Outbox) {
        if let Main::Exited(exit) = &self.main
            && !self.is_exit_reported
            && self.stderr.is_told()
        {
            self.is_exit_reported = true;
            report::progress(outbox, self.request, exit.to_args());
        }
        if let Some(bytes) = self.output.newly_closed() {
            report::progress(outbox, self.request, vec!["closed".into(), bytes.into()]);
        }
    }

    /// How much went through so far.
    pub(super) fn report_counts(&mut self, outbox: &mut Outbox) {
        let (input, output) = (&mut self.input, &self.output);
        let news = self
            .counts
            .news(Instant::now(), || (input.taken(), output.bytes()));
        if let Some((bytes_in, bytes_out)) = news {
            let args = vec!["counts".into(), bytes_in.into(), bytes_out.into()];
            report::progress(outbox, self.request, args);
        }
    }

    /// The final answer: how much went through in all.
    pub(super) fn answer(&mut self, outbox: &mut Outbox) {
        let counts = vec![
            ("bytes_in".into(), self.input.taken().into()),
            ("bytes_out".into(), self.output.bytes().into()),
        ];
        report::result(outbox, self.request, vec![Value::Map(counts)]);
    }
}
