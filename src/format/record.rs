//! The payloads of records but entries: MessagePack arrays, whose further elements readers ignore.

use std::collections::BTreeMap;

use rmp::Marker;
use rmp::decode::{read_array_len, read_bin_len, read_int, read_map_len, read_marker};
use rmp::encode::{write_array_len, write_bin, write_map_len, write_nil, write_uint};

use super::Malformed;
use crate::options::IndexOrder;
use crate::position::Position;

pub(super) type Parsed<'a, T> = Result<T, Malformed>;

/// Writing MessagePack into a `Vec` cannot fail.
macro_rules! put {
    ($call:expr) => {
        let _ = $call;
    };
}

/// `[index, key]`: the entry at this index is deleted; the index stays taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tombstone<'a> {
    /// The index.
    pub index: u64,
    /// The key the entry had.
    pub key: &'a [u8],
}

impl<'a> Tombstone<'a> {
    /// Appends the payload.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put!(write_array_len(out, 2));
        put!(write_uint(out, self.index));
        put!(write_bin(out, self.key));
    }

    /// Reads a payload.
    pub fn decode(payload: &'a [u8]) -> Parsed<'a, Self> {
        let malformed = Malformed("tombstone");
        let mut rest = payload;
        array(&mut rest, 2, malformed)?;
        Ok(Tombstone { index: uint(&mut rest, malformed)?, key: bin(&mut rest, malformed)? })
    }
}

/// `[what, index]`: entries that stand before this record are removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Truncation {
    /// 0: all below the index, which becomes the floor.
    Before(u64),
    /// 1: all above the index, which stays.
    After(u64),
    /// 2: all; the index is the next one and the floor.
    Reset(u64),
}

impl Truncation {
    fn parts(self) -> (u64, u64) {
        match self {
            Truncation::Before(index) => (0, index),
            Truncation::After(index) => (1, index),
            Truncation::Reset(index) => (2, index),
        }
    }

    fn from_parts(what: u64, index: u64) -> Option<Self> {
        Some(match what {
            0 => Truncation::Before(index),
            1 => Truncation::After(index),
            2 => Truncation::Reset(index),
            _ => return None,
        })
    }

    /// Appends the payload.
    pub fn encode(self, out: &mut Vec<u8>) {
        let (what, index) = self.parts();
        put!(write_array_len(out, 2));
        put!(write_uint(out, what));
        put!(write_uint(out, index));
    }

    /// Reads a payload.
    pub fn decode(payload: &[u8]) -> Parsed<'_, Self> {
        let malformed = Malformed("truncation");
        let mut rest = payload;
        array(&mut rest, 2, malformed)?;
        let (what, index) = (uint(&mut rest, malformed)?, uint(&mut rest, malformed)?);
        Self::from_parts(what, index).ok_or(malformed)
    }
}

/// A truncation with the position where it took effect: it hides only what stands before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TruncationAt {
    /// What is removed.
    pub truncation: Truncation,
    /// Where its record stands.
    pub position: Position,
}

/// `[key, value]`, the value nil where the key is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MetaRecord<'a> {
    /// The key.
    pub key: &'a [u8],
    /// The bytes, or `None` for a removal.
    pub value: Option<&'a [u8]>,
}

impl<'a> MetaRecord<'a> {
    /// Appends the payload.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put!(write_array_len(out, 2));
        put!(write_bin(out, self.key));
        match self.value {
            Some(value) => {
                put!(write_bin(out, value));
            }
            None => {
                put!(write_nil(out));
            }
        }
    }

    /// Reads a payload.
    pub fn decode(payload: &'a [u8]) -> Parsed<'a, Self> {
        let malformed = Malformed("metadata");
        let mut rest = payload;
        array(&mut rest, 2, malformed)?;
        let key = bin(&mut rest, malformed)?;
        let value = if nil(&mut rest) { None } else { Some(bin(&mut rest, malformed)?) };
        Ok(MetaRecord { key, value })
    }
}

/// `[before, next]`: the log number that was in force, and the one that all fragments behind this record bear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resume {
    /// The number in force up to and with this record.
    pub before: u32,
    /// The number in force behind it.
    pub next: u32,
}

impl Resume {
    /// Appends the payload.
    pub fn encode(self, out: &mut Vec<u8>) {
        put!(write_array_len(out, 2));
        put!(write_uint(out, self.before.into()));
        put!(write_uint(out, self.next.into()));
    }

    /// Reads a payload.
    pub fn decode(payload: &[u8]) -> Parsed<'_, Self> {
        let malformed = Malformed("resume");
        let mut rest = payload;
        array(&mut rest, 2, malformed)?;
        Ok(Resume { before: u32(&mut rest, malformed)?, next: u32(&mut rest, malformed)? })
    }
}

/// Bytes that are lost, `[end, first, last, log number]`. What stands at the end may be left out; what is not there is
/// nil, and a `last` that is left out is `first`. A `first` that is true stands for any index. Zeros may follow, and a
/// payload of nothing but zeros says nothing.
///
/// There are two kinds. One that names its end stands for the rest of its segment: the log once reached up to there, and
/// nothing follows in the file. One that does not covers the bytes of its own record, which repair has made as long as
/// what was lost: records follow behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Gap {
    /// The offset up to which the log once reached in this segment; none where the gap ends with its record.
    pub end: Option<u32>,
    /// The first and last index that may have stood there.
    pub indexes: Option<(u64, u64)>,
    /// The log number in force behind it, where the resume record that brought it is lost.
    pub log_number: Option<u32>,
}

impl Gap {
    /// Appends the payload; of one that ends with its record as short as it can be, for it has to fit.
    pub fn encode(self, out: &mut Vec<u8>) {
        let is_any = self.end.is_none() && self.indexes == Some(Self::ANY);
        let (first, last) = self.indexes.filter(|_| !is_any).unzip();
        let (end, log_number) = (self.end.map(u64::from), self.log_number.map(u64::from));
        let count = match (end, first, last, log_number) {
            (None, None, None, None) if !is_any => return,
            (.., Some(_)) => 4,
            (None, first, last, None) if first == last => 2,
            _ => 3,
        };
        put!(write_array_len(out, count));
        put_option(out, end);
        if is_any {
            put!(rmp::encode::write_bool(out, true));
        } else {
            put_option(out, first);
        }
        [last, log_number].into_iter().take(count as usize - 2).for_each(|field| put_option(out, field));
    }

    /// Any index may have stood there.
    pub const ANY: (u64, u64) = (0, u64::MAX);

    /// Reads a payload.
    pub fn decode(payload: &[u8]) -> Parsed<'_, Self> {
        let malformed = Malformed("gap");
        if payload.first().is_none_or(|byte| *byte == 0) {
            return Ok(Gap::default());
        }
        let narrow = |number: u64| u32::try_from(number).map_err(|_| malformed);
        let mut rest = payload;
        let count = array(&mut rest, 1, malformed)?;
        let end = option(&mut rest, malformed)?;
        let is_any = count > 1 && rest.first() == Some(&Marker::True.to_u8());
        if is_any {
            rest = rest.split_at_checked(1).ok_or(malformed)?.1;
        }
        let mut field = |is_there: bool| if is_there { option(&mut rest, malformed) } else { Ok(None) };
        let first = field(count > 1 && !is_any)?;
        let (last, log_number) = (field(count > 2)?, field(count > 3)?);
        let (first, last) =
            if is_any { (Some(0), Some(u64::MAX)) } else { (first, last.or(first.filter(|_| count < 3))) };
        let (end, log_number) = (end.map(narrow).transpose()?, log_number.map(narrow).transpose()?);
        Ok(Gap { end, indexes: first.zip(last), log_number })
    }
}

/// Appends the payload of a watermark, `[segment, offset]`: everything before that position is durable.
pub fn encode_watermark(out: &mut Vec<u8>, durable: Position) {
    put!(write_array_len(out, 2));
    put_position(out, durable);
}

/// Reads the payload of a watermark.
///
/// # Errors
/// [`Malformed`].
pub fn decode_watermark(payload: &[u8]) -> Parsed<'_, Position> {
    let malformed = Malformed("watermark");
    let mut rest = payload;
    array(&mut rest, 2, malformed)?;
    position(&mut rest, malformed)
}

/// The next index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Nothing was ever written: the first write chooses. Stored as nil.
    Unset,
    /// One above the highest taken index.
    At(u64),
    /// `u64::MAX` is taken. Stored as true.
    Exhausted,
}

impl Next {
    /// The next index behind `index`.
    pub const fn behind(index: u64) -> Self {
        match index.checked_add(1) {
            Some(next) => Next::At(next),
            None => Next::Exhausted,
        }
    }

    /// Whether `index` is this one or a later one.
    pub const fn admits(self, index: u64) -> bool {
        match self {
            Next::Unset => true,
            Next::At(next) => index >= next,
            Next::Exhausted => false,
        }
    }
}

/// What a log remembers beside its entries and metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct State {
    /// Writes below it are refused.
    pub floor: u64,
    /// The highest index that retention removed, for a log in any order.
    pub retired: Option<u64>,
    /// The next index.
    pub next: Next,
    /// The order of indexes, fixed when the log was created.
    pub order: IndexOrder,
}

/// The segment before, as it stood when the log moved on, or lost by then: its end is not below W, its log number is 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Predecessor {
    /// Its number.
    pub number: u32,
    /// The log number in force at its end.
    pub log_number: u32,
    /// The offset behind its last record.
    pub end: u32,
}

/// The first record of a segment.
///
/// `[predecessor, [W segment, W offset], [floor, retired, next, order], truncations, meta, time]`: the predecessor is
/// nil or `[number, log number, end]`, a truncation `[what, index, segment, offset]`, meta a map of bin to bin, the
/// time milliseconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadStamp {
    /// The segment before; `None` in the first one of a log.
    pub predecessor: Option<Predecessor>,
    /// Everything before this position was durable.
    pub durable: Position,
    /// Floor, next index, order.
    pub state: State,
    /// The truncations in the predecessor that hide entries of segments before it.
    pub truncations: Vec<TruncationAt>,
    /// All metadata.
    pub meta: BTreeMap<Vec<u8>, Vec<u8>>,
    /// When the segment was begun, in milliseconds since 1970. Informative.
    pub time_ms: u64,
}

impl HeadStamp {
    /// Appends the payload.
    pub fn encode(&self, out: &mut Vec<u8>) {
        put!(write_array_len(out, 6));
        match self.predecessor {
            None => {
                put!(write_nil(out));
            }
            Some(Predecessor { number, log_number, end }) => {
                put!(write_array_len(out, 3));
                for part in [number, log_number, end] {
                    put!(write_uint(out, part.into()));
                }
            }
        }
        put!(write_array_len(out, 2));
        put_position(out, self.durable);
        put!(write_array_len(out, 4));
        put!(write_uint(out, self.state.floor));
        put_option(out, self.state.retired);
        match self.state.next {
            Next::Unset => put_option(out, None),
            Next::At(index) => put_option(out, Some(index)),
            Next::Exhausted => {
                put!(rmp::encode::write_bool(out, true));
            }
        }
        put!(write_uint(out, self.state.order.code().into()));
        put!(write_array_len(out, self.truncations.len() as u32));
        for at in &self.truncations {
            let (what, index) = at.truncation.parts();
            put!(write_array_len(out, 4));
            put!(write_uint(out, what));
            put!(write_uint(out, index));
            put_position(out, at.position);
        }
        put!(write_map_len(out, self.meta.len() as u32));
        for (key, value) in &self.meta {
            put!(write_bin(out, key));
            put!(write_bin(out, value));
        }
        put!(write_uint(out, self.time_ms));
    }

    /// Reads a payload.
    pub fn decode(payload: &[u8]) -> Parsed<'_, Self> {
        let malformed = Malformed("head stamp");
        let mut rest = payload;
        array(&mut rest, 6, malformed)?;
        let predecessor = if nil(&mut rest) {
            None
        } else {
            array(&mut rest, 3, malformed)?;
            let [number, log_number, end] =
                [u32(&mut rest, malformed)?, u32(&mut rest, malformed)?, u32(&mut rest, malformed)?];
            Some(Predecessor { number, log_number, end })
        };
        array(&mut rest, 2, malformed)?;
        let durable = position(&mut rest, malformed)?;
        array(&mut rest, 4, malformed)?;
        let floor = uint(&mut rest, malformed)?;
        let retired = option(&mut rest, malformed)?;
        let next = if rest.first() == Some(&Marker::True.to_u8()) {
            rest = rest.split_at_checked(1).ok_or(malformed)?.1;
            Next::Exhausted
        } else {
            option(&mut rest, malformed)?.map_or(Next::Unset, Next::At)
        };
        let order = uint(&mut rest, malformed)?;
        let order = u8::try_from(order).ok().and_then(IndexOrder::from_code).ok_or(malformed)?;
        let count = read_array_len(&mut rest).map_err(|_| malformed)?;
        let mut truncations = Vec::new();
        for _ in 0..count {
            array(&mut rest, 4, malformed)?;
            let (what, index) = (uint(&mut rest, malformed)?, uint(&mut rest, malformed)?);
            let truncation = Truncation::from_parts(what, index).ok_or(malformed)?;
            truncations.push(TruncationAt { truncation, position: position(&mut rest, malformed)? });
        }
        let count = read_map_len(&mut rest).map_err(|_| malformed)?;
        let mut meta = BTreeMap::new();
        for _ in 0..count {
            let key = bin(&mut rest, malformed)?.to_vec();
            meta.insert(key, bin(&mut rest, malformed)?.to_vec());
        }
        let time_ms = uint(&mut rest, malformed)?;
        let state = State { floor, retired, next, order };
        Ok(HeadStamp { predecessor, durable, state, truncations, meta, time_ms })
    }
}

fn put_position(out: &mut Vec<u8>, position: Position) {
    put!(write_uint(out, position.segment()));
    put!(write_uint(out, position.offset()));
}

fn put_option(out: &mut Vec<u8>, number: Option<u64>) {
    match number {
        Some(number) => {
            put!(write_uint(out, number));
        }
        None => {
            put!(write_nil(out));
        }
    }
}

pub(super) fn array(rest: &mut &[u8], least: u32, malformed: Malformed) -> Result<u32, Malformed> {
    read_array_len(rest).ok().filter(|len| *len >= least).ok_or(malformed)
}

pub(super) fn uint(rest: &mut &[u8], malformed: Malformed) -> Result<u64, Malformed> {
    read_int(rest).map_err(|_| malformed)
}

fn u32(rest: &mut &[u8], malformed: Malformed) -> Result<u32, Malformed> {
    read_int(rest).map_err(|_| malformed)
}

pub(super) fn bin<'a>(rest: &mut &'a [u8], malformed: Malformed) -> Result<&'a [u8], Malformed> {
    let len = read_bin_len(rest).map_err(|_| malformed)? as usize;
    let (bytes, tail) = rest.split_at_checked(len).ok_or(malformed)?;
    *rest = tail;
    Ok(bytes)
}

fn position(rest: &mut &[u8], malformed: Malformed) -> Result<Position, Malformed> {
    Ok(Position::new(u32(rest, malformed)?, u32(rest, malformed)?))
}

fn nil(rest: &mut &[u8]) -> bool {
    let is_nil = rest.first() == Some(&Marker::Null.to_u8());
    if is_nil {
        let _ = read_marker(rest);
    }
    is_nil
}

fn option(rest: &mut &[u8], malformed: Malformed) -> Result<Option<u64>, Malformed> {
    if nil(rest) { Ok(None) } else { uint(rest, malformed).map(Some) }
}
