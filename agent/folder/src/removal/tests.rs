//! What a stage may leave behind, and that it goes.

use std::ffi::CString;
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use super::*;

/// Removes it, and says in how many steps.
fn remove(folder: Folder) -> (usize, io::Result<()>) {
    let mut removal = Removal::new(Arc::new(folder));
    for steps in 1.. {
        match removal.step() {
            Progress::Goes => {}
            Progress::Gone => return (steps, Ok(())),
            Progress::Stays(why) => return (steps, Err(why)),
        }
    }
    unreachable!("steps go on until it is over")
}

/// Nests folders, each made from the descriptor of the one before: no path could be so long.
fn nest(folder: &Folder, depth: usize, name: &str) {
    let name = CString::new(name).unwrap();
    let mut at = folder.folder.try_clone().unwrap();
    for _ in 0..depth {
        system::make_folder(at.as_fd(), &name, 0o700).unwrap();
        at = system::open_folder(at.as_fd(), &name).unwrap();
    }
}

#[test]
fn nothing_is_too_deep() {
    let base = tempfile::tempdir().unwrap();
    let path = base.path().join("1");
    let folder = Folder::make(&path, 0o700).unwrap();
    nest(&folder, 30_000, "d");
    let (steps, removed) = remove(folder);
    removed.unwrap();
    assert!(!path.exists());
    assert!(steps > 500, "it goes on in steps");
}

#[test]
fn names_as_long_as_can_be_nest_beyond_every_path() {
    let base = tempfile::tempdir().unwrap();
    let folder = Folder::make(&base.path().join("1"), 0o700).unwrap();
    nest(&folder, 100, &"n".repeat(255));
    nest(&folder, 100, &"m".repeat(255));
    remove(folder).1.unwrap();
    assert_eq!(fs::read_dir(base.path()).unwrap().count(), 0);
}

#[test]
fn links_fifos_sockets_and_closed_folders_go_and_what_links_lead_to_stays() {
    let base = tempfile::tempdir().unwrap();
    let (path, elsewhere) = (base.path().join("1"), base.path().join("elsewhere"));
    fs::create_dir(&elsewhere).unwrap();
    fs::write(elsewhere.join("precious"), "x").unwrap();
    let folder = Folder::make(&path, 0o700).unwrap();
    fs::create_dir_all(path.join("a/b/c")).unwrap();
    symlink(&elsewhere, path.join("link")).unwrap();
    symlink(&elsewhere, path.join("a/b/link")).unwrap();
    symlink("/nowhere", path.join("a/broken")).unwrap();
    let fifo = CString::new(path.join("a/fifo").as_os_str().as_bytes()).unwrap();
    // SAFETY: the path is a C string that lives as long as the call.
    assert_eq!(unsafe { libc::mkfifo(fifo.as_ptr(), 0o600) }, 0);
    let _socket = std::os::unix::net::UnixListener::bind(path.join("a/b/socket")).unwrap();
    let held_open = fs::File::create(path.join("a/b/c/open")).unwrap();
    for closed in ["a/b/c", "a/b", "a"] {
        fs::set_permissions(path.join(closed), Permissions::from_mode(0o000)).unwrap();
    }
    remove(folder).1.unwrap();
    assert!(!path.exists());
    assert!(elsewhere.join("precious").exists());
    drop(held_open);
}

#[test]
fn a_link_in_the_folders_place_is_not_followed() {
    let base = tempfile::tempdir().unwrap();
    let (path, elsewhere) = (base.path().join("1"), base.path().join("elsewhere"));
    fs::create_dir(&elsewhere).unwrap();
    fs::write(elsewhere.join("precious"), "x").unwrap();
    let folder = Folder::make(&path, 0o700).unwrap();
    fs::write(path.join("own"), "x").unwrap();
    // What a stage does that wants another folder emptied.
    fs::rename(&path, base.path().join("moved")).unwrap();
    symlink(&elsewhere, &path).unwrap();
    let (_, removed) = remove(folder);
    assert!(removed.is_err(), "it is not where it was made");
    assert!(elsewhere.join("precious").exists());
    assert!(
        !base.path().join("moved/own").exists(),
        "its own is emptied wherever it is"
    );
    assert!(Folder::open(&path).is_err(), "a link is no folder");
}

#[test]
fn what_is_made_again_meanwhile_goes_too() {
    let base = tempfile::tempdir().unwrap();
    let path = base.path().join("1");
    let folder = Folder::make(&path, 0o700).unwrap();
    let make = |path: &Path, count: usize| {
        for number in 0..count {
            let _ = fs::create_dir_all(path.join(format!("a/{number}/.1/.2")));
            let _ = fs::write(path.join(format!(".{number}")), "x");
        }
    };
    make(&path, 200);
    let mut removal = Removal::new(Arc::new(folder));
    for round in 0.. {
        match removal.step() {
            Progress::Goes if round < 20 => make(&path, 5),
            Progress::Goes => {}
            Progress::Gone => break,
            Progress::Stays(why) => panic!("{why}"),
        }
    }
    assert!(!path.exists());
}

#[test]
fn an_empty_one_goes_at_once() {
    let base = tempfile::tempdir().unwrap();
    let folder = Folder::make(&base.path().join("1"), 0o700).unwrap();
    folder.remove_empty().unwrap();
    assert_eq!(fs::read_dir(base.path()).unwrap().count(), 0);
}
