//! Reading many records of a segment, most of which follow each other.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::error::{Error, Result};
use crate::format::{Bad, Kind, read_whole};
use crate::fs::prefetch;

use super::Segment;
use super::read::Record;

/// The first read of a window: a scan that ends soon has not read much in vain.
const FIRST_BYTES: usize = 4 << 10;

/// The largest window: it stays in the second-level cache of the processor, and one system call reads thousands of small
/// records.
const MOST_BYTES: usize = 256 << 10;

/// How far behind an entry the processor is asked for what follows: the time that the entries in between take is that of a
/// read from memory. Half as much and twice as much bring less.
const SOON_BYTES: usize = 2 << 10;

/// Where the next record is likely to stand, before the first one was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Toward {
    End,
    Start,
}

/// A window onto a segment that is read ahead of what is asked for, more at once the longer records follow each other, or
/// that is all of it where it is mapped. Records are handed out as parts of the window; its memory is used again when
/// nobody holds one.
#[derive(Debug)]
pub(crate) struct Ahead {
    segment: Arc<Segment>,
    /// The window is all of the segment, mapped.
    is_mapped: bool,
    /// Nothing at or behind it is taken for part of a record, or stands in the window.
    end: u32,
    bytes: Bytes,
    start: u32,
    window: usize,
    /// Up to where the processor was asked for what is mapped.
    asked: usize,
}

impl Ahead {
    /// `is_mapped` is for a sealed segment.
    pub(crate) fn new(segment: Arc<Segment>, is_mapped: bool, end: u32) -> Self {
        Ahead { segment, is_mapped, end, bytes: Bytes::new(), start: 0, window: FIRST_BYTES, asked: 0 }
    }

    pub(crate) fn segment(&self) -> &Arc<Segment> {
        &self.segment
    }

    fn window_end(&self) -> u32 {
        self.start + self.bytes.len() as u32
    }

    /// The bytes of the window.
    pub(crate) fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The payload of the entry at `offset`, a part of the window, if all of it is there in one fragment, and good.
    #[inline(always)]
    pub(crate) fn entry(&self, offset: u32) -> Option<&[u8]> {
        let from = offset.checked_sub(self.start)? as usize;
        let rest = self.bytes.get(from..)?;
        let whole = read_whole(self.segment.header.checksum, rest, offset, self.segment.log_number_at(offset))?;
        (whole.record.kind == Kind::Entry).then_some(whole.payload)
    }

    /// Asks the processor for what follows an entry that ends at `end` in the window, where that is a mapping: of itself it
    /// fetches ahead to the end of a page only. A window that was copied is in its cache already.
    #[inline(always)]
    pub(crate) fn ask_behind(&mut self, end: usize) {
        let (first, last) = (self.asked.max(end), (end + SOON_BYTES).min(self.bytes.len()));
        if self.is_mapped && first < last {
            prefetch(self.bytes.get(first..last).unwrap_or_default());
            self.asked = last;
        }
    }

    /// The record at `offset`, which is `guess` bytes long or longer.
    ///
    /// # Errors
    /// As [`Segment::read`].
    pub(crate) fn record(&mut self, offset: u32, guess: usize, toward: Toward) -> Result<Record> {
        self.segment.check_gap(offset)?;
        if offset >= self.end {
            return Err(self.damaged(Bad::Short, offset));
        }
        let mut is_moved = false;
        loop {
            if !is_moved && !(self.start..self.window_end()).contains(&offset) {
                self.move_to(offset, guess, toward)?;
                is_moved = true;
            }
            let from = (offset - self.start) as usize;
            let rest = self.bytes.get(from..).unwrap_or_default();
            let has_more = self.window_end() < self.end && !self.is_mapped;
            match self.segment.assemble(offset, rest) {
                Ok(found) => return Ok(found.within(&self.bytes, from)),
                // It is not whole in the window: the window is moved there first, and enlarged then.
                Err((Bad::Short, _)) if has_more && is_moved => {
                    let wanted = self.segment.longer(rest);
                    self.fill(offset, wanted.min((self.end - offset) as usize))?;
                }
                Err((Bad::Short, _)) if has_more => {
                    self.move_to(offset, guess, toward)?;
                    is_moved = true;
                }
                Err((why, at)) => return Err(self.damaged(why, at)),
            }
        }
    }

    fn damaged(&self, why: Bad, at: u32) -> Error {
        Error::damaged(&self.segment.path, at.into(), why.to_string())
    }

    /// Places the window so that it covers `guess` bytes at `offset` and what is likely to be asked for next.
    fn move_to(&mut self, offset: u32, guess: usize, toward: Toward) -> Result<()> {
        // Entries may stand in the order of their indexes or against it.
        let toward = match self.bytes.is_empty() {
            true => toward,
            false if offset >= self.start => Toward::End,
            false => Toward::Start,
        };
        let near = self.window as u64;
        let is_near = !self.bytes.is_empty()
            && match toward {
                Toward::End => offset >= self.start && u64::from(offset) <= u64::from(self.window_end()) + near,
                Toward::Start => offset < self.window_end() && u64::from(offset) + near >= u64::from(self.start),
            };
        self.window = if is_near { (self.window * 4).min(MOST_BYTES) } else { FIRST_BYTES };
        let room = (self.end - offset) as usize;
        match toward {
            Toward::End => self.fill(offset, self.window.max(guess).min(room)),
            Toward::Start => {
                let behind = offset as usize + guess.min(room);
                let start = behind.saturating_sub(self.window).min(offset as usize);
                self.fill(start as u32, behind - start)
            }
        }
    }

    fn fill(&mut self, start: u32, len: usize) -> Result<()> {
        if self.is_mapped {
            let map = self.segment.mapping()?;
            (self.bytes, self.start) = (map.slice(..map.len().min(self.end as usize)), 0);
            return Ok(());
        }
        let mut bytes = std::mem::take(&mut self.bytes).try_into_mut().unwrap_or_default();
        if bytes.capacity() < len {
            bytes = BytesMut::zeroed(len);
        } else {
            bytes.resize(len, 0);
        }
        self.start = start;
        self.segment.fill(start, &mut bytes)?;
        self.bytes = bytes.freeze();
        Ok(())
    }
}

#[cfg(test)]
#[cfg(not(any(casklog_loom, casklog_shuttle)))]
mod tests {
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    use super::*;
    use crate::format::{BLOCK_BYTES, Checksum, Framer, HeadStamp, Header, Next, RecordType, State};
    use crate::fs::sim::SimFs;
    use crate::fs::{Access, Fs};
    use crate::options::IndexOrder;
    use crate::position::Position;
    use crate::segment::Files;

    /// A window onto a segment of so many entries of a hundred bytes, and where each of them starts.
    fn ahead(count: usize) -> (Ahead, Vec<u32>) {
        let header = Header { checksum: Checksum::default(), log_id: 1, number: 1, log_number: 1 << 16 };
        let state = State { floor: 0, retired: None, next: Next::Unset, order: IndexOrder::Any };
        let (durable, truncations, meta) = (Position::ZERO, Vec::new(), BTreeMap::new());
        let stamp = HeadStamp { predecessor: None, durable, state, truncations, meta, time_ms: 0 };
        let framer = Framer { checksum: header.checksum, log_number: header.log_number };
        let mut bytes = header.to_bytes().to_vec();
        let mut offsets = Vec::new();
        for place in 0..count {
            let at = bytes.len() as u32;
            let payload = [place as u8; 100];
            offsets.push(framer.frame(&mut bytes, at, RecordType::alone(Kind::Entry), &payload).0);
        }
        let (sim, path) = (SimFs::new(), PathBuf::from("/segment"));
        sim.open(&path, Access::CreateNew).unwrap().write_at(&bytes, 0).unwrap();
        let segment = Segment::new(Arc::new(Files::new(Arc::new(sim), 4)), path, header, stamp, None);
        (Ahead::new(Arc::new(segment), false, bytes.len() as u32), offsets)
    }

    /// Reads all entries in this order. Returns how many had to be asked for, and how many were whole in the window.
    fn read_all(ahead: &mut Ahead, offsets: &[u32], toward: Toward) -> (usize, usize) {
        let places: Vec<usize> = match toward {
            Toward::End => (0..offsets.len()).collect(),
            Toward::Start => (0..offsets.len()).rev().collect(),
        };
        let (mut asked, mut whole) = (0, 0);
        for place in places {
            match ahead.entry(offsets[place]) {
                Some(payload) => {
                    assert_eq!(payload, [place as u8; 100]);
                    whole += 1;
                }
                None => {
                    let record = ahead.record(offsets[place], 111, toward).unwrap();
                    assert_eq!(record.payload, [place as u8; 100].as_slice());
                    asked += 1;
                }
            }
        }
        (asked, whole)
    }

    #[test]
    fn entries_in_the_window_need_not_be_asked_for_but_where_they_go_over_into_another_block() {
        for toward in [Toward::End, Toward::Start] {
            let (mut ahead, offsets) = ahead(20_000);
            let blocks = ahead.end.div_ceil(BLOCK_BYTES) as usize;
            let (asked, whole) = read_all(&mut ahead, &offsets, toward);
            assert_eq!(asked + whole, 20_000);
            assert!(asked < blocks * 5 / 4, "{asked} over {blocks} blocks, {toward:?}");
        }
    }

    #[test]
    fn what_is_changed_in_the_window_is_no_entry() {
        let (mut ahead, offsets) = ahead(20);
        ahead.record(offsets[0], 111, Toward::End).unwrap();
        let good = ahead.bytes.clone();
        for at in offsets[7]..offsets[8] {
            let mut bytes = BytesMut::from(&good[..]);
            bytes[(at - ahead.start) as usize] ^= 1 << (at % 8);
            ahead.bytes = bytes.freeze();
            assert_eq!(ahead.entry(offsets[7]), None, "byte {at}");
            assert!(ahead.entry(offsets[6]).is_some() && ahead.entry(offsets[8]).is_some());
        }
    }

    #[test]
    fn nothing_behind_the_end_is_an_entry() {
        let (mut ahead, offsets) = ahead(20);
        ahead.end = offsets[5] + 1;
        ahead.record(offsets[0], 111, Toward::End).unwrap();
        assert!(ahead.entry(offsets[4]).is_some());
        assert_eq!(ahead.entry(offsets[5]), None);
        assert!(matches!(ahead.record(offsets[5], 111, Toward::End), Err(Error::Damaged { .. })));
        assert!(matches!(ahead.record(offsets[6], 111, Toward::End), Err(Error::Damaged { .. })));
    }
}
