//! A power loss: what of the changes that nobody synced is on the disk afterwards.
//!
//! Anything may be: none of it, all, a beginning that ends within a write, or sectors here and there. Names of a
//! folder are lost from the end only. A map (sled) loses its newest batches, everything, or its soundness.

use std::collections::BTreeSet;

use crate::Chance;
use crate::inode::{self, Damage, FileNode, Folder, Ino, Inode, Inodes, MapNode, ROOT, Write};

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

/// How a host's process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loss {
    /// It is killed; the system, with all that was written, goes on.
    Killed,
    /// Power is lost, and all that was not synced with it.
    All,
    /// Power is lost; a part of what was not synced is there.
    Part,
}

/// What a power loss did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lost {
    /// Files that lost a write or a part of one.
    pub files: u64,
    /// Writes of which a part is there.
    pub torn: u64,
    /// Names that were made, renamed or removed, and are not any more.
    pub names: u64,
    /// Maps that lost batches or their soundness.
    pub maps: u64,
}

pub(crate) fn lose_power(inodes: &mut Inodes, loss: Loss, chance: &mut Chance) -> Lost {
    let mut lost = Lost::default();
    for inode in inodes.all.values_mut() {
        match inode {
            Inode::Folder(folder) => lose_names(folder, loss, chance, &mut lost),
            Inode::File(file) => lose_writes(file, loss, chance, &mut lost),
            Inode::Map(map) => lose_batches(map, chance, &mut lost),
        }
    }
    remove_unnamed(inodes);
    lost
}

fn lose_names(folder: &mut Folder, loss: Loss, chance: &mut Chance, lost: &mut Lost) {
    let pending = std::mem::take(&mut folder.pending);
    let kept = match loss {
        Loss::Killed => pending.len(),
        Loss::All => 0,
        Loss::Part => chance.below(pending.len() as u64 + 1) as usize,
    };
    lost.names += (pending.len() - kept) as u64;
    for change in &pending[..kept] {
        inode::apply_name(&mut folder.durable, change);
    }
    folder.entries = folder.durable.clone();
}

fn lose_writes(file: &mut FileNode, loss: Loss, chance: &mut Chance, lost: &mut Lost) {
    let pending = std::mem::take(&mut file.pending);
    file.locked_by = None;
    let torn = lost.torn;
    match loss {
        _ if pending.is_empty() => {}
        Loss::All => lost.files += 1,
        Loss::Killed => keep(file, &pending),
        Loss::Part => match chance.below(4) {
            0 => lost.files += 1,
            1 => keep(file, &pending),
            2 => {
                // A beginning, in the order they were written.
                let whole = chance.below(pending.len() as u64) as usize;
                keep(file, &pending[..whole]);
                tear(file, &pending[whole], chance, 0, lost);
            }
            _ => {
                // Sectors in any order, however they were written.
                for write in &pending {
                    tear(file, write, chance, 500, lost);
                }
            }
        },
    }
    lost.files += u64::from(lost.torn > torn);
    file.bytes = file.durable.clone();
}

fn keep(file: &mut FileNode, writes: &[Write]) {
    for write in writes {
        inode::apply_write(&mut file.durable, write);
    }
}

/// Keeps a part of a write: a beginning, or with `scattered` each sector so many times of a thousand.
fn tear(file: &mut FileNode, write: &Write, chance: &mut Chance, scattered: u64, lost: &mut Lost) {
    let Write::At(offset, data) = write else {
        if chance.is(500) {
            inode::apply_write(&mut file.durable, write);
        }
        return;
    };
    let end = offset + data.len();
    let mut at = *offset;
    let beginning = chance.below(data.len() as u64 / SECTOR as u64 + 2) as usize;
    let (mut sector, mut is_torn) = (0, false);
    while at < end {
        let next = ((at / SECTOR + 1) * SECTOR).min(end);
        let is_kept = if scattered > 0 {
            chance.is(scattered)
        } else {
            sector < beginning
        };
        if is_kept {
            let part = data[at - offset..next - offset].to_vec();
            inode::apply_write(&mut file.durable, &Write::At(at, part));
        }
        is_torn |= !is_kept;
        (at, sector) = (next, sector + 1);
    }
    lost.torn += u64::from(is_torn);
}

fn lose_batches(map: &mut MapNode, chance: &mut Chance, lost: &mut Lost) {
    let draw = chance.below(100);
    let reads = chance.below(map.map.len() as u64 + 1);
    lost.maps += u64::from(draw < 60);
    match draw {
        0..45 => map.cut(chance.below(map.batches.len() as u64 + 1) as usize),
        45..51 => *map = MapNode::default(),
        51..53 => map.damage = Damage::Opening,
        53..55 => map.damage = Damage::OpeningPanics,
        55..58 => map.damage = Damage::Reading(reads),
        58..60 => map.damage = Damage::ReadingPanics(reads),
        _ => {}
    }
}

/// Inodes that no folder names are gone.
fn remove_unnamed(inodes: &mut Inodes) {
    let mut named: BTreeSet<Ino> = BTreeSet::from([ROOT]);
    let mut found = vec![ROOT];
    while let Some(ino) = found.pop() {
        if let Some(Inode::Folder(folder)) = inodes.all.get(&ino) {
            found.extend(folder.entries.values());
            named.extend(folder.entries.values());
        }
    }
    inodes.all.retain(|ino, _| named.contains(ino));
}
