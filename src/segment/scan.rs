//! Reads a segment from front to back, record by record, and says how it ends. Never writes.

use std::sync::Arc;

use bytes::Bytes;

use crate::error::{Error, Result};
use crate::format::{
    BLOCK_BYTES, Bad, Expect, Fragment, Gap, HEADER_BYTES, Header, Kind, Part, RecordType, Resume, block_rest,
    read_fragment, read_whole,
};
use crate::fs::File;
use crate::stats::Reads;

use super::Segment;

/// How much is read at once: many blocks, so that a scan runs at the speed of sequential reads.
const WINDOW_BYTES: usize = 8 * BLOCK_BYTES as usize;

/// A piece of a file in memory, moved along as it is read.
pub(crate) struct Window {
    file: Arc<dyn File>,
    path: std::path::PathBuf,
    size: u64,
    start: u64,
    bytes: Bytes,
    /// How much is read next, and at most: a look at a few records reads little.
    ahead: usize,
    most: usize,
    /// What it reads counts there, where a reader reads.
    reads: Option<Arc<Reads>>,
}

impl Window {
    pub(crate) fn new(file: Arc<dyn File>, path: &std::path::Path) -> Result<Self> {
        let size = file.size().map_err(|e| Error::io("read the size of", path, e))?;
        // No segment reaches so far; what lies beyond is foreign and would overflow the 32-bit offsets.
        let size = size.min(u64::from(u32::MAX - 2 * BLOCK_BYTES));
        Ok(Window {
            file,
            path: path.to_owned(),
            size,
            start: 0,
            bytes: Bytes::new(),
            ahead: BLOCK_BYTES as usize,
            most: WINDOW_BYTES,
            reads: None,
        })
    }

    /// A window onto the first `limit` bytes, all of which are there.
    pub(crate) fn within(file: Arc<dyn File>, path: &std::path::Path, limit: u32) -> Self {
        let ahead = BLOCK_BYTES as usize;
        Window {
            file,
            path: path.to_owned(),
            size: limit.into(),
            start: 0,
            bytes: Bytes::new(),
            ahead,
            most: WINDOW_BYTES,
            reads: None,
        }
    }

    /// What it reads of this segment counts as read.
    pub(crate) fn counted(mut self, segment: &Segment) -> Self {
        self.reads = Some(segment.files.reads.clone());
        self
    }

    /// Reads no more than it must, for a look at the head of a file.
    pub(crate) fn narrow(mut self) -> Self {
        self.most = BLOCK_BYTES as usize;
        self
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// The bytes from `at` to the end of its block, or of the file.
    pub(crate) fn block(&mut self, at: u32) -> Result<&[u8]> {
        self.get(at.into(), block_rest(at) as usize)
    }

    /// Up to `len` bytes from `at` on, fewer where the file ends. `len` is at most a window.
    pub(crate) fn get(&mut self, at: u64, len: usize) -> Result<&[u8]> {
        let end = self.size.min(at.saturating_add(len as u64));
        if at < self.start || end > self.start + self.bytes.len() as u64 {
            let start = at - at % u64::from(BLOCK_BYTES);
            let wanted =
                (self.size.saturating_sub(start)).min(self.ahead.max(len + BLOCK_BYTES as usize) as u64) as usize;
            // The memory is used again, unless somebody holds a record in it.
            let mut bytes = std::mem::take(&mut self.bytes).try_into_mut().unwrap_or_default();
            bytes.resize(wanted, 0);
            let mut read = || self.file.read_at(&mut bytes, start);
            let read = match &self.reads {
                Some(reads) => reads.count(read),
                None => read(),
            };
            let read = read.map_err(|e| Error::io("read", &self.path, e))?;
            bytes.truncate(read);
            (self.start, self.bytes) = (start, bytes.freeze());
            self.ahead = (4 * self.ahead).min(self.most);
        }
        let from = (at.saturating_sub(self.start) as usize).min(self.bytes.len());
        let to = (end.saturating_sub(self.start) as usize).clamp(from, self.bytes.len());
        Ok(&self.bytes[from..to])
    }

    /// Bytes that were read last, at `at`.
    fn part(&self, at: u32, len: usize) -> Bytes {
        let from = (u64::from(at) - self.start) as usize;
        self.bytes.slice(from..from + len)
    }

    /// What is in memory from `at` on.
    #[inline]
    fn held(&self, at: u32) -> Option<&[u8]> {
        let from = usize::try_from(u64::from(at).checked_sub(self.start)?).ok()?;
        self.bytes.get(from..)
    }

    /// The first offset at or behind `from` that does not hold zero.
    pub(crate) fn nonzero(&mut self, from: u64) -> Result<Option<u64>> {
        let mut at = from;
        while at < self.size {
            let bytes = self.get(at, WINDOW_BYTES - BLOCK_BYTES as usize)?;
            if bytes.is_empty() {
                break;
            }
            if let Some(found) = first_nonzero(bytes) {
                return Ok(Some(at + found as u64));
            }
            at += bytes.len() as u64;
        }
        Ok(None)
    }
}

/// Or-ing whole pieces lets the compiler use wide registers: ten times as fast as a search byte by byte.
fn first_nonzero(bytes: &[u8]) -> Option<usize> {
    const PIECE: usize = 1024;
    let piece = bytes.chunks(PIECE).position(|piece| piece.iter().fold(0, |all, byte| all | byte) != 0)?;
    let start = piece * PIECE;
    bytes[start..].iter().position(|byte| *byte != 0).map(|found| start + found)
}

/// A whole record found by a scan.
#[derive(Debug)]
pub(crate) struct Scanned {
    pub(crate) record: RecordType,
    /// Offset of its first fragment.
    pub(crate) start: u32,
    pub(crate) payload: Bytes,
}

/// A whole record, where it was read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen<'a> {
    pub(crate) record: RecordType,
    /// Offset of its first fragment.
    pub(crate) start: u32,
    pub(crate) payload: &'a [u8],
    memory: &'a Bytes,
}

impl<'a> Seen<'a> {
    fn new(scanned: &'a Scanned) -> Self {
        let Scanned { record, start, payload } = scanned;
        Seen { record: *record, start: *start, payload, memory: payload }
    }

    /// For keeping: holds on to the memory that it was read into.
    pub(crate) fn to_scanned(self) -> Scanned {
        Scanned { record: self.record, start: self.start, payload: self.memory.slice_ref(self.payload) }
    }
}

/// Where a scan ended and what stands there. `at` is the offset behind the last whole batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// The limit it was given.
    Limit,
    /// A footer begins.
    Footer,
    /// Zeros, up to the end of the file.
    Zeros,
    /// A record that is bad or missing, or a batch without its end, and why.
    Bad { at: u32, why: Bad },
}

/// What a record changes for how those behind it are read.
#[derive(Debug, Clone, Copy, Default)]
struct Brought {
    log_number: Option<u32>,
    is_inner_gap: bool,
}

/// Walks over the records of a segment. Batches come whole or not at all.
pub(crate) struct Scan {
    window: Window,
    header: Header,
    log_number: u32,
    /// Behind the last whole batch.
    end: u32,
    /// The last fragment of the last whole batch: where it stands, and its checksum.
    last_fragment: (u32, u64),
    /// Log numbers that came into force, by the offset of their resume record, or of the gap in its place.
    pub(crate) resumes: Vec<(u32, u32)>,
    /// Records that stand for lost bytes among others, from and up to.
    pub(crate) gaps: Vec<(u32, u32)>,
    /// Zeros end it without a look at how far they reach.
    is_growing: bool,
    /// The next batch need not be there from its beginning.
    is_rejoined: bool,
}

impl Scan {
    /// Starts behind the header.
    pub(crate) fn new(window: Window, header: Header) -> Self {
        Scan {
            window,
            header,
            log_number: header.log_number,
            end: HEADER_BYTES,
            last_fragment: (0, 0),
            resumes: Vec::new(),
            gaps: Vec::new(),
            is_growing: false,
            is_rejoined: false,
        }
    }

    /// For a segment that takes records: where it ends now tells nothing about what stands behind.
    pub(crate) fn growing(mut self) -> Self {
        self.is_growing = true;
        self
    }

    /// Goes on at `at`, where `log_number` is in force.
    pub(crate) fn resume_at(&mut self, at: u32, log_number: u32) {
        self.end = at;
        self.log_number = log_number;
    }

    /// As [`resume_at`](Self::resume_at), behind damage that may be in a batch: what is left of that one is read, too. For
    /// those who know from elsewhere which records count.
    pub(crate) fn rejoin_at(&mut self, at: u32, log_number: u32) {
        self.resume_at(at, log_number);
        self.is_rejoined = true;
    }

    /// The offset behind the last whole batch.
    pub(crate) fn end(&self) -> u32 {
        self.end
    }

    /// Where the last fragment before it stands, and its checksum.
    pub(crate) fn last_fragment(&self) -> (u32, u64) {
        self.last_fragment
    }

    /// The log number in force there.
    pub(crate) fn log_number(&self) -> u32 {
        self.log_number
    }

    /// More of the file is there: `limit` bytes by now. Nothing behind the old limit was read ahead.
    pub(crate) fn extend(&mut self, limit: u32) {
        self.window.size = limit.into();
    }

    /// Reads anew what was read ahead.
    pub(crate) fn forget(&mut self) {
        self.window.bytes = Bytes::new();
    }

    pub(crate) fn into_window(self) -> Window {
        self.window
    }

    /// Reads the next whole batch into `batch`, which is cleared first. Nothing at or behind `limit` is read. Where it stops
    /// inside a batch, what it has read of that one is in `batch`.
    pub(crate) fn next_batch(&mut self, batch: &mut Vec<Scanned>, limit: u32) -> Result<Option<Stop>> {
        batch.clear();
        self.walk_batch(limit, |seen| batch.push(seen.to_scanned()))
    }

    /// As [`next_batch`](Self::next_batch), for those who keep less of a record than its payload: shows each one to `see`.
    /// Whether they form a whole batch is known behind the last.
    #[inline]
    pub(crate) fn walk_batch(&mut self, limit: u32, mut see: impl FnMut(Seen<'_>)) -> Result<Option<Stop>> {
        let mut at = self.end;
        if at >= limit {
            return Ok(Some(Stop::Limit));
        }
        let mut is_first = true;
        loop {
            let scanned;
            let (seen, fragment, end) = match self.whole_record(at) {
                Some(found) => found,
                None => match self.record(at)? {
                    Ok(found) => {
                        scanned = found.0;
                        (Seen::new(&scanned), found.1, found.2)
                    }
                    Err((bad_at, why)) => return self.stop(at, bad_at, why, is_first).map(Some),
                },
            };
            let record = seen.record;
            if record.kind == Kind::Footer && is_first {
                return Ok(Some(Stop::Footer));
            }
            let is_next = record.begins == is_first || is_first && self.is_rejoined;
            if !is_next || record.kind == Kind::Footer {
                return Ok(Some(Stop::Bad { at, why: Bad::Sequence }));
            }
            let start = seen.start;
            let brought = match record.kind {
                Kind::Resume | Kind::Gap => self.brought_by(record.kind, seen.payload),
                _ => Some(Brought::default()),
            };
            let Some(Brought { log_number, is_inner_gap }) = brought else {
                return Ok(Some(Stop::Bad { at, why: Bad::Sequence }));
            };
            see(seen);
            if let Some(log_number) = log_number {
                self.log_number = log_number;
                self.resumes.push((start, log_number));
            }
            match self.gaps.last_mut() {
                // A long one is several records.
                Some((_, to)) if is_inner_gap && *to == start => *to = end,
                _ if is_inner_gap => self.gaps.push((start, end)),
                _ => {}
            }
            (at, is_first) = (end, false);
            if record.ends {
                (self.end, self.last_fragment, self.is_rejoined) = (end, fragment, false);
                return Ok(None);
            }
        }
    }

    /// What a resume or gap record changes for the records behind it, if it may.
    fn brought_by(&self, kind: Kind, payload: &[u8]) -> Option<Brought> {
        let is_own = |number: u32| number >> 16 == self.header.log_number >> 16;
        if kind == Kind::Resume {
            let Resume { before, next } = Resume::decode(payload).ok()?;
            let may_follow = before == self.log_number && is_own(next);
            return may_follow.then_some(Brought { log_number: Some(next), is_inner_gap: false });
        }
        // A malformed one is for those to judge who need what it says.
        let Gap { end, log_number, .. } = Gap::decode(payload).unwrap_or_default();
        log_number.is_none_or(is_own).then_some(Brought { log_number, is_inner_gap: end.is_none() })
    }

    /// Zeros end a segment only where nothing else follows, and only between batches.
    fn stop(&mut self, at: u32, bad_at: u32, why: Bad, between_batches: bool) -> Result<Stop> {
        let padded =
            if block_rest(at) < self.header.checksum.fragment_header_bytes() as u32 { block_rest(at) } else { 0 };
        let ends_here = matches!(why, Bad::Zeros | Bad::Short) && bad_at == at + padded && between_batches;
        if ends_here && (self.is_growing || self.window.nonzero(at.into())?.is_none()) {
            return Ok(Stop::Zeros);
        }
        Ok(Stop::Bad { at: bad_at, why })
    }

    /// The record at `at`, its last fragment and the offset behind it, if it is whole in one fragment and in memory
    /// already: nearly all are.
    #[inline]
    fn whole_record(&self, at: u32) -> Option<(Seen<'_>, (u32, u64), u32)> {
        let Header { checksum, .. } = self.header;
        let bytes = self.window.held(at)?;
        let Fragment { record, payload, sum, end, .. } = read_whole(checksum, bytes, at, self.log_number)?;
        Some((Seen { record, start: at, payload, memory: &self.window.bytes }, (at, sum), end))
    }

    /// The record at `at`, its last fragment and the offset behind it, or the place and reason of what is bad.
    #[allow(clippy::type_complexity)]
    fn record(&mut self, at: u32) -> Result<std::result::Result<(Scanned, (u32, u64), u32), (u32, Bad)>> {
        let header_bytes = self.header.checksum.fragment_header_bytes() as u32;
        let (mut at, mut start, mut joined, mut previous) = (at, None, Vec::new(), None);
        let mut record: Option<RecordType> = None;
        loop {
            let rest = block_rest(at);
            if rest < header_bytes {
                // The rest of a block too small for a header; it must be zero, else something stray stands there.
                if self.window.block(at)?.iter().any(|byte| *byte != 0) {
                    return Ok(Err((at, Bad::Sequence)));
                }
                at += rest;
            }
            let checksum = self.header.checksum;
            let expect = Expect::Exact(self.log_number);
            let fragment = match read_fragment(checksum, self.window.block(at)?, at, expect, previous) {
                Ok(fragment) => fragment,
                Err(why) => return Ok(Err((at, why))),
            };
            if !follows(record, &fragment) {
                return Ok(Err((at, Bad::Sequence)));
            }
            let (end, last) = (fragment.end, (at, fragment.sum));
            let whole = fragment.record;
            if fragment.part == Part::Full {
                let payload_bytes = fragment.payload.len();
                let payload = self.window.part(at + header_bytes, payload_bytes);
                return Ok(Ok((Scanned { record: whole, start: at, payload }, last, end)));
            }
            joined.extend_from_slice(fragment.payload);
            let start = *start.get_or_insert(at);
            if fragment.part == Part::Last {
                return Ok(Ok((Scanned { record: whole, start, payload: joined.into() }, last, end)));
            }
            record = Some(fragment.record);
            previous = Some(fragment.sum);
            at = end;
        }
    }
}

/// Whether `fragment` may stand behind the fragments of `record` that were read so far.
pub(super) fn follows(record: Option<RecordType>, fragment: &Fragment<'_>) -> bool {
    match (record, fragment.part) {
        (None, Part::Full | Part::First) => true,
        (Some(record), Part::Middle | Part::Last) => record == fragment.record,
        _ => false,
    }
}
