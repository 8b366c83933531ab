//! Keys, which are bytes, as people type and read them.

use std::ffi::OsString;
use std::fmt;

use serde::{Serialize, Serializer};

use crate::args::Global;
use crate::failure::{Failure, Result};
use crate::value::{Hex, tagged};

/// A key as it was typed.
#[derive(Debug, Clone)]
pub(crate) struct Typed(OsString);

impl From<OsString> for Typed {
    fn from(typed: OsString) -> Self {
        Typed(typed)
    }
}

impl Typed {
    /// Its bytes: those that were typed, or with `--hex-keys` those that they stand for.
    pub(crate) fn bytes(&self, global: &Global) -> Result<Vec<u8>> {
        let bytes = self.0.as_encoded_bytes();
        if !global.hex_keys {
            return Ok(bytes.to_vec());
        }
        from_hex(bytes).ok_or_else(|| {
            Failure::Usage(format!("{:?} is not hexadecimal; leave out --hex-keys to give a key as text", self.0))
        })
    }
}

/// Two digits a byte, spaces between bytes allowed.
pub(crate) fn from_hex(text: &[u8]) -> Option<Vec<u8>> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16).map(|digit| digit as u8);
    let digits: Option<Vec<u8>> = text.iter().filter(|byte| !byte.is_ascii_whitespace()).map(digit).collect();
    let digits = digits.filter(|digits| digits.len().is_multiple_of(2))?;
    Some(digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}

/// Bytes of a key or of metadata, to be shown. As text: themselves where they are printable text that could not be
/// mistaken, else a JSON string, else `hex:` and digits. As JSON: a string, or `{"$bin": "digits"}`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shown<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ok(text) = std::str::from_utf8(self.0) else {
            return write!(f, "hex:{}", Hex(self.0));
        };
        let is_plain = !text.is_empty() && !text.starts_with('"') && !text.starts_with("hex:");
        if is_plain && !text.contains(char::is_control) {
            return f.write_str(text);
        }
        f.write_str("\"")?;
        for c in text.chars() {
            match c {
                '"' | '\\' => write!(f, "\\{c}")?,
                '\n' => f.write_str("\\n")?,
                '\t' => f.write_str("\\t")?,
                c if c.is_control() => write!(f, "\\u{:04x}", u32::from(c))?,
                c => write!(f, "{c}")?,
            }
        }
        f.write_str("\"")
    }
}

impl Serialize for Shown<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(self.0) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => tagged(serializer, "$bin", &Hex(self.0)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_shown_so_that_they_can_be_told_apart() {
        for (key, text) in [
            (&b"user:42"[..], "user:42"),
            ("Größe ✓".as_bytes(), "Größe ✓"),
            (b"", "\"\""),
            (b"a\tb\n", r#""a\tb\n""#),
            (b"\x1b[31m", r#""\u001b[31m""#),
            ("\u{9b}2J".as_bytes(), r#""\u009b2J""#),
            (b"\"a\"", r#""\"a\"""#),
            (b"hex:ff", r#""hex:ff""#),
            (b"\xff\x00", "hex:ff00"),
        ] {
            assert_eq!(Shown(key).to_string(), text);
        }
        assert_eq!(serde_json::to_string(&Shown(b"a\xff")).unwrap(), r#"{"$bin":"61ff"}"#);
    }

    #[test]
    fn hexadecimal_is_two_digits_a_byte() {
        assert_eq!(from_hex(b"00 fF7a").unwrap(), [0, 0xff, 0x7a]);
        assert!(from_hex(b"").unwrap().is_empty());
        assert!(from_hex(b"0").is_none() && from_hex(b"0g").is_none() && from_hex(b"0x00").is_none());
    }
}
