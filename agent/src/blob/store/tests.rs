//! The folder of the blobs: what it keeps, what it refuses, and what it finds to be damaged.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;

use futures::FutureExt as _;

use super::*;

fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path().join("blobs")).unwrap();
    (folder, store)
}

async fn put(store: &Store, bytes: &[u8]) -> Digest {
    let mut writer = store.begin(bytes.len() as u64).unwrap();
    for chunk in bytes.chunks(100_000) {
        writer.write(chunk).await.unwrap();
    }
    writer.seal(None).await.unwrap().place().await.unwrap()
}

#[tokio::test]
async fn a_blob_lies_whole_and_executable_under_its_digest() {
    let (_folder, store) = store();
    let bytes = vec![7; 700_001];
    let digest = put(&store, &bytes).await;
    assert_eq!(digest, Digest::of(&bytes));
    let path = store.find(&digest).unwrap();
    assert_eq!(fs::read(&path).unwrap(), bytes);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o555);
    assert_eq!(store.digests().unwrap(), [digest]);
    assert_eq!(put(&store, &bytes).await, digest);
}

#[tokio::test]
async fn what_is_not_its_digest_is_not_kept_and_leaves_nothing() {
    let (_folder, store) = store();
    let mut writer = store.begin(0).unwrap();
    writer.write(b"one").await.unwrap();
    let refused = writer.seal(Some(Digest::of(b"two"))).await.err().unwrap();
    assert!(matches!(refused, Error::Mismatch { .. }));
    drop(store.begin(0).unwrap());
    // Beside whoever let go of it, and soon.
    while fs::read_dir(&store.folder).unwrap().count() > 0 {
        tokio::task::yield_now().await;
    }
}

#[test]
fn what_was_not_finished_is_gone_after_a_restart() {
    let (_folder, store) = store();
    std::mem::forget(store.begin(0).unwrap());
    assert_eq!(fs::read_dir(&store.folder).unwrap().count(), 1);
    let reopened = Store::open(store.folder.clone()).unwrap();
    assert_eq!(fs::read_dir(&reopened.folder).unwrap().count(), 0);
}

#[test]
fn a_blob_that_rotted_is_removed_by_the_check() {
    let (_folder, store) = store();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let digest = runtime.block_on(put(&store, b"good"));
    assert!(store.check(&digest).unwrap());
    let path = store.find(&digest).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&path, b"bad").unwrap();
    assert!(!store.check(&digest).unwrap());
    assert_eq!(store.find(&digest), None);
}

#[tokio::test]
async fn a_blob_is_read_against_its_digest_once_and_again_when_it_was_written() {
    let (_folder, store) = store();
    let digest = put(&store, b"good").await;
    let path = store.find(&digest).unwrap();
    let stamp = || Stamp::of(&fs::metadata(&path).unwrap());
    while !stamp().is_settled() {
        tokio::task::yield_now().await;
    }
    assert_eq!(store.sound(&digest).await.unwrap(), Some(path.clone()));
    assert_eq!(store.checked().get(&digest), Some(&stamp()));

    // The same size, and its times put back: the change of the file itself is told nevertheless.
    let modified = fs::metadata(&path).unwrap().modified().unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o700)).unwrap();
    let mut file = File::options().write(true).open(&path).unwrap();
    file.write_all(b"evil").unwrap();
    file.set_modified(modified).unwrap();
    assert_eq!(store.sound(&digest).await.unwrap(), None);
    assert!(!store.confirm(&digest).await.unwrap());
    assert_eq!(store.checked().get(&digest), None);

    let digest = put(&store, b"whole").await;
    let short = store.find(&digest).unwrap();
    fs::set_permissions(&short, fs::Permissions::from_mode(0o700)).unwrap();
    let file = File::options().write(true).open(&short).unwrap();
    file.set_len(2).unwrap();
    assert_eq!(store.sound(&digest).await.unwrap(), None);
    assert!(!short.exists());
}

#[tokio::test]
async fn what_is_removed_is_gone_at_once_and_may_come_again() {
    let (_folder, store) = store();
    let digest = put(&store, b"bytes").await;
    store.remove(&digest).unwrap();
    assert_eq!(store.find(&digest), None);
    assert_eq!(store.digests().unwrap(), []);
    store.remove(&digest).unwrap();
    assert_eq!(put(&store, b"bytes").await, digest);
    assert!(store.confirm(&digest).await.unwrap());
}

#[test]
fn a_disk_without_room_refuses() {
    let (_folder, store) = store();
    assert!(matches!(store.begin(u64::MAX), Err(Error::NoRoom { .. })));
}

#[test]
fn who_waits_until_a_blob_is_read_takes_no_thread_from_others() {
    let (_folder, store) = store();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .max_blocking_threads(1)
        .build()
        .unwrap();
    runtime.block_on(async {
        let digest = put(&store, b"large").await;
        let reading = store.reading(&digest).clone().lock_owned().await;
        let mut waiting = std::pin::pin!(store.sound(&digest));
        assert!((&mut waiting).now_or_never().is_none(), "it is being read");
        tokio::task::spawn_blocking(|| ()).await.unwrap();
        drop(reading);
        assert!(waiting.await.unwrap().is_some());
    });
}
