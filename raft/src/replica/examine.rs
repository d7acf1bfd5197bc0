//! Finding out whose state is right, once two differ: all voters are asked for their digest at one entry.
//!
//! | more than half of all voters have | this replica |
//! |---|---|
//! | the same digest as this one | goes on, and tells those that have another to find out for themselves |
//! | the same digest, which is another than this one's | is out: it answers nobody any more |
//! | no digest in common | is in doubt and asks on: only the members may be looked at and changed |
//!
//! Always: (1) each judges itself, by what it was told by the voters themselves; (2) who lacks an entry has no opinion;
//! (3) nobody is in doubt who has not seen two that differ.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use openraft::async_runtime::watch::WatchReceiver as _;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::Replica;
use crate::mvcc::Digest;
use crate::rpc::{self, Request, Response};
use crate::{Class, Peer};

/// Time that a voter has for its answer.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(500);
/// Rest before the voters are asked again.
const PAUSE: Duration = Duration::from_millis(100);
/// How long the log may take to be purged once it is decided which state is right.
const PURGE_TIMEOUT: Duration = Duration::from_secs(60);
/// How long voters may lack the entry, or be away, before who has seen a difference is in doubt.
const PATIENCE: Duration = Duration::from_secs(1);

/// What the voters' digests say of this replica.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// It is of the majority; these are not.
    Sound(Vec<u64>),
    /// It differs from the majority.
    Odd,
    /// There is none, nor can there be; or there is none yet.
    Split { is_final: bool },
}

/// Examines what is suspected, until `stop`; ends with the reason if this replica's state is not the majority's.
pub(crate) async fn run(replica: Arc<Replica>, stop: CancellationToken) -> Option<String> {
    stop.run_until_cancelled(async {
        loop {
            let index = replica.agreement.suspected().await;
            tracing::warn!(index, "two replicas differ; all voters are asked");
            if let Err(Odd(index)) = examine(&replica, index).await {
                return format!("its replica differs from those of the majority after entry {index}");
            }
            if replica.agreement.is_in_doubt() && replica.raft.as_leader().is_ok() {
                // Nobody could join meanwhile. Who does now is given this state, and not what its log would make of it.
                if !replica.purge_to_snapshot(PURGE_TIMEOUT).await {
                    tracing::warn!(
                        "the log is not purged yet; who joins may be given entries, not a snapshot"
                    );
                }
            }
            replica.agreement.settle();
        }
    })
    .await
}

/// This replica is not of the majority, as the digests after this entry say.
struct Odd(u64);

/// Asks until a majority agrees, or until there turns out to be nothing that differs.
async fn examine(replica: &Replica, suspected: u64) -> Result<(), Odd> {
    let mut index = suspected;
    let began = Instant::now();
    loop {
        let asked = ask(replica, index).await;
        let own = replica.state.digest_at(index);
        let digests: Vec<_> = asked.iter().map(|(id, answer)| (*id, answer.flatten())).collect();
        match judge(own, &digests) {
            Verdict::Odd => return Err(Odd(index)),
            Verdict::Sound(others) => {
                tell(replica, &others, index).await;
                return Ok(());
            }
            Verdict::Split { is_final } if !replica.agreement.is_in_doubt() => {
                let is_late = began.elapsed() >= PATIENCE;
                let do_differ = differ(own, &digests);
                if is_final || (is_late && do_differ) {
                    tracing::error!(index, ?digests, "no majority of the voters agrees");
                    replica.agreement.doubt();
                    let all: Vec<u64> = asked.iter().map(|(id, _)| *id).collect();
                    tell(replica, &all, index).await;
                } else if is_late {
                    return Ok(());
                }
            }
            Verdict::Split { .. } => {}
        }
        sleep(PAUSE).await;
        // What differs once differs from then on; an old entry may be forgotten by some.
        if replica.agreement.is_in_doubt()
            && let Some((newest, _)) = replica.state.newest_digest()
        {
            index = newest;
        }
    }
}

fn judge(own: Option<Digest>, voters: &[(u64, Option<Digest>)]) -> Verdict {
    let agreeing = |digest: Digest| voters.iter().filter(|(_, other)| *other == Some(digest)).count();
    let known = voters.iter().filter_map(|(_, digest)| *digest);
    let most = known.max_by_key(|digest| agreeing(*digest));
    let count = most.map_or(0, agreeing);
    let silent = voters.iter().filter(|(_, digest)| digest.is_none()).count();
    match most {
        Some(most) if count * 2 > voters.len() => match own {
            Some(own) if own.differs(&most) => Verdict::Odd,
            _ => {
                let is_odd = |digest: &Option<Digest>| digest.is_some_and(|digest| digest.differs(&most));
                let odd = voters.iter().filter(|(_, digest)| is_odd(digest));
                Verdict::Sound(odd.map(|(id, _)| *id).collect())
            }
        },
        _ => Verdict::Split {
            is_final: (count + silent) * 2 <= voters.len(),
        },
    }
}

/// Whether any two differ.
fn differ(own: Option<Digest>, voters: &[(u64, Option<Digest>)]) -> bool {
    let mut known = voters.iter().filter_map(|(_, digest)| *digest).chain(own);
    let Some(first) = known.next() else { return false };
    known.any(|digest| digest.differs(&first))
}

/// The voters that answer, whatever they say; this one included, if it has a vote.
pub(super) async fn reached(replica: &Replica) -> Vec<u64> {
    let asked = ask(replica, 0).await;
    let answered = asked.into_iter().filter(|(_, answer)| answer.is_some());
    answered.map(|(id, _)| id).collect()
}

/// Every voter with its answer; the digest in that is none where the voter has no opinion.
async fn ask(replica: &Replica, index: u64) -> Vec<(u64, Option<Option<Digest>>)> {
    let asking = voters(replica).into_iter().map(async |(id, peer)| {
        if id == replica.id {
            return (id, Some(replica.state.digest_at(index)));
        }
        match call(replica, peer, &Request::Digest(index)).await {
            Some(Response::Digest(digest)) => (id, Some(digest)),
            _ => (id, None),
        }
    });
    join_all(asking).await
}

/// Has others find out for themselves.
async fn tell(replica: &Replica, ids: &[u64], index: u64) {
    let voters = voters(replica).into_iter();
    let told = voters.filter(|(id, _)| ids.contains(id) && *id != replica.id);
    let telling = told.map(async |(_, peer)| call(replica, peer, &Request::Examine(index)).await);
    join_all(telling).await;
}

async fn call(replica: &Replica, peer: Option<Peer>, request: &Request) -> Option<Response> {
    let bytes = rpc::encode(request).ok()?;
    let answer = replica
        .transport
        .call(&peer?, Class::Raft, bytes, ANSWER_TIMEOUT)
        .await;
    rpc::decode(&answer.ok()?).ok()
}

fn voters(replica: &Replica) -> Vec<(u64, Option<Peer>)> {
    let metrics = replica.raft.metrics();
    let metrics = metrics.borrow_watched();
    let members = metrics.membership_config.membership();
    let voters = members.voter_ids();
    voters
        .map(|id| (id, members.get_node(&id).and_then(|member| Peer::of(id, member))))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mvcc::Trace;

    /// Three digests of one chain, and none.
    fn digests() -> [Option<Digest>; 4] {
        let begun = Digest::beginning(1);
        let [a, b, c] = [1, 2, 3].map(|index| {
            let trace = Trace::of_entry(Some(begun), 1, index, b"");
            Some(begun.carried_on(trace, 1, 0, 0))
        });
        [a, b, c, None]
    }

    fn verdict(own: Option<Digest>, voters: &[Option<Digest>]) -> Verdict {
        let voters: Vec<_> = (1..).zip(voters.iter().copied()).collect();
        judge(own, &voters)
    }

    #[test]
    fn more_than_half_of_all_voters_decide_and_who_lacks_an_entry_has_no_opinion() {
        let [a, b, c, none] = digests();
        assert_eq!(verdict(a, &[a, a, b]), Verdict::Sound(vec![3]));
        assert_eq!(verdict(b, &[a, a, b]), Verdict::Odd);
        assert_eq!(verdict(a, &[a, a, none]), Verdict::Sound(vec![]));
        assert_eq!(verdict(none, &[a, a, b]), Verdict::Sound(vec![3]));
        assert_eq!(verdict(a, &[a, b, c]), Verdict::Split { is_final: true });
        assert_eq!(verdict(a, &[a, b, none]), Verdict::Split { is_final: false });
        assert_eq!(verdict(a, &[a, b]), Verdict::Split { is_final: true });
        assert_eq!(
            verdict(a, &[a, a, b, c, none]),
            Verdict::Split { is_final: false }
        );
        assert_eq!(
            verdict(a, &[a, a, b, b, none]),
            Verdict::Split { is_final: false }
        );
        assert_eq!(verdict(a, &[a]), Verdict::Sound(vec![]));
        // A learner counts for nothing, and is judged like all.
        assert_eq!(verdict(c, &[a, a, a]), Verdict::Odd);
    }

    #[test]
    fn nobody_is_in_doubt_who_has_not_seen_two_that_differ() {
        let [a, b, _, none] = digests();
        let asked = |answers: [Option<Digest>; 3]| (1..).zip(answers).collect::<Vec<_>>();
        assert!(!differ(a, &asked([a, none, none])));
        assert!(differ(a, &asked([none, none, b])));
        assert!(!differ(none, &asked([none, none, none])));
    }
}
