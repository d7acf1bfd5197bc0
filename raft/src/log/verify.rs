//! Reading all segments against their checksums again, while the log is in use.

use std::io::{BufReader, ErrorKind, Read as _};
use std::path::Path;

use super::Reader;
use super::record;
use crate::format::{FILE_HEAD_LEN, FrameReader, Kind, ReadFrame};
use crate::fs::File;
use crate::{Error, format};

impl Reader {
    /// Reads what lies in `dir` as far as entries lie there that count, and to the end of what was written last.
    pub(crate) fn verify(&self, dir: &Path) -> Result<(), Error> {
        let ends = self.index.lock().ends();
        for (number, end) in ends {
            let path = record::path(dir, number);
            let io_error = |error: std::io::Error| format::disk(&path, &error);
            let file = match File::open(&path) {
                Ok(file) => file,
                // All its entries were purged meanwhile, or it is gone.
                Err(error)
                    if error.kind() == ErrorKind::NotFound
                        && !self.index.lock().segments.contains_key(&number) =>
                {
                    continue;
                }
                Err(error) => return Err(Error::Corrupt(format!("{}: {error}", path.display()))),
            };
            let mut reader = BufReader::new(&file);
            let mut head = [0; FILE_HEAD_LEN];
            reader.read_exact(&mut head).map_err(io_error)?;
            Kind::Log.check(&head, &path)?;
            let mut frames = FrameReader::new(reader, FILE_HEAD_LEN as u64);
            let mut read_to = FILE_HEAD_LEN as u64;
            while let ReadFrame::Whole(head, offset, _) = frames.next().map_err(io_error)? {
                read_to = offset + head.len as u64;
            }
            if read_to < end {
                let why = "what was acknowledged cannot be read any more";
                return Err(format::corrupt(&path, read_to, why));
            }
        }
        Ok(())
    }
}
