//! Services in a real store of one node.

use pipes_job::key;
use pipes_raft::Node;

use super::*;
use crate::alone;
use crate::service::Kind;

struct World {
    _folder: tempfile::TempDir,
    node: Node,
    store: Store,
}

async fn world() -> World {
    let folder = tempfile::tempdir().unwrap();
    let node = alone::node(folder.path()).await;
    let store = node.store();
    World {
        _folder: folder,
        node,
        store,
    }
}

impl World {
    async fn naming(&self, digest: Digest) -> Naming {
        Naming::begin(&self.store, &[digest.to_string()]).await.unwrap()
    }

    async fn build(&self, name: &str, bytes: &[u8]) -> Record {
        let digest = Digest::of(bytes);
        let naming = self.naming(digest).await;
        let record = Record::new(name, digest, bytes.len() as u64, Kind::Script);
        put(&self.store, &record, &naming).await.unwrap();
        record
    }

    async fn keys(&self, prefix: Vec<u8>) -> Vec<String> {
        let found = self.store.prefix(prefix).await.unwrap();
        found
            .iter()
            .map(|kv| String::from_utf8_lossy(&kv.key).into_owned())
            .collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_version_is_found_by_name_and_each_by_its_digest() {
    let world = world().await;
    let old = world.build("greet.py", b"#!/bin/sh\necho 1").await;
    let new = world.build("greet.py", b"#!/bin/sh\necho 2").await;
    let digits = |record: &Record| record.digest.hex();
    let references = [
        "greet.py".to_owned(),
        format!("greet.py@{}", &digits(&old)[..8]),
        format!("greet.py@sha256:{}", digits(&new)),
        "greet.py@00000000".to_owned(),
        "greet".to_owned(),
        "../greet.py".to_owned(),
        "greet.py".to_owned(),
    ];
    let references: Vec<&str> = references.iter().map(String::as_str).collect();
    let found = find_all(&world.store, &references).await.unwrap();
    assert_eq!(
        found,
        [
            Some(new.clone()),
            Some(old),
            Some(new.clone()),
            None,
            None,
            None,
            Some(new.clone())
        ]
    );
    assert_eq!(find_all(&world.store, &["./x"]).await.unwrap(), [None]);
    assert_eq!(list(&world.store).await.unwrap(), [new]);
    assert_eq!(versions(&world.store, "greet.py").await.unwrap().len(), 2);
    assert!(versions(&world.store, "../greet.py").await.unwrap().is_empty());
    world.node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_up_writes_nothing() {
    let world = world().await;
    world.build("cat", b"#!/bin/cat").await;
    let before = world.store.status().revision;
    let applied = world.store.status().applied;
    assert!(find(&world.store, "cat").await.unwrap().is_some());
    assert_eq!(
        (world.store.status().revision, world.store.status().applied),
        (before, applied)
    );
    world.node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_removed_leaves_no_key() {
    let world = world().await;
    for version in 0..20 {
        world
            .build("cat", format!("#!/bin/cat {version}").as_bytes())
            .await;
    }
    let kept = world.build("catalog", b"#!/bin/cat 19").await;
    assert_eq!(names(&world.store).await.unwrap(), ["cat", "catalog"]);
    assert_eq!(
        world.keys(key::blob_names(&kept.digest.to_string())).await.len(),
        2,
        "two name one blob"
    );
    remove(&world.store, "cat", Vec::new()).await.unwrap();
    assert_eq!(names(&world.store).await.unwrap(), ["catalog"]);
    assert!(world.keys(keys::versions("cat")).await.is_empty());
    let version = keys::version("catalog", &kept.digest.to_string());
    let by = String::from_utf8(keys::blob_named_by(&kept.digest.to_string(), &version)).unwrap();
    assert_eq!(world.keys(key::blobs("")).await, [by]);
    let error = remove(&world.store, "catalogue", Vec::new()).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "there is no service catalogue (did you mean catalog?)"
    );
    world.node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_versions_are_kept_beside_the_newest_and_the_others_names_go() {
    let world = world().await;
    let bytes = |version: usize| format!("#!/bin/cat {version}");
    for version in 0..12 {
        world.build("cat", bytes(version).as_bytes()).await;
    }
    // What is built again is the newest once more.
    world.build("cat", bytes(1).as_bytes()).await;
    world.build("cat", bytes(12).as_bytes()).await;
    let mut expected: Vec<String> = (3..=12)
        .chain([1])
        .map(|version| Digest::of(bytes(version).as_bytes()).to_string())
        .collect();
    expected.sort_unstable();
    let versions = world.keys(keys::versions("cat")).await;
    let digests = versions.iter().map(|key| key.rsplit('/').next().unwrap());
    assert_eq!(digests.collect::<Vec<_>>(), expected);
    let mut named = world.keys(key::blobs("")).await;
    named.retain(|key| !key.contains("generation"));
    let names = expected.iter().map(|digest| {
        let version = keys::version("cat", digest);
        String::from_utf8(keys::blob_named_by(digest, &version)).unwrap()
    });
    assert_eq!(named, names.collect::<Vec<_>>());
    world.node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_that_is_being_collected_is_not_named() {
    let world = world().await;
    let digest = Digest::of(b"#!/bin/cat");
    let record = Record::new("cat", digest, 10, Kind::Script);
    let gone = key::blob_gone(&digest.to_string());
    let naming = world.naming(digest).await;
    world.store.put(gone.clone(), "", None).await.unwrap();
    assert!(
        matches!(put(&world.store, &record, &naming).await, Err(Error::Moved(_))),
        "it is going"
    );
    world.store.delete(gone).await.unwrap();
    put(&world.store, &record, &naming).await.unwrap();
    world
        .store
        .put(key::blob_generation(&digest.to_string()), "1", None)
        .await
        .unwrap();
    assert!(
        matches!(put(&world.store, &record, &naming).await, Err(Error::Moved(_))),
        "it went and may be gone"
    );
    let again = world.naming(digest).await;
    put(&world.store, &record, &again).await.unwrap();
    world.node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_name_is_refused() {
    let world = world().await;
    let digest = Digest::of(b"x");
    let naming = world.naming(digest).await;
    let record = Record::new("../cat", digest, 1, Kind::Script);
    assert!(matches!(
        put(&world.store, &record, &naming).await,
        Err(Error::Name(_))
    ));
    world.node.shutdown().await;
}
