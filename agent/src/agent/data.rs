//! What is kept here, as the agent puts it together: who holds, keeps and uses blobs, and has all of it compared with what
//! it should be.

use pipes_job::blobs::{Holder as Rule, Keeper, Parts, Uses};
use pipes_raft::Store;

use crate::blob::{self, Blobs, Holder};
use crate::clock;
use crate::cluster::comparison;
use crate::cluster::nodes::{self, Nodes};
use crate::config::Config;
use crate::lifecycle::{Kind, Lifecycle};

/// The files of this node, by the rule for holders.
pub fn hold(config: &Config, store: Store) -> Result<Holder, blob::Error> {
    let files = blob::Store::open(config.blob_folder())?;
    Ok(Holder::new(
        files,
        Rule::new(Box::new(store.clone()), clock::boxed(store)),
    ))
}

/// Has what is kept here compared with what it should be, until the agent stops; gives who names what is used here.
pub fn look_after(parts: &Lifecycle, store: &Store, blobs: &Blobs, nodes: &Nodes) -> Uses {
    let keeper = Keeper::new(Parts {
        store: store.clone(),
        node: nodes.own_id(),
        holders: Box::new(blobs.clone()),
        holder: blobs.rule().clone(),
        disk: Box::new(blobs.clone()),
        clock: clock::boxed(store.clone()),
    });
    parts.spawn_until_stop("blobs", blob::tend(blobs.clone(), keeper));
    let daily = comparison::daily(store.clone(), nodes.clone());
    parts.spawn_until_stop("comparison", daily);
    let forgotten = nodes::forget_former(store.clone(), nodes.clone(), parts.stopping());
    parts.spawn(Kind::Work, "former", forgotten);
    let holders = Box::new(blobs.clone());
    let uses = Uses::new(
        store.clone(),
        nodes.own_id(),
        holders,
        clock::boxed(store.clone()),
    );
    let gives_back = uses.clone();
    parts.spawn_until_stop("uses of blobs", async move {
        gives_back.run().await;
        Ok(())
    });
    uses
}
