//! URIs of procedures, topics and errors.

/// The longest URI taken: names, not documents.
pub const LENGTH_MAX: usize = 1024;

/// The loose check of the specification: components that are not empty, no white space, no `#`.
pub fn is_loose(uri: &str) -> bool {
    !uri.is_empty()
        && uri.len() <= LENGTH_MAX
        && uri
            .split('.')
            .all(|part| !part.is_empty() && !part.contains(|c: char| c.is_whitespace() || c == '#'))
}

/// The strict check: components of lower-case letters, digits and `_`.
pub fn is_strict(uri: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    uri.len() <= LENGTH_MAX
        && uri
            .split('.')
            .all(|part| !part.is_empty() && part.bytes().all(good))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_are_not_empty() {
        for (uri, loose, strict) in [
            ("com.example.sum", true, true),
            ("com.Example", true, false),
            ("com..sum", false, false),
            ("", false, false),
            ("a b", false, false),
            ("a.#", false, false),
        ] {
            assert_eq!((is_loose(uri), is_strict(uri)), (loose, strict), "{uri:?}");
        }
    }
}
