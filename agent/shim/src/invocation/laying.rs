//! The files of a run on their way to the folder of an invocation: until all are there the stage is not ready.

use std::path::Path;
use std::time::{Duration, Instant};

use pipes_protocol::stage::{Report, Spec};

use super::{End, Invocation, Replica};
use crate::background::Errand;
use crate::connection::Outbox;
use crate::files;

/// How often the coordinator is told that they come further: it waits 10 s for anything.
pub const EVERY: Duration = Duration::from_secs(1);

/// Files being laid.
pub struct Laying {
    errand: Errand<Result<(), String>>,
    /// How far they had come when the coordinator was told, and when that was.
    told: (u64, Instant),
}

impl Laying {
    /// Begins, where there are files. The error is one sentence.
    pub fn begin(spec: &Spec, folder: &Path, replica: &Replica) -> Result<Option<Laying>, String> {
        if spec.files.is_empty() {
            return Ok(None);
        }
        let (settings, folder, files) = (replica.settings.clone(), folder.to_owned(), spec.files.clone());
        let lay = replica
            .background
            .begin(move |watched| files::lay(&settings, &folder, &files, watched));
        Ok(Some(Laying {
            errand: lay.ok_or("no thread lays the files into its working folder: too many are at work")?,
            told: (0, Instant::now()),
        }))
    }
}

impl Invocation {
    /// Takes note of how far its files have come.
    pub(super) fn lay(&mut self, outbox: &mut Outbox) {
        let is_wanted = self.takes_a_slot();
        let Some(laying) = &mut self.laying else { return };
        if !is_wanted {
            laying.errand.stop();
        }
        let Some(laid) = laying.errand.done() else {
            let (told, at) = laying.told;
            let now = (laying.errand.progress(), Instant::now());
            if now.0 > told && now.1.duration_since(at) >= EVERY {
                laying.told = now;
                self.report(outbox, &Report::Laying);
            }
            return;
        };
        self.laying = None;
        match laid.unwrap_or_else(|| Err("the files cannot be laid into its working folder".into())) {
            Ok(()) if self.output.is_ready() => self.report(outbox, &Report::Ready),
            Ok(()) => {}
            Err(why) => self.end(End::CannotStart(why)),
        }
    }
}
