//! Answers to other nodes, encoded where no heartbeat waits for a large one.
//!
//! Of a range that is larger than [`PART_BYTES_MAX`] a part is answered, which says that there is more: who asks reads on
//! from there, at the same revision (`client/mod.rs`). Of proposals' outcomes those that a message holds no more are
//! *unknown*, since they may be done. What else is too large for a message is refused in a sentence.

use std::iter;

use crate::rpc::{self, ClientResponse, Outcome, Response};
use crate::task;
use crate::{Error, KeyValue, RangeResult};

/// Octets of keys and values in an answer that is encoded beside the heartbeats: it may be many megabytes.
const LARGE_MIN: usize = 64 * 1024;
/// Octets of keys and values in one part of a range: with one value more it is well within what a message may be.
const PART_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Octets of keys and values in the outcomes of one message: what the largest transaction read, and room for those
/// beside it.
const OUTCOMES_BYTES_MAX: usize = crate::TXN_READ_BYTES_MAX + 4 * 1024 * 1024;

/// An answer as it travels.
pub(super) async fn encode(mut response: Response) -> Vec<u8> {
    let encode = |response: &Response| rpc::encode(response).unwrap_or_else(|_| refusal(response));
    match &mut response {
        Response::Client(ClientResponse::Range(found), _) => cut(found, PART_BYTES_MAX),
        Response::Client(ClientResponse::Proposed(outcomes), _) => forget(outcomes, OUTCOMES_BYTES_MAX),
        _ => {}
    }
    let size = match &response {
        Response::Client(ClientResponse::Range(found), _) => key_values_size(&found.kvs),
        Response::Client(ClientResponse::Txn(result), _) => result.size(),
        Response::Client(ClientResponse::Proposed(outcomes), _) => outcomes.iter().map(outcome_size).sum(),
        Response::Client(ClientResponse::Events(events, _), _) => {
            let kvs = events
                .iter()
                .flat_map(|event| iter::once(&event.kv).chain(&event.prev));
            key_values_size(kvs)
        }
        _ => 0,
    };
    if size < LARGE_MIN {
        return encode(&response);
    }
    task::blocking(move || Ok(encode(&response)))
        .await
        .unwrap_or_default()
}

/// Leaves what comes first of a range, at least one key.
fn cut(found: &mut RangeResult, bytes_max: usize) {
    let mut bytes = 0;
    let mut is_within = |kv: &KeyValue| {
        bytes += key_values_size([kv]);
        bytes <= bytes_max
    };
    let kept = found.kvs.iter().take_while(|kv| is_within(kv)).count().max(1);
    if kept < found.kvs.len() {
        found.kvs.truncate(kept);
        found.more = true;
    }
}

/// Leaves what was read by the first of what was proposed together; all that read nothing are told what became of them.
fn forget(outcomes: &mut [Outcome], bytes_max: usize) {
    let mut bytes = 0;
    for outcome in outcomes {
        let size = outcome_size(outcome);
        if bytes + size > bytes_max {
            *outcome = Outcome::Unknown;
        } else {
            bytes += size;
        }
    }
}

/// What is said in the place of an answer that no message holds.
fn refusal(response: &Response) -> Vec<u8> {
    let failed = match response {
        // What was proposed may be done: nothing that can be read says that nobody knows.
        Response::Client(ClientResponse::Proposed(_), _) => return Vec::new(),
        Response::Client(_, now_ms) => {
            let why = "the answer is too large for one message between nodes: ask for less at once";
            Response::Client(ClientResponse::Failed(Error::Refused(why.into())), *now_ms)
        }
        _ => Response::Failed("the answer is too large for one message".into()),
    };
    rpc::encode(&failed).unwrap_or_default()
}

fn outcome_size(outcome: &Outcome) -> usize {
    match outcome {
        Outcome::Applied(_, result) => result.size(),
        Outcome::NotProposed(_) | Outcome::Unknown | Outcome::Refused(_) => 0,
    }
}

fn key_values_size<'a>(kvs: impl IntoIterator<Item = &'a KeyValue>) -> usize {
    kvs.into_iter().map(KeyValue::size).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::ApplyResult;
    use crate::{OpResult, TxnResult};

    #[test]
    fn a_range_is_cut_where_it_is_too_large_and_says_so() {
        let kv = |key: &str| KeyValue {
            key: key.into(),
            value: vec![0; 100],
            ..KeyValue::default()
        };
        let cut_at = |bytes_max| {
            let mut found = RangeResult {
                kvs: vec![kv("a"), kv("b"), kv("c")],
                count: 3,
                ..RangeResult::default()
            };
            cut(&mut found, bytes_max);
            (found.kvs.len(), found.more, found.count)
        };
        let size = kv("a").size();
        assert_eq!(cut_at(3 * size), (3, false, 3));
        assert_eq!(cut_at(3 * size - 1), (2, true, 3));
        assert_eq!(cut_at(0), (1, true, 3));
    }

    #[test]
    fn of_outcomes_that_no_message_holds_the_large_ones_are_unknown_and_the_others_are_told() {
        let read = |len| {
            let found = RangeResult {
                kvs: vec![KeyValue {
                    value: vec![0; len],
                    ..KeyValue::default()
                }],
                ..RangeResult::default()
            };
            let result = TxnResult {
                responses: vec![OpResult::Range(found)],
                ..TxnResult::default()
            };
            Outcome::Applied(1, ApplyResult::Txn(result))
        };
        let mut outcomes = vec![
            read(100),
            Outcome::Applied(2, ApplyResult::Done(7)),
            read(1000),
            read(50),
        ];
        forget(&mut outcomes, 1000);
        let known: Vec<bool> = outcomes
            .iter()
            .map(|outcome| matches!(outcome, Outcome::Applied(..)))
            .collect();
        assert_eq!(known, [true, true, false, true]);
    }

    #[test]
    fn what_no_message_holds_is_refused_in_words_and_a_proposal_is_not() {
        let refused = refusal(&Response::Client(ClientResponse::Txn(TxnResult::default()), 7));
        let Ok(Response::Client(ClientResponse::Failed(Error::Refused(why)), 7)) = rpc::decode(&refused)
        else {
            panic!("it is not refused")
        };
        assert!(why.contains("too large"), "{why}");
        assert!(refusal(&Response::Client(ClientResponse::Proposed(Vec::new()), 7)).is_empty());
    }
}
