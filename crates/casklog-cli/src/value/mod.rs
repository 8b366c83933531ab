//! Values, which are MessagePack, as JSON and back. No schema is needed, and nothing that is stored is hidden.
//!
//! What JSON has no form for is an object with one key that begins with `$`:
//!
//! | MessagePack | as JSON |
//! |---|---|
//! | bin | `{"$bin": "00ff"}`, hexadecimal |
//! | ext | `{"$ext": [5, "00ff"]}`, its type and its bytes |
//! | a float that is no number | `{"$float": "NaN"}`, `"Infinity"`, `"-Infinity"` |
//! | a map with keys other than text, keys that begin with `$`, or one key twice | `{"$map": [[key, value], ...]}` |
//! | a str that is not UTF-8 | `{"$str": "ff"}` |
//! | what is no MessagePack, or is nested too deep | `{"$raw": "c1"}`, all bytes of the value |
//!
//! All but the last two can be given to `put` and `append`, too. A 32-bit float is shown with as many digits as tell it
//! from other 32-bit floats.

mod given;
mod typed;

use std::collections::HashSet;
use std::fmt;

use rmpv::ValueRef;
use rmpv::decode::read_value_ref_with_max_depth;
use serde::ser::{SerializeMap, SerializeSeq};
use serde::{Serialize, Serializer};

pub(crate) use given::{Given, New};

/// Deeper values are shown as bytes. The decoder counts two for each array or map, and JSON parsers have limits of their
/// own, 128 levels being a common one.
const DEPTH_MAX: usize = 200;

/// The bytes of a value, shown as JSON; see the module.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Json<'a>(pub(crate) &'a [u8]);

impl Serialize for Json<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut rest = self.0;
        match read_value_ref_with_max_depth(&mut rest, DEPTH_MAX) {
            Ok(value) if rest.is_empty() && !has_reserved(self.0) => Tree(&value).serialize(serializer),
            _ => Raw(self.0).serialize(serializer),
        }
    }
}

/// The bytes of a value, shown as such in JSON.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Raw<'a>(pub(crate) &'a [u8]);

impl Serialize for Raw<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        tagged(serializer, "$raw", &Hex(self.0))
    }
}

/// Bytes as hexadecimal digits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hex<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Serialize for Hex<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// An object with one key.
pub(crate) fn tagged<S: Serializer>(serializer: S, tag: &str, value: &impl Serialize) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(1))?;
    map.serialize_entry(tag, value)?;
    map.end()
}

/// A value that was read.
struct Tree<'a>(&'a ValueRef<'a>);

impl Serialize for Tree<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            ValueRef::Nil => serializer.serialize_unit(),
            ValueRef::Boolean(is) => serializer.serialize_bool(*is),
            ValueRef::Integer(number) => match (number.as_u64(), number.as_i64()) {
                (Some(number), _) => serializer.serialize_u64(number),
                (None, number) => serializer.serialize_i64(number.unwrap_or_default()),
            },
            ValueRef::F32(number) if number.is_finite() => serializer.serialize_f32(*number),
            ValueRef::F64(number) if number.is_finite() => serializer.serialize_f64(*number),
            ValueRef::F32(number) => tagged(serializer, "$float", &no_number(f64::from(*number))),
            ValueRef::F64(number) => tagged(serializer, "$float", &no_number(*number)),
            ValueRef::String(text) => match text.as_str() {
                Some(text) => serializer.serialize_str(text),
                None => tagged(serializer, "$str", &Hex(text.as_bytes())),
            },
            ValueRef::Binary(bytes) => tagged(serializer, "$bin", &Hex(bytes)),
            ValueRef::Ext(kind, bytes) => tagged(serializer, "$ext", &(kind, Hex(bytes))),
            ValueRef::Array(items) => {
                let mut array = serializer.serialize_seq(Some(items.len()))?;
                items.iter().try_for_each(|item| array.serialize_element(&Tree(item)))?;
                array.end()
            }
            ValueRef::Map(entries) => match object(entries) {
                Some(keys) => {
                    let mut map = serializer.serialize_map(Some(entries.len()))?;
                    for (key, (_, value)) in keys.iter().zip(entries) {
                        map.serialize_entry(key, &Tree(value))?;
                    }
                    map.end()
                }
                None => {
                    let pairs: Vec<_> = entries.iter().map(|(key, value)| (Tree(key), Tree(value))).collect();
                    tagged(serializer, "$map", &pairs)
                }
            },
        }
    }
}

/// Whether `bytes`, which were decoded, hold the one marker that means nothing: the decoder takes it for nil.
fn has_reserved(bytes: &[u8]) -> bool {
    const RESERVED: u8 = 0xc1;
    if !bytes.contains(&RESERVED) {
        return false;
    }
    let mut rest = bytes;
    while let Some((marker, behind)) = rest.split_first() {
        let number = |width: usize| behind.iter().take(width).fold(0, |number, byte| number << 8 | usize::from(*byte));
        let skip = match marker {
            &RESERVED => return true,
            0xa0..=0xbf => usize::from(marker & 31),
            0xc4 | 0xd9 => 1 + number(1),
            0xc5 | 0xda => 2 + number(2),
            0xc6 | 0xdb => 4 + number(4),
            0xc7 => 2 + number(1),
            0xc8 => 3 + number(2),
            0xc9 => 5 + number(4),
            0xcc | 0xd0 => 1,
            0xcd | 0xd1 | 0xd4 | 0xdc | 0xde => 2,
            0xd5 => 3,
            0xca | 0xce | 0xd2 | 0xdd | 0xdf => 4,
            0xd6 => 5,
            0xcb | 0xcf | 0xd3 => 8,
            0xd7 => 9,
            0xd8 => 17,
            _ => 0,
        };
        rest = behind.get(skip..).unwrap_or_default();
    }
    false
}

/// The keys of a map that can be an object of JSON.
fn object<'a>(entries: &'a [(ValueRef<'a>, ValueRef<'a>)]) -> Option<Vec<&'a str>> {
    let mut seen = HashSet::with_capacity(entries.len());
    let plain = |(key, _): &'a (ValueRef<'a>, ValueRef<'a>)| match key {
        ValueRef::String(text) => text.as_str().filter(|text| !text.starts_with('$') && seen.insert(*text)),
        _ => None,
    };
    entries.iter().map(plain).collect()
}

fn no_number(number: f64) -> &'static str {
    if number.is_nan() {
        "NaN"
    } else if number > 0.0 {
        "Infinity"
    } else {
        "-Infinity"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(bytes: &[u8]) -> String {
        serde_json::to_string(&Json(bytes)).unwrap()
    }

    #[test]
    fn whatever_messagepack_has_is_shown() {
        let cases: [(&[u8], &str); 24] = [
            (b"\xc0", "null"),
            (b"\xc3", "true"),
            (b"\x07", "7"),
            (b"\xff", "-1"),
            (b"\xcf\xff\xff\xff\xff\xff\xff\xff\xff", "18446744073709551615"),
            (b"\xd3\x80\x00\x00\x00\x00\x00\x00\x00", "-9223372036854775808"),
            (b"\xca\x3d\xcc\xcc\xcd", "0.1"),
            (b"\xcb\x3f\xb9\x99\x99\x99\x99\x99\x9a", "0.1"),
            (b"\xca\x7f\xc0\x00\x00", r#"{"$float":"NaN"}"#),
            (b"\xcb\x7f\xf0\x00\x00\x00\x00\x00\x00", r#"{"$float":"Infinity"}"#),
            (b"\xcb\xff\xf0\x00\x00\x00\x00\x00\x00", r#"{"$float":"-Infinity"}"#),
            (b"\xa2hi", r#""hi""#),
            (b"\xa1\xff", r#"{"$str":"ff"}"#),
            (b"\xc4\x02\x00\xff", r#"{"$bin":"00ff"}"#),
            (b"\xd4\x05\xab", r#"{"$ext":[5,"ab"]}"#),
            (b"\xd6\xff\x00\x00\x00\x01", r#"{"$ext":[-1,"00000001"]}"#),
            (b"\x92\x01\x90", "[1,[]]"),
            (b"\x82\xa1b\x01\xa1a\x02", r#"{"b":1,"a":2}"#),
            (b"\x81\x01\xa1a", r#"{"$map":[[1,"a"]]}"#),
            (b"\x81\xc4\x01k\xc0", r#"{"$map":[[{"$bin":"6b"},null]]}"#),
            (b"\x82\xa1a\x01\xa1a\x02", r#"{"$map":[["a",1],["a",2]]}"#),
            (b"\x81\xa4$bin\xa1a", r#"{"$map":[["$bin","a"]]}"#),
            (b"\xc1", r#"{"$raw":"c1"}"#),
            (b"\x01\x02", r#"{"$raw":"0102"}"#),
        ];
        for (bytes, json) in cases {
            assert_eq!(shown(bytes), json);
        }
        assert_eq!(shown(b""), r#"{"$raw":""}"#);
        assert_eq!(shown(b"\x92\xa1a\xc1"), r#"{"$raw":"92a161c1"}"#);
        assert_eq!(shown(b"\xdd\xff\xff\xff\xff\x01"), r#"{"$raw":"ddffffffff01"}"#);
    }

    /// The bytes of the marker that means nothing may stand in all that has a length of its own.
    #[test]
    fn the_reserved_marker_is_told_from_bytes_like_it() {
        let many = [0xc1; 70_000];
        let with = |head: &[u8], count: usize| [&[0x92], head, &many[..count], &[0xc0]].concat();
        let cases: [(&[u8], usize); 22] = [
            (b"\xa3", 3),
            (b"\xd9\x03", 3),
            (b"\xda\x01\x00", 256),
            (b"\xdb\x00\x01\x00\x01", 65537),
            (b"\xc4\x03", 3),
            (b"\xc5\x01\x00", 256),
            (b"\xc6\x00\x01\x00\x01", 65537),
            (b"\xc7\x03", 4),
            (b"\xc8\x01\x00", 257),
            (b"\xc9\x00\x01\x00\x01", 65538),
            (b"\xcc", 1),
            (b"\xcd", 2),
            (b"\xce", 4),
            (b"\xcf", 8),
            (b"\xd0", 1),
            (b"\xd3", 8),
            (b"\xca", 4),
            (b"\xcb", 8),
            (b"\xd4", 2),
            (b"\xd5", 3),
            (b"\xd7", 9),
            (b"\xd8", 17),
        ];
        for (head, count) in cases {
            let bytes = with(head, count);
            assert!(!shown(&bytes).contains("$raw"), "{head:x?}");
            let spoiled = [&bytes[..bytes.len() - 1], &[0xc1]].concat();
            assert!(shown(&spoiled).contains("$raw"), "{head:x?}");
        }
    }

    #[test]
    fn what_is_nested_too_deep_is_shown_as_bytes() {
        let mut deep = vec![0x91; 10_000];
        deep.push(0xc0);
        assert!(shown(&deep).starts_with(r#"{"$raw":"919191"#));
        let mut nested = vec![0x91; 20];
        nested.push(0xc0);
        assert!(shown(&nested).starts_with("[[[["));
    }
}
