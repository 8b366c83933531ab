//! The payload of an entry, which every write encodes and every scan reads: so the usual forms are known here, and the
//! others are left to the library.

use rmp::decode::read_bin_len;
use rmp::encode::write_bin_len;
use serde::Deserialize;

use super::Malformed;
use super::record::{Parsed, array, bin, uint};

/// The longest array header and index of an entry.
pub(crate) const HEAD_BYTES_MAX: usize = 10;

const ARRAY_OF_3: u8 = 0x93;
const BIN_8: u8 = 0xc4;

/// Appends bytes, as MessagePack `bin`. Every write does it, twice for most values: of short ones it knows the header.
#[inline]
pub(crate) fn encode_bin(out: &mut Vec<u8>, bytes: &[u8]) {
    match u8::try_from(bytes.len()) {
        Ok(length) => {
            out.extend_from_slice(&[BIN_8, length]);
            out.extend_from_slice(bytes);
        }
        Err(_) => {
            encode_bin_header(out, bytes.len());
            out.extend_from_slice(bytes);
        }
    }
}

/// What [`encode_bin`] writes in front of so many bytes; of more than 4 GiB nothing that could be read.
pub(crate) fn encode_bin_header(out: &mut Vec<u8>, length: usize) {
    // Writing into memory cannot fail.
    let _ = write_bin_len(out, length as u32);
}

/// What [`encode_bin`] has written, and nothing behind it.
#[inline]
pub(crate) fn decode_bin(bytes: &[u8]) -> Option<&[u8]> {
    if let Some((&[BIN_8, length], rest)) = bytes.split_first_chunk() {
        return (rest.len() == usize::from(length)).then_some(rest);
    }
    let mut rest = bytes;
    let length = read_bin_len(&mut rest).ok()?;
    (rest.len() == length as usize).then_some(rest)
}

/// `[index, key, value]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryRecord<'a> {
    /// The index.
    pub index: u64,
    /// The key, MessagePack `bin`.
    pub key: &'a [u8],
    /// The value: one MessagePack object, still encoded.
    pub value: &'a [u8],
}

impl<'a> EntryRecord<'a> {
    /// The array header and the index in its shortest form: the bytes, and how many they are.
    #[inline]
    fn head(index: u64) -> ([u8; HEAD_BYTES_MAX], usize) {
        let mut head = [0; HEAD_BYTES_MAX];
        let [array, mark, number @ ..] = &mut head;
        *array = ARRAY_OF_3;
        // Each is a number of fixed width behind its mark.
        let width = match index {
            0..=0x7f => {
                *mark = index as u8;
                0
            }
            0x80..=0xff => {
                *mark = 0xcc;
                1
            }
            0x100..=0xffff => {
                *mark = 0xcd;
                2
            }
            0x1_0000..=0xffff_ffff => {
                *mark = 0xce;
                4
            }
            _ => {
                *mark = 0xcf;
                8
            }
        };
        *number = if width == 0 { [0; 8] } else { (index << (64 - 8 * width)).to_be_bytes() };
        (head, 2 + width)
    }

    /// Appends the array header and the index.
    #[inline]
    pub(crate) fn encode_index(out: &mut Vec<u8>, index: u64) {
        let (head, length) = Self::head(index);
        let end = out.len() + length;
        // Of a length that is known, and cut then.
        out.extend_from_slice(&head);
        out.truncate(end);
    }

    /// Writes the array header and the index so that they end at `end` in `bytes`, where the key begins. Returns where
    /// they start.
    #[inline]
    pub(crate) fn encode_index_before(bytes: &mut [u8], end: usize, index: u64) -> usize {
        let (head, length) = Self::head(index);
        let start = end.saturating_sub(length);
        if let (Some(place), Some(head)) = (bytes.get_mut(start..end), head.get(..length)) {
            place.copy_from_slice(head);
        }
        start
    }

    /// Appends what stands before the value: the array header, the index in its shortest form, the key.
    pub fn encode_head(out: &mut Vec<u8>, index: u64, key: &[u8]) {
        Self::encode_index(out, index);
        encode_bin(out, key);
    }

    /// Reads a payload.
    #[inline]
    pub fn decode(payload: &'a [u8]) -> Parsed<'a, Self> {
        match Self::decode_usual(payload) {
            Some(entry) => Ok(entry),
            None => Self::decode_any(payload),
        }
    }

    /// What [`encode_head`](Self::encode_head) writes, with a short key: nearly all there is, and every scan reads it.
    #[inline]
    fn decode_usual(payload: &'a [u8]) -> Option<Self> {
        let (&[ARRAY_OF_3, mark], rest) = payload.split_first_chunk()? else { return None };
        let (index, rest) = match mark {
            0..=0x7f => (mark.into(), rest),
            // uint 8 to uint 64.
            0xcc => rest.split_first().map(|(number, rest)| ((*number).into(), rest))?,
            0xcd => rest.split_first_chunk().map(|(number, rest)| (u16::from_be_bytes(*number).into(), rest))?,
            0xce => rest.split_first_chunk().map(|(number, rest)| (u32::from_be_bytes(*number).into(), rest))?,
            0xcf => rest.split_first_chunk().map(|(number, rest)| (u64::from_be_bytes(*number), rest))?,
            _ => return None,
        };
        let (&[BIN_8, len], rest) = rest.split_first_chunk()? else { return None };
        let (key, value) = rest.split_at_checked(len.into())?;
        Some(EntryRecord { index, key, value })
    }

    #[cold]
    fn decode_any(payload: &'a [u8]) -> Parsed<'a, Self> {
        let malformed = Malformed("entry");
        let mut rest = payload;
        let elements = array(&mut rest, 3, malformed)?;
        let index = uint(&mut rest, malformed)?;
        let key = bin(&mut rest, malformed)?;
        let value = match elements {
            3 => rest,
            _ => value(&mut rest, malformed)?,
        };
        Ok(EntryRecord { index, key, value })
    }
}

/// One MessagePack object off the front.
fn value<'a>(rest: &mut &'a [u8], malformed: Malformed) -> Result<&'a [u8], Malformed> {
    let start = *rest;
    let mut deserializer = rmp_serde::Deserializer::new(&mut *rest);
    serde::de::IgnoredAny::deserialize(&mut deserializer).map_err(|_| malformed)?;
    start.get(..start.len() - rest.len()).ok_or(malformed)
}
