//! Which bytes of a result are asked for, and whether the client has them already (RFC 9110, 13 and 14). Pure.
//!
//! ```text
//! Range: bytes=0-4    -> the first five      bytes=-5 -> the last five      bytes=9- -> from the tenth on
//! bytes=0-1,3-4, lines=1-2, nonsense         -> all of it, as if nothing had been asked
//! ```

use std::ops::Range;

use axum::http::header::{IF_NONE_MATCH, IF_RANGE, RANGE};
use axum::http::{HeaderMap, Method};

/// What is to be sent of so many bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    /// All.
    Whole,
    /// A part that is there.
    Part(Range<u64>),
    /// A part that is not.
    Nothing,
    /// The client has it.
    Same,
}

/// What a request wants of a result of `length` bytes, named by `etag`. A part is given to GET alone (RFC 9110, 14.2).
pub fn wanted(method: &Method, headers: &HeaderMap, length: u64, etag: Option<&str>) -> Wanted {
    let text = |name| {
        headers
            .get(name)
            .and_then(|value: &axum::http::HeaderValue| value.to_str().ok())
    };
    if let (Some(known), Some(etag)) = (text(IF_NONE_MATCH), etag) {
        let is_known = |tag: &str| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag;
        if known.split(',').map(str::trim).any(is_known) {
            return Wanted::Same;
        }
    }
    let Some(range) = text(RANGE).filter(|_| method == Method::GET) else {
        return Wanted::Whole;
    };
    // A part of what it has the beginning of; of anything else it wants all.
    if text(IF_RANGE).is_some_and(|tag| Some(tag) != etag) {
        return Wanted::Whole;
    }
    part(range, length).unwrap_or(Wanted::Whole)
}

/// `None`: no range that is understood.
fn part(range: &str, length: u64) -> Option<Wanted> {
    let (unit, ranges) = range.split_once('=')?;
    let (first, last) = ranges.trim().split_once('-')?;
    if !unit.trim().eq_ignore_ascii_case("bytes") || ranges.contains(',') {
        return None;
    }
    let number = |text: &str| {
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        // More digits than a number has are beyond any length.
        is_number.then(|| text.parse::<u64>().unwrap_or(u64::MAX))
    };
    let range = match (first.is_empty(), last.is_empty()) {
        (true, _) => {
            let count = number(last)?;
            length.saturating_sub(count)..length
        }
        (false, true) => number(first)?..length,
        (false, false) => {
            let (first, last) = (number(first)?, number(last)?);
            if last < first {
                return None;
            }
            first..last.saturating_add(1).min(length)
        }
    };
    Some(if range.is_empty() {
        Wanted::Nothing
    } else {
        Wanted::Part(range)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::{HeaderName, HeaderValue};

    fn of(pairs: &[(HeaderName, &'static str)]) -> Wanted {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.insert(name, HeaderValue::from_static(value));
        }
        wanted(&Method::GET, &headers, 10, Some("\"ab\""))
    }

    #[test]
    fn a_range_gives_its_bytes_and_what_is_none_gives_all() {
        for (range, expected) in [
            ("bytes=0-4", Wanted::Part(0..5)),
            ("bytes=9-9", Wanted::Part(9..10)),
            ("bytes=5-", Wanted::Part(5..10)),
            ("bytes=5-99", Wanted::Part(5..10)),
            ("bytes=-3", Wanted::Part(7..10)),
            ("bytes=-30", Wanted::Part(0..10)),
            ("Bytes=0-0", Wanted::Part(0..1)),
            ("bytes=0-99999999999999999999999", Wanted::Part(0..10)),
            ("bytes=10-", Wanted::Nothing),
            ("bytes=99999999999999999999999-", Wanted::Nothing),
            ("bytes=-0", Wanted::Nothing),
            ("bytes=4-0", Wanted::Whole),
            ("bytes=0-1,3-4", Wanted::Whole),
            ("lines=0-1", Wanted::Whole),
            ("bytes=+1-2", Wanted::Whole),
            ("bytes=-", Wanted::Whole),
            ("bytes", Wanted::Whole),
            ("", Wanted::Whole),
        ] {
            assert_eq!(of(&[(RANGE, range)]), expected, "{range}");
        }
    }

    #[test]
    fn who_has_the_result_is_told_so() {
        for known in ["\"ab\"", "W/\"ab\"", "\"cd\", \"ab\"", "*"] {
            assert_eq!(
                of(&[(IF_NONE_MATCH, known), (RANGE, "bytes=0-1")]),
                Wanted::Same,
                "{known}"
            );
        }
        assert_eq!(of(&[(IF_NONE_MATCH, "\"cd\"")]), Wanted::Whole);
    }

    #[test]
    fn a_part_of_another_result_is_not_given() {
        assert_eq!(
            of(&[(RANGE, "bytes=0-1"), (IF_RANGE, "\"ab\"")]),
            Wanted::Part(0..2)
        );
        assert_eq!(of(&[(RANGE, "bytes=0-1"), (IF_RANGE, "\"cd\"")]), Wanted::Whole);
    }

    #[test]
    fn an_empty_result_has_no_part() {
        let mut headers = HeaderMap::new();
        headers.insert(RANGE, HeaderValue::from_static("bytes=0-"));
        assert_eq!(wanted(&Method::GET, &headers, 0, None), Wanted::Nothing);
        assert_eq!(
            wanted(&Method::HEAD, &headers, 9, None),
            Wanted::Whole,
            "for GET alone"
        );
        assert_eq!(wanted(&Method::GET, &HeaderMap::new(), 0, None), Wanted::Whole);
    }
}
