//! JSON lines, plain or compressed with gzip.
//!
//! ```text
//! {"index": 1, "key": "a", "value": {"any": "JSON"}}
//! ```
//!
//! Without an index the log chooses one; without a key it is empty. What JSON cannot hold stands in base64, with
//! padding:
//!
//! | instead of | stands | for |
//! |---|---|---|
//! | `key` | `key_base64` | a key that is not UTF-8 |
//! | `value` | `value_base64` | the bytes of a MessagePack bin |
//! | `value` | `value_msgpack_base64` | any other value, as MessagePack |
//!
//! An export writes `value` wherever reading it back gives the same bytes of MessagePack: so not for a number of 32-bit
//! floating point, one that is not finite, an extension, or a map with keys that are no text or come twice. A number
//! without fraction or exponent that does not fit 64 bits is refused: it would be read as another.

use std::io::{self, BufRead};
use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use casklog::EntryRef;
use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use crate::error::{Reason, Unreadable};
use crate::raw::{self, Item};
use crate::record::Record;

/// A value that is nested deeper than this is written as MessagePack: readers of JSON have their limits.
const DEPTH_MAX: usize = 100;

/// One line. A field with another name would be lost, so it is refused.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    index: Option<u64>,
    key: Option<String>,
    key_base64: Option<String>,
    #[serde(default, deserialize_with = "present")]
    value: Option<Encoded>,
    value_base64: Option<String>,
    value_msgpack_base64: Option<String>,
}

/// `null` is a value, not the want of one.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Encoded>, D::Error> {
    Encoded::deserialize(deserializer).map(Some)
}

/// Reads a line.
///
/// # Errors
/// What is wrong with it.
fn parse(line: &[u8]) -> Result<Record, Reason> {
    if !line.starts_with(b"{") {
        return Err(Reason::malformed("the line is no JSON object"));
    }
    match serde_json::from_slice(line) {
        Ok(parsed) => record(parsed, line).map_err(Reason::Malformed),
        Err(error) if error.is_eof() => Err(Reason::CutShort),
        Err(error) => {
            let text = error.to_string();
            let place = text.rsplit_once(" at line 1 ").map(|(what, place)| format!("{what} ({place})"));
            Err(Reason::Malformed(place.unwrap_or(text)))
        }
    }
}

fn record(parsed: Line, line: &[u8]) -> Result<Record, String> {
    let decode = |text: &str| BASE64.decode(text).map_err(|error| format!("it is not base64: {error}"));
    let key = match (parsed.key, parsed.key_base64) {
        (key, None) => key.unwrap_or_default().into_bytes(),
        (None, Some(text)) => decode(&text)?,
        (Some(_), Some(_)) => return Err("it has both key and key_base64".to_owned()),
    };
    let value = match (parsed.value, parsed.value_base64, parsed.value_msgpack_base64) {
        (Some(Encoded(value)), None, None) => match integer_too_large(line) {
            None => value,
            Some(number) => return Err(format!("the number {number} does not fit 64 bits")),
        },
        (None, Some(text), None) => raw::encode_bin(&decode(&text)?),
        (None, None, Some(text)) => raw::encode(&decode(&text)?)?,
        (None, None, None) => return Err("it has no value".to_owned()),
        _ => return Err("it has more than one value".to_owned()),
    };
    Ok(Record { index: parsed.index, key, value })
}

/// A number in the text of a line that a reader of JSON takes for floating point because it is too large an integer.
fn integer_too_large(line: &[u8]) -> Option<&str> {
    let mut rest = line;
    while let Some((first, behind)) = rest.split_first() {
        rest = behind;
        match first {
            b'"' => {
                // To the quote that ends the string.
                while let Some((byte, behind)) = rest.split_first() {
                    rest = if *byte == b'\\' { behind.get(1..).unwrap_or_default() } else { behind };
                    if *byte == b'"' {
                        break;
                    }
                }
            }
            b'-' | b'0'..=b'9' => {
                let is_in_number = |byte: &&u8| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-');
                let length = rest.iter().take_while(is_in_number).count();
                let from = line.len() - rest.len() - 1;
                let text = str::from_utf8(&line[from..=from + length]).unwrap_or_default();
                rest = &rest[length..];
                let is_integer = !text.contains(['.', 'e', 'E']);
                if is_integer && text.parse::<u64>().is_err() && text.parse::<i64>().is_err() {
                    return Some(text);
                }
            }
            _ => {}
        }
    }
    None
}

/// A JSON value as MessagePack, maps in the order in which they stand.
struct Encoded(Vec<u8>);

impl<'de> Deserialize<'de> for Encoded {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut encoded = Vec::new();
        Append(&mut encoded).deserialize(deserializer)?;
        Ok(Encoded(encoded))
    }
}

/// Appends the value that is deserialized.
struct Append<'a>(&'a mut Vec<u8>);

impl<'de> DeserializeSeed<'de> for Append<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Append<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("any JSON")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.0.push(0xc0);
        Ok(())
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.0.push(if value { 0xc3 } else { 0xc2 });
        Ok(())
    }

    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<(), E> {
        rmp::encode::write_uint(self.0, number).map(|_| ()).map_err(E::custom)
    }

    fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<(), E> {
        rmp::encode::write_sint(self.0, number).map(|_| ()).map_err(E::custom)
    }

    fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<(), E> {
        rmp::encode::write_f64(self.0, number).map_err(E::custom)
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<(), E> {
        u32::try_from(text.len()).map_err(|_| E::custom("the text has more than 4 GiB"))?;
        rmp::encode::write_str(self.0, text).map_err(E::custom)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let (mut inside, mut count) = (Vec::new(), 0_u32);
        while items.next_element_seed(Append(&mut inside))?.is_some() {
            count = count.checked_add(1).ok_or_else(|| A::Error::custom("the list has more than 2^32 items"))?;
        }
        rmp::encode::write_array_len(self.0, count).map_err(A::Error::custom)?;
        self.0.append(&mut inside);
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let (mut inside, mut count) = (Vec::new(), 0_u32);
        while items.next_key_seed(Append(&mut inside))?.is_some() {
            items.next_value_seed(Append(&mut inside))?;
            count = count.checked_add(1).ok_or_else(|| A::Error::custom("the object has more than 2^32 fields"))?;
        }
        rmp::encode::write_map_len(self.0, count).map_err(A::Error::custom)?;
        self.0.append(&mut inside);
        Ok(())
    }
}

/// The records of a file of lines. Each bad line is passed over by itself; blank lines are nothing.
pub(crate) struct Lines {
    reader: Box<dyn BufRead + Send>,
    path: PathBuf,
    offset: u64,
    line: Vec<u8>,
    is_done: bool,
}

impl Lines {
    pub(crate) fn new(reader: Box<dyn BufRead + Send>, path: PathBuf) -> Self {
        Lines { reader, path, offset: 0, line: Vec::new(), is_done: false }
    }

    fn unreadable(&self, offset: u64, reason: Reason) -> Unreadable {
        Unreadable { path: self.path.clone(), offset, passed_over: self.line.len() as u64, reason }
    }
}

impl Iterator for Lines {
    type Item = Result<Record, Unreadable>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.is_done {
            let start = self.offset;
            self.line.clear();
            let read = self.reader.read_until(b'\n', &mut self.line);
            self.offset += self.line.len() as u64;
            match read {
                Ok(0) => self.is_done = true,
                Ok(_) if self.line.trim_ascii().is_empty() => {}
                Ok(_) => {
                    return Some(parse(self.line.trim_ascii()).map_err(|reason| match reason {
                        Reason::CutShort if self.line.ends_with(b"\n") => {
                            self.unreadable(start, Reason::malformed("the line breaks off"))
                        }
                        reason => self.unreadable(start, reason),
                    }));
                }
                Err(error) => {
                    self.is_done = true;
                    return Some(Err(self.unreadable(start, Reason::Io(error))));
                }
            }
        }
        None
    }
}

/// Whether the file begins as one of JSON lines does.
pub(crate) fn is_likely(mut reader: Box<dyn BufRead + Send>) -> io::Result<bool> {
    loop {
        let bytes = reader.fill_buf()?;
        let blank = bytes.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        match bytes.get(blank) {
            Some(b'{') => break,
            None if blank > 0 => reader.consume(blank),
            _ => return Ok(false),
        }
    }
    Ok(Lines::new(reader, PathBuf::new()).take(crate::detect::EVENTS).any(|record| record.is_ok()))
}

/// Appends the line of an entry.
pub(crate) fn write(out: &mut Vec<u8>, entry: EntryRef<'_>) -> io::Result<()> {
    let (index, key, value) = (entry.index(), entry.key(), entry.raw_value());
    out.extend_from_slice(b"{\"index\":");
    serde_json::to_writer(&mut *out, &index)?;
    match str::from_utf8(key) {
        Ok(key) => {
            out.extend_from_slice(b",\"key\":");
            serde_json::to_writer(&mut *out, key)?;
        }
        Err(_) => write_base64(out, "key_base64", key),
    }
    if is_json(value) {
        out.extend_from_slice(b",\"value\":");
        serde_json::to_writer(&mut *out, &raw::Raw(value))?;
    } else if let Some(bytes) = raw::decode_bin(value).filter(|bytes| raw::encode_bin(bytes) == value) {
        write_base64(out, "value_base64", bytes);
    } else {
        write_base64(out, "value_msgpack_base64", value);
    }
    out.extend_from_slice(b"}\n");
    Ok(())
}

fn write_base64(out: &mut Vec<u8>, name: &str, bytes: &[u8]) {
    out.extend_from_slice(format!(",\"{name}\":\"{}\"", BASE64.encode(bytes)).as_bytes());
}

/// Whether a MessagePack value can be written as JSON and read back to the same bytes.
fn is_json(value: &[u8]) -> bool {
    let mut rest = value;
    is_json_value(&mut rest, 0) && rest.is_empty() && raw::encode(value).is_ok_and(|encoded| encoded == value)
}

fn is_json_value(rest: &mut &[u8], depth: usize) -> bool {
    match raw::item(rest) {
        Ok(Item::Nil | Item::Bool(_) | Item::Unsigned(_) | Item::Signed(_)) => true,
        Ok(Item::F64(number)) => number.is_finite(),
        Ok(Item::Str(text)) => str::from_utf8(text).is_ok(),
        Ok(Item::Array(count)) => depth < DEPTH_MAX && (0..count).all(|_| is_json_value(rest, depth + 1)),
        Ok(Item::Map(count)) => depth < DEPTH_MAX && is_json_object(rest, count, depth + 1),
        Ok(Item::F32(_) | Item::Bin(_) | Item::Ext(..)) | Err(_) => false,
    }
}

fn is_json_object(rest: &mut &[u8], count: u32, depth: usize) -> bool {
    let mut names = Vec::new();
    for _ in 0..count {
        match raw::item(rest) {
            Ok(Item::Str(name)) if str::from_utf8(name).is_ok() => names.push(name),
            _ => return false,
        }
        if !is_json_value(rest, depth) {
            return false;
        }
    }
    names.sort_unstable();
    names.is_sorted_by(|a, b| a < b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_that_do_not_fit_are_found_outside_strings_only() {
        for (text, expected) in [
            (r#"{"a":18446744073709551615,"b":-9223372036854775808}"#, None),
            (r#"{"a":[1,18446744073709551616]}"#, Some("18446744073709551616")),
            (r#"{"a":-9223372036854775809}"#, Some("-9223372036854775809")),
            (r#"{"18446744073709551616":"\"18446744073709551616","c":1.5}"#, None),
            (r#"{"a":18446744073709551616.0,"b":18446744073709551616e1,"c":"\\"}"#, None),
            (r#"99999999999999999999"#, Some("99999999999999999999")),
            (r#""\"#, None),
            ("", None),
        ] {
            assert_eq!(integer_too_large(text.as_bytes()), expected, "{text}");
        }
    }
}
