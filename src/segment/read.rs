//! Reading single records and footer pages out of a segment, and whole blocks for the cache.

use std::ops::Range;
use std::sync::Arc;

use bytes::{Buf, Bytes};

use crate::error::{Error, Result};
use crate::format::{
    BLOCK_BYTES, Bad, Expect, Kind, PAGE_BYTES, Page, Part, block_rest, read_fragment, read_whole, skip_fragment,
    trust_fragment,
};

use super::shelf::{Block, PageBytes, shared};
use super::{DATA_START, Segment, scan};

/// A record read by its position.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) kind: Kind,
    pub(crate) payload: Bytes,
}

/// A record that was looked for, and its payload.
#[derive(Debug)]
pub(crate) struct Found<P> {
    pub(crate) kind: Kind,
    pub(crate) payload: P,
}

/// What becomes of a payload, which stands in memory that others look at, too, or was read into a buffer.
pub(crate) trait Take {
    type Payload;

    /// `payload` is what `share` would give to keep.
    fn shared(payload: &[u8], buffer: &mut Vec<u8>, share: impl FnOnce() -> Bytes) -> Self::Payload;

    /// It is this part of the buffer.
    fn within(part: Range<usize>, buffer: &mut Vec<u8>) -> Self::Payload;
}

/// The payload stays where it is, and the buffer is given away if that is there.
#[derive(Debug)]
pub(crate) struct Keep;

impl Take for Keep {
    type Payload = Bytes;

    fn shared(_: &[u8], _: &mut Vec<u8>, share: impl FnOnce() -> Bytes) -> Bytes {
        share()
    }

    fn within(part: Range<usize>, buffer: &mut Vec<u8>) -> Bytes {
        let mut bytes = Bytes::from(std::mem::take(buffer));
        bytes.truncate(part.end);
        bytes.advance(part.start);
        bytes
    }
}

/// The payload is in the buffer, whose memory is used again.
#[derive(Debug)]
pub(crate) struct Copy;

impl Take for Copy {
    type Payload = Range<usize>;

    #[inline]
    fn shared(payload: &[u8], buffer: &mut Vec<u8>, _: impl FnOnce() -> Bytes) -> Range<usize> {
        buffer.clear();
        buffer.extend_from_slice(payload);
        0..payload.len()
    }

    fn within(part: Range<usize>, _: &mut Vec<u8>) -> Range<usize> {
        part
    }
}

/// A record found in a buffer: a part of it, or joined from several fragments.
pub(super) struct Assembled {
    kind: Kind,
    parts: Parts,
}

enum Parts {
    Whole { from: usize, to: usize },
    Joined(Vec<u8>),
}

impl Assembled {
    /// The record, within the bytes it was found in.
    pub(super) fn within(self, bytes: &Bytes, base: usize) -> Record {
        let Assembled { kind, parts } = self;
        let payload = match parts {
            Parts::Whole { from, to } => bytes.slice(base + from..base + to),
            Parts::Joined(payload) => payload.into(),
        };
        Record { kind, payload }
    }

    /// The record, within the buffer that it was found in, or that takes it.
    fn inside<T: Take>(self, buffer: &mut Vec<u8>) -> Found<T::Payload> {
        let Assembled { kind, parts } = self;
        let part = match parts {
            Parts::Whole { from, to } => from..to,
            Parts::Joined(payload) => {
                *buffer = payload;
                0..buffer.len()
            }
        };
        Found { kind, payload: T::within(part, buffer) }
    }
}

impl Segment {
    /// The log number in force at `offset`.
    pub(crate) fn log_number_at(&self, offset: u32) -> u32 {
        let before = self.resumes.partition_point(|(at, _)| *at < offset);
        before.checked_sub(1).map_or(self.header.log_number, |last| self.resumes[last].1)
    }

    /// # Errors
    /// [`Error::Lost`] where bytes stand in for what was lost.
    pub(crate) fn check_gap(&self, offset: u32) -> Result<()> {
        let is_in = |(from, to): (u32, u32)| (from..to).contains(&offset);
        let before = self.inner_gaps.partition_point(|(from, _)| *from <= offset);
        let inner = before.checked_sub(1).map(|place| self.inner_gaps[place]);
        if self.gap.is_some_and(is_in) || inner.is_some_and(is_in) {
            return Err(Error::Lost { segment: self.number.into() });
        }
        Ok(())
    }

    /// Reads the record at `offset` into the buffer with one positioned read of `guess` bytes, and more only where it is
    /// longer. Nothing at or behind `end` is taken for part of it.
    ///
    /// # Errors
    /// [`Error::Damaged`] where the bytes fail their checksum; none of them is returned.
    pub(crate) fn read<T: Take>(
        &self,
        offset: u32,
        guess: usize,
        end: u32,
        buffer: &mut Vec<u8>,
    ) -> Result<Found<T::Payload>> {
        let fill = |bytes: &mut [u8], at| self.fill(at, bytes).map(|()| true);
        let found = self.read_from::<T>(offset, guess, end, buffer, fill)?;
        found.ok_or_else(|| self.cut_short(offset))
    }

    /// Reads the record at `offset` from where it was placed lately, without a system call; `None` where it is not kept
    /// there.
    pub(crate) fn read_recent<T: Take>(
        &self,
        offset: u32,
        guess: usize,
        end: u32,
        buffer: &mut Vec<u8>,
    ) -> Option<Found<T::Payload>> {
        let region = self.region.load();
        let region = region.as_ref()?;
        // What fails here is read from the file, and judged there.
        self.read_from::<T>(offset, guess, end, buffer, |bytes, at| Ok(region.recent(bytes, at.into()))).ok().flatten()
    }

    /// The mapping of a sealed segment.
    pub(super) fn mapping(&self) -> Result<&Bytes> {
        if let Some(map) = self.map.get() {
            return Ok(map);
        }
        let map = self.file()?.map().map_err(|e| Error::io("map", &self.path, e))?;
        Ok(self.map.get_or_init(|| map))
    }

    /// Reads the record at `offset` from the mapping of a sealed segment.
    pub(crate) fn read_mapped<T: Take>(
        &self,
        offset: u32,
        end: u32,
        buffer: &mut Vec<u8>,
    ) -> Result<Found<T::Payload>> {
        let (map, base) = (self.mapping()?, offset as usize);
        let bytes = map.get(base..(end as usize).min(map.len())).ok_or_else(|| self.cut_short(offset))?;
        let assembled = self.assemble(offset, bytes);
        let found = assembled.map_err(|(why, at)| Error::damaged(&self.path, at.into(), why.to_string()))?;
        Ok(match found.parts {
            Parts::Whole { from, to } => {
                let part = base + from..base + to;
                let payload = T::shared(&map[part.clone()], buffer, || map.slice(part));
                Found { kind: found.kind, payload }
            }
            Parts::Joined(_) => found.inside::<T>(buffer),
        })
    }

    /// What the mapping of a sealed segment holds from `at` on; `None` where there is none.
    pub(crate) fn mapped_from(&self, at: u32) -> Option<&[u8]> {
        self.mapping().ok()?.get(at as usize..)
    }

    fn read_from<T: Take>(
        &self,
        offset: u32,
        guess: usize,
        end: u32,
        buffer: &mut Vec<u8>,
        mut fill: impl FnMut(&mut [u8], u32) -> Result<bool>,
    ) -> Result<Option<Found<T::Payload>>> {
        let room = end.saturating_sub(offset) as usize;
        // What it held before is no harm: it is filled whole, or not used.
        buffer.resize(guess.max(64).min(room), 0);
        if !fill(buffer, offset)? {
            return Ok(None);
        }
        loop {
            match self.assemble(offset, buffer) {
                Ok(found) => return Ok(Some(found.inside::<T>(buffer))),
                Err((Bad::Short, _)) if buffer.len() < room => {
                    let from = buffer.len();
                    buffer.resize(self.longer(buffer).min(room), 0);
                    if !fill(&mut buffer[from..], offset + from as u32)? {
                        return Ok(None);
                    }
                }
                Err((why, at)) => return Err(Error::damaged(&self.path, at.into(), why.to_string())),
            }
        }
    }

    /// How much to read next: all of a record that says so itself, else twice as much.
    pub(super) fn longer(&self, bytes: &[u8]) -> usize {
        let header = self.header.checksum.fragment_header_bytes();
        let fields = bytes.get(self.header.checksum.sum_bytes()..header);
        let own = fields.map_or(0, |fields| header + usize::from(u16::from_le_bytes([fields[0], fields[1]])));
        if own > bytes.len() { own } else { (2 * bytes.len()).max(128 << 10) }
    }

    fn cut_short(&self, offset: u32) -> Error {
        Error::damaged(&self.path, offset.into(), "the file ends inside a record")
    }

    /// Reads ahead of what is asked for, so that a file may end inside: zeros stand for what it does not have, and fail
    /// the checksum of the record that they belong to.
    pub(super) fn fill(&self, at: u32, bytes: &mut [u8]) -> Result<()> {
        let read = self.with_open(|file| {
            let read = self.files.reads.count(|| file.read_at(bytes, at.into()));
            read.map_err(|e| Error::io("read", &self.path, e))
        })?;
        if read == 0 && !bytes.is_empty() {
            return Err(self.cut_short(at));
        }
        bytes[read..].fill(0);
        Ok(())
    }

    /// The record that starts at `offset`, within `bytes` from there on.
    pub(super) fn assemble(&self, offset: u32, bytes: &[u8]) -> std::result::Result<Assembled, (Bad, u32)> {
        let header = self.header.checksum.fragment_header_bytes();
        let expect = Expect::Exact(self.log_number_at(offset));
        let (mut at, mut previous, mut record, mut joined) = (offset, None, None, Vec::new());
        loop {
            if (block_rest(at) as usize) < header {
                at += block_rest(at);
            }
            let rest = bytes.get((at - offset) as usize..).unwrap_or_default();
            let fragment = read_fragment(self.header.checksum, rest, at, expect, previous).map_err(|why| (why, at))?;
            if !scan::follows(record, &fragment) {
                return Err((Bad::Sequence, at));
            }
            let from = (at - offset) as usize + header;
            let (kind, end) = (fragment.record.kind, fragment.end);
            match fragment.part {
                Part::Full => {
                    let parts = Parts::Whole { from, to: from + fragment.payload.len() };
                    return Ok(Assembled { kind, parts });
                }
                Part::Last => {
                    joined.extend_from_slice(fragment.payload);
                    return Ok(Assembled { kind, parts: Parts::Joined(joined) });
                }
                Part::First | Part::Middle => joined.extend_from_slice(fragment.payload),
            }
            (at, previous, record) = (end, Some(fragment.sum), Some(fragment.record));
        }
    }

    /// Reads and checks the block that starts at `start` and is full of records; `None` where anything in it is not as it
    /// should be: then its records are read one by one, and each speaks for itself.
    pub(crate) fn load_block(&self, start: u32) -> Result<Option<Block>> {
        let checksum = self.header.checksum;
        let mut block = Arc::new([0; BLOCK_BYTES as usize]);
        let Some(bytes) = Arc::get_mut(&mut block) else { return Ok(None) };
        self.fill(start, bytes)?;
        let first = start.max(DATA_START);
        let (mut at, mut checked_from) = (first, first);
        while block_rest(at) as usize >= checksum.fragment_header_bytes() && at - start < BLOCK_BYTES {
            let rest = &bytes[(at - start) as usize..];
            let log_number = self.log_number_at(at);
            if let Some(whole) = read_whole(checksum, rest, at, log_number) {
                at = whole.end;
                continue;
            }
            let end = match read_fragment(checksum, rest, at, Expect::Exact(log_number), None) {
                Ok(fragment) => Some(fragment.end),
                // The rest of a record from the block before: its checksum needs that block. Whoever reads that record
                // checks all of it.
                Err(Bad::Sequence) if at == first => {
                    checked_from = skip_fragment(checksum, rest, at).unwrap_or(u32::MAX);
                    Some(checked_from)
                }
                Err(_) => None,
            };
            match end.filter(|end| *end > at && *end - start <= BLOCK_BYTES) {
                Some(end) => at = end,
                None => return Ok(None),
            }
        }
        Ok(Some(Block { bytes: block, checked_from }))
    }

    /// The record that, by the index, starts at `offset` in a block that is checked from `checked_from` on; `None` where it
    /// does not end in it.
    #[inline]
    pub(crate) fn read_checked<T: Take>(
        &self,
        block: &Arc<[u8; BLOCK_BYTES as usize]>,
        checked_from: u32,
        offset: u32,
        buffer: &mut Vec<u8>,
    ) -> Option<Found<T::Payload>> {
        let bytes = &block[(offset % BLOCK_BYTES) as usize..];
        let trusted = trust_fragment(self.header.checksum, bytes)?;
        let payload = bytes.get(self.header.checksum.fragment_header_bytes()..)?.get(..trusted.payload_bytes)?;
        if trusted.part != Part::Full || offset < checked_from {
            return None;
        }
        let payload = T::shared(payload, buffer, || shared(block).slice_ref(payload));
        Some(Found { kind: trusted.kind, payload })
    }

    /// The log number in force at `offset`, if a batch begins there: a scan may start at it.
    pub(crate) fn batch_begins_at(&self, offset: u32, end: u32) -> Result<Option<u32>> {
        if offset < self.stamp_end || offset >= end {
            return Ok(None);
        }
        let mut bytes = vec![0; block_rest(offset).min(end - offset) as usize];
        self.fill(offset, &mut bytes)?;
        let log_number = self.log_number_at(offset);
        let fragment = read_fragment(self.header.checksum, &bytes, offset, Expect::Exact(log_number), None);
        let begins = fragment.is_ok_and(|fragment| fragment.record.begins);
        Ok(begins.then_some(log_number))
    }

    /// Reads and checks a page of the footer, which bears `log_number`; returns its payload.
    ///
    /// # Errors
    /// [`Error::Damaged`]; [`Error::Io`].
    pub(crate) fn read_page(&self, page: Page, log_number: u32) -> Result<PageBytes> {
        let mut bytes = vec![0; page.bytes as usize];
        self.fill(page.at, &mut bytes)?;
        let payload = page.read(&bytes, self.header.checksum, log_number);
        let payload = payload.map_err(|why| Error::damaged(&self.path, page.at.into(), format!("footer: {why}")))?;
        let mut kept = [0; PAGE_BYTES as usize];
        // A page of a footer is not longer, its header included.
        kept.get_mut(..payload.len()).into_iter().for_each(|kept| kept.copy_from_slice(payload));
        Ok(Arc::new(kept))
    }
}
