//! Keyword arguments of a call, taken by name; what is not asked for is ignored.

use pipes_protocol::uris;
use pipes_wamp::message::Payload;
use rmpv::Value;
use serde::de::DeserializeOwned;

use crate::api::Error;
use crate::cluster::tokens::Bearer;

/// The keyword arguments of one call, and who made it.
pub struct Arguments {
    pairs: Vec<(String, Value)>,
    /// Whoever comes with a token, once it was let through.
    pub(super) caller: Option<Bearer>,
}

impl Arguments {
    /// Decodes them.
    pub fn of(payload: Payload<'_>) -> Result<Arguments, Error> {
        payload
            .kwargs()
            .map(Arguments::with)
            .map_err(|error| Error::Usage(error.to_string()))
    }

    /// These.
    pub(super) fn with(pairs: Vec<(String, Value)>) -> Arguments {
        Arguments { pairs, caller: None }
    }

    /// A text that was given, which is left where it is.
    pub(super) fn text_given(&self, name: &str) -> Option<&str> {
        let (_, value) = self.pairs.iter().find(|(key, _)| key == name)?;
        value.as_str()
    }

    /// An argument, if it was given.
    pub fn take(&mut self, name: &str) -> Option<Value> {
        let at = self
            .pairs
            .iter()
            .position(|(key, value)| key == name && !value.is_nil())?;
        Some(self.pairs.swap_remove(at).1)
    }

    /// A text that must be given.
    pub fn text(&mut self, name: &str) -> Result<String, Error> {
        let missing = || Error::Usage(format!("{name} must be given, as text"));
        self.take(name)
            .and_then(|value| value.as_str().map(str::to_owned))
            .ok_or_else(missing)
    }

    /// After which place a listing is to go on.
    pub(super) fn after(&mut self) -> Result<Option<String>, Error> {
        let wrong = || Error::Usage("after must be the text that came as next with the page before".into());
        let after = self.take(uris::AFTER);
        after
            .map(|place| place.as_str().map(str::to_owned).ok_or_else(wrong))
            .transpose()
    }

    /// True only if it was given and is true.
    pub fn flag(&mut self, name: &str) -> bool {
        self.take(name).and_then(|value| value.as_bool()).unwrap_or(false)
    }

    /// Seconds, perhaps with a fraction.
    pub fn seconds(&mut self, name: &str) -> Option<f64> {
        let value = self.take(name)?;
        value
            .as_f64()
            .or_else(|| value.as_u64().map(|whole| whole as f64))
    }

    /// A whole number.
    pub fn number(&mut self, name: &str) -> Option<u64> {
        self.take(name)?.as_u64()
    }

    /// Those that were not taken.
    pub fn rest(&mut self) -> Vec<(String, Value)> {
        std::mem::take(&mut self.pairs)
    }

    /// All of them as one value of type `T`, by field names.
    pub fn all<T: DeserializeOwned>(&mut self) -> Result<T, Error> {
        let pairs = std::mem::take(&mut self.pairs)
            .into_iter()
            .map(|(key, value)| (Value::from(key), value))
            .collect();
        decode(&Value::Map(pairs))
    }
}

/// A value as `T`. By way of its bytes: `rmpv::ext::from_value` takes no enum that is written by its variant's name.
pub fn decode<T: DeserializeOwned>(value: &Value) -> Result<T, Error> {
    let mut bytes = Vec::new();
    rmpv::encode::write_value(&mut bytes, value).map_err(|error| Error::Usage(error.to_string()))?;
    rmp_serde::from_slice(&bytes).map_err(|error| Error::Usage(error.to_string()))
}
