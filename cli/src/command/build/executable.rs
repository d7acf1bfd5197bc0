//! Finding the executable that a word means: with a slash a path, without one NAME on PATH, as in a shell.
//!
//! `build NAME` takes `./NAME` where PATH has none, and says so. `--build` of a run does not: whoever runs a line in a folder
//! that others may write to would run what they put there under the name of a tool.
//!
//! Links are followed to the bytes, and the service keeps the name it was called by: busybox and its like decide by it.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::error::Error;

/// An executable that can become a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Executable {
    /// The service's name.
    pub name: String,
    /// Where its bytes are.
    pub path: PathBuf,
    /// PATH has none of this name: it is the working directory's.
    pub is_only_here: bool,
}

/// Where executables are looked for.
pub struct Places {
    /// The working directory.
    pub folder: PathBuf,
    /// The folders of PATH.
    pub search: Vec<PathBuf>,
    /// Whether a word without a slash may mean the working directory's file where PATH has none.
    pub is_here_too: bool,
}

/// Finds what `called` means in these places; `name` is what it shall be called, if not as its file.
pub fn find(called: &str, name: Option<&str>, places: &Places) -> Result<Executable, Error> {
    let (path, is_only_here) = locate(called, places)?;
    let file_name = Path::new(called)
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let name = name.unwrap_or(&file_name);
    if !is_service_name(name) {
        return Err(Error::Usage(format!(
            "'{name}' cannot be a service's name (letters, digits and ._+- not beginning with . or -); give one with --name"
        )));
    }
    Ok(Executable {
        name: name.to_owned(),
        path,
        is_only_here,
    })
}

/// Its path, and whether it is the working directory's for want of one on PATH.
fn locate(called: &str, places: &Places) -> Result<(PathBuf, bool), Error> {
    let here = places.folder.join(called);
    let here_refused = refusal(&here);
    if called.contains('/') {
        return here_refused.map_or(Ok((here, false)), |why| Err(cannot(called, &why)));
    }
    let mut on_path = places.search.iter().map(|place| place.join(called));
    if let Some(path) = on_path.find(|path| refusal(path).is_none()) {
        return Ok((path, false));
    }
    match here_refused {
        None if places.is_here_too => Ok((here, true)),
        None => Err(Error::Local(format!(
            "cannot build {called}: it is not on PATH; where ./{called} is meant, build it with: pipes build ./{called}"
        ))),
        Some(why) if places.is_here_too && here.exists() => Err(cannot(&format!("./{called}"), &why)),
        Some(_) if places.is_here_too => Err(Error::Local(format!(
            "cannot build {called}: it is not on PATH, nor is there a ./{called}"
        ))),
        Some(_) => Err(Error::Local(format!("cannot build {called}: it is not on PATH"))),
    }
}

fn cannot(path: &str, why: &str) -> Error {
    Error::Local(format!("cannot build {path}: {why}"))
}

/// Why this is no executable file, if it is none.
fn refusal(path: &Path) -> Option<String> {
    let metadata = match path.metadata() {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Some("there is no such file".into()),
        Err(error) => return Some(error.to_string()),
    };
    if metadata.is_dir() {
        return Some("it is a directory".into());
    }
    if !metadata.is_file() {
        return Some("it is no regular file".into());
    }
    let text = CString::new(path.as_os_str().as_bytes()).ok()?;
    // SAFETY: the path ends with a zero.
    if unsafe { libc::access(text.as_ptr(), libc::X_OK) } != 0 {
        return Some(format!(
            "it is not executable; make it so with: chmod +x {}",
            path.display()
        ));
    }
    None
}

/// Whether a service may be called so.
pub fn is_service_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "._+-".contains(c);
    !name.is_empty() && name.chars().all(plain) && !name.starts_with(['.', '-'])
}

/// The folders of PATH.
pub fn search_path() -> Vec<PathBuf> {
    std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    struct Place(tempfile::TempDir);

    impl Place {
        fn new() -> Place {
            Place(tempfile::tempdir().unwrap())
        }

        fn file(&self, name: &str, mode: u32) -> PathBuf {
            let path = self.0.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, "#!/bin/sh\n").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            path
        }

        fn find(&self, called: &str) -> Result<Executable, String> {
            self.find_for(called, true)
        }

        fn find_for(&self, called: &str, is_here_too: bool) -> Result<Executable, String> {
            let places = Places {
                folder: self.0.path().to_owned(),
                search: vec![self.0.path().join("bin")],
                is_here_too,
            };
            find(called, None, &places).map_err(|error| error.to_string())
        }
    }

    #[test]
    fn a_name_is_the_one_on_path_else_the_file_here() {
        let place = Place::new();
        let here = place.file("greet", 0o755);
        let found = place.find("greet").unwrap();
        assert!(found.path == here && found.is_only_here);
        let on_path = place.file("bin/greet", 0o755);
        let found = place.find("greet").unwrap();
        assert!(found.path == on_path && !found.is_only_here);
        assert!(
            !place.find("./greet").unwrap().is_only_here,
            "it is what was asked for"
        );
    }

    #[test]
    fn a_file_that_lies_here_is_not_built_for_a_word_of_a_line() {
        let place = Place::new();
        place.file("seq", 0o755);
        assert_eq!(
            place.find_for("seq", false).unwrap_err(),
            "cannot build seq: it is not on PATH; where ./seq is meant, build it with: pipes build ./seq"
        );
        let on_path = place.file("bin/seq", 0o755);
        assert_eq!(place.find_for("seq", false).unwrap().path, on_path);
        assert_eq!(
            place.find_for("none", false).unwrap_err(),
            "cannot build none: it is not on PATH"
        );
    }

    #[test]
    fn a_link_keeps_the_name_it_is_called_by() {
        let place = Place::new();
        place.file("bin/busybox", 0o755);
        symlink("busybox", place.0.path().join("bin/awk")).unwrap();
        assert_eq!(place.find("awk").unwrap().name, "awk");
        assert_eq!(place.find("./bin/awk").unwrap().name, "awk");
    }

    #[test]
    fn what_is_not_executable_is_refused_with_its_path_and_why() {
        let place = Place::new();
        place.file("data", 0o644);
        fs::create_dir(place.0.path().join("folder")).unwrap();
        let chmod = place.0.path().join("./data");
        // Root may execute what has any x bit; this has none.
        let expected = format!(
            "cannot build ./data: it is not executable; make it so with: chmod +x {}",
            chmod.display()
        );
        assert_eq!(place.find("./data").unwrap_err(), expected);
        assert_eq!(
            place.find("./folder").unwrap_err(),
            "cannot build ./folder: it is a directory"
        );
        assert_eq!(
            place.find("./none").unwrap_err(),
            "cannot build ./none: there is no such file"
        );
        assert_eq!(
            place.find("none").unwrap_err(),
            "cannot build none: it is not on PATH, nor is there a ./none"
        );
    }

    #[test]
    fn a_name_that_no_line_could_hold_needs_another() {
        let place = Place::new();
        place.file("bin/[", 0o755);
        assert!(place.find("[").unwrap_err().contains("give one with --name"));
        assert!(
            is_service_name("greet.py")
                && is_service_name("g++")
                && !is_service_name("-x")
                && !is_service_name("")
        );
    }
}
