//! Names of resources, lockspaces and groups: raw bytes, and how they are written as text.

use alloc::{string::String, vec::Vec};

/// Bytes that stand for themselves in a written name; all others are percent-escaped.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_graphic() && byte != b'%' && byte != b'"' && byte != b'\\'
}

/// A name as text: graphic ASCII stands for itself, every other byte and `%`, `"`, `\` is written `%XX`.
#[must_use]
pub fn escape(name: &[u8]) -> String {
    const HEX: [char; 16] = ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'A', 'B', 'C', 'D', 'E', 'F'];
    let mut text = String::with_capacity(name.len());
    for &byte in name {
        if is_plain(byte) {
            text.push(char::from(byte));
        } else {
            text.push('%');
            text.push(HEX[usize::from(byte >> 4)]);
            text.push(HEX[usize::from(byte & 15)]);
        }
    }
    text
}

/// The bytes of a written name. `%XX` is one byte; everything else, UTF-8 included, stands for its own bytes.
/// `None` where a `%` is not followed by two hexadecimal digits.
#[must_use]
pub fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        rest = tail;
        if first != b'%' {
            bytes.push(first);
            continue;
        }
        let (digits, tail) = rest.split_at_checked(2)?;
        let digits = core::str::from_utf8(digits).ok().filter(|d| !d.starts_with('+'))?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = tail;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_byte_survives_being_written() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(unescape(&escape(&all)), Some(all));
        assert_eq!(escape(b"orders/page:5"), "orders/page:5");
        assert_eq!(escape(b"a b%"), "a%20b%25");
    }

    #[test]
    fn broken_escapes_are_refused() {
        for text in ["%", "%2", "%+1", "%zz", "ok%4"] {
            assert_eq!(unescape(text), None, "{text}");
        }
    }
}
