//! MessagePack as bytes: an item off the front, how far a value reaches, and a value handed on to any serializer.

use std::cell::Cell;

use rmp::Marker;
use serde::ser::{Error as _, Serialize, SerializeMap as _, SerializeSeq as _, SerializeTuple as _, Serializer};

/// Values nested deeper than this are refused: they are handed on by recursion.
pub(crate) const DEPTH_MAX: usize = 512;

/// One item: a scalar, or the head of a container whose items follow.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Item<'a> {
    Nil,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    F32(f32),
    F64(f64),
    Str(&'a [u8]),
    Bin(&'a [u8]),
    Ext(i8, &'a [u8]),
    Array(u32),
    Map(u32),
}

/// Why there is no item or value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bad {
    /// The bytes end before it does; at least so many more are needed.
    Cut {
        missing: u64,
    },
    Malformed(&'static str),
}

type Parsed<T> = Result<T, Bad>;

fn take<'a>(rest: &mut &'a [u8], count: u32) -> Parsed<&'a [u8]> {
    let (taken, behind) = rest
        .split_at_checked(count as usize)
        .ok_or_else(|| Bad::Cut { missing: u64::from(count) - rest.len() as u64 })?;
    *rest = behind;
    Ok(taken)
}

fn fixed<const N: usize>(rest: &mut &[u8]) -> Parsed<[u8; N]> {
    let (taken, behind) = rest.split_first_chunk().ok_or_else(|| Bad::Cut { missing: (N - rest.len()) as u64 })?;
    *rest = behind;
    Ok(*taken)
}

/// Takes one item off the front. Lengths are checked against the bytes there are.
pub(crate) fn item<'a>(rest: &mut &'a [u8]) -> Parsed<Item<'a>> {
    let u8 = |rest: &mut &'a [u8]| fixed(rest).map(|[byte]: [u8; 1]| u32::from(byte));
    let u16 = |rest: &mut &'a [u8]| fixed(rest).map(|bytes| u32::from(u16::from_be_bytes(bytes)));
    let u32 = |rest: &mut &'a [u8]| fixed(rest).map(u32::from_be_bytes);
    let ext = |rest: &mut &'a [u8], count| {
        let kind = fixed(rest).map(i8::from_be_bytes)?;
        Ok(Item::Ext(kind, take(rest, count)?))
    };
    let [mark] = fixed(rest)?;
    match Marker::from_u8(mark) {
        Marker::Null => Ok(Item::Nil),
        Marker::False => Ok(Item::Bool(false)),
        Marker::True => Ok(Item::Bool(true)),
        Marker::FixPos(number) => Ok(Item::Unsigned(number.into())),
        Marker::FixNeg(number) => Ok(Item::Signed(number.into())),
        Marker::U8 => u8(rest).map(|number| Item::Unsigned(number.into())),
        Marker::U16 => u16(rest).map(|number| Item::Unsigned(number.into())),
        Marker::U32 => u32(rest).map(|number| Item::Unsigned(number.into())),
        Marker::U64 => fixed(rest).map(|bytes| Item::Unsigned(u64::from_be_bytes(bytes))),
        Marker::I8 => fixed(rest).map(|bytes| Item::Signed(i8::from_be_bytes(bytes).into())),
        Marker::I16 => fixed(rest).map(|bytes| Item::Signed(i16::from_be_bytes(bytes).into())),
        Marker::I32 => fixed(rest).map(|bytes| Item::Signed(i32::from_be_bytes(bytes).into())),
        Marker::I64 => fixed(rest).map(|bytes| Item::Signed(i64::from_be_bytes(bytes))),
        Marker::F32 => fixed(rest).map(|bytes| Item::F32(f32::from_be_bytes(bytes))),
        Marker::F64 => fixed(rest).map(|bytes| Item::F64(f64::from_be_bytes(bytes))),
        Marker::FixStr(count) => take(rest, count.into()).map(Item::Str),
        Marker::Str8 => u8(rest).and_then(|count| take(rest, count)).map(Item::Str),
        Marker::Str16 => u16(rest).and_then(|count| take(rest, count)).map(Item::Str),
        Marker::Str32 => u32(rest).and_then(|count| take(rest, count)).map(Item::Str),
        Marker::Bin8 => u8(rest).and_then(|count| take(rest, count)).map(Item::Bin),
        Marker::Bin16 => u16(rest).and_then(|count| take(rest, count)).map(Item::Bin),
        Marker::Bin32 => u32(rest).and_then(|count| take(rest, count)).map(Item::Bin),
        Marker::FixExt1 => ext(rest, 1),
        Marker::FixExt2 => ext(rest, 2),
        Marker::FixExt4 => ext(rest, 4),
        Marker::FixExt8 => ext(rest, 8),
        Marker::FixExt16 => ext(rest, 16),
        Marker::Ext8 => u8(rest).and_then(|count| ext(rest, count)),
        Marker::Ext16 => u16(rest).and_then(|count| ext(rest, count)),
        Marker::Ext32 => u32(rest).and_then(|count| ext(rest, count)),
        Marker::FixArray(count) => Ok(Item::Array(count.into())),
        Marker::Array16 => u16(rest).map(Item::Array),
        Marker::Array32 => u32(rest).map(Item::Array),
        Marker::FixMap(count) => Ok(Item::Map(count.into())),
        Marker::Map16 => u16(rest).map(Item::Map),
        Marker::Map32 => u32(rest).map(Item::Map),
        Marker::Reserved => Err(Bad::Malformed("a byte that MessagePack does not use")),
    }
}

/// Takes one whole value off the front, unlooked at but for where it ends.
pub(crate) fn value<'a>(rest: &mut &'a [u8]) -> Parsed<&'a [u8]> {
    let start = *rest;
    // How many items are still to come, in each container that has been entered.
    let mut open: Vec<u64> = vec![1];
    while let Some(left) = open.last_mut() {
        let Some(fewer) = left.checked_sub(1) else {
            open.pop();
            continue;
        };
        *left = fewer;
        let inside = match item(rest)? {
            Item::Array(count) => count.into(),
            Item::Map(count) => 2 * u64::from(count),
            _ => continue,
        };
        if open.len() > DEPTH_MAX {
            return Err(Bad::Malformed("a value that is nested too deeply"));
        }
        open.push(inside);
    }
    Ok(&start[..start.len() - rest.len()])
}

/// Bytes as MessagePack bin.
pub(crate) fn encode_bin(bytes: &[u8]) -> Vec<u8> {
    let mut encoded = Vec::with_capacity(bytes.len() + 5);
    // Writing into memory cannot fail.
    let _ = rmp::encode::write_bin(&mut encoded, bytes);
    encoded
}

/// The bytes of a value of type bin.
pub(crate) fn decode_bin(value: &[u8]) -> Option<&[u8]> {
    let mut rest = value;
    match item(&mut rest) {
        Ok(Item::Bin(bytes)) if rest.is_empty() => Some(bytes),
        _ => None,
    }
}

/// The value in the form in which a log keeps it: every number and length in the shortest form, as serializing gives
/// it. What a log has written comes back byte for byte.
///
/// # Errors
/// What is wrong with it, where it is not one MessagePack value.
pub(crate) fn encode(value: &[u8]) -> Result<Vec<u8>, String> {
    rmp_serde::to_vec(&Raw(value)).map_err(|error| match error {
        rmp_serde::encode::Error::Syntax(text) => text,
        error => error.to_string(),
    })
}

/// A MessagePack value that is to be serialized as what it holds: into MessagePack for a log, into JSON for an export.
pub(crate) struct Raw<'a>(pub(crate) &'a [u8]);

impl Serialize for Raw<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let cursor = Cursor { rest: Cell::new(self.0), depth: Cell::new(0) };
        let done = cursor.serialize(serializer)?;
        match cursor.rest.get() {
            [] => Ok(done),
            _ => Err(S::Error::custom("there are bytes behind the MessagePack value")),
        }
    }
}

/// Each time it is serialized, it is the next value.
struct Cursor<'a> {
    rest: Cell<&'a [u8]>,
    depth: Cell<usize>,
}

impl Cursor<'_> {
    fn enter<E: serde::ser::Error>(&self) -> Result<(), E> {
        if self.depth.get() == DEPTH_MAX {
            return Err(E::custom("the value is nested too deeply"));
        }
        self.depth.set(self.depth.get() + 1);
        Ok(())
    }

    fn leave(&self) {
        self.depth.set(self.depth.get() - 1);
    }
}

impl Serialize for Cursor<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut rest = self.rest.get();
        let item = item(&mut rest).map_err(|bad| match bad {
            Bad::Cut { .. } => S::Error::custom("the MessagePack value is cut short"),
            Bad::Malformed(what) => S::Error::custom(what),
        })?;
        self.rest.set(rest);
        match item {
            Item::Nil => serializer.serialize_unit(),
            Item::Bool(value) => serializer.serialize_bool(value),
            Item::Unsigned(number) => serializer.serialize_u64(number),
            Item::Signed(number) => serializer.serialize_i64(number),
            Item::F32(number) => serializer.serialize_f32(number),
            Item::F64(number) => serializer.serialize_f64(number),
            Item::Str(text) => {
                let text =
                    str::from_utf8(text).map_err(|_| S::Error::custom("the value has text that is not UTF-8"))?;
                serializer.serialize_str(text)
            }
            Item::Bin(bytes) => serializer.serialize_bytes(bytes),
            Item::Ext(kind, bytes) => {
                serializer.serialize_newtype_struct(rmp_serde::MSGPACK_EXT_STRUCT_NAME, &Ext(kind, bytes))
            }
            Item::Array(count) => {
                self.enter()?;
                let mut items = serializer.serialize_seq(Some(count as usize))?;
                for _ in 0..count {
                    items.serialize_element(self)?;
                }
                self.leave();
                items.end()
            }
            Item::Map(count) => {
                self.enter()?;
                let mut items = serializer.serialize_map(Some(count as usize))?;
                for _ in 0..count {
                    items.serialize_key(self)?;
                    items.serialize_value(self)?;
                }
                self.leave();
                items.end()
            }
        }
    }
}

/// The contents of a MessagePack extension, in the form that rmp-serde takes them in.
struct Ext<'a>(i8, &'a [u8]);

impl Serialize for Ext<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut parts = serializer.serialize_tuple(2)?;
        parts.serialize_element(&self.0)?;
        parts.serialize_element(&Bytes(self.1))?;
        parts.end()
    }
}

struct Bytes<'a>(&'a [u8]);

impl Serialize for Bytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}
