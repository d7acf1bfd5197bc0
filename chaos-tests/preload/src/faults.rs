//! What fails, and how long a sync takes: by a file that a test may write at any time.
//!
//! ```text
//! delay 30                       each sync takes 0 to 30 ms
//! read raft/log EIO              reading what lies below raft/log fails
//! write raft/log ENOSPC          so does writing, cutting and growing
//! sync blobs EIO                 so does syncing
//! free 5                         of the disk 5 % are free, as far as anybody asks
//! ```

use std::collections::HashMap;
use std::ffi::{OsString, c_int};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::recorder::{Place, Recorder};
use crate::system;

/// How old what was read of the file may be.
const AGE_MAX: Duration = Duration::from_millis(10);

/// What a process does to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Doing {
    Read,
    Write,
    Sync,
}

/// A node's faults.
#[derive(Clone, Default)]
struct Faults {
    delay_ms_max: u64,
    free_percent: Option<u64>,
    failing: Vec<(Doing, PathBuf, c_int)>,
}

/// What this comes to, if it is to fail.
pub(crate) fn errno(recorder: &Recorder, place: &Place, doing: Doing) -> Option<c_int> {
    let faults = now(recorder, place);
    let failing = faults
        .failing
        .iter()
        .find(|(what, path, _)| *what == doing && place.path.starts_with(path));
    failing.map(|(_, _, errno)| *errno)
}

/// Lets a sync take its time.
pub(crate) fn delay(recorder: &Recorder, place: &Place) {
    let faults = now(recorder, place);
    if faults.delay_ms_max > 0 {
        let micros = random() % (faults.delay_ms_max * 1_000);
        std::thread::sleep(Duration::from_micros(micros));
    }
}

/// How much of its disk is to be free.
pub(crate) fn free_percent(recorder: &Recorder, place: &Place) -> Option<u64> {
    now(recorder, place).free_percent
}

fn now(recorder: &Recorder, place: &Place) -> Faults {
    static KNOWN: Mutex<Option<HashMap<OsString, (Instant, Faults)>>> = Mutex::new(None);
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    let known = known.get_or_insert_default();
    match known.get(&place.node) {
        Some((read, faults)) if read.elapsed() < AGE_MAX => faults.clone(),
        _ => {
            let file = recorder.journals(Path::new(&place.node)).join("faults");
            let text = system::read(&file).unwrap_or_default();
            let faults = parse(&String::from_utf8_lossy(&text), &recorder.folder_of(&place.node));
            known.insert(place.node.clone(), (Instant::now(), faults.clone()));
            faults
        }
    }
}

fn parse(text: &str, folder: &Path) -> Faults {
    let mut faults = Faults::default();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (doing, path, errno) = match words[..] {
            ["delay", ms] => {
                faults.delay_ms_max = ms.parse().unwrap_or(0);
                continue;
            }
            ["free", percent] => {
                faults.free_percent = percent.parse().ok();
                continue;
            }
            ["read", path, errno] => (Doing::Read, path, errno),
            ["write", path, errno] => (Doing::Write, path, errno),
            ["sync", path, errno] => (Doing::Sync, path, errno),
            _ => continue,
        };
        let errno = if errno == "ENOSPC" {
            libc::ENOSPC
        } else {
            libc::EIO
        };
        faults.failing.push((doing, folder.join(path), errno));
    }
    faults
}

/// Numbers as different as the moments they are asked for.
fn random() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let mut number = now.map_or(1, |since| since.as_nanos() as u64) | 1;
    for shift in [13, 7, 17] {
        number ^= number << shift;
        number ^= number >> (shift / 2);
    }
    number
}
