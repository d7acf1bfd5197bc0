//! What is committed stays: every host applies the same entries in the same order with the same answers, each that the
//! model gives; and clients are told what became of their writes.

use std::collections::BTreeMap;

use pipes_raft::sim::{Answered, Deed, Event, Place, Write};

use crate::history::{History, Outcome};
use crate::model;

/// An entry when it was first applied.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Where it lies.
    pub place: Place,
    /// What it asks for.
    pub write: Write,
    answer: Answered,
    revision: i64,
}

/// What was applied.
#[derive(Default)]
pub struct Applied {
    /// The entries by index.
    entries: BTreeMap<u64, Entry>,
    /// The last entry that each host applied.
    hosts: BTreeMap<String, u64>,
    /// Where each write with a serial was applied.
    serials: BTreeMap<u64, u64>,
    /// The voters from an index on.
    configs: BTreeMap<u64, Vec<Vec<u64>>>,
    /// Those that some leader put into its log, whatever became of them.
    proposed: BTreeMap<u64, Vec<Vec<Vec<u64>>>>,
    /// Whose store wrote under which node id.
    ids: BTreeMap<u64, String>,
}

impl Applied {
    /// Looks at an entry that was applied; gives it if nobody has applied it before.
    pub fn take(&mut self, event: &Event, history: &mut History) -> Option<Entry> {
        let host = &event.host;
        match &event.deed {
            Deed::StateSet {
                applied, revision, ..
            } => {
                let index = applied.map_or(0, |place| place.2);
                match applied {
                    Some(_) => self.hosts.insert(host.clone(), index),
                    None => self.hosts.remove(host),
                };
                let known = self
                    .entries
                    .get(&index)
                    .map(|entry| (Some(entry.place), entry.revision));
                if applied.is_some() && known.is_some_and(|known| known != (*applied, *revision)) {
                    let found = (applied, revision);
                    history.fail(format!(
                        "{host} has a state of {found:?}, and it should be {known:?}"
                    ));
                }
                None
            }
            Deed::MembersProposed { place, voters } => {
                self.proposed.entry(place.2).or_default().push(voters.clone());
                None
            }
            Deed::Identified { id } => {
                self.ids.insert(*id, host.clone());
                None
            }
            Deed::Applied {
                place,
                write,
                answer,
                revision,
                ..
            } => {
                let entry = Entry {
                    place: *place,
                    write: write.clone(),
                    answer: answer.clone(),
                    revision: *revision,
                };
                self.apply(host, entry, history)
            }
            _ => None,
        }
    }

    fn apply(&mut self, host: &str, entry: Entry, history: &mut History) -> Option<Entry> {
        let index = entry.place.2;
        let before = self.hosts.insert(host.to_owned(), index);
        if before.map_or(0, |before| before + 1) != index {
            history.fail(format!("{host} applies entry {index} after {before:?}"));
        }
        if let Some(known) = self.entries.get(&index) {
            let is_same = (known.place, &known.write, &known.answer, known.revision)
                == (entry.place, &entry.write, &entry.answer, entry.revision);
            if !is_same {
                history.fail(format!("{host} applies {entry:?}, and it was {known:?}"));
            }
            return None;
        }
        if self
            .entries
            .last_key_value()
            .is_some_and(|(last, _)| last + 1 != index)
        {
            history.fail(format!("entry {index} is applied before the one before it"));
            return None;
        }
        let expected = history.model.apply(index, &entry.write);
        if (&expected, history.model.revision) != (&entry.answer, entry.revision) {
            let revision = history.model.revision;
            history.fail(format!(
                "{host} applies {entry:?}, and it should be {expected:?} at {revision}"
            ));
        }
        match &entry.write {
            Write::Members(voters) => drop(self.configs.insert(index, voters.clone())),
            Write::Txn(txn) => {
                if let Some(serial) = model::serial(txn)
                    && let Some(before) = self.serials.insert(serial, index)
                {
                    history.fail(format!(
                        "write {serial} is applied twice: as entries {before} and {index}"
                    ));
                }
            }
            _ => {}
        }
        self.entries.insert(index, entry.clone());
        Some(entry)
    }

    /// Looks at a write that was acknowledged; gives where its entry lies.
    pub fn acknowledged(&self, serial: u64, history: &mut History) -> Option<Place> {
        let Some(entry) = self
            .serials
            .get(&serial)
            .and_then(|index| self.entries.get(index))
        else {
            history.fail(format!(
                "write {serial} was acknowledged, and nobody has applied it"
            ));
            return None;
        };
        let answer = history.writes.get(&serial).and_then(|op| op.answer.clone());
        if answer.is_some_and(|answer| Answered::Txn(answer) != entry.answer) {
            history.fail(format!(
                "write {serial} was answered with something else than {:?}",
                entry.answer
            ));
        }
        Some(entry.place)
    }

    /// The voters when an entry was applied, and those that some leader has named since: a leader goes by what is in
    /// its log.
    pub fn configs(&self, index: u64) -> Vec<&Vec<Vec<u64>>> {
        let then = self.configs.range(..=index).next_back();
        let from = then.map_or(0, |(index, _)| *index);
        let later = self.proposed.range(from..).flat_map(|(_, configs)| configs);
        then.map(|(_, config)| config).into_iter().chain(later).collect()
    }

    /// The host of a node id.
    pub fn host(&self, id: u64) -> Option<&str> {
        self.ids.get(&id).map(String::as_str)
    }

    /// The latest id of a host's node; 0 if it has none.
    pub fn id(&self, host: &str) -> u64 {
        let of_host = self.ids.iter().filter(|(_, known)| *known == host);
        of_host.map(|(id, _)| *id).max().unwrap_or(0)
    }

    /// Forgets what a host had applied.
    pub fn forget(&mut self, host: &str) {
        self.hosts.remove(host);
    }

    /// The index of the last entry that anybody has applied.
    pub fn last(&self) -> u64 {
        self.entries.last_key_value().map_or(0, |(index, _)| *index)
    }

    /// How many entries were applied.
    pub fn len(&self) -> u64 {
        self.entries.len() as u64
    }

    /// Looks at what became of all writes.
    pub fn at_end(&self, history: &mut History) {
        let mut wrong = Vec::new();
        for (serial, op) in &history.writes {
            let is_applied = self.serials.contains_key(serial);
            match op.outcome {
                Outcome::Done if !is_applied => {
                    wrong.push(format!("write {serial} was acknowledged and is lost"))
                }
                Outcome::Refused if is_applied => {
                    wrong.push(format!("write {serial} was refused and is done"))
                }
                _ => {}
            }
        }
        for why in wrong {
            history.fail(why);
        }
    }
}
