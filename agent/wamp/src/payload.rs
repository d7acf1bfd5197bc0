//! Payloads for those who do look into them: clients and callees, never the router.
//!
//! Chunks of bytes have a quick way of their own: found in place (`bytes_arg`), written with one copy
//! (`client::Writer::queue_bytes`). Everything else goes through `rmpv::Value` or serde.
//!
//! Always: (1) `bytes` are `parts` values back to back, a list and then a dictionary; (2) decoding a peer's payload takes
//! bounded memory and depth.

use rmpv::Value;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::Error;
use crate::message::Payload;
use crate::scan::Scan;
use crate::write;

/// How deep a decoded payload may nest: no honest one comes near, and decoding recurses.
const DEPTH_MAX: usize = 64;
/// How many values a payload may hold to be decoded: each takes some 40 bytes of memory for its one on the wire.
const VALUES_MAX: u64 = 1 << 18;

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

    /// Several arguments: a tuple of text, numbers and structs with their fields' names.
    pub fn of_args<T: Serialize>(arguments: &T) -> Result<PayloadBuf, rmp_serde::encode::Error> {
        let bytes = rmp_serde::to_vec_named(arguments)?;
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
        match self.part(0)?.map(decode).transpose()? {
            None => Ok(Vec::new()),
            Some(Value::Array(values)) => Ok(values),
            Some(_) => Err(Error::Malformed("arguments are not a list")),
        }
    }

    /// The keyword arguments, decoded, in their order.
    pub fn kwargs(&self) -> Result<Vec<(String, Value)>, Error> {
        let pairs = match self.part(1)?.map(decode).transpose()? {
            None => return Ok(Vec::new()),
            Some(Value::Map(pairs)) => pairs,
            Some(_) => return Err(Error::Malformed("keyword arguments are not a dictionary")),
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

    /// The arguments as a tuple or list of one's own.
    pub fn args_as<T: DeserializeOwned>(&self) -> Result<T, Error> {
        decode_as(self.part(0)?.unwrap_or(&[0x90]))
    }

    /// The first argument as a struct of one's own; further ones are ignored.
    pub fn first_as<T: DeserializeOwned>(&self) -> Result<T, Error> {
        // Refuses what holds too many values.
        self.part(0)?;
        let first = self
            .raw_arg(0)
            .ok_or(Error::Malformed("an argument is missing"))?;
        decode_as(first)
    }

    /// The sentence of an error: its last argument that is a text, empty if there is none.
    pub fn sentence(&self) -> String {
        let args = self.args().unwrap_or_default();
        let last = args.iter().rev().find_map(Value::as_str);
        last.unwrap_or_default().to_owned()
    }

    /// The keyword arguments as a struct of one's own.
    pub fn kwargs_as<T: DeserializeOwned>(&self) -> Result<T, Error> {
        decode_as(self.part(1)?.unwrap_or(&[0x80]))
    }

    /// The bytes of the arguments (0) or of the keyword arguments (1), if they are there and few enough to be decoded.
    fn part(&self, index: u8) -> Result<Option<&'a [u8]>, Error> {
        if index >= self.parts {
            return Ok(None);
        }
        let mut scan = Scan::new(self.bytes);
        let first = scan.skip_counted(VALUES_MAX)?;
        if index == 0 {
            Ok(Some(first))
        } else {
            scan.skip_counted(VALUES_MAX).map(Some)
        }
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

fn decode(mut bytes: &[u8]) -> Result<Value, Error> {
    rmpv::decode::read_value_with_max_depth(&mut bytes, DEPTH_MAX)
        .map_err(|_| Error::Malformed("a payload is not readable"))
}

fn decode_as<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Error> {
    let mut decoder = rmp_serde::Deserializer::from_read_ref(bytes);
    decoder.set_max_depth(DEPTH_MAX);
    T::deserialize(&mut decoder).map_err(|error| Error::Arguments(error.to_string()))
}

/// The first argument, where it is bytes.
pub fn bytes_arg<'a>(payload: Payload<'a>) -> Option<&'a [u8]> {
    let mut scan = Scan::new(payload.bytes);
    if payload.parts == 0 || scan.array().ok()? == 0 {
        return None;
    }
    scan.binary().ok()
}

/// The number and the bytes of arguments that begin `[number, bytes`.
pub fn tagged_bytes<'a>(payload: Payload<'a>) -> Option<(u64, &'a [u8])> {
    let mut scan = Scan::new(payload.bytes);
    if payload.parts == 0 || scan.array().ok()? < 2 {
        return None;
    }
    Some((scan.unsigned().ok()?, scan.binary().ok()?))
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

    #[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
    struct Named {
        name: String,
        #[serde(with = "serde_bytes")]
        data: Vec<u8>,
    }

    #[test]
    fn arguments_are_read_into_what_is_expected_or_refused() {
        let named = Named {
            name: "a".into(),
            data: vec![1, 2],
        };
        let payload = PayloadBuf::of(&named).unwrap();
        assert_eq!(payload.as_payload().args_as::<(Named,)>().unwrap(), (named,));
        assert!(matches!(
            payload.as_payload().args_as::<(u64,)>(),
            Err(Error::Arguments(_))
        ));
        assert_eq!(Payload::EMPTY.args_as::<[u8; 0]>().unwrap(), [0_u8; 0]);
        let kwargs = PayloadBuf::of_kwargs(vec![("name", "b".into()), ("data", Value::Binary(vec![]))]);
        assert_eq!(kwargs.as_payload().kwargs_as::<Named>().unwrap().name, "b");
        assert!(Payload::EMPTY.kwargs_as::<Named>().is_err());
    }

    #[test]
    fn bytes_behind_a_number_are_found_in_place() {
        let mut bytes = Vec::new();
        write_tagged_bytes(&mut bytes, 2, b"out");
        assert_eq!(
            tagged_bytes(Payload {
                parts: 1,
                bytes: &bytes
            }),
            Some((2, &b"out"[..]))
        );
        assert_eq!(tagged_bytes(PayloadBuf::of_bytes(b"x").as_payload()), None);
        assert_eq!(tagged_bytes(Payload::EMPTY), None);
    }

    #[test]
    fn a_payload_of_very_many_values_is_not_decoded() {
        let count = VALUES_MAX as u32;
        let mut bytes = vec![0xdd];
        bytes.extend_from_slice(&count.to_be_bytes());
        bytes.resize(5 + count as usize, 0xc0);
        let payload = Payload {
            parts: 1,
            bytes: &bytes,
        };
        assert!(payload.args().is_err());
        assert!(payload.args_as::<Vec<()>>().is_err());
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
