//! Writing MessagePack, in its shortest forms.

/// An integer that is not negative.
pub fn unsigned(out: &mut Vec<u8>, number: u64) {
    match number {
        0..=0x7f => out.push(number as u8),
        0x80..=0xff => out.extend_from_slice(&[0xcc, number as u8]),
        0x100..=0xffff => sized(out, 0xcd, &(number as u16).to_be_bytes()),
        0x1_0000..=0xffff_ffff => sized(out, 0xce, &(number as u32).to_be_bytes()),
        _ => sized(out, 0xcf, &number.to_be_bytes()),
    }
}

/// A text.
pub fn text(out: &mut Vec<u8>, text: &str) {
    match text.len() {
        length @ 0..=31 => out.push(0xa0 | length as u8),
        length @ 32..=0xff => out.extend_from_slice(&[0xd9, length as u8]),
        length @ 0x100..=0xffff => sized(out, 0xda, &(length as u16).to_be_bytes()),
        length => sized(out, 0xdb, &(length as u32).to_be_bytes()),
    }
    out.extend_from_slice(text.as_bytes());
}

/// The head of `length` bytes, which must follow.
pub fn binary_head(out: &mut Vec<u8>, length: usize) {
    match length {
        0..=0xff => out.extend_from_slice(&[0xc4, length as u8]),
        0x100..=0xffff => sized(out, 0xc5, &(length as u16).to_be_bytes()),
        _ => sized(out, 0xc6, &(length as u32).to_be_bytes()),
    }
}

/// The head of a list of fewer than 65,536 values.
pub fn array(out: &mut Vec<u8>, count: usize) {
    match count {
        0..=15 => out.push(0x90 | count as u8),
        _ => sized(out, 0xdc, &(count as u16).to_be_bytes()),
    }
}

/// The head of a dictionary of fewer than 65,536 pairs.
pub fn map(out: &mut Vec<u8>, count: usize) {
    match count {
        0..=15 => out.push(0x80 | count as u8),
        _ => sized(out, 0xde, &(count as u16).to_be_bytes()),
    }
}

/// A key and a truth value.
pub fn flag(out: &mut Vec<u8>, key: &str, value: bool) {
    text(out, key);
    out.push(if value { 0xc3 } else { 0xc2 });
}

fn sized(out: &mut Vec<u8>, kind: u8, bytes: &[u8]) {
    out.push(kind);
    out.extend_from_slice(bytes);
}
