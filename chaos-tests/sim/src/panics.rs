//! Panics of the store: each is a failure of the run, but those that the simulated sled is meant to have.

use std::cell::RefCell;
use std::sync::Once;

thread_local! {
    static PANICS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

static HOOK: Once = Once::new();

/// Collects panics from now on, instead of printing them.
pub fn collect() {
    HOOK.call_once(|| {
        std::panic::set_hook(Box::new(|info| {
            let text = info.to_string();
            let is_meant = text.contains(pipes_sim_seam::sled::PANIC);
            if !is_meant {
                PANICS.with_borrow_mut(|panics| panics.push(text));
            }
        }));
    });
    PANICS.take();
}

/// The panics since the last call.
pub fn take() -> Vec<String> {
    PANICS.take()
}
