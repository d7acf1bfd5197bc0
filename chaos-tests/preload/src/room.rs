//! How much room a disk says that it has.

use std::ffi::{c_char, c_int};

use crate::faults;
use crate::recorder::recorder;
use crate::system;

/// Stands in for libc's.
///
/// # Safety
///
/// As libc's own.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn statvfs(path: *const c_char, told: *mut libc::statvfs) -> c_int {
    let descriptor = system::open_at(libc::AT_FDCWD, path, libc::O_PATH | libc::O_CLOEXEC, 0);
    if descriptor < 0 {
        return -1;
    }
    // SAFETY: the descriptor is open, and the caller gave a place for what is told.
    let status = unsafe { libc::fstatvfs(descriptor, told) };
    system::close(descriptor);
    let place = recorder().and_then(|recorder| Some((recorder, recorder.place(libc::AT_FDCWD, path)?)));
    if status == 0
        && let Some((recorder, place)) = place
        && let Some(percent) = faults::free_percent(recorder, &place)
    {
        // SAFETY: libc has just written it.
        let told = unsafe { &mut *told };
        told.f_bavail = told.f_blocks / 100 * percent;
        told.f_bfree = told.f_bavail;
    }
    status
}
