//! A second reader of the format, written from FORMAT.md alone: it shares no line with the crate.
//!
//! * [`read`] takes a directory as names and bytes, and says what is in the log, where it ends, and whether bytes that
//!   were acknowledged as durable are damaged. It never uses a footer: what a footer says must follow from the records.
//! * It is simple, not fast, and for tests only.

mod pack;
mod scan;
pub(super) mod wire;

use std::collections::BTreeMap;

pub use self::scan::Position;
use self::scan::{Head, Record, Segment};
use self::wire::{crc32, u16_at, u32_at, u64_at};

/// The files of a directory.
pub type Files = BTreeMap<String, Vec<u8>>;

/// What a log holds, up to where it can be followed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Log {
    /// Index to key and value, the value as MessagePack.
    pub entries: BTreeMap<u64, (Vec<u8>, Vec<u8>)>,
    pub meta: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Where the log ends; zeros if there is none.
    pub end: Position,
    /// The highest position that anything names as durable.
    pub w: Position,
    /// Acknowledged bytes are lost: what is here is what stands before.
    pub damaged: bool,
}

/// A file is of a later version: touch nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Later(pub String);

/// Reads the log of `prefix`.
pub fn read(files: &Files, prefix: &str) -> Result<Log, Later> {
    let slots = manifest(files.get(&format!("{prefix}manifest")));
    let counts = slots.iter().max_by_key(|slot| slot.generation);
    let first = counts.map(|slot| slot.first);
    let mut all = BTreeMap::new();
    for (name, bytes) in files {
        let Some(number) = number_of(name, prefix) else { continue };
        let leftover = counts.is_some_and(|slot| number < slot.first || (number > slot.last && number < slot.next));
        if !leftover && let Some(segment) = Segment::open(number, bytes).map_err(|_| Later(name.clone()))? {
            all.insert(number, segment);
        }
    }
    let id = counts.map(|slot| slot.id).filter(|id| *id != [0; 16]).or_else(|| commonest(&all));
    // The highest file that the manifest knows and that is not there, or has no good header.
    let missing = counts.and_then(|slot| {
        let spoiled = files.iter().filter_map(|(name, bytes)| {
            let number = number_of(name, prefix).filter(|number| (slot.first..slot.last).contains(number));
            number.filter(|_| bytes.iter().skip(64).any(|byte| *byte != 0))
        });
        let named = [slot.last, slot.before].into_iter().filter(|&number| number >= slot.first.max(1));
        spoiled.chain(named).filter(|number| !all.contains_key(number)).max()
    });
    all.retain(|_, segment| id.is_none_or(|id| segment.id == id));
    let mut heads = BTreeMap::new();
    for (&number, segment) in &all {
        if let Some(head) = segment.head().map_err(|_| Later(number.to_string()))? {
            heads.insert(number, head);
        }
    }

    let mut log = Log { w: slots.iter().map(|slot| slot.w).max().unwrap_or_default(), ..Log::default() };
    log.w = heads.values().map(|head| head.w).chain([log.w]).max().unwrap_or_default();
    log.w = log.w.max(missing.map_or((0, 0), |number| (number, 0)));
    let lowest = files.keys().filter_map(|name| number_of(name, prefix)).min();
    for link in chain(&heads, first, lowest) {
        let Some(segment) = all.get(&link.number).filter(|_| !link.hole) else { break };
        let scanned = segment.scan(link.known).map_err(|_| Later(link.number.to_string()))?;
        scanned.batches.into_iter().for_each(|record| log.apply(record));
        log.w = log.w.max(scanned.w);
        log.end = (link.number, scanned.end);
        log.damaged |= scanned.is_malformed;
        if !scanned.whole {
            break;
        }
    }
    // Evidence of W in what cannot be followed.
    for segment in all.range(log.end.0..).map(|(_, segment)| segment) {
        let from = if segment.number == log.end.0 { log.end.1 } else { 0 };
        log.w = log.w.max(segment.evidence(from));
    }
    log.damaged |= missing.is_some() || log.end < log.w;
    Ok(log)
}

impl Log {
    /// Section 11.
    fn apply(&mut self, record: Record) {
        match record {
            Record::Entry { index, key, value } => _ = self.entries.insert(index, (key, value)),
            Record::Tombstone { index } => _ = self.entries.remove(&index),
            Record::Truncation { what: 0, index } => self.entries.retain(|&at, _| at >= index),
            Record::Truncation { what: 1, index } => self.entries.retain(|&at, _| at <= index),
            Record::Truncation { .. } => self.entries.clear(),
            Record::Metadata { key, value: Some(value) } => _ = self.meta.insert(key, value),
            Record::Metadata { key, value: None } => _ = self.meta.remove(&key),
            Record::Head(head) => self.meta = head.meta,
            Record::Gap { .. } | Record::Watermark(_) | Record::Resume { .. } | Record::Skipped | Record::Malformed => {
            }
        }
    }
}

/// A segment of the log.
struct Link {
    number: u64,
    /// Where the next one says that it ends.
    known: Option<u64>,
    /// The segment before is named and not there.
    hole: bool,
}

/// The segments of the log from the first on: section 10.
fn chain(heads: &BTreeMap<u64, Head>, first: Option<u64>, lowest: Option<u64>) -> Vec<Link> {
    let mut chain = Vec::new();
    let mut next = heads.last_key_value().map(|(&number, head)| (number, None, head));
    while let Some((number, known, head)) = next {
        let before = head.predecessor.filter(|&(before, _)| before >= first.unwrap_or(1) && before < number);
        next = before.and_then(|(before, end)| heads.get(&before).map(|head| (before, Some(end), head)));
        let mut hole = before.is_some() && next.is_none();
        if hole {
            // What stands before a missing segment goes on as far as it can.
            next = heads.range(..number).next_back().map(|(&lower, head)| (lower, None, head));
            // Without a manifest nobody knows where the log begins.
            hole &= first.is_some() || lowest < Some(number);
        }
        chain.push(Link { number, known, hole });
    }
    chain.reverse();
    chain
}

/// A valid slot of the manifest.
struct Slot {
    generation: u64,
    id: [u8; 16],
    first: u64,
    last: u64,
    before: u64,
    next: u64,
    w: Position,
}

fn manifest(bytes: Option<&Vec<u8>>) -> Vec<Slot> {
    let mut slots = Vec::new();
    for place in 0..2 {
        let Some(slot) = bytes.and_then(|bytes| bytes.get(place * 4096..)).filter(|slot| slot.len() >= 92) else {
            continue;
        };
        let generation = u64_at(slot, 16);
        let good = slot.starts_with(b"caskman\n") && crc32(&slot[..88]) == u32_at(slot, 88) && u16_at(slot, 8) == 3;
        let fits = [40, 48, 56, 72, 80].iter().all(|&at| u64_at(slot, at) >> 32 == 0);
        if good && fits && generation % 2 == place as u64 {
            slots.push(Slot {
                generation,
                id: slot[24..40].try_into().expect("16 bytes"),
                first: u64_at(slot, 40),
                last: u64_at(slot, 56),
                before: u32_at(slot, 12).into(),
                next: u64_at(slot, 64),
                w: (u64_at(slot, 72), u64_at(slot, 80)),
            });
        }
    }
    slots
}

fn number_of(name: &str, prefix: &str) -> Option<u64> {
    let digits = name.strip_prefix(prefix)?.strip_suffix(".log")?;
    let number =
        (digits.len() == 20 && digits.bytes().all(|digit| digit.is_ascii_digit())).then(|| digits.parse().ok());
    number.flatten().filter(|number| (1..1 << 32).contains(number))
}

fn commonest(all: &BTreeMap<u64, Segment<'_>>) -> Option<[u8; 16]> {
    let mut counts = BTreeMap::<[u8; 16], usize>::new();
    for segment in all.values().filter(|segment| matches!(segment.head(), Ok(Some(_)))) {
        *counts.entry(segment.id).or_default() += 1;
    }
    counts.into_iter().max_by_key(|&(_, count)| count).map(|(id, _)| id)
}
