//! Which nodes may connect: a certificate proves a name, and the name must be on the list.
//!
//! The list begins as the configuration's, so that a cluster can be formed; what the store says of its nodes comes to it,
//! and what was removed goes. A node that was never added is refused in every class, whatever authority signed for it.

use std::collections::BTreeSet;

use tokio::sync::watch;

/// The names of the nodes that may connect.
pub type Names = BTreeSet<String>;

/// The list, as it is at a moment. A cheap handle.
#[derive(Clone, Debug)]
pub struct Admitted(watch::Receiver<Names>);

impl Admitted {
    /// These at first; the sender tells of further ones.
    pub fn first(names: Names) -> (watch::Sender<Names>, Admitted) {
        let (sender, names) = watch::channel(names);
        (sender, Admitted(names))
    }

    /// Whether a node of this name may connect.
    pub fn has(&self, name: &str) -> bool {
        self.0.borrow().contains(name)
    }

    /// Waits until a node of this name may connect no more; for ever once nobody can say so any more.
    pub async fn left(&self, name: &str) {
        let mut names = self.0.clone();
        if names.wait_for(|names| !names.contains(name)).await.is_err() {
            std::future::pending().await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_leaves_the_list_is_noticed() {
        let (names, admitted) = Admitted::first(Names::from(["n1".into(), "n2".into()]));
        assert!(admitted.has("n2") && !admitted.has("n3"));
        names.send_replace(Names::from(["n1".into()]));
        admitted.left("n2").await;
        assert!(!admitted.has("n2"));
    }
}
