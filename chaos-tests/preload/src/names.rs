//! Creations, renames and removals: the functions of libc that change a folder.

use std::ffi::{c_char, c_int, c_uint};

use crate::contents;
use crate::record::Record;
use crate::recorder::{Place, Recorder, State, recorder};
use crate::system::{self, system};

const HERE: c_int = libc::AT_FDCWD;

fn open_file(folder: c_int, path: *const c_char, flags: c_int, mode: c_uint) -> c_int {
    let plain = || system::open_at(folder, path, flags, mode);
    let Some(recorder) = recorder() else {
        return plain();
    };
    let Some(place) = recorder.place(folder, path) else {
        return plain();
    };
    let mut state = recorder.lock();
    let before = system::stat_path(&place.path);
    if before.is_none() && flags & libc::O_CREAT != 0 {
        state.note_name(recorder, &place);
    }
    if flags & libc::O_TRUNC != 0
        && before.is_some_and(|before| system::is(&before, libc::S_IFREG) && before.st_size > 0)
        && let Some(descriptor) = system::open(&place.path, libc::O_RDONLY)
    {
        contents::note_cut(recorder, &mut state, &place, descriptor, 0);
        system::close(descriptor);
    }
    let descriptor = plain();
    // After a failure `errno` stays as it is.
    if descriptor >= 0
        && let Some(stat) = system::stat(descriptor).filter(|stat| system::is(stat, libc::S_IFREG))
    {
        state.opened(stat.st_ino, place.path);
    }
    descriptor
}

fn make_folder(folder: c_int, path: *const c_char, mode: libc::mode_t) -> c_int {
    let plain = || system!(SYS_mkdirat, folder, path, mode) as c_int;
    let Some(recorder) = recorder() else {
        return plain();
    };
    let Some(place) = recorder.place(folder, path) else {
        return plain();
    };
    let mut state = recorder.lock();
    if system::stat_path(&place.path).is_none() {
        state.note_name(recorder, &place);
    }
    plain()
}

fn remove(folder: c_int, path: *const c_char, flags: c_int) -> c_int {
    let plain = || system!(SYS_unlinkat, folder, path, flags) as c_int;
    let Some(recorder) = recorder() else {
        return plain();
    };
    let Some(place) = recorder.place(folder, path) else {
        return plain();
    };
    let mut state = recorder.lock();
    let Some(before) = system::stat_path(&place.path) else {
        return plain();
    };
    let kept = recorder.kept(&place, before.st_ino);
    let is_folder = system::is(&before, libc::S_IFDIR);
    match flags & libc::AT_REMOVEDIR != 0 {
        true if is_folder && system::is_empty(&place.path) => {
            state.note_name(recorder, &place);
            // A folder has one name: it is moved away.
            system::rename(&place.path, &kept)
        }
        false if !is_folder => {
            state.note_name(recorder, &place);
            system::link(&place.path, &kept);
            plain()
        }
        _ => plain(),
    }
}

fn rename_file(from: c_int, old: *const c_char, to: c_int, new: *const c_char, flags: c_uint) -> c_int {
    let plain = || system!(SYS_renameat2, from, old, to, new, flags) as c_int;
    let Some(recorder) = recorder() else {
        return plain();
    };
    let (Some(old), Some(new)) = (recorder.place(from, old), recorder.place(to, new)) else {
        return plain();
    };
    if flags & libc::RENAME_EXCHANGE != 0 {
        system::fail(libc::EINVAL);
        return -1;
    }
    let mut state = recorder.lock();
    if let (Some(first), Some(second)) = (old.name(), new.name()) {
        let replaced = second.before;
        let second = Some(second);
        state.append(recorder, &new.node, &Record::Names { first, second });
        if replaced != 0 && flags & libc::RENAME_NOREPLACE == 0 {
            keep(recorder, &new, replaced);
        }
    }
    let renamed = plain();
    if renamed == 0 {
        state.renamed(&old.path, &new.path);
    }
    renamed
}

/// Keeps what a rename is about to replace.
fn keep(recorder: &Recorder, place: &Place, inode: u64) {
    let kept = recorder.kept(place, inode);
    if !place.path.is_dir() {
        system::link(&place.path, &kept);
    } else if system::is_empty(&place.path) {
        system::rename(&place.path, &kept);
    }
}

fn link_file(from: c_int, old: *const c_char, to: c_int, new: *const c_char, flags: c_int) -> c_int {
    let plain = || system!(SYS_linkat, from, old, to, new, flags) as c_int;
    let Some(recorder) = recorder() else {
        return plain();
    };
    let Some(place) = recorder.place(to, new) else {
        return plain();
    };
    let mut state = recorder.lock();
    state.note_name(recorder, &place);
    plain()
}

impl State {
    /// Writes down what a name is now.
    fn note_name(&mut self, recorder: &Recorder, place: &Place) {
        if let Some(first) = place.name() {
            self.append(recorder, &place.node, &Record::Names { first, second: None });
        }
    }
}

/// Functions of libc, each as the call of ours that does its work.
macro_rules! stands_in {
    ($($name:ident($($argument:ident: $kind:ty),*) = $call:expr;)*) => {$(
        /// Stands in for libc's.
        ///
        /// # Safety
        ///
        /// As libc's own.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name($($argument: $kind),*) -> c_int {
            $call
        }
    )*};
}

// C passes what follows `...` as it passes the rest, here and on every machine that Pipes runs on.
stands_in! {
    open(path: *const c_char, flags: c_int, mode: c_uint) = open_file(HERE, path, flags, mode);
    open64(path: *const c_char, flags: c_int, mode: c_uint) = open_file(HERE, path, flags, mode);
    openat(folder: c_int, path: *const c_char, flags: c_int, mode: c_uint) = open_file(folder, path, flags, mode);
    openat64(folder: c_int, path: *const c_char, flags: c_int, mode: c_uint) = open_file(folder, path, flags, mode);
    creat(path: *const c_char, mode: c_uint) = open_file(HERE, path, libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC, mode);
    creat64(path: *const c_char, mode: c_uint) = open_file(HERE, path, libc::O_CREAT | libc::O_WRONLY | libc::O_TRUNC, mode);
    mkdir(path: *const c_char, mode: libc::mode_t) = make_folder(HERE, path, mode);
    mkdirat(folder: c_int, path: *const c_char, mode: libc::mode_t) = make_folder(folder, path, mode);
    unlink(path: *const c_char) = remove(HERE, path, 0);
    unlinkat(folder: c_int, path: *const c_char, flags: c_int) = remove(folder, path, flags);
    rmdir(path: *const c_char) = remove(HERE, path, libc::AT_REMOVEDIR);
    rename(old: *const c_char, new: *const c_char) = rename_file(HERE, old, HERE, new, 0);
    renameat(from: c_int, old: *const c_char, to: c_int, new: *const c_char) = rename_file(from, old, to, new, 0);
    renameat2(from: c_int, old: *const c_char, to: c_int, new: *const c_char, flags: c_uint) = rename_file(from, old, to, new, flags);
    link(old: *const c_char, new: *const c_char) = link_file(HERE, old, HERE, new, 0);
    linkat(from: c_int, old: *const c_char, to: c_int, new: *const c_char, flags: c_int) = link_file(from, old, to, new, flags);
}
