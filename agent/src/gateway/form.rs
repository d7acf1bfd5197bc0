//! What `curl -d query=DATA` sends, read as it comes: the field's value and one newline. Pure.
//!
//! ```text
//! query=some_data          -> some_data\n        query=a%20b+c&more=1  -> a b c\n
//! some_data                -> some_data          (no form: as it came)
//! ```
//!
//! Always: (1) a body that does not begin with `query=` goes through unchanged; (2) what is no escape stays as it stands,
//! as browsers read it; (3) nothing but the beginning, or an escape that is not whole, is held back.

/// What a form begins with.
const FIELD: &[u8] = b"query=";

/// Reads a body of type `application/x-www-form-urlencoded`.
#[derive(Debug, Default)]
pub struct Form {
    state: State,
    /// Bytes of the beginning, or of an escape, that are not decided yet.
    held: Vec<u8>,
}

#[derive(Debug, Default, PartialEq, Clone, Copy)]
enum State {
    /// It may be a form.
    #[default]
    Beginning,
    /// It is none.
    Raw,
    /// In the field's value.
    Value,
    /// In an escape of the value.
    Escape,
    /// Behind the field.
    Rest,
}

impl Form {
    /// What the next bytes of the body come to.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.held.len() + bytes.len());
        for (index, &byte) in bytes.iter().enumerate() {
            match self.state {
                State::Raw => {
                    out.extend_from_slice(&bytes[index..]);
                    break;
                }
                State::Rest => break,
                State::Beginning => {
                    self.held.push(byte);
                    if !FIELD.starts_with(&self.held) {
                        self.state = State::Raw;
                        out.append(&mut self.held);
                    } else if self.held.len() == FIELD.len() {
                        self.state = State::Value;
                        self.held.clear();
                    }
                }
                State::Value => self.value(byte, &mut out),
                State::Escape => {
                    self.held.push(byte);
                    self.escape(&mut out);
                }
            }
        }
        out
    }

    /// What its end comes to.
    pub fn finish(mut self) -> Vec<u8> {
        let mut out = std::mem::take(&mut self.held);
        if matches!(self.state, State::Value | State::Escape | State::Rest) {
            out.push(b'\n');
        }
        out
    }

    fn value(&mut self, byte: u8, out: &mut Vec<u8>) {
        match byte {
            b'&' => self.state = State::Rest,
            b'+' => out.push(b' '),
            b'%' => {
                self.state = State::Escape;
                self.held.push(byte);
            }
            byte => out.push(byte),
        }
    }

    /// Decides an escape as soon as that can be done.
    fn escape(&mut self, out: &mut Vec<u8>) {
        let digits = &self.held[1..];
        let is_open = digits.len() < 2 && digits.iter().all(u8::is_ascii_hexdigit);
        if is_open {
            return;
        }
        self.state = State::Value;
        let mut byte = [0];
        match hex::decode_to_slice(digits, &mut byte) {
            Ok(()) => {
                self.held.clear();
                out.push(byte[0]);
            }
            Err(_) => {
                // The percent sign stands for itself, what follows may be anything.
                out.push(b'%');
                let rest = self.held.split_off(1);
                self.held.clear();
                for byte in rest {
                    match self.state {
                        State::Value => self.value(byte, out),
                        State::Escape => {
                            self.held.push(byte);
                            self.escape(out);
                        }
                        _ => {}
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(chunks: &[&[u8]]) -> String {
        let mut form = Form::default();
        let mut out: Vec<u8> = chunks.iter().flat_map(|chunk| form.push(chunk)).collect();
        out.extend(form.finish());
        String::from_utf8_lossy(&out).into_owned()
    }

    #[test]
    fn a_form_gives_its_field_and_a_newline_however_it_is_cut() {
        for (body, expected) in [
            ("query=some_data", "some_data\n"),
            ("query=", "\n"),
            ("query=a%20b+c&more=1&query=2", "a b c\n"),
            ("query=%41%zz%4", "A%zz%4\n"),
            ("query=%%41", "%A\n"),
            ("query=%4&x", "%4\n"),
            ("query=100%", "100%\n"),
            ("query=a=b", "a=b\n"),
            ("some_data", "some_data"),
            ("quer", "quer"),
            ("", ""),
            ("q=1&query=2", "q=1&query=2"),
            ("Query=1%20", "Query=1%20"),
        ] {
            assert_eq!(read(&[body.as_bytes()]), expected, "{body}");
            let bytes: Vec<&[u8]> = body.as_bytes().chunks(1).collect();
            assert_eq!(read(&bytes), expected, "{body}, byte by byte");
            for cut in 0..body.len() {
                let (left, right) = body.as_bytes().split_at(cut);
                assert_eq!(read(&[left, right]), expected, "{body}, cut at {cut}");
            }
        }
    }
}
