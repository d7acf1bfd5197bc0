//! openraft's own suite for who implements its storage.

use std::sync::Arc;

use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use tempfile::TempDir;

use super::state_machine::StateMachine;
use crate::log::{Closer, Log, Synced};
use crate::snapshot::Snapshots;
use crate::state::State;
use crate::type_config::TypeConfig;

struct Builder;

impl StoreBuilder<TypeConfig, Log, StateMachine, (TempDir, Closer)> for Builder {
    async fn build(&self) -> Result<((TempDir, Closer), Log, StateMachine), StorageError<TypeConfig>> {
        let dir = tempfile::tempdir().unwrap();
        let (log, closer) = Log::open(&dir.path().join("log"), true).unwrap();
        let snapshots = Arc::new(Snapshots::open(&dir.path().join("snapshots")).unwrap());
        let state = Arc::new(State::open(dir.path(), &snapshots, Synced::all(), Arc::default()).unwrap());
        Ok(((dir, closer), log, StateMachine { state, snapshots }))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_storage_keeps_every_promise_that_openraft_asks_of_it() {
    Suite::test_all(Builder).await.unwrap();
}
