//! The files of a run on their way to the folder of an invocation: until all are there the stage is not ready.
//!
//! Where so many errands are under way that none can be begun, they wait for one to end; nothing is told meanwhile, so that
//! the coordinator tries another node when that takes 10 s.

use std::time::{Duration, Instant};

use pipes_protocol::stage::{Report, Spec};

use super::{End, Invocation, Replica};
use crate::background::{self, Background, Errand, Watched};
use crate::connection::Outbox;
use crate::files;

/// How often the coordinator is told that they come further: it waits 10 s for anything.
const EVERY: Duration = Duration::from_secs(1);

/// Files being laid.
pub struct Laying {
    /// `None` while it waits for a thread.
    errand: Option<Errand<Result<(), String>>>,
    /// How far they had come when the coordinator was told, and when that was.
    told: (u64, Instant),
}

impl Laying {
    /// Of what the stage is given, where that is something.
    pub fn of(spec: &Spec) -> Option<Laying> {
        (!spec.files.is_empty()).then(Laying::new)
    }

    fn new() -> Laying {
        Laying {
            errand: None,
            told: (0, Instant::now()),
        }
    }

    fn begin(
        &mut self,
        background: &Background,
        lay: impl FnOnce(&Watched) -> Result<(), String> + Send + 'static,
    ) {
        self.errand = background.begin(lay);
    }

    /// How long it may be left alone.
    pub fn patience(&self) -> Duration {
        self.errand.as_ref().map_or(background::AGAIN, |_| EVERY)
    }
}

impl Invocation {
    /// Takes note of how far its files have come.
    pub(super) fn lay(&mut self, replica: &Replica, outbox: &mut Outbox) {
        let is_wanted = self.takes_a_slot();
        let Some(laying) = &mut self.laying else { return };
        if laying.errand.is_none() && is_wanted {
            let (settings, folder) = (replica.settings.clone(), self.folder.clone());
            let files = self.spec.files.clone();
            laying.begin(&replica.background, move |watched| {
                files::lay(&settings, &folder, &files, watched)
            });
        }
        let Some(errand) = &laying.errand else {
            // It was never begun, and is wanted no more.
            if !is_wanted {
                self.laying = None;
            }
            return;
        };
        if !is_wanted {
            errand.stop();
        }
        let Some(laid) = errand.done() else {
            let (told, at) = laying.told;
            let now = (errand.progress(), Instant::now());
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

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::background::ERRANDS_MAX;

    #[test]
    fn files_wait_for_a_thread_where_none_can_be_had_and_are_laid_then() {
        let background = Background::new().unwrap();
        let (go, wait) = sync_channel::<()>(0);
        let wait = Arc::new(Mutex::new(wait));
        let others: Vec<_> = (0..ERRANDS_MAX)
            .map(|_| {
                let wait = wait.clone();
                background.begin(move |_| wait.lock().is_ok_and(|wait| wait.recv().is_ok()))
            })
            .collect();
        assert!(others.iter().all(Option::is_some));
        let mut laying = Laying::new();
        laying.begin(&background, |_| Ok(()));
        assert!(laying.errand.is_none());
        assert_eq!(laying.patience(), background::AGAIN);
        drop(go);
        while laying.errand.is_none() {
            std::thread::yield_now();
            laying.begin(&background, |_| Ok(()));
        }
        assert_eq!(laying.patience(), EVERY);
    }
}
