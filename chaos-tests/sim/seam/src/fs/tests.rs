//! What a power loss, a kill and a broken disk leave.

use super::*;
use crate::Chance;
use crate::disk::Loss;

fn host(name: &str, seed: u64) {
    disk::add(name, Chance::new(seed));
    disk::start(name);
}

fn again(name: &str, loss: Loss) {
    disk::stop(name, loss);
    disk::start(name);
}

#[test]
fn what_was_synced_with_its_folder_outlasts_a_power_loss_and_nothing_else() {
    host("a", 1);
    write("/a/unnamed", b"x").unwrap();
    File::open("/a/unnamed").unwrap().sync_all().unwrap();
    again("a", Loss::All);
    assert!(!exists("/a/unnamed").unwrap(), "its folder was not synced");
    write("/a/kept", b"first").unwrap();
    let file = File::open("/a/kept").unwrap();
    file.sync_all().unwrap();
    File::open("/a").unwrap().sync_all().unwrap();
    file.write_all_at(b"SECOND", 0).unwrap();
    rename("/a/kept", "/a/renamed").unwrap();
    assert!(!disk::is_synced(Path::new("/a")));
    again("a", Loss::All);
    assert_eq!(read("/a/kept").unwrap(), b"first");
    assert!(file.sync_all().is_err(), "a handle of the process before");
}

#[test]
fn a_killed_process_loses_nothing_that_it_wrote() {
    host("k", 1);
    write("/k/file", b"x").unwrap();
    again("k", Loss::Killed);
    assert_eq!(read("/k/file").unwrap(), b"x");
}

#[test]
fn a_part_of_a_write_may_be_there_by_sectors() {
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..40 {
        host("p", seed);
        write("/p/file", vec![0; 2048]).unwrap();
        let file = File::open("/p/file").unwrap();
        file.sync_all().unwrap();
        File::open("/p").unwrap().sync_all().unwrap();
        file.write_all_at(&[1; 2048], 0).unwrap();
        again("p", Loss::Part);
        let bytes = read("/p/file").unwrap();
        let sectors: Vec<u8> = bytes.chunks(512).map(|sector| sector[0]).collect();
        assert!(
            bytes
                .chunks(512)
                .all(|sector| sector.iter().all(|octet| *octet == sector[0]))
        );
        seen.insert(sectors);
    }
    assert!(seen.len() > 6, "{seen:?}");
}

#[test]
fn a_process_that_is_armed_ends_within_an_operation() {
    host("m", 1);
    disk::arm("m", 2, Loss::Killed);
    assert!(write("/m/file", b"xyz").is_ok() || disk::is_off("m"));
    assert!(write("/m/other", b"xyz").is_err());
    assert!(disk::is_off("m"));
}

#[test]
fn a_full_disk_a_short_write_and_a_sync_that_fails_are_met() {
    host("f", 1);
    let faults = disk::Faults {
        short_write: 900,
        ..disk::Faults::default()
    };
    disk::set_faults("f", faults);
    write("/f/file", [7; 100]).unwrap();
    assert_eq!(read("/f/file").unwrap(), [7; 100]);
    let full = disk::Faults {
        capacity: Some(150),
        sync_error: 1000,
        ..faults
    };
    disk::set_faults("f", full);
    assert!(write("/f/more", [7; 100]).is_err());
    assert!(File::open("/f/file").unwrap().sync_all().is_err());
    disk::set_faults("f", disk::Faults::default());
    File::open("/f/file").unwrap().sync_all().unwrap();
    File::open("/f").unwrap().sync_all().unwrap();
    again("f", Loss::All);
    assert_eq!(
        read("/f/file").unwrap(),
        b"",
        "a second sync does not bring it back"
    );
}

#[test]
fn a_lock_is_gone_with_its_handle_or_its_process() {
    host("l", 1);
    let lock = File::create("/l/lock").unwrap();
    lock.try_lock().unwrap();
    assert!(File::open("/l/lock").unwrap().try_lock().is_err());
    drop(lock);
    File::open("/l/lock").unwrap().try_lock().unwrap();
}
