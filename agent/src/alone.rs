//! A real store of one node, for tests.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pipes_raft::{Class, Node, Options, Peer, Transport, TransportError};

/// A group of one has nobody to call.
struct Nobody;

#[async_trait::async_trait]
impl Transport for Nobody {
    async fn call(&self, _: &Peer, _: Class, _: Vec<u8>, _: Duration) -> Result<Vec<u8>, TransportError> {
        Err(TransportError::NotSent("nobody there".into()))
    }
}

/// The only member of its group, its files in `folder`.
pub async fn node(folder: &Path) -> Node {
    let options = Options::new(folder.to_owned(), "01test".to_owned());
    let node = Node::open(options, None, Arc::new(Nobody)).await.unwrap();
    let address = SocketAddr::from(([127, 0, 0, 1], 1));
    node.initialize(address).await.unwrap();
    node
}
