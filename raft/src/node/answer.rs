//! Answers to other nodes, encoded where no heartbeat waits for a large one.

use std::iter;

use crate::rpc::{self, ClientResponse, Response};
use crate::task;
use crate::{KeyValue, OpResult, TxnResult};

/// What a key costs beside its own octets and its value's.
const ENTRY: usize = 64;
/// Octets of keys and values in an answer that is encoded beside the heartbeats: it may be many megabytes.
const LARGE_MIN: usize = 64 * 1024;

/// An answer as it travels.
pub(super) async fn encode(response: Response) -> Vec<u8> {
    let encode = |response: &Response| rpc::encode(response).unwrap_or_default();
    let size = match &response {
        Response::Client(ClientResponse::Range(found), _) => key_values_size(&found.kvs),
        Response::Client(ClientResponse::Txn(result), _) => txn_size(result),
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

fn txn_size(result: &TxnResult) -> usize {
    let sizes = result.responses.iter().map(|response| match response {
        OpResult::Put => 0,
        OpResult::Delete { prev, .. } => key_values_size(prev),
        OpResult::Range(found) => key_values_size(&found.kvs),
        OpResult::Txn(inner) => txn_size(inner),
    });
    sizes.sum()
}

fn key_values_size<'a>(kvs: impl IntoIterator<Item = &'a KeyValue>) -> usize {
    let sizes = kvs.into_iter().map(|kv| ENTRY + kv.key.len() + kv.value.len());
    sizes.sum()
}
