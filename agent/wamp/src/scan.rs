//! Reading MessagePack in place: heads are decoded, the rest is skipped as bytes.
//!
//! Always: (1) never reads past the slice; (2) never recurses, so that nesting costs no stack; (3) integers of every
//! width are accepted, floats never stand for one (rule 1 of the identifiers).

use crate::error::Error;

/// A cursor over one message.
#[derive(Clone, Copy, Debug)]
pub struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
}

const SHORT: Error = Error::Malformed("it ends too early");

impl<'a> Scan<'a> {
    /// Begins at the first byte.
    pub fn new(bytes: &'a [u8]) -> Scan<'a> {
        Scan { bytes, at: 0 }
    }

    /// What was not read yet.
    pub fn rest(&self) -> &'a [u8] {
        &self.bytes[self.at..]
    }

    /// The type byte of the next value.
    pub fn peek(&self) -> Result<u8, Error> {
        self.bytes.get(self.at).copied().ok_or(SHORT)
    }

    /// Whether the next value is nil.
    pub fn is_nil(&self) -> Result<bool, Error> {
        Ok(self.peek()? == 0xc0)
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], Error> {
        let end = self
            .at
            .checked_add(count)
            .filter(|end| *end <= self.bytes.len())
            .ok_or(SHORT)?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, Error> {
        let byte = self.peek()?;
        self.at += 1;
        Ok(byte)
    }

    fn big_endian(&mut self, width: usize) -> Result<u64, Error> {
        Ok(self
            .take(width)?
            .iter()
            .fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    /// An array's head: how many values follow.
    pub fn array(&mut self) -> Result<usize, Error> {
        match self.byte()? {
            byte @ 0x90..=0x9f => Ok(usize::from(byte & 0x0f)),
            0xdc => Ok(self.big_endian(2)? as usize),
            0xdd => Ok(self.big_endian(4)? as usize),
            _ => Err(Error::Malformed("a list was expected")),
        }
    }

    /// A map's head: how many pairs follow.
    pub fn map(&mut self) -> Result<usize, Error> {
        match self.byte()? {
            byte @ 0x80..=0x8f => Ok(usize::from(byte & 0x0f)),
            0xde => Ok(self.big_endian(2)? as usize),
            0xdf => Ok(self.big_endian(4)? as usize),
            _ => Err(Error::Malformed("a dictionary was expected")),
        }
    }

    /// An integer that is not negative, of any width.
    pub fn unsigned(&mut self) -> Result<u64, Error> {
        match self.byte()? {
            byte @ 0x00..=0x7f => Ok(u64::from(byte)),
            0xcc => self.big_endian(1),
            0xcd => self.big_endian(2),
            0xce => self.big_endian(4),
            0xcf => self.big_endian(8),
            byte @ 0xd0..=0xd3 => {
                let width = 1 << (byte - 0xd0);
                let number = self.big_endian(width)?;
                let negative = number >> (8 * width - 1) & 1 == 1;
                if negative {
                    Err(Error::Malformed("a number is negative"))
                } else {
                    Ok(number)
                }
            }
            _ => Err(Error::Malformed("an integer was expected")),
        }
    }

    /// A request, session or registration id: 1 to 2^53 (Identifiers, rule 1).
    pub fn id(&mut self) -> Result<u64, Error> {
        match self.id_or_zero()? {
            0 => Err(Error::Malformed("an id is not in 1..2^53")),
            id => Ok(id),
        }
    }

    /// An id, or the 0 that stands for none in a few messages.
    pub fn id_or_zero(&mut self) -> Result<u64, Error> {
        match self.unsigned()? {
            id if id > crate::id::MAX => Err(Error::Malformed("an id is not in 1..2^53")),
            id => Ok(id),
        }
    }

    /// A text.
    pub fn text(&mut self) -> Result<&'a str, Error> {
        let length = match self.byte()? {
            byte @ 0xa0..=0xbf => usize::from(byte & 0x1f),
            0xd9 => self.big_endian(1)? as usize,
            0xda => self.big_endian(2)? as usize,
            0xdb => self.big_endian(4)? as usize,
            _ => return Err(Error::Malformed("a text was expected")),
        };
        std::str::from_utf8(self.take(length)?).map_err(|_| Error::Malformed("a text is not UTF-8"))
    }

    /// Bytes (`bin`, never `str`).
    pub fn binary(&mut self) -> Result<&'a [u8], Error> {
        let length = match self.byte()? {
            0xc4 => self.big_endian(1)? as usize,
            0xc5 => self.big_endian(2)? as usize,
            0xc6 => self.big_endian(4)? as usize,
            _ => return Err(Error::Malformed("bytes were expected")),
        };
        self.take(length)
    }

    /// True or false.
    pub fn boolean(&mut self) -> Result<bool, Error> {
        match self.byte()? {
            0xc2 => Ok(false),
            0xc3 => Ok(true),
            _ => Err(Error::Malformed("true or false was expected")),
        }
    }

    /// Skips one value, whatever it holds, and gives its bytes.
    pub fn skip(&mut self) -> Result<&'a [u8], Error> {
        self.skip_counted(u64::MAX)
    }

    /// Skips one value that is made of at most so many values, itself counted, and gives its bytes.
    pub fn skip_counted(&mut self, values_max: u64) -> Result<&'a [u8], Error> {
        let begin = self.at;
        let (mut open, mut seen) = (1_u64, 0_u64);
        while open > 0 {
            open -= 1;
            seen += 1;
            // Each value takes a byte at least: a list that announces more than is left is refused at its head.
            if open >= (self.bytes.len() - self.at) as u64 {
                return Err(SHORT);
            }
            if seen > values_max {
                return Err(Error::Malformed("it holds too many values"));
            }
            open += self.skip_head()?;
        }
        Ok(&self.bytes[begin..self.at])
    }

    /// Skips a value's head and its own bytes; how many values it holds.
    fn skip_head(&mut self) -> Result<u64, Error> {
        let byte = self.byte()?;
        let (length, inner) = match byte {
            0x00..=0x7f | 0xc0 | 0xc2 | 0xc3 | 0xe0..=0xff => (0, 0),
            0x80..=0x8f => (0, 2 * u64::from(byte & 0x0f)),
            0x90..=0x9f => (0, u64::from(byte & 0x0f)),
            0xa0..=0xbf => (usize::from(byte & 0x1f), 0),
            0xc1 => return Err(Error::Malformed("an unused type")),
            0xc4 | 0xd9 => (self.big_endian(1)? as usize, 0),
            0xc5 | 0xda => (self.big_endian(2)? as usize, 0),
            0xc6 | 0xdb => (self.big_endian(4)? as usize, 0),
            0xc7 => (self.big_endian(1)? as usize + 1, 0),
            0xc8 => (self.big_endian(2)? as usize + 1, 0),
            0xc9 => (self.big_endian(4)? as usize + 1, 0),
            0xcc | 0xd0 => (1, 0),
            0xcd | 0xd1 => (2, 0),
            0xca | 0xce | 0xd2 => (4, 0),
            0xcb | 0xcf | 0xd3 => (8, 0),
            0xd4..=0xd8 => (1 + (1 << (byte - 0xd4)), 0),
            0xdc => (0, self.big_endian(2)?),
            0xdd => (0, self.big_endian(4)?),
            0xde => (0, 2 * self.big_endian(2)?),
            0xdf => (0, 2 * self.big_endian(4)?),
        };
        self.take(length)?;
        Ok(inner)
    }
}
