//! One segment file: its identity, and reading records out of it.

#![deny(clippy::unwrap_used, clippy::expect_used)]

mod active;
mod files;
mod scan;
mod sealed;
mod search;
mod write_back;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};

use crate::error::{Error, Result};
use crate::format::{Bad, Expect, HEADER_BYTES, HeadStamp, Header, Kind, Part, block_rest, read_fragment};
use crate::fs::File;

pub(crate) use active::Active;
pub(crate) use files::Files;
pub(crate) use scan::{Scan, Scanned, Stop, Window};
pub(crate) use sealed::{read_footer, seal};
pub(crate) use search::{Evidence, evidence, next_fragment};
pub(crate) use write_back::{erase, write_back};

/// The first byte behind the header.
pub(crate) const DATA_START: u32 = HEADER_BYTES;

/// One segment of the log, shared by the writer, the keeper and readers.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) number: u32,
    pub(crate) path: PathBuf,
    pub(crate) header: Header,
    /// What the log remembered when this segment was begun.
    pub(crate) stamp: HeadStamp,
    /// Behind the head stamp.
    pub(crate) stamp_end: u32,
    /// Resume records and the log numbers they put in force, by offset; fixed once the segment takes records.
    pub(crate) resumes: Vec<(u32, u32)>,
    /// Where bytes stand in for a range that was lost: the range.
    pub(crate) gap: Option<(u32, u32)>,
    /// The writer places nothing at or above it; only above it space is made ready.
    pub(crate) prepared: AtomicU64,
    /// The time of the last write in milliseconds since 1970, as the keeper saw it.
    pub(crate) last_write_ms: AtomicU64,
    files: Arc<Files>,
    /// The descriptor it is or was written through: write-back errors are reported to it, so that it is kept until
    /// all is durable.
    own: RwLock<Option<Arc<dyn File>>>,
    /// Held across a sync, so that one sync of the file is in flight at a time.
    synced: Mutex<Synced>,
    retired: AtomicBool,
}

/// How far the syncs of a segment have got.
#[derive(Debug)]
enum Synced {
    /// There may be more to do.
    Open,
    /// All records of a segment that takes no more are durable.
    Complete,
    /// A sync failed.
    Failed(Error),
}

/// What a sync is to cover.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Extent {
    /// The records placed so far; more will come.
    SoFar,
    /// All records: no more will come. Done once.
    Complete,
    /// All records and the footer.
    Footer,
}

/// A record read by its position.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) kind: Kind,
    pub(crate) payload: Bytes,
}

impl Segment {
    pub(crate) fn new(
        files: Arc<Files>,
        path: PathBuf,
        header: Header,
        stamp: HeadStamp,
        own: Option<Arc<dyn File>>,
    ) -> Self {
        let last_write_ms = AtomicU64::new(stamp.time_ms);
        Segment {
            number: header.number,
            path,
            header,
            stamp,
            stamp_end: DATA_START,
            resumes: Vec::new(),
            gap: None,
            prepared: AtomicU64::new(0),
            last_write_ms,
            files,
            synced: Mutex::new(if own.is_none() { Synced::Complete } else { Synced::Open }),
            own: RwLock::new(own),
            retired: AtomicBool::new(false),
        }
    }

    /// The same segment, written through `own` from now on.
    pub(crate) fn with_file(&self, own: Arc<dyn File>) -> Self {
        let files = self.files.clone();
        let mut segment = Segment::new(files, self.path.clone(), self.header, self.stamp.clone(), Some(own));
        (segment.stamp_end, segment.resumes, segment.gap) = (self.stamp_end, self.resumes.clone(), self.gap);
        segment.last_write_ms = self.last_write_ms.load(Ordering::Relaxed).into();
        segment
    }

    pub(crate) fn file(&self) -> Result<Arc<dyn File>> {
        if let Some(file) = self.own.read().clone() {
            return Ok(file);
        }
        self.files.get(self.number, &self.path)
    }

    /// Makes placed bytes durable; says whether there was anything to do.
    ///
    /// # Errors
    /// That of the first sync of this file that failed, however often it is called: after it the kernel may report
    /// success for bytes that are gone, and another thread may have been waiting right here for its turn.
    pub(crate) fn sync(&self, extent: Extent) -> Result<bool> {
        let mut synced = self.synced.lock();
        match &*synced {
            Synced::Failed(error) => return Err(error.clone()),
            Synced::Complete if extent != Extent::Footer => return Ok(false),
            Synced::Complete | Synced::Open => {}
        }
        let Some(file) = self.own.read().clone() else { return Ok(false) };
        if let Err(e) = file.sync() {
            let error = Error::io("sync", &self.path, e);
            *synced = Synced::Failed(error.clone());
            return Err(error);
        }
        if extent != Extent::SoFar {
            *synced = Synced::Complete;
        }
        Ok(true)
    }

    /// Gives the descriptor back to the bounded set; the segment is durable to its end.
    pub(crate) fn release_file(&self) {
        *self.own.write() = None;
    }

    pub(crate) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }

    /// Readers that come later see that the segment is gone.
    pub(crate) fn retire(&self) {
        self.retired.store(true, Ordering::Release);
        self.files.forget(self.number);
        self.release_file();
    }

    /// The log number in force at `offset`.
    fn log_number_at(&self, offset: u32) -> u32 {
        let before = self.resumes.partition_point(|(at, _)| *at < offset);
        before.checked_sub(1).map_or(self.header.log_number, |last| self.resumes[last].1)
    }

    /// Reads the record at `offset` with one positioned read of `guess` bytes, and more only where it is longer.
    /// Nothing at or behind `end` is taken for part of it.
    ///
    /// # Errors
    /// [`Error::Damaged`] where the bytes fail their checksum; none of them is returned.
    pub(crate) fn read(&self, offset: u32, guess: usize, end: u32) -> Result<Record> {
        if let Some((from, to)) = self.gap
            && (from..to).contains(&offset)
        {
            return Err(Error::Lost { segment: self.number.into() });
        }
        let file = self.file()?;
        let room = end.saturating_sub(offset) as usize;
        let mut bytes = vec![0; guess.max(64).min(room)];
        self.fill(&*file, offset, &mut bytes, 0)?;
        loop {
            match self.assemble(offset, &bytes) {
                Ok(found) => return Ok(found.into_record(bytes)),
                Err((Bad::Short, _)) if bytes.len() < room => {
                    let from = bytes.len();
                    bytes.resize(self.longer(&bytes).min(room), 0);
                    self.fill(&*file, offset, &mut bytes, from)?;
                }
                Err((why, at)) => return Err(Error::damaged(&self.path, at.into(), why.to_string())),
            }
        }
    }

    /// How much to read next: all of a record that says so itself, else twice as much.
    fn longer(&self, bytes: &[u8]) -> usize {
        let header = self.header.checksum.fragment_header_bytes();
        let fields = bytes.get(self.header.checksum.sum_bytes()..header);
        let own = fields.map_or(0, |fields| header + usize::from(u16::from_le_bytes([fields[0], fields[1]])));
        if own > bytes.len() { own } else { (2 * bytes.len()).max(128 << 10) }
    }

    fn fill(&self, file: &dyn File, offset: u32, bytes: &mut [u8], from: usize) -> Result<()> {
        let read = file
            .read_at(&mut bytes[from..], u64::from(offset) + from as u64)
            .map_err(|e| Error::io("read", &self.path, e))?;
        if from + read < bytes.len() {
            return Err(Error::damaged(&self.path, u64::from(offset), "the file ends inside a record"));
        }
        Ok(())
    }

    /// The record that starts at `offset`, within `bytes` from there on.
    fn assemble(&self, offset: u32, bytes: &[u8]) -> std::result::Result<Assembled, (Bad, u32)> {
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
            let payload_at = (at - offset) as usize + header;
            let kind = fragment.record.kind;
            match fragment.part {
                Part::Full => {
                    return Ok(Assembled::Whole { kind, from: payload_at, to: payload_at + fragment.payload.len() });
                }
                Part::Last => {
                    joined.extend_from_slice(fragment.payload);
                    return Ok(Assembled::Joined { kind, payload: joined });
                }
                Part::First | Part::Middle => joined.extend_from_slice(fragment.payload),
            }
            (at, previous, record) = (fragment.end, Some(fragment.sum), Some(fragment.record));
        }
    }
}

/// A record found in a buffer: a part of it, or joined from several fragments.
enum Assembled {
    Whole { kind: Kind, from: usize, to: usize },
    Joined { kind: Kind, payload: Vec<u8> },
}

impl Assembled {
    fn into_record(self, bytes: Vec<u8>) -> Record {
        match self {
            Assembled::Whole { kind, from, to } => Record { kind, payload: Bytes::from(bytes).slice(from..to) },
            Assembled::Joined { kind, payload } => Record { kind, payload: payload.into() },
        }
    }
}

/// Reads the header of a segment file.
///
/// # Errors
/// An I/O error; what is wrong with the header is the inner result.
pub(crate) fn read_header(
    file: &dyn File,
    path: &Path,
) -> Result<std::result::Result<Header, crate::format::HeaderError>> {
    let mut bytes = [0; HEADER_BYTES as usize];
    let read = file.read_at(&mut bytes, 0).map_err(|e| Error::io("read", path, e))?;
    Ok(Header::from_bytes(&bytes[..read]))
}
