//! Gap records that take exactly the place of what is lost.

use crate::format::{BLOCK_BYTES, Checksum, Framer, Gap, Kind, RecordType, block_rest};

use super::walk::Stretch;

/// The most blocks that one gap record covers: whoever scans a segment holds a batch in memory.
const RECORD_BLOCKS: u32 = 32;

/// A gap record and the bytes that it takes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Filling {
    pub(super) at: u32,
    pub(super) until: u32,
    framer: Framer,
    record: RecordType,
    gap: Gap,
    payload_bytes: usize,
}

/// The records that take the place of the stretch, and say which indexes may have stood there and which log number is in
/// force behind. Where there is no room for a range, any index may have. `None` where no record can be made to fit: a record
/// begins and ends where the stretch does, so that never was a record.
pub(super) fn fill(checksum: Checksum, stretch: &Stretch, indexes: Option<(u64, u64)>) -> Option<Vec<Filling>> {
    let Stretch { from, to, log_number, next_log_number, begins, ends, .. } = *stretch;
    let mut gap = Gap { end: None, indexes, log_number: next_log_number };
    let mut framer = Framer { checksum, log_number };
    let (mut fillings, mut at) = (Vec::new(), from);
    // What is left of a block too small for a header is no place for a record.
    while framer.start(at) < to {
        let until = to.min((at / BLOCK_BYTES).saturating_add(RECORD_BLOCKS).saturating_mul(BLOCK_BYTES));
        let payload_bytes = room(framer, at, until)?;
        if !fits(gap, payload_bytes) {
            gap.indexes = Some(Gap::ANY);
        }
        if !fits(gap, payload_bytes) || framer.end(at.into(), payload_bytes as u64) != u64::from(until) {
            return None;
        }
        // Each is a batch of its own, but for those at the ends of the stretch, which stand in for a part of one.
        let record = RecordType { kind: Kind::Gap, begins: begins || at != from, ends: ends || until != to };
        fillings.push(Filling { at, until, framer, record, gap, payload_bytes });
        (framer.log_number, at) = (next_log_number.unwrap_or(log_number), until);
        gap = Gap::default();
    }
    Some(fillings)
}

impl Filling {
    /// The bytes in its place, zeros behind what it says.
    pub(super) fn to_bytes(self) -> Vec<u8> {
        let Filling { at, framer, record, gap, payload_bytes, .. } = self;
        let (mut payload, mut bytes) = (Vec::new(), Vec::new());
        gap.encode(&mut payload);
        payload.resize(payload_bytes, 0);
        framer.frame(&mut bytes, at, record, &payload);
        bytes
    }
}

fn fits(gap: Gap, payload_bytes: usize) -> bool {
    let mut payload = Vec::new();
    gap.encode(&mut payload);
    payload.len() <= payload_bytes
}

/// How long the payload of one record is that begins at `at` and ends at `until`.
pub(super) fn room(framer: Framer, at: u32, until: u32) -> Option<usize> {
    let header = framer.checksum.fragment_header_bytes() as u32;
    let (mut at, mut room) = (framer.start(at), 0);
    while at < until {
        let piece = block_rest(at).min(until - at);
        room += piece.checked_sub(header)?;
        at += piece;
    }
    Some(room as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::{Expect, Part, read_fragment};

    /// Reads the records back as a scan would: their types and what they say.
    fn read_back(checksum: Checksum, stretch: &Stretch, bytes: &[u8]) -> Vec<(RecordType, Gap)> {
        let (mut found, mut at, mut number) = (Vec::new(), stretch.from, stretch.log_number);
        let framer = Framer { checksum, log_number: 0 };
        let (mut payload, mut previous) = (Vec::new(), None);
        while framer.start(at) < stretch.to {
            at = framer.start(at);
            let rest = &bytes[(at - stretch.from) as usize..];
            let fragment = read_fragment(checksum, rest, at, Expect::Exact(number), previous).unwrap();
            payload.extend_from_slice(fragment.payload);
            (at, previous) = (fragment.end, Some(fragment.sum));
            if matches!(fragment.part, Part::Full | Part::Last) {
                let gap = Gap::decode(&std::mem::take(&mut payload)).unwrap();
                (number, previous) = (gap.log_number.unwrap_or(number), None);
                found.push((fragment.record, gap));
            }
        }
        assert_eq!(at.max(stretch.to), stretch.to);
        found
    }

    /// Bounds, and all the ways in which a stretch of this length can stand in batches and log numbers.
    fn check(checksum: Checksum, from: u32, length: u32) {
        let header = checksum.fragment_header_bytes() as u32;
        let end = Framer { checksum, log_number: 0 }.end(from.into(), (length - header).into());
        let (to, log_number, between) = (end as u32, 0x7777_1234, (None, None));
        for (begins, ends) in [(true, true), (true, false), (false, true), (false, false)] {
            for next_log_number in [None, Some(0x7777_0001)] {
                let stretch = Stretch { from, to, log_number, next_log_number, begins, ends, between };
                let Some(fillings) = fill(checksum, &stretch, Some((7, 1 << 60))) else {
                    // A resume record is as long as this at least.
                    assert!(next_log_number.is_some() && length < header + 9);
                    continue;
                };
                let bytes: Vec<u8> = fillings.iter().flat_map(|filling| filling.to_bytes()).collect();
                assert_eq!(bytes.len() as u32, to - from);
                assert!(fillings.windows(2).all(|pair| pair[0].until == pair[1].at));
                let found = read_back(checksum, &stretch, &bytes);
                let (first, last) = (found[0], found[found.len() - 1]);
                assert_eq!((first.0.begins, last.0.ends), (begins, ends));
                assert_eq!(first.1.log_number, next_log_number);
                let has_room = length >= header + if next_log_number.is_some() { 17 } else { 12 };
                assert_eq!(first.1.indexes, Some(if has_room { (7, 1 << 60) } else { Gap::ANY }), "{length}");
                assert!(found.iter().all(|(record, gap)| record.kind == Kind::Gap && gap.end.is_none()));
                assert!(found.iter().skip(1).all(|(record, _)| record.begins));
            }
        }
    }

    #[test]
    fn every_stretch_between_records_is_filled_exactly() {
        for checksum in [Checksum::Crc32, Checksum::Crc64] {
            let header = checksum.fragment_header_bytes() as u32;
            for from in [64, 1000, BLOCK_BYTES - 40, BLOCK_BYTES - header, BLOCK_BYTES - 3, BLOCK_BYTES] {
                let lengths = (header + 4..200).chain([BLOCK_BYTES, 3 * BLOCK_BYTES + 77, 80 * BLOCK_BYTES]);
                lengths.for_each(|length| check(checksum, from, length));
            }
        }
    }
}
