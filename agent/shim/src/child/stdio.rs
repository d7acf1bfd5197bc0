//! What a stage has at 0, 1 and 2: its pipes, or what its caller has there in place of one.
//!
//! | its caller has | the stage gets |
//! |---|---|
//! | a pipe, or anything that a pipe may stand for | the pipe |
//! | nothing | nothing |
//! | what is not open that way | /dev/null, open the other way |
//! | a directory, as 0 | its own working folder |
//! | a full device | /dev/full |

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use pipes_protocol::descriptor::{Descriptor, Descriptors};

/// What stands in place of pipes, open as long as this lives.
pub struct Stdio<'p> {
    pipes: [BorrowedFd<'p>; 3],
    descriptors: Descriptors,
    stands: [Option<File>; 3],
}

impl<'p> Stdio<'p> {
    /// Opens what is wanted beside these pipes; `folder` is the stage's own.
    pub fn open(
        descriptors: Descriptors,
        pipes: [BorrowedFd<'p>; 3],
        folder: &Path,
    ) -> io::Result<Stdio<'p>> {
        let mut stands = [const { None }; 3];
        for (number, stand) in stands.iter_mut().enumerate() {
            *stand = match descriptors[number] {
                Descriptor::Pipe | Descriptor::Closed => None,
                Descriptor::Wrong if number == 0 => Some(File::options().write(true).open("/dev/null")?),
                Descriptor::Wrong => Some(File::open("/dev/null")?),
                Descriptor::Folder => Some(File::open(folder)?),
                Descriptor::Full => Some(File::options().write(true).open("/dev/full")?),
            };
        }
        Ok(Stdio {
            pipes,
            descriptors,
            stands,
        })
    }

    /// What is to be put at 0, 1 and 2; `None` is closed there.
    pub fn given(&self) -> [Option<BorrowedFd<'_>>; 3] {
        std::array::from_fn(|number| match self.descriptors[number] {
            Descriptor::Pipe => Some(self.pipes[number]),
            _ => self.stands[number].as_ref().map(File::as_fd),
        })
    }
}
