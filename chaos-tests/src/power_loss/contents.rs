//! What a power loss leaves of a file's content.
//!
//! A file's changes since its last sync are numbered from 0; its *version* k has those before k. A disk writes pages in
//! any order and sectors one by one, so after a power loss each sector, and the file's size, has a version of its own. Where
//! a file ends is the size's alone: what a cut took is there again exactly where the cut is lost, and with it all later.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result};
use rand::Rng;
use rand::rngs::StdRng;

use super::record::Change;

/// What a disk writes at once.
const SECTOR: u64 = 512;
/// What a kernel writes at once.
const PAGE: u64 = 4096;

/// Which changes are lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// All.
    Lost,
    /// None.
    Kept,
    /// The latest.
    Prefix,
    /// The latest, and of one some sectors.
    Torn,
    /// Those of some pages.
    AnyOrder,
}

/// The versions of a file's sectors.
struct Versions {
    form: Form,
    /// So many changes there are.
    count: usize,
    whole: usize,
    pages: HashMap<u64, usize>,
}

/// Gives a file back what it had, as the random numbers choose.
pub(super) fn rewind(path: &Path, changes: &[Change], random: &mut StdRng) -> Result<Form> {
    let forms = [Form::Lost, Form::Kept, Form::Prefix, Form::Torn, Form::AnyOrder];
    let form = forms[random.random_range(0..forms.len())];
    let mut versions = Versions::new(form, changes.len(), random);
    let told = || format!("rewind {}", path.display());
    let mut bytes = std::fs::read(path).with_context(told)?;
    let size_version = versions.of_size(random);
    let size = changes
        .get(size_version)
        .map_or(bytes.len() as u64, |change| change.size);
    let first_lost_cut = (size_version..changes.len()).find(|number| changes[*number].is_cut);
    for (number, change) in changes.iter().enumerate().rev() {
        let end = change.offset + change.len;
        if bytes.len() < end as usize {
            bytes.resize(end as usize, 0);
        }
        let mut at = change.offset;
        while at < end {
            let next = ((at / SECTOR + 1) * SECTOR).min(end);
            let is_lost = match (first_lost_cut, change.is_cut) {
                (Some(cut), _) if number >= cut => true,
                (_, true) => false,
                _ => versions.of_sector(at, random) <= number,
            };
            if is_lost {
                for place in at..next {
                    let before = change.before.get((place - change.offset) as usize);
                    bytes[place as usize] = before.copied().unwrap_or(0);
                }
            }
            at = next;
        }
    }
    bytes.resize(size as usize, 0);
    overwrite(path, &bytes).with_context(told)?;
    Ok(form)
}

/// In place, whatever its permissions: the file may have other names.
fn overwrite(path: &Path, bytes: &[u8]) -> Result<()> {
    use std::io::Write;
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .truncate(true)
        .open(path)?;
    file.write_all(bytes)?;
    Ok(())
}

impl Versions {
    fn new(form: Form, count: usize, random: &mut StdRng) -> Versions {
        let whole = match form {
            Form::Lost => 0,
            Form::Kept => count,
            _ => random.random_range(0..count),
        };
        Versions {
            form,
            count,
            whole,
            pages: HashMap::new(),
        }
    }

    fn of_size(&mut self, random: &mut StdRng) -> usize {
        match self.form {
            Form::Torn => self.whole + random.random_range(0..=1),
            Form::AnyOrder => random.random_range(0..=self.count),
            _ => self.whole,
        }
    }

    fn of_sector(&mut self, at: u64, random: &mut StdRng) -> usize {
        match self.form {
            Form::AnyOrder => {
                let count = self.count;
                let page = self.pages.entry(at / PAGE);
                *page.or_insert_with(|| random.random_range(0..=count))
            }
            // Asked once for each of the torn change's sectors.
            Form::Torn => self.whole + random.random_range(0..=1),
            _ => self.whole,
        }
    }
}
