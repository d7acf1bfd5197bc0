//! Many calls that begin, stream, are given up and left at random, here and across: whatever happens, nothing is held at
//! the end.
//!
//! The seed is printed; `PIPES_SEED=N` runs it again.

use std::time::Duration;

use pipes_router::Counts;
use pipes_wamp::client::{CallOptions, Chunk, Session};
use pipes_wamp::message::CancelMode;
use pipes_wamp::payload::PayloadBuf;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::nodes::{LIMIT, RouterNode, link};

/// Calls of each caller.
const CALLS: usize = 60;

/// Answers as the first chunk's number says, or goes away in the middle.
async fn serve(callee: Session, uri: String, mut random: StdRng) {
    let Ok(mut registration) = callee.register(&uri).await else {
        return;
    };
    let mut tasks = tokio::task::JoinSet::new();
    while let Some(mut invocation) = registration.next().await {
        let (choice, size) = (random.random_range(0..10), random.random_range(0..300_000));
        tasks.spawn(async move {
            let part = PayloadBuf::of_bytes(&vec![1; size]);
            // The caller may have left at any of these.
            let _ = invocation.answer_part(part.clone()).await;
            let mut more = invocation.progress;
            while more && choice > 1 {
                match invocation.chunk().await {
                    Some(Chunk::More { progress, .. }) => more = progress,
                    _ => return,
                }
                let _ = invocation.answer_part(part.clone()).await;
            }
            let _ = match choice {
                2 => invocation.fail("com.error.no", part).await,
                // Goes away without an answer.
                3 => return,
                _ => invocation.answer(part).await,
            };
        });
    }
}

/// Makes its calls; gives its session back, if it has not left.
async fn call(caller: Session, uris: Vec<String>, mut random: StdRng) -> Option<Session> {
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..CALLS {
        let uri = &uris[random.random_range(0..uris.len())];
        let (choice, size) = (random.random_range(0..8), random.random_range(0..300_000));
        let progress = random.random_bool(0.5);
        let receive_progress = random.random_bool(0.7);
        let timeout_ms = if choice == 0 { 20 } else { 0 };
        let options = CallOptions {
            progress,
            receive_progress,
            timeout_ms,
            grant: None,
        };
        let payload = PayloadBuf::of_bytes(&vec![2; size]);
        let Ok(mut call) = caller.call(uri, payload.clone(), options).await else {
            return None;
        };
        tasks.spawn(async move {
            for n in 0..if progress { 10 } else { 0 } {
                if call.send(payload.clone(), n < 9).await.is_err() {
                    return;
                }
            }
            let mode = [CancelMode::Skip, CancelMode::Kill, CancelMode::KillNoWait][choice % 3];
            match choice {
                1..=3 => drop(call.cancel(mode).await),
                4 => return,
                _ => {}
            }
            // Its end is whatever it is; that it ends is what matters.
            let _ = call.result().await;
        });
        if random.random_range(0..4 * CALLS) == 0 {
            // It leaves in the middle of all.
            return None;
        }
    }
    // Each ends by itself; a storm that stays is told by the test.
    tasks.join_all().await;
    Some(caller)
}

pub async fn until_empty(node: &RouterNode) {
    let nothing = |met| Counts {
        met,
        ..Counts::default()
    };
    until(node, |counts| counts == nothing(counts.met)).await;
}

/// Waits until nothing is under way: windows and accounts of the sessions that stay are as they were at their begin.
pub async fn until_quiet(node: &RouterNode) {
    let quiet = |counts: Counts| Counts {
        connections: counts.connections,
        sessions: counts.sessions,
        registrations: counts.registrations,
        met: counts.met,
        ..Counts::default()
    };
    until(node, |counts| counts == quiet(counts)).await;
}

pub async fn until(node: &RouterNode, is_so: impl Fn(Counts) -> bool) {
    let empty = async {
        loop {
            let counts = node.router.counts().await.unwrap();
            if is_so(counts) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    if tokio::time::timeout(LIMIT, empty).await.is_err() {
        panic!("left behind: {:?}", node.router.counts().await.unwrap());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_held_after_a_storm() {
    let seed = std::env::var("PIPES_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(rand::random);
    println!("PIPES_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let (one, two) = (RouterNode::start(1), RouterNode::start(2));
    let (cut, _) = link(&one, 1, &two, 2);
    one.linked(2, true).await;
    two.linked(1, true).await;
    let mut next = || StdRng::seed_from_u64(random.random());
    let uris: Vec<_> = (0..4).map(|n| format!("com.storm.{n}")).collect();
    let mut serving = tokio::task::JoinSet::new();
    for (n, uri) in uris.iter().enumerate() {
        let node = if n % 2 == 0 { &one } else { &two };
        serving.spawn(serve(node.anybody().await, uri.clone(), next()));
    }
    let mut calling = tokio::task::JoinSet::new();
    for n in 0..8 {
        let node = if n % 2 == 0 { &one } else { &two };
        calling.spawn(call(node.anybody().await, uris.clone(), next()));
    }
    let Ok(staying) = tokio::time::timeout(LIMIT, calling.join_all()).await else {
        let (one, two) = (one.router.counts().await, two.router.counts().await);
        panic!("calls do not end: {one:?} {two:?}");
    };
    until_quiet(&one).await;
    until_quiet(&two).await;
    drop(staying);
    // A second storm, in the middle of which the link breaks.
    let mut calling = tokio::task::JoinSet::new();
    for n in 0..4 {
        let node = if n % 2 == 0 { &one } else { &two };
        calling.spawn(call(node.anybody().await, uris.clone(), next()));
    }
    while one.router.counts().await.unwrap().calls < 20 && !calling.is_empty() {
        // The set counts those that have ended until they are taken out.
        while calling.try_join_next().is_some() {}
        tokio::task::yield_now().await;
    }
    cut.shutdown(std::net::Shutdown::Both).unwrap();
    tokio::time::timeout(3 * LIMIT, calling.join_all())
        .await
        .expect("calls do not end after the link");
    serving.shutdown().await;
    until_empty(&one).await;
    until_empty(&two).await;
}
