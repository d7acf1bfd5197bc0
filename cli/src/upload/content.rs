//! A file's bytes, known by their digest before they are sent.
//!
//! They are read twice, from one open file: for the digest, and to send them where the cluster does not have them. What
//! can be read only once (a FIFO, a pipe at /dev/stdin or /dev/fd/N) is kept on disk in between.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::error::Error;
use crate::given::Given;

/// One read while a digest is made.
const READ: usize = 256 << 10;

/// What is no regular file is read up to this, which is what an agent takes of any: it may have no end.
const KEPT_MAX: u64 = 16 << 30;

/// A device is read up to this: /dev/null has nothing, /dev/zero no end, and what people mean lies in between.
const DEVICE_MAX: u64 = 64 << 20;

/// Bytes by their content.
#[derive(Debug)]
pub struct Content {
    /// `sha256:` and 64 digits.
    pub digest: String,
    /// Bytes.
    pub size: u64,
    /// It is a file that somebody may execute.
    pub may_be_executed: bool,
    /// Where they are, at their beginning.
    pub file: File,
}

/// Reads a file through for its digest and size.
pub fn of(path: &Path) -> Result<Content, Error> {
    let failed = |error| Error::read(path, error);
    let mut given = Given::open(path).map_err(failed)?;
    let metadata = given.metadata().clone();
    let kind = metadata.file_type();
    if kind.is_dir() {
        return Err(Error::Local(format!(
            "cannot read {}: it is a directory; name the files in it, or one archive of them",
            path.display()
        )));
    }
    let mut kept = if kind.is_file() {
        None
    } else {
        Some(nameless().map_err(|error| Error::write(std::env::temp_dir(), error))?)
    };
    let most = if kind.is_char_device() {
        DEVICE_MAX
    } else {
        KEPT_MAX
    };
    let (mut hash, mut size) = (Sha256::new(), 0);
    let mut buffer = vec![0; READ];
    loop {
        let count = given.read(&mut buffer).map_err(failed)?;
        if count == 0 {
            break;
        }
        hash.update(&buffer[..count]);
        size += count as u64;
        if let Some(kept) = &mut kept {
            if size > most {
                return Err(Error::Local(format!(
                    "{} gives more than the {most} bytes that are taken of what is no file",
                    path.display()
                )));
            }
            kept.write_all(&buffer[..count])
                .map_err(|error| Error::write(std::env::temp_dir(), error))?;
        }
    }
    let mut file = kept.unwrap_or_else(|| given.into_file());
    file.rewind().map_err(failed)?;
    Ok(Content {
        digest: format!("sha256:{}", hex::encode(hash.finalize())),
        size,
        may_be_executed: kind.is_file() && metadata.permissions().mode() & 0o111 != 0,
        file,
    })
}

/// A file on disk that goes when it is closed.
fn nameless() -> io::Result<File> {
    let path = std::env::temp_dir().join(format!("pipes-{}", ulid::Ulid::new()));
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)?;
    fs::remove_file(path)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn a_digest_is_sha256_in_hex() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        fs::write(&path, "#!/bin/sh\n").unwrap();
        let content = of(&path).unwrap();
        assert_eq!(content.size, 10);
        assert_eq!(
            content.digest,
            "sha256:a8076d3d28d21e02012b20eaf7dbf75409a6277134439025f282e368e3305abf"
        );
    }

    #[test]
    fn what_can_be_read_only_once_is_kept_until_it_is_sent() {
        let (reader, mut writer) = io::pipe().unwrap();
        let bytes = vec![7; 3 * READ + 1];
        let sent = bytes.clone();
        let writing = std::thread::spawn(move || writer.write_all(&sent).unwrap());
        let path = format!("/dev/fd/{}", reader.as_raw_fd());
        let mut content = of(Path::new(&path)).unwrap();
        writing.join().unwrap();
        let mut read = Vec::new();
        content.file.read_to_end(&mut read).unwrap();
        assert!(read == bytes && content.size == bytes.len() as u64);
    }

    #[test]
    fn a_device_without_an_end_is_refused_before_it_fills_a_disk() {
        let said = of(Path::new("/dev/zero")).unwrap_err().to_string();
        assert_eq!(
            said,
            "/dev/zero gives more than the 67108864 bytes that are taken of what is no file"
        );
        assert_eq!(of(Path::new("/dev/null")).unwrap().size, 0);
    }

    #[test]
    fn a_directory_is_refused_with_what_to_do() {
        let said = of(Path::new("/")).unwrap_err().to_string();
        assert_eq!(
            said,
            "cannot read /: it is a directory; name the files in it, or one archive of them"
        );
    }
}
