//! `--report FILE`: looked at before anything runs, made when there is something to say.
//!
//! A file that is there already stays open from then on and keeps its content until the run is over: a FIFO's reader
//! would take a second opening for the end. One that is not there is made and taken away again, which is the only way
//! to know that it can be made. `-` is the end of stderr.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::error::Error;
use crate::object::Run;
use crate::output::json;

/// Where the report goes.
pub enum Report {
    /// To stderr, after all else.
    Stderr,
    /// Into a file.
    File {
        /// Where.
        path: PathBuf,
        /// Itself, where it was there already.
        file: Option<File>,
    },
}

impl Report {
    /// An error where it could not be written. Nothing is changed.
    pub fn prepare(path: &Path) -> Result<Report, Error> {
        if path == Path::new("-") {
            return Ok(Report::Stderr);
        }
        let failed = |error| Error::write(path, error);
        let file = match OpenOptions::new().write(true).open(path) {
            Ok(file) => Some(file),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                File::create(path).map_err(failed)?;
                // What a link points to, and not the link.
                let made = path.canonicalize().map_err(failed)?;
                fs::remove_file(made).map_err(failed)?;
                None
            }
            Err(error) => return Err(failed(error)),
        };
        Ok(Report::File {
            path: path.to_owned(),
            file,
        })
    }

    /// Writes what became of the run.
    pub fn write(self, run: &Run) -> Result<(), Error> {
        let text = json::render(run);
        let (path, file) = match self {
            Report::Stderr => {
                // There is nobody to tell when stderr is gone.
                let _ = io::stderr().write_all(text.as_bytes());
                return Ok(());
            }
            Report::File { path, file } => (path, file),
        };
        let written = match file {
            Some(file) => {
                // What is no file has nothing to cut off.
                let _ = file.set_len(0);
                Ok(file)
            }
            None => File::create(&path),
        };
        written
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .map_err(|error| Error::write(path, error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn run() -> Run {
        Run {
            id: Some("r1".into()),
            ..Run::default()
        }
    }

    #[test]
    fn a_report_leaves_nothing_until_it_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("report"), folder.path().join("link"));
        symlink(&path, &link).unwrap();
        let report = Report::prepare(&link).unwrap();
        assert!(!path.exists() && link.is_symlink());
        report.write(&run()).unwrap();
        assert!(fs::read_to_string(&path).unwrap().contains("\"r1\""));
    }

    #[test]
    fn an_older_report_stays_until_a_newer_replaces_it_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report");
        let old = "old ".repeat(1_000);
        fs::write(&path, &old).unwrap();
        let report = Report::prepare(&path).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), old);
        report.write(&run()).unwrap();
        assert!(!fs::read_to_string(&path).unwrap().contains("old"));
    }

    #[test]
    fn what_cannot_be_written_is_refused_at_once() {
        assert!(Report::prepare(Path::new("/no/such/folder/report")).is_err());
        assert!(Report::prepare(Path::new("/")).is_err());
    }
}
