//! A context, as `context ls` shows it.

use serde::{Deserialize, Serialize};

use super::{Object, mark, text};

/// Which cluster is meant, and where it is.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Context {
    /// Its name.
    pub name: Option<String>,
    /// The cluster's name.
    pub cluster: Option<String>,
    /// Whether it is the one in use.
    pub current: bool,
    /// Its agents' addresses.
    pub servers: Vec<String>,
}

impl Object for Context {
    const TITLES: &'static [&'static str] = &["CURRENT", "NAME", "CLUSTER", "SERVERS"];

    fn row(&self) -> Vec<String> {
        vec![
            mark(self.current),
            text(&self.name),
            text(&self.cluster),
            self.servers.join(","),
        ]
    }

    fn id(&self) -> String {
        text(&self.name)
    }
}
