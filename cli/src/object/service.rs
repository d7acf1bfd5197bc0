//! An executable that was built, as `service ls` shows it.

use serde::{Deserialize, Serialize};

use super::{Object, text};

/// An executable that was built.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Service {
    /// As lines name it.
    pub name: Option<String>,
    /// `sha256:` and 64 digits.
    pub digest: Option<String>,
    /// Bytes.
    pub size: Option<u64>,
    /// elf, script, image.
    pub kind: Option<String>,
    /// When.
    pub built: Option<String>,
}

impl Object for Service {
    const TITLES: &'static [&'static str] = &["NAME", "DIGEST", "SIZE", "KIND", "BUILT"];

    fn row(&self) -> Vec<String> {
        let size = self.size.map(|size| size.to_string());
        [
            &self.name,
            &short_digest(&self.digest),
            &size,
            &self.kind,
            &self.built,
        ]
        .map(text)
        .to_vec()
    }

    fn id(&self) -> String {
        text(&self.name)
    }
}

/// Enough of a digest to name a version.
pub fn short_digest(digest: &Option<String>) -> Option<String> {
    const DIGITS: usize = 12;
    digest.as_ref().map(|digest| {
        digest
            .strip_prefix("sha256:")
            .unwrap_or(digest)
            .chars()
            .take(DIGITS)
            .collect()
    })
}
