//! What a power loss leaves, in small: a program writes, syncs and renames; what was synced is there, what was not may
//! be gone.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;
use pipes_chaos::cluster::binaries;
use pipes_chaos::command::{self, Finished, Input};
use pipes_chaos::power_loss::Recording;

/// Seeds enough that each form of a loss is among them.
const SEEDS: u64 = 40;

/// A node whose processes are shells.
struct Disk {
    home: tempfile::TempDir,
    recording: Recording,
}

impl Disk {
    fn new() -> Result<Disk> {
        let home = tempfile::tempdir()?;
        std::fs::create_dir_all(home.path().join("nodes/n1"))?;
        let (nodes, journals) = (home.path().join("nodes"), home.path().join("journals"));
        let recording = Recording::new(&binaries(), nodes, journals)?;
        Ok(Disk { home, recording })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.home.path().join("nodes/n1").join(name)
    }

    /// Runs a script in the node's folder.
    fn run(&self, script: &str) -> Result<Finished> {
        let mut command = Command::new("sh");
        command.args(["-c", script]).current_dir(self.file(""));
        command.envs(self.recording.environment(None));
        command::run(command, Input::None)
    }

    /// What a file holds, if it is there.
    fn content(&self, name: &str) -> Option<String> {
        std::fs::read_to_string(self.file(name)).ok()
    }
}

/// What is there after a script and a loss of power, with each seed: what `look` sees.
fn outcomes<T: Ord>(script: &str, look: impl Fn(&Disk) -> T) -> Result<BTreeSet<T>> {
    let mut seen = BTreeSet::new();
    for seed in 0..SEEDS {
        let disk = Disk::new()?;
        disk.run(script)?.success()?;
        disk.recording.power_loss("n1", seed)?;
        seen.insert(look(&disk));
    }
    Ok(seen)
}

fn texts(texts: &[Option<&str>]) -> BTreeSet<Option<String>> {
    texts.iter().map(|text| text.map(str::to_owned)).collect()
}

#[test]
fn what_was_synced_with_its_folder_is_there() -> Result<()> {
    let script = "printf one >f; sync f .; printf two >g; mkdir d; printf three >d/h; sync g . d d/h";
    let seen = outcomes(script, |disk| ["f", "g", "d/h"].map(|name| disk.content(name)))?;
    let all = ["one", "two", "three"].map(|text| Some(text.to_owned()));
    assert_eq!(seen, BTreeSet::from([all]));
    Ok(())
}

#[test]
fn what_was_written_after_the_last_sync_may_be_gone() -> Result<()> {
    let seen = outcomes("printf one >f; sync f .; printf two >>f", |disk| {
        disk.content("f")
    })?;
    assert!(
        seen.is_superset(&texts(&[Some("one"), Some("onetwo")])),
        "{seen:?}"
    );
    // The file may have grown before its content reached the disk.
    assert!(
        seen.is_subset(&texts(&[Some("one"), Some("onetwo"), Some("one\0\0\0")])),
        "{seen:?}"
    );
    Ok(())
}

#[test]
fn a_sync_covers_a_file_by_whatever_descriptor() -> Result<()> {
    let script = "exec 5>f; printf one >&5; exec 6>&5 5>&-; printf two >&6; sync f .";
    assert_eq!(
        outcomes(script, |disk| disk.content("f"))?,
        texts(&[Some("onetwo")])
    );
    Ok(())
}

#[test]
fn a_file_cut_to_nothing_has_its_content_again() -> Result<()> {
    let seen = outcomes("printf one >f; sync f .; : >f", |disk| disk.content("f"))?;
    assert_eq!(seen, texts(&[Some("one"), Some("")]));
    Ok(())
}

#[test]
fn a_name_without_its_folders_sync_may_be_gone() -> Result<()> {
    let seen = outcomes("printf one >f; sync f", |disk| disk.content("f"))?;
    assert_eq!(seen, texts(&[None, Some("one")]));
    Ok(())
}

#[test]
fn a_rename_happened_or_not() -> Result<()> {
    let script = "printf old >f; printf new >part; sync f part .; mv part f";
    let seen = outcomes(script, |disk| (disk.content("f"), disk.content("part")))?;
    let text = |text: &str| Some(text.to_owned());
    let expected = [(text("new"), None), (text("old"), text("new"))];
    assert_eq!(seen, BTreeSet::from(expected));
    Ok(())
}

#[test]
fn what_was_removed_may_be_back() -> Result<()> {
    let script = "mkdir d; printf one >d/f; sync d/f d .; rm d/f; rmdir d";
    let seen = outcomes(script, |disk| (disk.content("d/f"), disk.file("d").exists()))?;
    let text = Some("one".to_owned());
    let expected = [(text.clone(), true), (None, true), (None, false)];
    assert!(seen.is_subset(&BTreeSet::from(expected)), "{seen:?}");
    assert!(
        seen.contains(&(text, true)) && seen.contains(&(None, false)),
        "{seen:?}"
    );
    Ok(())
}

#[test]
fn a_large_write_is_torn() -> Result<()> {
    let script = "head -c 16384 /dev/zero >f; sync f .; yes | dd of=f bs=16384 count=1 iflag=fullblock conv=notrunc status=none";
    let torn = outcomes(script, |disk| {
        let content = disk.content("f").unwrap_or_default();
        let sectors: Vec<bool> = content
            .as_bytes()
            .chunks(512)
            .map(|sector| sector[0] == b'y')
            .collect();
        assert_eq!(sectors.len(), 32);
        sectors
    })?;
    assert!(torn.contains(&vec![true; 32]) && torn.contains(&vec![false; 32]));
    assert!(torn.len() > 5, "torn in {} ways only", torn.len());
    Ok(())
}

#[test]
fn after_a_loss_the_next_one_takes_what_came_since() -> Result<()> {
    let disk = Disk::new()?;
    for seed in 0..SEEDS {
        disk.run(&format!("printf {seed} >f; sync f .; printf x >>f; printf x >g"))?
            .success()?;
        disk.recording.power_loss("n1", seed)?;
        let content = disk.content("f").unwrap_or_default();
        assert_eq!(content.trim_end_matches(['x', '\0']), seed.to_string());
    }
    Ok(())
}

#[test]
fn disks_fail_where_they_are_told_to() -> Result<()> {
    let disk = Disk::new()?;
    disk.run("mkdir d; printf one >d/f; printf one >g")?.success()?;
    disk.recording
        .set_faults("n1", "read d EIO\nwrite d/f ENOSPC\nsync g EIO\n")?;
    for (script, error) in [
        ("cat d/f", "Input/output error"),
        ("dd if=g of=d/f status=none", "No space left on device"),
        ("sync g", "Input/output error"),
    ] {
        let done = disk.run(script)?;
        assert!(
            done.code() != 0 && done.errors().contains(error),
            "{script}: {}",
            done.errors()
        );
    }
    disk.run("cat g; sync d/f; printf two >g")?.success()?;
    disk.recording.set_faults("n1", "")?;
    disk.run("cat d/f; sync g")?.success()?;
    Ok(())
}
