//! Panics of the store: each is a failure of the run, but those that the simulated sled is meant to have.

use std::cell::RefCell;
use std::sync::Once;

thread_local! {
    /// The panics of the run on this thread, while there is one.
    static PANICS: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

static HOOK: Once = Once::new();

/// Collects the panics of this thread from now on, instead of printing them.
pub fn collect() {
    HOOK.call_once(|| {
        let printing = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let is_collected = PANICS.with_borrow_mut(|panics| {
                let Some(panics) = panics else { return false };
                let text = info.to_string();
                let is_meant = text.contains(pipes_sim_seam::sled::PANIC);
                if !is_meant {
                    panics.push(text);
                }
                true
            });
            if !is_collected {
                printing(info);
            }
        }));
    });
    PANICS.set(Some(Vec::new()));
}

/// The panics since the last call.
pub fn take() -> Vec<String> {
    PANICS.with_borrow_mut(|panics| panics.as_mut().map(std::mem::take).unwrap_or_default())
}

/// Collects no more.
pub fn leave() {
    PANICS.take();
}
