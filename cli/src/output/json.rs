//! JSON for programs: indented, fields in the interface's order, a newline at the end.

use serde::Serialize;

/// A list without its brackets, for one that comes in parts.
pub fn elements<T: Serialize>(list: &[T]) -> String {
    let text = render(list);
    let inside = text.trim_end().strip_prefix('[').unwrap_or(&text);
    inside.trim_end_matches(']').trim_end().to_owned()
}

/// Any object or list of objects.
pub fn render<T: Serialize + ?Sized>(value: &T) -> String {
    // Objects have text keys only, so this cannot fail; were it to, an empty answer would show it.
    let mut text = serde_json::to_string_pretty(value).unwrap_or_default();
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_in_parts_is_the_list() {
        let parts = [elements(&[vec![1], vec![]]), elements(&[vec![2]])];
        assert_eq!(
            format!("[{}\n]\n", parts.join(",")),
            render(&[vec![1], vec![], vec![2]])
        );
    }
}
