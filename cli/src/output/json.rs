//! JSON for programs: indented, fields in the interface's order, a newline at the end.

use serde::Serialize;

/// Any object or list of objects.
pub fn render<T: Serialize + ?Sized>(value: &T) -> String {
    // Objects have text keys only, so this cannot fail; were it to, an empty answer would show it.
    let mut text = serde_json::to_string_pretty(value).unwrap_or_default();
    text.push('\n');
    text
}
