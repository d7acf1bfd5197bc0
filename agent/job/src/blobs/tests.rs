//! Blobs of three agents that are built, used, named and removed at once, while agents die.

mod world;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pipes_raft::{Op, Txn};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::task::JoinSet;

use crate::blobs::Naming;
use crate::blobs::tests::world::{AGENTS, Up, World, remove_all, remove_named, write_named};
use crate::error::Error;
use crate::key;
use crate::seams::Holders;

/// Rounds of a test run; `PIPES_ROUNDS` says otherwise.
const ROUNDS: u64 = 50;
/// Blobs that all are after: few, so that each is named and removed at once.
const DIGESTS: usize = 4;
/// Clients of a round, and what each does.
const CLIENTS: usize = 6;
const DOES: usize = 5;
/// What a round may take until all is as its names say.
const SETTLED_WITHIN: Duration = Duration::from_secs(20);

fn digest(number: usize) -> String {
    format!("sha256:{}", key::sha256(number.to_string().as_bytes()))
}

/// What is named at two moments was named in between: then a majority had it.
async fn nothing_named_is_missing(world: &World) {
    let (before, _) = world.known().await;
    let copies: Vec<usize> = (0..DIGESTS).map(|number| world.copies(&digest(number))).collect();
    let (after, _) = world.known().await;
    for (named, by, _) in before.intersection(&after) {
        let number = (0..DIGESTS).find(|number| digest(*number) == *named).unwrap();
        let by = String::from_utf8_lossy(by);
        assert!(
            copies[number] > AGENTS / 2,
            "{by}: it lies on {} disks",
            copies[number]
        );
    }
}

async fn settled(world: &World) {
    let begun = Instant::now();
    loop {
        let (names, gone) = world.known().await;
        let named: BTreeSet<&String> = names.iter().map(|(digest, _, _)| digest).collect();
        let wrong = (0..DIGESTS).map(digest).find_map(|digest| {
            let expected = if named.contains(&digest) {
                world.count_up()
            } else {
                0
            };
            let copies = world.copies(&digest);
            (copies != expected).then(|| format!("{digest} lies on {copies} disks, not {expected}"))
        });
        match wrong {
            None if gone.is_empty() => return,
            wrong => assert!(
                begun.elapsed() < SETTLED_WITHIN,
                "{wrong:?}; being collected: {gone:?}"
            ),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// One of those who build, run, submit and remove.
async fn client(world: Arc<World>, up: Arc<Up>, at: usize, seed: u64) {
    let mut chance = StdRng::seed_from_u64(seed);
    for _ in 0..DOES {
        let digest = digest(chance.random_range(0..DIGESTS));
        let by = format!("/pipes/things/{}", chance.random_range(0..4));
        match chance.random_range(0..5) {
            // What is put and never named: a client that went, a build that was refused.
            0 => {
                up.net.put(at, &digest).await;
            }
            // What is in use is there, as long as the life lasts under whose lease it is named.
            1 => {
                if let Ok(used) = up.uses.uses(&digest).await {
                    up.net.pause().await;
                    drop(used);
                }
            }
            2 => remove_named(&world.store, &by).await,
            _ => {
                up.net.put(at, &digest).await;
                match write_named(&world.store, &up.net, &by, &digest).await {
                    Ok(_) | Err(Error::BlobMissing(_)) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        }
        nothing_named_is_missing(&world).await;
    }
}

async fn round(world: &Arc<World>, ups: &mut [Option<Arc<Up>>], seed: u64) {
    let mut chance = StdRng::seed_from_u64(seed);
    let mut clients: Vec<JoinSet<()>> = (0..AGENTS).map(|_| JoinSet::new()).collect();
    for number in 0..CLIENTS {
        let at = number % AGENTS;
        let up = ups[at].clone().unwrap();
        clients[at].spawn(client(world.clone(), up, at, chance.random()));
    }
    // One of them is killed with all that was going on at it, and back.
    let victim = chance.random_range(0..AGENTS);
    tokio::time::sleep(Duration::from_millis(chance.random_range(0..30))).await;
    clients[victim].abort_all();
    while let Some(ended) = clients[victim].join_next().await {
        assert!(!ended.is_err_and(|error| error.is_panic()), "a client failed");
    }
    let up = ups[victim].take().unwrap();
    let up = Arc::into_inner(up).expect("nobody else has it");
    world.kill(up).await;
    nothing_named_is_missing(world).await;
    tokio::time::sleep(Duration::from_millis(chance.random_range(0..20))).await;
    ups[victim] = Some(Arc::new(world.start(victim).await));
    for mut clients in clients {
        while let Some(ended) = clients.join_next().await {
            ended.unwrap();
        }
    }
    settled(world).await;
    nothing_named_is_missing(world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_named_is_ever_missing_and_nothing_unnamed_stays() {
    let number = |name| {
        std::env::var(name)
            .ok()
            .and_then(|text: String| text.parse().ok())
    };
    let seed: u64 = number("PIPES_SEED").unwrap_or_else(rand::random);
    let rounds: u64 = number("PIPES_ROUNDS").unwrap_or(ROUNDS);
    println!("PIPES_SEED={seed}");
    let world = Arc::new(World::new(seed).await);
    let mut ups = Vec::new();
    for at in 0..AGENTS {
        ups.push(Some(Arc::new(world.start(at).await)));
    }
    for number in 0..rounds {
        round(&world, &mut ups, seed.wrapping_add(number)).await;
    }
    remove_all(&world.store).await;
    settled(&world).await;
    assert_eq!(
        (0..DIGESTS)
            .map(|number| world.copies(&digest(number)))
            .sum::<usize>(),
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_whose_agent_died_is_gone_on_with_by_others() {
    let world = World::new(1).await;
    let net = world.net(0);
    let blob = digest(0);
    // As an agent leaves it that is killed after it has written this.
    let txn = Txn {
        success: vec![
            Op::put(key::blob_gone(&blob), ""),
            Op::put(key::blob_generation(&blob), ""),
        ],
        ..Txn::default()
    };
    world.store.txn(txn).await.unwrap();
    let naming = Naming::begin(&world.store, std::slice::from_ref(&blob))
        .await
        .unwrap();
    let _up = world.start(0).await;
    let _other = world.start(1).await;
    assert!(net.put(0, &blob).await && net.put(1, &blob).await);
    settled(&world).await;
    let txn = Txn {
        compares: naming.compares(),
        ..Txn::default()
    };
    let named = world.store.txn(txn).await.unwrap();
    assert!(
        !named.succeeded,
        "who asked before it was collected may not name it"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_order_to_delete_does_nothing() {
    let world = World::new(2).await;
    let _ups = [world.start(0).await, world.start(1).await];
    let (net, blob) = (world.net(0), digest(0));
    assert!(net.put(0, &blob).await && net.put(1, &blob).await);
    assert!(
        write_named(&world.store, &net, "/pipes/things/0", &blob)
            .await
            .unwrap()
    );
    net.delete(&blob).await;
    assert_eq!(world.copies(&blob), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_used_is_named_as_long_as_it_is_in_whatever_life_of_its_node() {
    let world = World::new(3).await;
    let (up, _other) = (world.start(0).await, world.start(1).await);
    let (net, blob) = (world.net(0), digest(0));
    assert!(net.put(0, &blob).await && net.put(1, &blob).await);
    let by = "/pipes/things/0";
    assert!(write_named(&world.store, &net, by, &blob).await.unwrap());
    let is_named = async || {
        let name = key::blob_named_by(&blob, &key::presence(1));
        world.store.get(name).await.unwrap().is_some()
    };
    let until = async |expected: bool| {
        let begun = Instant::now();
        while is_named().await != expected {
            assert!(begun.elapsed() < SETTLED_WITHIN, "named: {}", !expected);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let (used, again) = (
        up.uses.uses(&blob).await.unwrap(),
        up.uses.uses(&blob).await.unwrap(),
    );
    assert!(is_named().await);
    world.lose_lease(&up).await;
    until(true).await;
    drop(used);
    remove_named(&world.store, by).await;
    settled(&world).await;
    assert_eq!(world.copies(&blob), 2, "it is used still");
    drop(again);
    until(false).await;
    settled(&world).await;
    assert_eq!(world.copies(&blob), 0);
}
