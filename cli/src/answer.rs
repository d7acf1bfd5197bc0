//! What an agent answers: its one argument, what it could not learn for it, and where a listing goes on.
//!
//! ```text
//! [value]   {"unknown": ["server n2 does not answer: ..."], "next": "r01k..."}
//! ```

use pipes_protocol::uris;
use pipes_wamp::payload::PayloadBuf;
use rmpv::Value;

use crate::error::Error;

/// A listing as its pages come.
#[derive(Default)]
pub struct Pages {
    /// All objects so far.
    pub objects: Vec<Value>,
    /// What could not be learnt for one page or another, each once.
    pub unknown: Vec<String>,
    /// After which place the next page begins; none for the first.
    pub after: Option<Value>,
}

impl Pages {
    /// Takes a page; whether another is to be asked for.
    pub fn take(&mut self, answer: &PayloadBuf) -> Result<bool, Error> {
        self.objects.extend(list(first(answer)?));
        self.unknown.extend(unknown(answer));
        self.unknown.sort();
        self.unknown.dedup();
        let next = Some(said(answer, uris::NEXT)).filter(|next| !next.is_nil());
        // One that does not go on would never end.
        let is_further = next.is_some() && next != self.after;
        self.after = next;
        Ok(is_further)
    }
}

/// The only argument of an answer; nil where there is none.
pub fn first(answer: &PayloadBuf) -> Result<Value, Error> {
    let arguments = answer.as_payload().args();
    let arguments =
        arguments.map_err(|error| Error::Local(format!("the agent's answer cannot be read: {error}")))?;
    Ok(arguments.into_iter().next().unwrap_or(Value::Nil))
}

/// The elements of an answer that is a list.
pub fn list(value: Value) -> Vec<Value> {
    match value {
        Value::Array(list) => list,
        _ => Vec::new(),
    }
}

/// What the agent could not learn for its answer.
pub fn unknown(answer: &PayloadBuf) -> Vec<String> {
    let lines = list(said(answer, uris::UNKNOWN)).into_iter();
    lines
        .filter_map(|line| line.as_str().map(str::to_owned))
        .collect()
}

/// What it says beside its argument; nil where that is nothing.
fn said(answer: &PayloadBuf, keyword: &str) -> Value {
    let kwargs = answer.as_payload().kwargs().unwrap_or_default();
    let found = kwargs.into_iter().find(|(key, _)| key == keyword);
    found.map_or(Value::Nil, |(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(objects: &[&str], next: Option<&str>) -> PayloadBuf {
        let objects = objects.iter().map(|object| Value::from(*object)).collect();
        let mut said = vec![("unknown".into(), Value::Array(vec!["n2 is silent".into()]))];
        said.extend(next.map(|next| ("next".into(), next.into())));
        PayloadBuf::of_values(vec![Value::Array(objects)], Some(Value::Map(said)))
    }

    #[test]
    fn a_listing_goes_on_after_each_page_and_what_is_unknown_is_said_once() {
        let mut pages = Pages::default();
        assert!(pages.take(&page(&["a", "b"], Some("b"))).unwrap());
        assert_eq!(pages.after, Some(Value::from("b")));
        assert!(pages.take(&page(&[], Some("c"))).unwrap());
        assert!(!pages.take(&page(&["d"], None)).unwrap());
        assert_eq!(pages.objects, ["a", "b", "d"].map(Value::from));
        assert_eq!(pages.unknown, ["n2 is silent"]);
    }

    #[test]
    fn a_listing_that_does_not_go_on_ends() {
        let mut pages = Pages::default();
        assert!(pages.take(&page(&["a"], Some("a"))).unwrap());
        assert!(!pages.take(&page(&["a"], Some("a"))).unwrap());
    }
}
