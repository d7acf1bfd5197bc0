//! The logs' promises.

use super::*;

fn logs() -> (tempfile::TempDir, Logs) {
    let folder = tempfile::tempdir().unwrap();
    let logs = Logs::open(folder.path().join("logs")).unwrap();
    (folder, logs)
}

fn shown(entries: &[Entry]) -> String {
    entries
        .iter()
        .map(|entry| {
            format!(
                "{}:{} ",
                entry.stage,
                String::from_utf8_lossy(&entry.bytes).escape_debug()
            )
        })
        .collect()
}

#[test]
fn what_a_run_said_is_read_back_and_nothing_else() {
    let (_folder, logs) = logs();
    logs.append("r1", 1, b"one\n");
    logs.append("r2", 1, b"other\n");
    logs.append("r1", 2, b"two\n");
    assert_eq!(shown(&logs.read("r1", &Filter::default())), "1:one\\n 2:two\\n ");
    let stage = Filter {
        stage: Some(2),
        ..Filter::default()
    };
    assert_eq!(shown(&logs.read("r1", &stage)), "2:two\\n ");
    assert!(logs.read("r", &Filter::default()).is_empty());
}

#[test]
fn since_leaves_out_what_is_older() {
    let (_folder, logs) = logs();
    let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
    logs.append_at(at(1), "r1", 1, b"a\n");
    logs.append_at(at(2), "r1", 1, b"b\n");
    let since = Filter {
        since: Some(at(2)),
        ..Filter::default()
    };
    assert_eq!(shown(&logs.read("r1", &since)), "1:b\\n ");
}

#[test]
fn tail_counts_lines_across_entries() {
    let (_folder, logs) = logs();
    for said in ["one\ntw", "o\nthree\n", "four"] {
        logs.append("r1", 1, said.as_bytes());
    }
    let tail = |lines| {
        shown(&logs.read(
            "r1",
            &Filter {
                tail: Some(lines),
                ..Filter::default()
            },
        ))
    };
    assert_eq!(tail(0), "");
    assert_eq!(tail(1), "1:four ");
    assert_eq!(tail(2), "1:three\\n 1:four ");
    assert_eq!(tail(3), "1:tw 1:o\\nthree\\n 1:four ");
    assert_eq!(tail(9), "1:one\\ntw 1:o\\nthree\\n 1:four ");
}

#[test]
fn a_tail_that_ends_in_a_newline_has_whole_lines() {
    let (_folder, logs) = logs();
    logs.append("r1", 1, b"one\ntwo\n");
    logs.append("r1", 1, b"three\n");
    let tail = |lines| {
        shown(&logs.read(
            "r1",
            &Filter {
                tail: Some(lines),
                ..Filter::default()
            },
        ))
    };
    assert_eq!(tail(1), "1:three\\n ");
    assert_eq!(tail(2), "1:two\\n 1:three\\n ");
}

#[test]
fn the_oldest_goes_when_there_is_no_room() {
    let (folder, logs) = logs();
    let line = vec![b'x'; 100_000];
    for _ in 0..150 {
        logs.append("r1", 1, &line);
    }
    let kept: u64 = fs::read_dir(folder.path().join("logs"))
        .unwrap()
        .map(|file| file.unwrap().metadata().unwrap().len())
        .sum();
    assert!(kept <= KEPT_MAX && kept > KEPT_MAX - 2 * FILE_MAX, "{kept}");
    assert!(logs.dropped() > 4_000_000);
    let read: usize = logs
        .read("r1", &Filter::default())
        .iter()
        .map(|entry| entry.bytes.len())
        .sum();
    assert!(read > 8_000_000, "{read}");
}

#[test]
fn a_later_life_reads_on_behind_a_record_that_was_cut_off() {
    let (folder, logs) = logs();
    logs.append("r1", 1, b"one\n");
    logs.append("r1", 1, b"two\n");
    drop(logs);
    let file = folder.path().join("logs/00000001.log");
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, &bytes[..bytes.len() - 2]).unwrap();
    let logs = Logs::open(folder.path().join("logs")).unwrap();
    logs.append("r1", 1, b"three\n");
    assert_eq!(
        shown(&logs.read("r1", &Filter::default())),
        "1:one\\n 1:three\\n "
    );
}

#[test]
fn garbage_in_a_file_is_no_entry() {
    let (folder, _logs) = logs();
    for garbage in [
        &[0u8; 40][..],
        &[0xff; 40],
        b"\x12\0\0\0",
        &[17, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 9, 9],
    ] {
        fs::write(folder.path().join("logs/00000001.log"), garbage).unwrap();
        assert!(
            Logs::open(folder.path().join("logs"))
                .unwrap()
                .read("r1", &Filter::default())
                .is_empty()
        );
    }
}

#[test]
fn whoever_follows_sees_what_was_and_what_comes_once() {
    let (_folder, logs) = logs();
    logs.append("r1", 1, b"one\ntwo\n");
    let tail = Filter {
        tail: Some(1),
        ..Filter::default()
    };
    assert_eq!(logs.read("r1", &tail)[0].bytes, b"two\n");
    let mut told = logs.read("r1", &Filter::default()).len();
    let next = |told: usize| {
        let further = Filter {
            skip: told,
            ..Filter::default()
        };
        logs.read("r1", &further)
    };
    assert_eq!(next(told), []);
    logs.append("r2", 1, b"other\n");
    logs.append("r1", 2, b"three\n");
    let further = next(told);
    told += further.len();
    assert_eq!(further.len(), 1);
    assert_eq!(
        (further[0].stage, further[0].bytes.as_slice()),
        (2, &b"three\n"[..])
    );
    // Across the end of a file.
    for _ in 0..30 {
        logs.append("r1", 1, &[b'x'; RECORD_MAX]);
    }
    logs.append("r1", 3, b"last");
    let further = next(told);
    assert_eq!((further.len(), further[30].stage), (31, 3));
}
