//! What a procedure answers, with what could not be learnt for it.
//!
//! ```text
//! [value]   {"unknown": ["server n2 does not answer: ..."]}
//! ```
//!
//! Always: what a procedure could not learn is said in a sentence beside its answer, and never left out in silence.

use pipes_protocol::uris;
use pipes_wamp::payload::PayloadBuf;
use rmpv::Value;

/// What is answered.
pub(super) struct Answer {
    /// The only argument.
    value: Value,
    /// Sentences on what could not be learnt for it.
    unknown: Vec<String>,
}

impl Answer {
    /// Where not all could be learnt.
    pub(super) fn partly(value: Value, unknown: Vec<String>) -> Answer {
        Answer { value, unknown }
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
        let unknown = (!unknown.is_empty()).then(|| Value::Map(vec![(uris::UNKNOWN.into(), unknown.into())]));
        PayloadBuf::of_values(vec![self.value], unknown)
    }
}

impl From<Value> for Answer {
    fn from(value: Value) -> Answer {
        Answer::partly(value, Vec::new())
    }
}
