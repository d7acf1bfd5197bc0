//! What a procedure answers, with what could not be learnt for it, and where a listing goes on (`listing.rs`).
//!
//! ```text
//! [value]   {"unknown": ["server n2 does not answer: ..."], "next": "r01k..."}
//! ```
//!
//! Always: what a procedure could not learn is said in a sentence beside its answer, and never left out in silence.

use pipes_protocol::uris;
use pipes_wamp::payload::PayloadBuf;
use rmpv::Value;
use serde::Serialize;

use crate::listing::Page;

/// What is answered.
pub(super) struct Answer {
    /// The only argument.
    value: Value,
    /// Sentences on what could not be learnt for it.
    unknown: Vec<String>,
    /// Where the next page of a listing begins.
    next: Option<String>,
}

impl Answer {
    /// A page of a listing, of which not all could be learnt.
    pub(super) fn page<T: Serialize>(page: &Page<T>, unknown: Vec<String>) -> Answer {
        Answer {
            value: super::value(&page.objects),
            unknown,
            next: page.next.clone(),
        }
    }

    /// The same, of a list's objects those alone that are so.
    pub(super) fn of_those(mut self, is_one: impl Fn(&Value) -> bool) -> Answer {
        if let Value::Array(objects) = &mut self.value {
            objects.retain(is_one);
        }
        self
    }

    /// As it travels.
    pub(super) fn encode(self) -> PayloadBuf {
        let unknown: Vec<Value> = self.unknown.into_iter().map(Value::from).collect();
        let unknown = (!unknown.is_empty()).then(|| (uris::UNKNOWN.into(), unknown.into()));
        let next = self.next.map(|next| (uris::NEXT.into(), next.into()));
        let said: Vec<(Value, Value)> = unknown.into_iter().chain(next).collect();
        PayloadBuf::of_values(vec![self.value], (!said.is_empty()).then_some(Value::Map(said)))
    }
}

impl From<Value> for Answer {
    fn from(value: Value) -> Answer {
        Answer {
            value,
            unknown: Vec::new(),
            next: None,
        }
    }
}
