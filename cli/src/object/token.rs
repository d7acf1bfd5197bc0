//! A token of realm `pipes`, as `token ls` shows it; its secret is shown once, when it is made.

use serde::{Deserialize, Serialize};

use super::{Object, text};

/// A token of realm `pipes`; its secret is shown once, when it is made.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Token {
    /// Its name.
    pub name: Option<String>,
    /// When it was made.
    pub created: Option<String>,
    /// operator, runner or reader.
    pub role: Option<String>,
    /// The one workflow that it reaches.
    pub workflow: Option<String>,
}

impl Object for Token {
    const TITLES: &'static [&'static str] = &["NAME", "ROLE", "WORKFLOW", "CREATED"];

    fn row(&self) -> Vec<String> {
        [&self.name, &self.role, &self.workflow, &self.created]
            .map(text)
            .to_vec()
    }

    fn id(&self) -> String {
        text(&self.name)
    }
}
