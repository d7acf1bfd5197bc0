//! Answers to other nodes, encoded where no heartbeat waits for a large one.

use crate::rpc::{self, ClientResponse, Response};
use crate::task;

/// What a key costs beside its own octets and its value's.
const ENTRY: usize = 64;
/// Octets of keys and values in an answer that is encoded beside the heartbeats: it may be many megabytes.
const LARGE_MIN: usize = 64 * 1024;

/// An answer as it travels.
pub(super) async fn encode(response: Response) -> Vec<u8> {
    let encode = |response: &Response| rpc::encode(response).unwrap_or_default();
    let is_large = match &response {
        Response::Client(ClientResponse::Range(found)) => {
            let sizes = found.kvs.iter().map(|kv| ENTRY + kv.key.len() + kv.value.len());
            sizes.sum::<usize>() >= LARGE_MIN
        }
        Response::Client(ClientResponse::Txn(_)) => true,
        _ => false,
    };
    match is_large {
        true => task::blocking(move || Ok(encode(&response)))
            .await
            .unwrap_or_default(),
        false => encode(&response),
    }
}
