//! The logs' promises.

use std::fs;
use std::path::Path;
use std::time::{Instant, UNIX_EPOCH};

use super::files::FILE_MAX;
use super::record::Entry;
use super::*;

fn logs() -> (tempfile::TempDir, Logs) {
    let folder = tempfile::tempdir().unwrap();
    let logs = Logs::open(folder.path().join("logs")).unwrap();
    (folder, logs)
}

fn of(run: &str) -> Question {
    Question {
        run: run.into(),
        ..Question::default()
    }
}

async fn entries(logs: &Logs, question: Question) -> Vec<Entry> {
    record::entries(&logs.read(question).await.records).collect()
}

async fn shown(logs: &Logs, question: Question) -> String {
    let shown = |entry: Entry| {
        format!(
            "{}:{} ",
            entry.stage,
            String::from_utf8_lossy(&entry.bytes).escape_debug()
        )
    };
    entries(logs, question).await.into_iter().map(shown).collect()
}

fn files(folder: &Path) -> Vec<(String, u64)> {
    let files = fs::read_dir(folder.join("logs"))
        .unwrap()
        .map(|file| file.unwrap());
    let mut files: Vec<_> = files
        .map(|file| {
            (
                file.file_name().into_string().unwrap(),
                file.metadata().unwrap().len(),
            )
        })
        .collect();
    files.sort();
    files
}

#[tokio::test]
async fn what_a_run_said_is_read_back_and_nothing_else() {
    let (_folder, logs) = logs();
    let (one, two) = (logs.begin("r1"), logs.begin("r2"));
    one.append(1, b"one\n");
    two.append(1, b"other\n");
    one.append(2, b"two\n");
    assert_eq!(shown(&logs, of("r1")).await, "1:one\\n 2:two\\n ");
    let stage = Question {
        stage: Some(2),
        ..of("r1")
    };
    assert_eq!(shown(&logs, stage).await, "2:two\\n ");
    assert_eq!(shown(&logs, of("r")).await, "");
}

#[tokio::test]
async fn since_leaves_out_what_is_older() {
    let (_folder, logs) = logs();
    let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
    let run = logs.begin("r1");
    run.append_at(at(1), 1, b"a\n");
    run.append_at(at(2), 1, b"b\n");
    let since = Question {
        since: Some(at(2)),
        ..of("r1")
    };
    assert_eq!(shown(&logs, since).await, "1:b\\n ");
}

async fn tail(said: &[&str], lines: usize) -> String {
    let (_folder, logs) = logs();
    let run = logs.begin("r1");
    for said in said {
        run.append(1, said.as_bytes());
    }
    let tail = Question {
        tail: Some(lines),
        ..of("r1")
    };
    shown(&logs, tail).await
}

#[tokio::test]
async fn tail_counts_lines_across_entries() {
    let said = ["one\ntw", "o\nthree\n", "four"];
    assert_eq!(tail(&said, 0).await, "");
    assert_eq!(tail(&said, 1).await, "1:four ");
    assert_eq!(tail(&said, 2).await, "1:three\\n 1:four ");
    assert_eq!(tail(&said, 3).await, "1:tw 1:o\\nthree\\n 1:four ");
    assert_eq!(tail(&said, 9).await, "1:one\\ntw 1:o\\nthree\\n 1:four ");
}

#[tokio::test]
async fn a_tail_that_ends_in_a_newline_has_whole_lines() {
    let said = ["one\ntwo\n", "three\n"];
    assert_eq!(tail(&said, 1).await, "1:three\\n ");
    assert_eq!(tail(&said, 2).await, "1:two\\n 1:three\\n ");
}

#[tokio::test]
async fn the_oldest_goes_when_there_is_no_room_and_whoever_reads_knows_how_much() {
    let (folder, logs) = logs();
    let run = logs.begin("r1");
    for _ in 0..150 {
        run.append(1, &[b'x'; 100_000]);
        // What waits for the writer is dropped beyond some megabytes.
        logs.read(of("another")).await;
    }
    let kept: u64 = files(folder.path()).iter().map(|(_, length)| length).sum();
    assert!(kept <= KEPT_MAX && kept > KEPT_MAX - 2 * FILE_MAX, "{kept}");
    assert!(logs.dropped() > 4_000_000);
    let (mut question, mut seen) = (of("r1"), 0);
    loop {
        let answer = logs.read(question.clone()).await;
        for entry in record::entries(&answer.records) {
            assert!(
                seen == 0 || entry.before.bytes == seen,
                "{} after {seen}",
                entry.before.bytes
            );
            seen = entry.before.bytes + entry.bytes.len() as u64;
        }
        question.from = answer.next;
        if answer.is_all {
            break;
        }
    }
    assert_eq!(seen, 15_000_000);
}

#[tokio::test]
async fn a_later_life_reads_on_behind_a_record_that_was_cut_off() {
    let (folder, logs) = logs();
    let run = logs.begin("r1");
    run.append(1, b"one\n");
    run.append(1, b"two\n");
    drop(run);
    drop(logs);
    let file = folder.path().join("logs").join(&files(folder.path())[0].0);
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, &bytes[..bytes.len() - 2]).unwrap();
    let logs = Logs::open(folder.path().join("logs")).unwrap();
    let run = logs.begin("r1");
    run.append(1, b"three\n");
    assert_eq!(shown(&logs, of("r1")).await, "1:one\\n 1:three\\n ");
}

#[tokio::test]
async fn garbage_in_a_file_is_no_entry_and_files_of_another_layout_go() {
    let folder = tempfile::tempdir().unwrap();
    let logs = folder.path().join("logs");
    fs::create_dir(&logs).unwrap();
    for garbage in [
        &[0u8; 40][..],
        &[0xff; 40],
        b"\x12\0\0\0",
        &[33, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 9, 9],
    ] {
        fs::write(logs.join("00000001.log"), garbage).unwrap();
        fs::write(logs.join("00000000000000000007.log"), garbage).unwrap();
        let opened = Logs::open(logs.clone()).unwrap();
        assert_eq!(shown(&opened, of("r1")).await, "");
        assert_eq!(files(folder.path()).len(), 1);
    }
}

#[tokio::test]
async fn whoever_follows_sees_what_was_and_what_comes_once() {
    let (folder, logs) = logs();
    let (run, other) = (logs.begin("r1"), logs.begin("r2"));
    run.append(1, b"one\ntwo\n");
    let answer = logs
        .read(Question {
            tail: Some(1),
            ..of("r1")
        })
        .await;
    let told: Vec<Entry> = record::entries(&answer.records).collect();
    assert_eq!(told[0].bytes, b"two\n");
    assert_eq!(
        (told[0].before, answer.is_over),
        (Said { bytes: 4, lines: 1 }, false)
    );
    other.append(1, b"other\n");
    // Across the ends of files.
    for _ in 0..30 {
        run.append(1, &[b'x'; BYTES_MAX]);
    }
    run.append(3, b"last");
    drop(run);
    assert!(files(folder.path()).len() <= 3);
    let (mut next, mut further) = (answer.next, Vec::new());
    loop {
        let answer = logs
            .read(Question {
                from: next,
                ..of("r1")
            })
            .await;
        further.extend(record::entries(&answer.records));
        next = answer.next;
        if answer.is_over {
            break;
        }
    }
    assert_eq!((further.len(), further[30].stage), (31, 3));
}

#[tokio::test]
async fn a_question_waits_for_its_own_run_alone() {
    let (_folder, logs) = logs();
    let (run, other) = (logs.begin("r1"), logs.begin("r2"));
    run.append(1, b"one\n");
    let first = logs.read(of("r1")).await;
    other.append(1, b"other\n");
    let ask = |from, wait| {
        let question = Question {
            from,
            wait,
            ..of("r1")
        };
        logs.read(question)
    };
    let (begun, short, long) = (
        Instant::now(),
        Duration::from_millis(50),
        Duration::from_secs(600),
    );
    let quiet = ask(first.next, short).await;
    assert!(quiet.records.is_empty() && !quiet.is_over && begun.elapsed() >= short);
    let said = async {
        tokio::task::yield_now().await;
        run.append(1, b"two\n");
    };
    let (answer, ()) = tokio::join!(ask(quiet.next, long), said);
    assert_eq!(record::entries(&answer.records).count(), 1);
    drop(run);
    let over = ask(answer.next, long).await;
    assert!(over.is_over && over.records.is_empty());
    assert!(
        begun.elapsed() < long,
        "nobody waits for a run that has said more, or is over"
    );
}

#[tokio::test]
async fn what_a_disk_does_not_take_in_time_is_missed_and_held_up_by_nobody() {
    let (folder, logs) = logs();
    let run = logs.begin("r1");
    let lock = logs.0.shared.files.stand_still();
    for _ in 0..200 {
        run.append(1, &[b'\n'; BYTES_MAX]);
    }
    drop(run);
    drop(lock);
    let (mut question, mut seen, mut missed) = (of("r1"), Said::default(), 0);
    loop {
        let answer = logs.read(question.clone()).await;
        for entry in record::entries(&answer.records) {
            missed += entry.before.beyond(seen).map_or(0, |missed| missed.lines);
            seen = entry.before.and(Said::of(&entry.bytes));
        }
        question.from = answer.next;
        if answer.is_over {
            break;
        }
    }
    let all = 200 * BYTES_MAX as u64;
    assert_eq!(
        seen,
        Said {
            bytes: all,
            lines: all
        },
        "the last of it shows in an empty record"
    );
    let written: u64 = files(folder.path()).iter().map(|(_, length)| length).sum();
    assert!(
        missed > 0 && missed + written >= all,
        "{missed} of {all}, {written} octets"
    );
}
