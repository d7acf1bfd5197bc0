//! Payloads for those who do look into them: clients and callees, never the router.
//!
//! Chunks of bytes have a quick way of their own (`bytes_arg`, `write_bytes_arg`); everything else goes through
//! `rmpv::Value`, bounded in depth.

use rmpv::Value;
use serde::Serialize;

use crate::error::Error;
use crate::message::Payload;
use crate::scan::Scan;
use crate::write;

/// How deep a decoded payload may nest: no honest one comes near, and decoding recurses.
const DEPTH_MAX: usize = 64;

/// A payload with its own bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PayloadBuf {
    /// As in [`Payload`].
    pub parts: u8,
    /// As in [`Payload`].
    pub bytes: Vec<u8>,
}

impl PayloadBuf {
    /// From values. Empty arguments without keyword arguments are left out (specification, trailing elements).
    pub fn of_values(args: Vec<Value>, kwargs: Option<Value>) -> PayloadBuf {
        if args.is_empty() && kwargs.is_none() {
            return PayloadBuf::default();
        }
        let mut bytes = Vec::new();
        put(&mut bytes, &Value::Array(args));
        let parts = 1 + u8::from(kwargs.is_some());
        if let Some(kwargs) = kwargs {
            put(&mut bytes, &kwargs);
        }
        PayloadBuf { parts, bytes }
    }

    /// From keyword arguments alone.
    pub fn of_kwargs(pairs: Vec<(&str, Value)>) -> PayloadBuf {
        let pairs = pairs
            .into_iter()
            .map(|(key, value)| (Value::from(key), value))
            .collect();
        PayloadBuf::of_values(Vec::new(), Some(Value::Map(pairs)))
    }

    /// One argument, with fields by name.
    pub fn of<T: Serialize>(argument: &T) -> Result<PayloadBuf, rmp_serde::encode::Error> {
        let mut bytes = vec![0x91];
        bytes.extend(rmp_serde::to_vec_named(argument)?);
        Ok(PayloadBuf { parts: 1, bytes })
    }

    /// One argument: bytes.
    pub fn of_bytes(argument: &[u8]) -> PayloadBuf {
        let mut bytes = Vec::with_capacity(argument.len() + 6);
        write_bytes_arg(&mut bytes, argument);
        PayloadBuf { parts: 1, bytes }
    }

    /// Borrowed, as messages want it.
    pub fn as_payload(&self) -> Payload<'_> {
        Payload {
            parts: self.parts,
            bytes: &self.bytes,
        }
    }
}

impl From<Payload<'_>> for PayloadBuf {
    fn from(payload: Payload<'_>) -> PayloadBuf {
        PayloadBuf {
            parts: payload.parts,
            bytes: payload.bytes.to_vec(),
        }
    }
}

impl<'a> Payload<'a> {
    /// The arguments, decoded.
    pub fn args(&self) -> Result<Vec<Value>, Error> {
        if self.parts == 0 {
            return Ok(Vec::new());
        }
        match decode(&mut &self.bytes[..])? {
            Value::Array(values) => Ok(values),
            _ => Err(Error::Malformed("arguments are not a list")),
        }
    }

    /// The keyword arguments, decoded, in their order.
    pub fn kwargs(&self) -> Result<Vec<(String, Value)>, Error> {
        if self.parts < 2 {
            return Ok(Vec::new());
        }
        let mut scan = Scan::new(self.bytes);
        scan.skip()?;
        let Value::Map(pairs) = decode(&mut scan.rest())? else {
            return Err(Error::Malformed("keyword arguments are not a dictionary"));
        };
        let named = pairs.into_iter().map(|(key, value)| match key {
            Value::String(key) => Ok((
                key.into_str().ok_or(Error::Malformed("a key is not UTF-8"))?,
                value,
            )),
            _ => Err(Error::Malformed("a key is not a text")),
        });
        named.collect()
    }

    /// The MessagePack of the argument at `index`, undecoded.
    pub fn raw_arg(&self, index: usize) -> Option<&'a [u8]> {
        let mut scan = Scan::new(self.bytes);
        if self.parts == 0 || scan.array().ok()? <= index {
            return None;
        }
        for _ in 0..index {
            scan.skip().ok()?;
        }
        scan.skip().ok()
    }
}

fn put(out: &mut Vec<u8>, value: &Value) {
    // Writing to memory cannot fail.
    let _ = rmpv::encode::write_value(out, value);
}

fn decode(bytes: &mut &[u8]) -> Result<Value, Error> {
    rmpv::decode::read_value_with_max_depth(bytes, DEPTH_MAX)
        .map_err(|_| Error::Malformed("a payload is not readable"))
}

/// The first argument, where it is bytes.
pub fn bytes_arg<'a>(payload: Payload<'a>) -> Option<&'a [u8]> {
    let mut scan = Scan::new(payload.bytes);
    if payload.parts == 0 || scan.array().ok()? == 0 {
        return None;
    }
    scan.binary().ok()
}

/// Arguments `[bytes]`.
pub fn write_bytes_arg(out: &mut Vec<u8>, bytes: &[u8]) {
    write_bytes_arg_head(out, bytes.len());
    out.extend_from_slice(bytes);
}

/// Arguments `[bytes]` without the bytes, which must follow: for data that comes from a pipe or a socket.
pub fn write_bytes_arg_head(out: &mut Vec<u8>, length: usize) {
    write::array(out, 1);
    write::binary_head(out, length);
}

/// Arguments `[tag, bytes]`.
pub fn write_tagged_bytes(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    write::array(out, 2);
    write::unsigned(out, u64::from(tag));
    write::binary_head(out, bytes.len());
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_argument_of_bytes_is_found_without_decoding() {
        for length in [0, 1, 255, 256, 65_535, 65_536] {
            let data = vec![7; length];
            let payload = PayloadBuf::of_bytes(&data);
            assert_eq!(bytes_arg(payload.as_payload()), Some(&data[..]));
            assert_eq!(payload.as_payload().args().unwrap(), vec![Value::Binary(data)]);
        }
    }

    #[test]
    fn nothing_is_left_out_but_what_is_empty() {
        assert_eq!(PayloadBuf::of_values(vec![], None).parts, 0);
        assert_eq!(PayloadBuf::of_kwargs(vec![("a", 1.into())]).parts, 2);
    }

    #[test]
    fn deep_nesting_is_refused() {
        let mut bytes = vec![0x91; 1000];
        bytes.push(0x90);
        assert!(
            Payload {
                parts: 1,
                bytes: &bytes
            }
            .args()
            .is_err()
        );
    }
}
