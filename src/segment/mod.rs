//! One segment file: its identity, and reading records out of it.

#![deny(clippy::unwrap_used, clippy::expect_used)]

mod active;
mod ahead;
mod files;
#[cfg(all(casklog_loom, test))]
mod models;
mod read;
mod scan;
mod sealed;
mod search;
mod shelf;
mod write_back;

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;

use crate::error::{Error, Result};
use crate::format::{HEADER_BYTES, HeadStamp, Header};
use crate::fs::{File, Region};
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::{ArcSwapOption, Mutex, thread_number};

pub(crate) use active::Active;
pub(crate) use ahead::{Ahead, Toward};
pub(crate) use files::{Descriptors, Files};
pub(crate) use read::{Copy, Found, Keep, Record, Take};
pub(crate) use scan::{Scan, Scanned, Seen, Stop, Window};
pub(crate) use sealed::{read_footer, read_summary, seal};
pub(crate) use search::{Evidence, evidence, next_fragment};
pub(crate) use shelf::{Block, PageBytes, Shelf, Slot, shared};
pub(crate) use write_back::{Kept, erase, write_back};

/// The first byte behind the header.
pub(crate) const DATA_START: u32 = HEADER_BYTES;

/// One segment of the log, shared by the writer, the keeper and readers.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) number: u32,
    /// What descriptors and cached blocks go by. The number does not do: another file may stand under it after a repair, or
    /// where a log was replaced by another one under a reader, and a file that was read before a crash may be cut behind it.
    pub(crate) id: u32,
    pub(crate) path: PathBuf,
    pub(crate) header: Header,
    /// What the log remembered when this segment was begun.
    pub(crate) stamp: HeadStamp,
    /// Behind the head stamp.
    pub(crate) stamp_end: u32,
    /// Resume records and the log numbers they put in force, by offset; fixed once the segment takes records.
    pub(crate) resumes: Vec<(u32, u32)>,
    /// Where the rest of the segment is lost: from and up to.
    pub(crate) gap: Option<(u32, u32)>,
    /// Where records stand for lost bytes among others: from and up to, ascending.
    pub(crate) inner_gaps: Vec<(u32, u32)>,
    /// The writer places nothing at or above it; only above it space is made ready.
    pub(crate) prepared: AtomicU64,
    /// The time of the last write in milliseconds since 1970, as the keeper saw it.
    pub(crate) last_write_ms: AtomicU64,
    files: Arc<Files>,
    /// Its place among them.
    descriptors: Arc<Descriptors>,
    /// The descriptor it is or was written through: write-back errors are reported to it, so that it is kept until
    /// all is durable.
    own: ArcSwapOption<Arc<dyn File>>,
    /// Where it is written, while it is: what was placed lately can be read there without a system call.
    region: ArcSwapOption<Arc<dyn Region>>,
    /// What of it is cached.
    pub(crate) shelf: Arc<Shelf>,
    /// The whole file, where sealed segments are read through a mapping.
    map: OnceLock<Bytes>,
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

impl Segment {
    pub(crate) fn new(
        files: Arc<Files>,
        path: PathBuf,
        header: Header,
        stamp: HeadStamp,
        own: Option<Arc<dyn File>>,
    ) -> Self {
        static IDS: AtomicU32 = AtomicU32::new(0);
        let last_write_ms = AtomicU64::new(stamp.time_ms);
        let id = IDS.fetch_add(1, Ordering::Relaxed);
        Segment {
            number: header.number,
            id,
            path,
            header,
            stamp,
            stamp_end: DATA_START,
            resumes: Vec::new(),
            gap: None,
            inner_gaps: Vec::new(),
            prepared: AtomicU64::new(0),
            last_write_ms,
            files,
            descriptors: Arc::default(),
            synced: Mutex::new(if own.is_none() { Synced::Complete } else { Synced::Open }),
            own: ArcSwapOption::new(own.map(Arc::new)),
            region: ArcSwapOption::empty(),
            shelf: Arc::new(Shelf::new(id)),
            map: OnceLock::new(),
            retired: AtomicBool::new(false),
        }
    }

    /// The same segment, written through `own` from now on.
    pub(crate) fn with_file(&self, own: Arc<dyn File>) -> Self {
        let files = self.files.clone();
        let mut segment = Segment::new(files, self.path.clone(), self.header, self.stamp.clone(), Some(own));
        (segment.stamp_end, segment.resumes) = (self.stamp_end, self.resumes.clone());
        (segment.gap, segment.inner_gaps) = (self.gap, self.inner_gaps.clone());
        segment.last_write_ms = self.last_write_ms.load(Ordering::Relaxed).into();
        segment
    }

    /// Whether a repair has given up a part of it. Such a segment takes no more records, and no footer: that would hide
    /// from the next open what is lost.
    pub(crate) fn has_gaps(&self) -> bool {
        self.gap.is_some() || !self.inner_gaps.is_empty()
    }

    /// Whether the gap record at `offset` is to be told of: a long gap is several records, and told once.
    pub(crate) fn begins_gap(&self, offset: u32) -> bool {
        let is_inner = self.inner_gaps.binary_search_by_key(&offset, |(from, _)| *from).is_ok();
        is_inner || self.gap.is_some_and(|(from, _)| from == offset)
    }

    /// The file, for reading.
    pub(crate) fn file(&self) -> Result<Arc<dyn File>> {
        self.with_open(|file| Ok(Arc::clone(file)))
    }

    /// What `read` makes of the open file, which nothing else has to be changed for.
    #[inline]
    fn with_open<T>(&self, read: impl FnOnce(&Arc<dyn File>) -> Result<T>) -> Result<T> {
        let thread = thread_number();
        if let Some(file) = &*self.files.get(&self.descriptors, thread) {
            return read(file);
        }
        if let Some(own) = &*self.own.load() {
            return read(own);
        }
        let file = self.files.open(&self.descriptors, thread, &self.path)?;
        if self.is_retired() {
            // Retired meanwhile: its descriptors are not to keep the space of a removed file.
            self.files.forget(&self.descriptors);
        }
        read(&file)
    }

    /// The segment is written through `region` from now on.
    pub(crate) fn set_region(&self, region: Arc<dyn Region>) {
        self.region.store(Some(Arc::new(region)));
    }

    /// Nothing more is written.
    pub(crate) fn drop_region(&self) {
        self.region.store(None);
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
        let Some(file) = self.own.load_full() else { return Ok(false) };
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

    /// Gives the descriptors back to the bounded set; the segment is durable to its end.
    pub(crate) fn release_file(&self) {
        self.own.store(None);
        self.drop_region();
    }

    pub(crate) fn is_retired(&self) -> bool {
        self.retired.load(Ordering::Acquire)
    }

    /// Readers that come later see that the segment is gone.
    pub(crate) fn retire(&self) {
        self.retired.store(true, Ordering::Release);
        self.files.forget(&self.descriptors);
        self.release_file();
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
