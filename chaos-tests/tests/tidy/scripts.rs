//! Scripts stop at their first failure.

use crate::tree::{self, none};

#[test]
fn scripts_stop_at_their_first_failure() {
    let found: Vec<String> = tree::all()
        .into_iter()
        .filter(|(path, text)| {
            (path.starts_with("scripts/") || path.starts_with(".ci/"))
                && text.starts_with("#!/usr/bin/env bash")
                && !text.contains("\nset -euo pipefail\n")
        })
        .map(|(path, _)| path)
        .collect();
    none("scripts without `set -euo pipefail`", &found);
}
