//! Reading many records of a segment, most of which follow each other.

use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::error::{Error, Result};
use crate::format::{BLOCK_BYTES, Bad, Kind, read_whole};

use super::Segment;
use super::read::Record;

/// The first read of a window: a scan that ends soon has not read much in vain.
const FIRST_BYTES: usize = 4 << 10;

/// The largest window: it stays in the second-level cache of the processor, and one system call reads thousands of small
/// records.
const MOST_BYTES: usize = 256 << 10;

/// The most records that are checked together. As with the window there are few at first, and more the longer they are
/// asked for in the order in which they stand.
const MOST_RECORDS: usize = 1 << 12;

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
    bytes: Bytes,
    start: u32,
    window: usize,
    /// Records in the window that follow each other and were checked together, and how many of them were passed.
    checked: Vec<Checked>,
    passed: usize,
    /// How many are checked together next.
    run: usize,
}

/// A record that is whole in the window, and good.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Checked {
    pub(crate) offset: u32,
    kind: Kind,
    /// Its payload in the window.
    from: u32,
    to: u32,
}

impl Checked {
    /// Where its payload stands in the window.
    pub(crate) fn payload(&self) -> Range<usize> {
        self.from as usize..self.to as usize
    }
}

impl Ahead {
    /// `is_mapped` is for a sealed segment.
    pub(crate) fn new(segment: Arc<Segment>, is_mapped: bool) -> Self {
        let (bytes, checked) = (Bytes::new(), Vec::new());
        Ahead { segment, is_mapped, bytes, start: 0, window: FIRST_BYTES, checked, passed: 0, run: 1 }
    }

    pub(crate) fn segment(&self) -> &Arc<Segment> {
        &self.segment
    }

    fn window_end(&self) -> u32 {
        self.start + self.bytes.len() as u32
    }

    /// The record at `offset`, which is `guess` bytes long or longer. Nothing at or behind `end` is taken for part of it.
    ///
    /// # Errors
    /// As [`Segment::read`].
    pub(crate) fn record(&mut self, offset: u32, guess: usize, end: u32, toward: Toward) -> Result<Record> {
        self.segment.check_gap(offset)?;
        if offset >= end {
            return Err(self.damaged(Bad::Short, offset));
        }
        if let Some(record) = self.take_checked(offset) {
            return Ok(record);
        }
        let is_used = self.passed == self.checked.len();
        self.run = if is_used { (4 * self.run).min(MOST_RECORDS) } else { 1 };
        let mut is_moved = false;
        loop {
            if !is_moved && !(self.start..self.window_end()).contains(&offset) {
                self.move_to(offset, guess, end, toward)?;
                is_moved = true;
            }
            let from = (offset - self.start) as usize;
            let to = (end.min(self.window_end()) - self.start) as usize;
            if toward == Toward::End {
                self.check(offset, to, self.run);
                if let Some(record) = self.take_checked(offset) {
                    return Ok(record);
                }
            }
            match self.segment.assemble(offset, self.bytes.get(from..to).unwrap_or_default()) {
                Ok(found) => return Ok(found.within(&self.bytes, from)),
                // It is not whole in the window: the window is moved there first, and enlarged then.
                Err((Bad::Short, _)) if self.window_end() < end && is_moved => {
                    let wanted = self.segment.longer(&self.bytes[from..to]);
                    self.fill(offset, wanted.min((end - offset) as usize))?;
                }
                Err((Bad::Short, _)) if self.window_end() < end => {
                    self.move_to(offset, guess, end, toward)?;
                    is_moved = true;
                }
                Err((why, at)) => return Err(self.damaged(why, at)),
            }
        }
    }

    /// How many of the next records were checked already, are entries and start where `offsets` says.
    pub(crate) fn count_behind(&self, offsets: impl Iterator<Item = u32>) -> usize {
        let next = self.checked.get(self.passed..).unwrap_or_default();
        let is_it = |(checked, offset): &(&Checked, u32)| checked.kind == Kind::Entry && checked.offset == *offset;
        next.iter().zip(offsets).take_while(is_it).count()
    }

    /// Checks the records before `offset` that stand in the window and in its block, so that all are whole there, from where
    /// the farthest of `offsets` starts. Counts those that are entries and start where `offsets` says, from the last on.
    pub(crate) fn count_before(&mut self, offset: u32, offsets: impl Iterator<Item = u32> + Clone) -> usize {
        let near = self.start.max(offset - offset % BLOCK_BYTES)..offset;
        let Some(first) = offsets.clone().take_while(|before| near.contains(before)).last() else { return 0 };
        self.check(first, (offset - self.start) as usize, MOST_RECORDS);
        let is_it = |(checked, before): &(&Checked, u32)| checked.kind == Kind::Entry && checked.offset == *before;
        self.checked.iter().rev().zip(offsets).take_while(is_it).count()
    }

    /// The bytes of the window.
    pub(crate) fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The next record that was checked already.
    #[inline(always)]
    pub(crate) fn next_checked(&mut self, toward: Toward) -> Option<Checked> {
        match toward {
            Toward::End => self.checked.get(self.passed).copied().inspect(|_| self.passed += 1),
            Toward::Start => self.checked.pop(),
        }
    }

    /// The checked record at `offset`. Those before it are passed.
    fn take_checked(&mut self, offset: u32) -> Option<Record> {
        loop {
            let Checked { offset: at, kind, from, to } = *self.checked.get(self.passed)?;
            if at > offset {
                return None;
            }
            self.passed += 1;
            if at == offset {
                return Some(Record { kind, payload: self.bytes.slice(from as usize..to as usize) });
            }
        }
    }

    /// Checks up to `most` records that follow each other from `offset` on, up to one that is not whole in the first `to`
    /// bytes of the window, or not good.
    fn check(&mut self, mut offset: u32, to: usize, most: usize) {
        self.checked.clear();
        self.passed = 0;
        let checksum = self.segment.header.checksum;
        let header = checksum.fragment_header_bytes() as u32;
        let log_number = self.segment.log_number_at(offset);
        let window = self.bytes.get(..to).unwrap_or_default();
        while self.checked.len() < most
            && let Some(rest) = window.get((offset - self.start) as usize..)
            && let Some(whole) = read_whole(checksum, rest, offset, log_number)
        {
            let (from, to) = (offset + header - self.start, whole.end - self.start);
            self.checked.push(Checked { offset, kind: whole.record.kind, from, to });
            offset = whole.end;
        }
    }

    fn damaged(&self, why: Bad, at: u32) -> Error {
        Error::damaged(&self.segment.path, at.into(), why.to_string())
    }

    /// Places the window so that it covers `guess` bytes at `offset` and what is likely to be asked for next.
    fn move_to(&mut self, offset: u32, guess: usize, end: u32, toward: Toward) -> Result<()> {
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
        let room = (end - offset) as usize;
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
        self.checked.clear();
        self.passed = 0;
        if self.is_mapped {
            (self.bytes, self.start) = (self.segment.mapping()?.clone(), 0);
            return Ok(());
        }
        let file = self.segment.file()?;
        let mut bytes = std::mem::take(&mut self.bytes).try_into_mut().unwrap_or_default();
        if bytes.capacity() < len {
            bytes = BytesMut::zeroed(len);
        } else {
            bytes.resize(len, 0);
        }
        self.start = start;
        self.segment.fill(&*file, start, &mut bytes)?;
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
    use crate::format::{Checksum, Framer, HeadStamp, Header, Next, RecordType, State};
    use crate::fs::sim::SimFs;
    use crate::fs::{Access, Fs};
    use crate::options::IndexOrder;
    use crate::position::Position;
    use crate::segment::Files;

    /// A window onto a segment of so many entries of a hundred bytes, where each of them starts, and where they end.
    fn ahead(count: usize) -> (Ahead, Vec<u32>, u32) {
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
        (Ahead::new(Arc::new(segment), false), offsets, bytes.len() as u32)
    }

    /// The places of the entries that are handed out without being asked for one by one.
    fn checked(ahead: &mut Ahead, offsets: &[u32], toward: Toward) -> Vec<usize> {
        std::iter::from_fn(|| {
            let checked = ahead.next_checked(toward)?;
            let place = offsets.binary_search(&checked.offset).expect("an entry starts there");
            assert_eq!(ahead.bytes()[checked.payload()], [place as u8; 100]);
            Some(place)
        })
        .collect()
    }

    #[test]
    fn entries_in_their_order_are_checked_together_more_each_time() {
        let (mut ahead, offsets, end) = ahead(20_000);
        let (mut place, mut runs) = (0, Vec::new());
        while place < offsets.len() {
            let record = ahead.record(offsets[place], 111, end, Toward::End).unwrap();
            assert_eq!(record.payload, [place as u8; 100].as_slice());
            let count = ahead.count_behind(offsets[place + 1..].iter().copied());
            let behind = checked(&mut ahead, &offsets, Toward::End);
            assert_eq!(behind, (place + 1..place + 1 + count).collect::<Vec<_>>());
            place += 1 + count;
            runs.push(1 + count);
        }
        assert_eq!(runs[..2], [4, 16]);
        // One that goes over into the next block is checked alone.
        let (block, blocks) = (BLOCK_BYTES as usize / 111, end.div_ceil(BLOCK_BYTES) as usize);
        assert!(runs.iter().filter(|run| (block - 1..=block).contains(*run)).count() > blocks / 2, "{runs:?}");
        assert!(runs.len() < blocks * 5 / 2, "{} runs over {blocks} blocks: {runs:?}", runs.len());
    }

    #[test]
    fn an_entry_that_is_asked_for_among_those_that_were_checked_is_handed_out() {
        let (mut ahead, offsets, end) = ahead(200);
        ahead.record(offsets[0], 111, end, Toward::End).unwrap();
        let at = |ahead: &mut Ahead, place: usize| {
            let record = ahead.record(offsets[place], 111, end, Toward::End).unwrap();
            assert_eq!(record.payload, [place as u8; 100].as_slice());
            ahead.count_behind(offsets[place + 1..].iter().copied())
        };
        assert_eq!(at(&mut ahead, 2), 1, "one of four was passed by, one is left");
        assert_eq!(at(&mut ahead, 1), 0, "for whoever goes back nothing more is checked than he asks for");
        assert_eq!(at(&mut ahead, 0), 3, "all that was checked was used");
        assert_eq!(ahead.count_behind([offsets[1], offsets[3]].into_iter()), 1, "the next one stands elsewhere");
        assert_eq!(ahead.count_behind([offsets[2]].into_iter()), 0);
    }

    #[test]
    fn entries_before_one_are_checked_as_far_as_its_block_and_the_window_go() {
        let (_, offsets, end) = ahead(2_000);
        for place in (100..2_000).step_by(7) {
            let (mut ahead, ..) = ahead(2_000);
            let offset = offsets[place];
            ahead.record(offset, 111, end, Toward::Start).unwrap();
            let from = (offset - offset % BLOCK_BYTES).max(ahead.start);
            let near: Vec<usize> = (0..place).rev().filter(|before| offsets[*before] >= from).collect();
            let count = ahead.count_before(offset, offsets[..place].iter().rev().copied());
            assert_eq!(count, near.len(), "before {offset}, from {from}");
            assert_eq!(checked(&mut ahead, &offsets, Toward::Start), near);
        }
    }
}
