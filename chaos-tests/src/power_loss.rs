//! A power loss: after a kill, what was not synced is gone, all of it or a part, as a seed says.
//!
//! ```text
//! journals/n1/journal                                  nodes/n1/ after the kill       after the power loss, some seed
//!   names   raft/log: 0002.log was nothing             0002.log                       no 0002.log
//!   change  0001.log, 4096 octets at 8192: zeros       a frame there                  its first sector, then zeros
//!   sync    0001.log, all up to here
//!   change  0001.log, 100 octets at 12288: zeros       a frame there                  zeros
//! ```
//!
//! The preloaded library (`preload/`) writes the journal while the agent runs. Content and names go separately, as on
//! a disk: of each file a [`Form`] says what of its changes is lost (`contents.rs`), and of each folder some of its
//! latest names (`names.rs`): a new file without its name, a rename that did not happen.
//!
//! Always: (1) what a sync covered stays; (2) what was lost had never been synced; (3) what is left is a disk's own
//! beginning, so that the next journal begins empty.

mod contents;
mod names;
#[path = "../preload/src/record.rs"]
pub mod record;

use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use rand::Rng;

pub use contents::Form;
use record::{Change, Name, Record};

use crate::proc;
use crate::wait::wait_until;

/// Nodes whose writes are recorded: a folder each, and a folder each for their journals.
pub struct Recording {
    library: PathBuf,
    nodes: PathBuf,
    journals: PathBuf,
}

/// What a power loss took.
#[derive(Debug, Default)]
pub struct Loss {
    /// Records that the journal held.
    pub records: usize,
    /// The files with changes that were not synced, and what became of these.
    pub files: Vec<(PathBuf, Form)>,
    /// Names that had changed in folders that were not synced.
    pub names: usize,
    /// Those of them that are as they were before.
    pub names_lost: Vec<PathBuf>,
}

/// What was not synced, by inode, in the order of the changes.
#[derive(Default)]
struct Pending {
    changes: BTreeMap<u64, Vec<Change>>,
    names: BTreeMap<u64, Vec<Names>>,
}

/// One or two names of a folder that changed at once.
type Names = (Name, Option<Name>);

impl std::fmt::Display for Loss {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (files, lost) = (self.files.len(), self.names_lost.len());
        let Loss { records, names, .. } = self;
        write!(
            formatter,
            "{records} records; not synced: {files} files and {names} names, of which {lost} are lost"
        )
    }
}

impl Recording {
    /// Of the nodes below `nodes`; `journals` is made, and must be on the same file system. The library lies among the
    /// binaries.
    pub fn new(binaries: &Path, nodes: PathBuf, journals: PathBuf) -> Result<Recording> {
        std::fs::create_dir_all(&journals)?;
        let library = binaries.join("libpipes_preload.so");
        // Without it the loader would only warn, and every loss would take nothing.
        ensure!(
            library.is_file(),
            "no {}: cargo build -p pipes-preload",
            library.display()
        );
        Ok(Recording {
            library,
            nodes,
            journals,
        })
    }

    /// What a process is started with, so that it, or its children of the name `program`, are recorded.
    pub fn environment(&self, program: Option<&str>) -> Vec<(&'static str, OsString)> {
        let mut environment = vec![
            ("LD_PRELOAD", self.library.clone().into()),
            ("PIPES_PRELOAD_NODES", self.nodes.clone().into()),
            ("PIPES_PRELOAD_JOURNALS", self.journals.clone().into()),
        ];
        environment.extend(program.map(|program| ("PIPES_PRELOAD_PROGRAM", program.into())));
        environment
    }

    /// Makes a node's disk fail or slow from now on: lines as `preload/src/faults.rs` has them. They outlive a power loss.
    pub fn set_faults(&self, node: &str, lines: &str) -> Result<()> {
        let folder = self.journals.join(node);
        std::fs::create_dir_all(&folder)?;
        // Renamed, so that no half of it is read.
        let (part, file) = (folder.join("faults.part"), folder.join("faults"));
        std::fs::write(&part, lines)?;
        Ok(std::fs::rename(part, file)?)
    }

    /// Takes the power of a node whose agent is dead. Its stages outlive it by a moment, in which they tidy up: they end
    /// first.
    pub fn power_loss(&self, node: &str, seed: u64) -> Result<Loss> {
        let folder = format!("{}/", self.nodes.join(node).display());
        wait_until("what a node ran is gone", proc::GONE_LIMIT, || {
            let left = proc::mentioning(&folder);
            for pid in &left {
                let _ = proc::signal(*pid, libc::SIGKILL);
            }
            left.is_empty()
        })?;
        power_loss(&self.nodes.join(node), &self.journals.join(node), seed)
    }
}

/// Cuts the files in `folder` back to what its journal calls synced, and what more the seed leaves; the journal is empty
/// then.
pub fn power_loss(folder: &Path, journal: &Path, seed: u64) -> Result<Loss> {
    let mut random = crate::random::generator(seed);
    let file = journal.join("journal");
    let bytes = std::fs::read(&file).with_context(|| format!("read {}", file.display()))?;
    let records = decode(&bytes);
    let mut loss = Loss {
        records: records.len(),
        ..Loss::default()
    };
    let pending = pending(records)?;
    let kept = journal.join("kept");
    let mut places = HashMap::new();
    find(folder, &mut places)?;
    find(&kept, &mut places)?;
    for (inode, changes) in pending.changes {
        // Removed for good by another process, such as the CLI.
        let Some(path) = places.get(&inode) else { continue };
        let form = contents::rewind(path, &changes, &mut random)?;
        let path = path.strip_prefix(folder).unwrap_or(Path::new("(removed)"));
        loss.files.push((path.to_owned(), form));
    }
    let mut lost = HashMap::new();
    for (inode, names) in pending.names {
        let left = match random.random_range(0..3) {
            0 => 0,
            1 => names.len(),
            _ => random.random_range(0..=names.len()),
        };
        loss.names += names.len();
        let of_folder: Vec<Names> = names.into_iter().skip(left).collect();
        let path = places.get(&inode).map_or(Path::new("(removed)"), |path| {
            path.strip_prefix(folder).unwrap_or(path)
        });
        let paths = of_folder
            .iter()
            .map(|(first, _)| path.join(OsStr::from_bytes(&first.name)));
        loss.names_lost.extend(paths);
        lost.insert(inode, of_folder);
    }
    names::rewind(folder, &places, &lost)?;
    std::fs::remove_file(&file)?;
    std::fs::remove_dir_all(&kept)?;
    Ok(loss)
}

/// The records with their places; the last may not be whole, and its change was not made then.
fn decode(bytes: &[u8]) -> Vec<(u64, Record)> {
    let mut records = Vec::new();
    let mut at = 0;
    while let Some((record, len)) = Record::decode(&bytes[at..]) {
        records.push((at as u64, record));
        at += len;
    }
    records
}

fn pending(records: Vec<(u64, Record)>) -> Result<Pending> {
    let mut synced: HashMap<u64, u64> = HashMap::new();
    for (_, record) in &records {
        if let Record::Sync { inode, covered } = record {
            let known = synced.entry(*inode).or_default();
            *known = covered.max(known).to_owned();
        }
    }
    let of = |inode: u64| synced.get(&inode).copied().unwrap_or(0);
    let all = of(0);
    let mut pending = Pending::default();
    for (place, record) in records {
        let is_pending = |inode| place >= of(inode).max(all);
        match record {
            Record::Change { inode, change } if is_pending(inode) => {
                pending.changes.entry(inode).or_default().push(change);
            }
            Record::Names { first, second } if is_pending(first.folder) => {
                let names = pending.names.entry(first.folder).or_default();
                if second
                    .as_ref()
                    .is_some_and(|second| second.folder != first.folder)
                {
                    bail!("a rename from folder to folder, which may come out as two files or none");
                }
                names.push((first, second));
            }
            _ => {}
        }
    }
    Ok(pending)
}

/// Every inode below a folder, and the folder's own, with one of its paths.
fn find(folder: &Path, places: &mut HashMap<u64, PathBuf>) -> Result<()> {
    let metadata = folder.symlink_metadata();
    let metadata = metadata.with_context(|| format!("look at {}", folder.display()))?;
    places.insert(metadata.ino(), folder.to_owned());
    if metadata.is_dir() {
        for entry in std::fs::read_dir(folder)? {
            find(&entry?.path(), places)?;
        }
    }
    Ok(())
}
