//! The functions of libc that read, write, cut and sync a file.

use std::ffi::{c_int, c_uint, c_void};

use libc::{iovec, off_t, size_t, ssize_t};

use crate::faults::{self, Doing};
use crate::record::{Change, Record};
use crate::recorder::{Place, Recorder, State, give_up, recorder};
use crate::system::{self, system};

/// Where a write goes.
enum Where {
    At(off_t),
    /// Where the descriptor stands, or at the end for one that appends.
    Here,
}

/// Makes a change of a file after what it changes was written down.
fn write_file(descriptor: c_int, len: usize, to: Where, plain: impl FnOnce() -> ssize_t) -> ssize_t {
    let Some(recorder) = recorder() else {
        return plain();
    };
    let Some((stat, place)) = recorder.file(descriptor) else {
        return plain();
    };
    if let Some(errno) = faults::errno(recorder, &place, Doing::Write) {
        system::fail(errno);
        return -1;
    }
    let mut state = recorder.lock();
    let flags = system!(SYS_fcntl, descriptor, libc::F_GETFL) as c_int;
    let offset = match to {
        Where::At(offset) => offset as u64,
        // Only now is its size fixed.
        Where::Here if flags & libc::O_APPEND != 0 => {
            system!(SYS_lseek, descriptor, 0, libc::SEEK_END) as u64
        }
        Where::Here => system!(SYS_lseek, descriptor, 0, libc::SEEK_CUR) as u64,
    };
    note(
        recorder,
        &mut state,
        &place,
        descriptor,
        (offset, len as u64),
        false,
    );
    let written = plain();
    if flags & libc::O_DSYNC != 0 {
        let covered = state.end(recorder, &place.node);
        let inode = stat.st_ino;
        state.append(recorder, &place.node, &Record::Sync { inode, covered });
    }
    written
}

/// Writes down what a file loses that is about to end at `size`.
pub(crate) fn note_cut(recorder: &Recorder, state: &mut State, place: &Place, descriptor: c_int, size: u64) {
    let now = system::stat(descriptor).map_or(0, |stat| stat.st_size as u64);
    note(
        recorder,
        state,
        place,
        descriptor,
        (size, now.saturating_sub(size)),
        true,
    );
}

/// Writes down what a file holds where it is about to change.
fn note(
    recorder: &Recorder,
    state: &mut State,
    place: &Place,
    descriptor: c_int,
    (offset, len): (u64, u64),
    is_cut: bool,
) {
    let unreadable = || {
        give_up(&format!(
            "{} cannot be read before it changes",
            place.path.display()
        ))
    };
    let Some(stat) = system::stat(descriptor) else {
        unreadable()
    };
    let size = stat.st_size as u64;
    let there = size.saturating_sub(offset).min(len) as usize;
    let before = system::read_at(descriptor, there, offset).or_else(|| {
        // Opened for writing alone.
        let readable = system::open(&place.path, libc::O_RDONLY)?;
        let before = system::read_at(readable, there, offset);
        system::close(readable);
        before
    });
    let Some(before) = before else { unreadable() };
    let change = Change {
        is_cut,
        offset,
        len,
        size,
        before,
    };
    let inode = stat.st_ino;
    state.append(recorder, &place.node, &Record::Change { inode, change });
}

fn cut_file(descriptor: c_int, size: off_t, plain: impl FnOnce() -> c_int) -> c_int {
    let Some(recorder) = recorder() else {
        return plain();
    };
    let Some((_, place)) = recorder.file(descriptor) else {
        return plain();
    };
    if let Some(errno) = faults::errno(recorder, &place, Doing::Write) {
        system::fail(errno);
        return -1;
    }
    let mut state = recorder.lock();
    note_cut(recorder, &mut state, &place, descriptor, size as u64);
    plain()
}

/// A sync of a file or folder: it takes as long as the faults say, and covers what was written before it began.
fn sync_file(descriptor: c_int, of_all: bool, plain: impl FnOnce() -> c_int) -> c_int {
    let Some(recorder) = recorder() else {
        return plain();
    };
    let found = recorder.file(descriptor).or_else(|| recorder.folder(descriptor));
    let Some((stat, place)) = found else {
        return plain();
    };
    let covered = recorder.lock().end(recorder, &place.node);
    faults::delay(recorder, &place);
    if let Some(errno) = faults::errno(recorder, &place, Doing::Sync) {
        system::fail(errno);
        return -1;
    }
    let inode = if of_all { 0 } else { stat.st_ino };
    let record = Record::Sync { inode, covered };
    recorder.lock().append(recorder, &place.node, &record);
    0
}

fn read_file(descriptor: c_int, plain: impl FnOnce() -> ssize_t) -> ssize_t {
    if let Some(recorder) = recorder()
        && let Some((_, place)) = recorder.file(descriptor)
        && let Some(errno) = faults::errno(recorder, &place, Doing::Read)
    {
        system::fail(errno);
        return -1;
    }
    plain()
}

/// Whether a descriptor's file is recorded: what the kernel moves by itself would go past the journal.
fn is_recorded(descriptor: c_int) -> bool {
    recorder().is_some_and(|recorder| recorder.file(descriptor).is_some())
}

fn map(
    address: *mut c_void,
    len: size_t,
    protection: c_int,
    flags: c_int,
    descriptor: c_int,
    offset: off_t,
) -> *mut c_void {
    let writes = protection & libc::PROT_WRITE != 0 && flags & libc::MAP_SHARED != 0;
    // Memory alone, which an allocator asks for at any moment, is not looked at.
    if writes && descriptor >= 0 && is_recorded(descriptor) {
        system::fail(libc::ENODEV);
        return libc::MAP_FAILED;
    }
    system!(SYS_mmap, address, len, protection, flags, descriptor, offset) as *mut c_void
}

unsafe fn total(pieces: *const iovec, count: c_int) -> usize {
    let count = usize::try_from(count).unwrap_or(0);
    // SAFETY: the caller says there are so many.
    let pieces = unsafe { std::slice::from_raw_parts(pieces, count) };
    pieces.iter().map(|piece| piece.iov_len).sum()
}

/// Functions of libc, each as the call of ours that does its work.
macro_rules! stands_in {
    ($($name:ident($($argument:ident: $kind:ty),*) -> $result:ty = $call:expr;)*) => {$(
        /// Stands in for libc's.
        ///
        /// # Safety
        ///
        /// As libc's own.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name($($argument: $kind),*) -> $result {
            $call
        }
    )*};
}

/// Refuses what goes past `write`, so that the caller falls back to it.
fn refuse_or(descriptor: c_int, errno: c_int, plain: impl FnOnce() -> ssize_t) -> ssize_t {
    if is_recorded(descriptor) {
        system::fail(errno);
        return -1;
    }
    plain()
}

// `off_t` and `off64_t` are one on the machines that Pipes runs on.
stands_in! {
    read(file: c_int, to: *mut c_void, len: size_t) -> ssize_t =
        read_file(file, || system!(SYS_read, file, to, len) as ssize_t);
    pread(file: c_int, to: *mut c_void, len: size_t, at: off_t) -> ssize_t =
        read_file(file, || system!(SYS_pread64, file, to, len, at) as ssize_t);
    pread64(file: c_int, to: *mut c_void, len: size_t, at: off_t) -> ssize_t =
        read_file(file, || system!(SYS_pread64, file, to, len, at) as ssize_t);
    write(file: c_int, from: *const c_void, len: size_t) -> ssize_t =
        write_file(file, len, Where::Here, || system!(SYS_write, file, from, len) as ssize_t);
    writev(file: c_int, from: *const iovec, count: c_int) -> ssize_t =
        write_file(file, unsafe { total(from, count) }, Where::Here, || system!(SYS_writev, file, from, count) as ssize_t);
    pwrite(file: c_int, from: *const c_void, len: size_t, at: off_t) -> ssize_t =
        write_file(file, len, Where::At(at), || system!(SYS_pwrite64, file, from, len, at) as ssize_t);
    pwrite64(file: c_int, from: *const c_void, len: size_t, at: off_t) -> ssize_t =
        write_file(file, len, Where::At(at), || system!(SYS_pwrite64, file, from, len, at) as ssize_t);
    pwritev(file: c_int, from: *const iovec, count: c_int, at: off_t) -> ssize_t =
        write_file(file, unsafe { total(from, count) }, Where::At(at), || system!(SYS_pwritev, file, from, count, at, 0) as ssize_t);
    pwritev64(file: c_int, from: *const iovec, count: c_int, at: off_t) -> ssize_t =
        write_file(file, unsafe { total(from, count) }, Where::At(at), || system!(SYS_pwritev, file, from, count, at, 0) as ssize_t);
    // With flags of its own, which nobody here gives: libc's callers fall back to `pwritev`.
    pwritev2(file: c_int, from: *const iovec, count: c_int, at: off_t, flags: c_int) -> ssize_t =
        refuse_or(file, libc::ENOSYS, || system!(SYS_pwritev2, file, from, count, at, 0, flags) as ssize_t);
    pwritev64v2(file: c_int, from: *const iovec, count: c_int, at: off_t, flags: c_int) -> ssize_t =
        refuse_or(file, libc::ENOSYS, || system!(SYS_pwritev2, file, from, count, at, 0, flags) as ssize_t);
    copy_file_range(from: c_int, from_at: *mut off_t, to: c_int, to_at: *mut off_t, len: size_t, flags: c_uint) -> ssize_t =
        refuse_or(to, libc::ENOSYS, || system!(SYS_copy_file_range, from, from_at, to, to_at, len, flags) as ssize_t);
    sendfile(to: c_int, from: c_int, at: *mut off_t, len: size_t) -> ssize_t =
        refuse_or(to, libc::EINVAL, || system!(SYS_sendfile, to, from, at, len) as ssize_t);
    sendfile64(to: c_int, from: c_int, at: *mut off_t, len: size_t) -> ssize_t =
        refuse_or(to, libc::EINVAL, || system!(SYS_sendfile, to, from, at, len) as ssize_t);
    ftruncate(file: c_int, size: off_t) -> c_int =
        cut_file(file, size, || system!(SYS_ftruncate, file, size) as c_int);
    ftruncate64(file: c_int, size: off_t) -> c_int =
        cut_file(file, size, || system!(SYS_ftruncate, file, size) as c_int);
    fallocate(file: c_int, mode: c_int, at: off_t, len: off_t) -> c_int =
        write_file(file, len as usize, Where::At(at), || system!(SYS_fallocate, file, mode, at, len) as ssize_t) as c_int;
    fallocate64(file: c_int, mode: c_int, at: off_t, len: off_t) -> c_int =
        write_file(file, len as usize, Where::At(at), || system!(SYS_fallocate, file, mode, at, len) as ssize_t) as c_int;
    fsync(file: c_int) -> c_int = sync_file(file, false, || system!(SYS_fsync, file) as c_int);
    fdatasync(file: c_int) -> c_int = sync_file(file, false, || system!(SYS_fdatasync, file) as c_int);
    syncfs(file: c_int) -> c_int = sync_file(file, true, || system!(SYS_syncfs, file) as c_int);
    mmap(address: *mut c_void, len: size_t, protection: c_int, flags: c_int, file: c_int, at: off_t) -> *mut c_void =
        map(address, len, protection, flags, file, at);
    mmap64(address: *mut c_void, len: size_t, protection: c_int, flags: c_int, file: c_int, at: off_t) -> *mut c_void =
        map(address, len, protection, flags, file, at);
}
