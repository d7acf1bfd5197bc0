//! Why the kernel did not find, or may not execute, what is there: the interpreter or loader that a program names is what
//! is missing, and its own name in a message would mislead.
//!
//! ```text
//! script  #! INTERPRETER      elf  program header PT_INTERP -> LOADER      and so on: an interpreter has a loader as well
//! ```
//!
//! System V ABI, chapter 5, Program Interpreter; execve(2), Interpreter scripts.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Interpreters that are interpreted themselves: the kernel follows no more (fs/exec.c).
const DEPTH_MAX: usize = 5;

/// The longest path of a loader that the kernel takes (PATH_MAX).
const PATH_MAX: u64 = 4_096;

/// `PT_INTERP` of elf.h.
const PT_INTERP: u32 = 3;

/// A sentence on what is missing beside the program, where the kernel's `error` may be about that.
pub fn beside(program: &Path, error: &io::Error) -> Option<String> {
    if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied) {
        return None;
    }
    // Of a program that is itself not there, or not executable, the kernel's word is right.
    executable(program).ok()?;
    let mut of = program.to_owned();
    for _ in 0..DEPTH_MAX {
        let (what, needed) = needed(&of)?;
        if let Err(why) = executable(&needed) {
            return Some(match why.kind() {
                ErrorKind::NotFound => format!("its {what} {} is not there", needed.display()),
                _ => format!("its {what} {} cannot be executed", needed.display()),
            });
        }
        of = needed;
    }
    None
}

fn executable(path: &Path) -> io::Result<()> {
    let path = super::c_path(path)?;
    // SAFETY: the path ends with a zero.
    match unsafe { libc::access(path.as_ptr(), libc::X_OK) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// What a program names to be started with, and what that is called.
fn needed(program: &Path) -> Option<(&'static str, PathBuf)> {
    // A pipe without a writer would be waited for.
    let mut file = File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(program)
        .ok()?;
    if !file.metadata().is_ok_and(|metadata| metadata.is_file()) {
        return None;
    }
    let mut head = [0; 256];
    let count = file.read(&mut head).ok()?;
    let head = &head[..count];
    match head.strip_prefix(b"#!") {
        Some(line) => Some(("interpreter", interpreter(line)?)),
        None if head.starts_with(b"\x7fELF\x02\x01") => Some(("loader", loader(&file, head)?)),
        None => None,
    }
}

/// The first word of a script's first line.
fn interpreter(line: &[u8]) -> Option<PathBuf> {
    let line = line.split(|byte| *byte == b'\n').next()?;
    let mut words = line.split(|byte| matches!(byte, b' ' | b'\t' | 0));
    Some(path(words.find(|word| !word.is_empty())?))
}

/// What the program header PT_INTERP of a 64-bit little-endian file names.
fn loader(file: &File, head: &[u8]) -> Option<PathBuf> {
    let (table, size, count) = (word64(head, 32)?, word16(head, 54)?, word16(head, 56)?);
    for index in 0..u64::from(count) {
        let mut header = [0; 56];
        let at = table.checked_add(index * u64::from(size))?;
        file.read_exact_at(&mut header, at).ok()?;
        if word32(&header, 0)? == PT_INTERP {
            let length = word64(&header, 32)?.min(PATH_MAX);
            let mut name = vec![0; usize::try_from(length).ok()?];
            file.read_exact_at(&mut name, word64(&header, 8)?).ok()?;
            return Some(path(name.split(|byte| *byte == 0).next()?));
        }
    }
    None
}

fn path(bytes: &[u8]) -> PathBuf {
    PathBuf::from(std::ffi::OsStr::from_bytes(bytes))
}

fn word16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn word32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn word64(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn said(program: &Path) -> Option<String> {
        beside(program, &io::Error::from_raw_os_error(libc::ENOENT))
    }

    #[test]
    fn a_program_whose_interpreter_or_loader_is_there_misses_nothing() {
        assert_eq!(said(Path::new("/bin/sh")), None);
        let folder = tempfile::tempdir().unwrap();
        let script = folder.path().join("script");
        std::fs::write(&script, "#! /bin/sh -e\n").unwrap();
        assert_eq!(said(&script), None);
        std::fs::write(&script, "\x7fELF\x02\x01").unwrap();
        assert_eq!(said(&script), None, "cut short");
    }

    #[test]
    fn the_one_that_is_missing_is_named_however_far_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let (script, interpreter) = (folder.path().join("a"), folder.path().join("b"));
        std::fs::write(&script, format!("#!{}\n", interpreter.display())).unwrap();
        assert_eq!(said(&script), None, "it is not executable itself");
        let allow = |path| std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
        allow(&script);
        let name = interpreter.display();
        assert_eq!(
            said(&script).unwrap(),
            format!("its interpreter {name} is not there")
        );
        std::fs::write(&interpreter, "#!/no/such\n").unwrap();
        let refused = format!("its interpreter {name} cannot be executed");
        assert_eq!(said(&script).unwrap(), refused);
        allow(&interpreter);
        assert_eq!(said(&script).unwrap(), "its interpreter /no/such is not there");
    }
}
