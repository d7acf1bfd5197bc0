//! Blobs between agents: on a majority, fetched where they are missing, deleted where they are collected.

use std::sync::atomic::Ordering;

use pipes_agent::blob::{self, Digest, Members};
use pipes_job::seams::Holders;

use super::Agent;
use crate::certificates::Authority;

/// Three agents whose voters are all of them.
fn three() -> [Agent; 3] {
    let authority = Authority::new();
    let agents = [1, 2, 3].map(|id| Agent::start(&authority, "c", id));
    let voters: Vec<_> = (1..)
        .zip(agents.iter().map(|agent| Some(agent.address)))
        .collect();
    for (me, agent) in (1..).zip(&agents) {
        *agent.voters.0.lock().unwrap() = Members {
            me,
            voters: voters.clone(),
            others: Vec::new(),
        };
    }
    agents
}

async fn put(agent: &Agent, bytes: &[u8]) -> Result<Digest, blob::Error> {
    let mut upload = agent.blobs.begin(bytes.len() as u64)?;
    for chunk in bytes.chunks(50_000) {
        upload.write(chunk).await?;
    }
    upload.finish(Some(Digest::of(bytes))).await
}

#[tokio::test]
async fn a_blob_is_on_a_majority_when_its_put_is_answered_and_comes_to_whoever_wants_it() {
    let agents = three();
    let bytes: Vec<u8> = (0..3_000_000u32)
        .map(|index| (index.wrapping_mul(index) >> 7) as u8)
        .collect();
    let digest = put(&agents[0], &bytes).await.unwrap();
    assert!(agents.iter().filter(|agent| agent.blobs.has(&digest)).count() >= 2);
    for agent in &agents {
        let (one, other) = tokio::join!(agent.blobs.ensure(&digest), agent.blobs.ensure(&digest));
        assert_eq!(std::fs::read(one.unwrap()).unwrap(), bytes);
        assert!(other.is_ok());
    }
    assert!(agents[2].blobs.is_kept(&digest).await);
    assert_eq!(put(&agents[1], b"").await.unwrap(), Digest::of(b""));
    for agent in agents {
        agent.stop().await;
    }
}

#[tokio::test]
async fn a_blob_is_deleted_everywhere_by_those_who_read_that_it_is_being_collected() {
    let agents = three();
    let digest = put(&agents[0], b"bytes").await.unwrap();
    for agent in &agents {
        agent.blobs.ensure(&digest).await.unwrap();
    }
    let count = || agents.iter().filter(|agent| agent.blobs.has(&digest)).count();
    let name = digest.to_string();
    assert!(
        agents[2].blobs.is_awaited(&name).await,
        "who put it is about to name it"
    );
    agents[1].collected.0.store(true, Ordering::Relaxed);
    agents[0].blobs.delete(&name).await;
    assert_eq!(count(), 2, "only one has read so");
    assert!(agents[1].blobs.ensure(&digest).await.is_ok());
    for agent in &agents {
        agent.collected.0.store(true, Ordering::Relaxed);
    }
    agents[0].blobs.delete(&name).await;
    assert_eq!(count(), 0);
    assert!(!agents[0].blobs.sync(&name).await, "nothing is left to be sent");
    assert!(put(&agents[1], b"bytes").await.is_ok());
    for agent in agents {
        agent.stop().await;
    }
}

#[tokio::test]
async fn with_one_voter_gone_a_blob_is_kept_and_with_two_it_is_refused() {
    let [first, second, third] = three();
    third.stop().await;
    put(&first, b"still a majority").await.unwrap();
    second.stop().await;
    let refused = put(&first, b"no majority").await.unwrap_err();
    assert!(
        matches!(
            refused,
            blob::Error::NoMajority {
                kept: 1,
                voters: 3,
                ..
            }
        ),
        "{refused}"
    );
    first.stop().await;
}

#[tokio::test]
async fn a_blob_that_nobody_has_is_said_to_be_absent() {
    let agents = three();
    let absent = agents[0]
        .blobs
        .ensure(&Digest::of(b"never put"))
        .await
        .unwrap_err();
    assert!(
        absent.to_string().contains("node 2 has none; node 3 has none"),
        "{absent}"
    );
    for agent in agents {
        agent.stop().await;
    }
}

#[tokio::test]
async fn a_blob_that_rotted_at_a_peer_is_fetched_from_another() {
    let agents = three();
    let digest = put(&agents[1], b"whole").await.unwrap();
    agents[2].blobs.ensure(&digest).await.unwrap();
    let rotten = agents[1].folder.path().join("blobs").join(digest.hex());
    std::fs::remove_file(&rotten).unwrap();
    std::fs::write(&rotten, b"rotten").unwrap();
    if agents[0].blobs.has(&digest) {
        std::fs::remove_file(agents[0].folder.path().join("blobs").join(digest.hex())).unwrap();
    }
    let path = agents[0].blobs.ensure(&digest).await.unwrap();
    assert_eq!(std::fs::read(path).unwrap(), b"whole");
    for agent in agents {
        agent.stop().await;
    }
}

#[tokio::test]
async fn a_blob_that_was_cut_short_or_changed_here_is_fetched_anew_before_it_is_given_out() {
    let agents = three();
    let digest = put(&agents[1], b"whole").await.unwrap();
    for bytes in [&b"who"[..], b"Whole", b""] {
        for agent in &agents {
            agent.blobs.ensure(&digest).await.unwrap();
        }
        let here = agents[0].folder.path().join("blobs").join(digest.hex());
        std::fs::remove_file(&here).unwrap();
        std::fs::write(&here, bytes).unwrap();
        // The other has lost it: only a whole one may come from the third.
        let lost = agents[1].folder.path().join("blobs").join(digest.hex());
        std::fs::remove_file(lost).unwrap();
        assert!(!agents[0].blobs.is_kept(&digest).await, "only the third has it");
        let path = agents[0].blobs.ensure(&digest).await.unwrap();
        assert_eq!(std::fs::read(path).unwrap(), b"whole");
    }
    for agent in agents {
        agent.stop().await;
    }
}
