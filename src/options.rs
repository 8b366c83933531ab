//! How a log is opened: one builder with documented defaults, checked in one place.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::events::{Event, Listener};
use crate::format::Checksum;
use crate::fs::{Fs, OsFs};

/// Which indexes a write may use. Fixed by the first write into a new log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IndexOrder {
    /// Any index that is not taken, in any order, gaps included.
    #[default]
    Any,
    /// Each index above all before it; gaps are allowed.
    Increasing,
    /// Each index exactly one above the one before.
    Sequential,
}

impl IndexOrder {
    pub(crate) const fn code(self) -> u8 {
        match self {
            IndexOrder::Any => 0,
            IndexOrder::Increasing => 1,
            IndexOrder::Sequential => 2,
        }
    }

    pub(crate) const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(IndexOrder::Any),
            1 => Some(IndexOrder::Increasing),
            2 => Some(IndexOrder::Sequential),
            _ => None,
        }
    }
}

impl fmt::Display for IndexOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            IndexOrder::Any => "any",
            IndexOrder::Increasing => "increasing",
            IndexOrder::Sequential => "sequential",
        })
    }
}

/// When what was written is made durable against power loss. Every policy survives the death of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SyncPolicy {
    /// Never, but on [`sync`](crate::Store::sync), on a write with [`Durability::Synced`], when a segment is sealed (which a
    /// burst puts off), on close, and in the background every 30 s at most, so that a failing disk is noticed.
    None,
    /// Before a write returns. Writes share a sync only where they wait for one anyway.
    Immediate,
    /// Before a write returns. The caller that leads a sync first waits `window`, and a few tens of microseconds more
    /// where other writers are about to arrive, so that one sync serves many. With a window of zero a lone writer
    /// waits for nothing but its own sync.
    Grouped {
        /// How long the leader of a sync waits for others.
        window: Duration,
    },
    /// In the background, as soon as one of the three is reached.
    Periodic {
        /// Time since the first write that is not durable.
        every: Duration,
        /// Writes that are not durable.
        entries: u64,
        /// Bytes that are not durable.
        bytes: u64,
    },
}

impl Default for SyncPolicy {
    fn default() -> Self {
        SyncPolicy::Grouped { window: Duration::ZERO }
    }
}

impl SyncPolicy {
    /// Whether a plain write returns only when it is durable.
    pub(crate) const fn syncs_each_write(self) -> bool {
        matches!(self, SyncPolicy::Immediate | SyncPolicy::Grouped { .. })
    }
}

impl fmt::Display for SyncPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SyncPolicy::None => f.write_str("none"),
            SyncPolicy::Immediate => f.write_str("immediate"),
            SyncPolicy::Grouped { window } => write!(f, "grouped, window {window:?}"),
            SyncPolicy::Periodic { every, entries, bytes } => {
                write!(f, "periodic, every {every:?}, {entries} entries or {bytes} bytes")
            }
        }
    }
}

/// Overrides the sync policy for one write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// As [`Options::sync`] says.
    #[default]
    Policy,
    /// Durable when the call returns.
    Synced,
    /// The call does not wait; the bytes have left the process when it returns.
    Written,
}

/// How the records of sealed segments are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ReadMode {
    /// By positioned reads: an error of the disk is an [`Error::Io`].
    #[default]
    Positioned,
    /// Through a mapping of each sealed file, by iterators too: several times as fast where the system has the file in
    /// memory, and every record is still checked. But an error of the disk, or a file that something else cuts, is a signal (SIGBUS) that
    /// ends the process. For disks and neighbours that are trusted.
    Mapped,
}

/// What open does about bytes that do not form a log. All modes but `Strict` look only at what they have to read: damage
/// inside a sealed segment is reported by the read that meets it. See [`Store::open`](crate::Store::open).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RecoveryMode {
    /// Nothing but zeros may follow the log, and every byte of every segment is read and checked.
    Strict,
    /// A torn tail, bytes that were never acknowledged as durable, is cut and reported. Damage to acknowledged data is
    /// an error.
    #[default]
    TornTail,
    /// As `TornTail`, but a damaged log opens for reading, and ends before the damage.
    PointInTime,
    /// As `TornTail`, but a damaged log opens for reading and writing with all that is readable; what is lost is
    /// [`Error::Lost`].
    Salvage,
}

/// The size of a batch or a segment that the format's 32-bit offsets have room for, with a footer behind it.
const SEGMENT_BYTES_MAX: u64 = 1 << 30;
const BATCH_BYTES_LIMIT: u64 = 256 << 20;
/// Metadata is repeated at the head of every segment.
const META_BYTES_MAX: u64 = 64 << 10;

/// How to open a log. Every option has a default; see each setter.
///
/// ```
/// use casklog::{Options, SyncPolicy};
/// # let dir = tempfile::tempdir()?;
/// let store = Options::new(dir.path())
///     .prefix("events_")
///     .segment_bytes(16 << 20)
///     .max_segments(100)
///     .sync(SyncPolicy::Immediate)
///     .open()?;
/// # store.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone)]
pub struct Options {
    pub(crate) dir: PathBuf,
    pub(crate) prefix: String,
    pub(crate) create: bool,
    pub(crate) segment_bytes: u64,
    pub(crate) segment_entries: Option<u64>,
    pub(crate) segment_age: Option<Duration>,
    pub(crate) max_segments: Option<u64>,
    pub(crate) max_bytes: Option<u64>,
    pub(crate) max_age: Option<Duration>,
    pub(crate) index_order: IndexOrder,
    pub(crate) first_index: Option<u64>,
    pub(crate) sync: SyncPolicy,
    pub(crate) checksum: Checksum,
    pub(crate) recovery: RecoveryMode,
    pub(crate) allow_read_only: bool,
    pub(crate) record_bytes_max: u64,
    pub(crate) batch_bytes_max: u64,
    pub(crate) undurable_bytes_max: u64,
    pub(crate) preallocate: bool,
    pub(crate) mapped: Option<bool>,
    pub(crate) sync_align: u32,
    pub(crate) max_open_files: usize,
    pub(crate) cache_bytes: u64,
    pub(crate) read_mode: ReadMode,
    pub(crate) key_index: bool,
    pub(crate) key_hash_bits: u32,
    pub(crate) slow_sync: Duration,
    pub(crate) listener: Option<Listener>,
    pub(crate) background: bool,
    /// A log that is marked as unfinished is used all the same, by the call that completes it.
    pub(crate) completes: bool,
    pub(crate) fs: Arc<dyn Fs>,
}

macro_rules! setters {
    ($($(#[$doc:meta])* $name:ident: $type:ty => $field:ident = $value:expr;)*) => {
        $($(#[$doc])*
        #[must_use]
        pub fn $name(mut self, $name: $type) -> Self {
            self.$field = $value;
            self
        })*
    };
}

impl Options {
    /// The defaults, for a log in the directory `dir`.
    pub fn new(dir: impl AsRef<Path>) -> Self {
        Options {
            dir: dir.as_ref().to_owned(),
            prefix: "segment_".to_owned(),
            create: true,
            segment_bytes: 64 << 20,
            segment_entries: None,
            segment_age: None,
            max_segments: None,
            max_bytes: None,
            max_age: None,
            index_order: IndexOrder::Any,
            first_index: None,
            sync: SyncPolicy::default(),
            checksum: Checksum::Crc32,
            recovery: RecoveryMode::TornTail,
            allow_read_only: false,
            record_bytes_max: 64 << 20,
            batch_bytes_max: 128 << 20,
            undurable_bytes_max: 64 << 20,
            preallocate: true,
            mapped: None,
            sync_align: 0,
            max_open_files: 256,
            cache_bytes: 64 << 20,
            read_mode: ReadMode::Positioned,
            key_index: false,
            key_hash_bits: u64::BITS,
            slow_sync: Duration::from_secs(1),
            listener: None,
            background: true,
            completes: false,
            fs: Arc::new(OsFs),
        }
    }

    setters! {
        /// What the file names begin with; logs with different prefixes may share a directory. At most 200 bytes, no
        /// separators or controls. Default `segment_`.
        prefix: impl Into<String> => prefix = prefix.into();
        /// Whether open creates a log that is not there. Default true.
        create: bool => create = create;
        /// Bytes that a segment may have: a write that would carry it further begins the next one, unless the segment is
        /// empty. At most 1 GiB. Default 64 MiB.
        segment_bytes: u64 => segment_bytes = segment_bytes;
        /// Entries after which a segment is full: a threshold, checked before a write. Default: none.
        segment_entries: u64 => segment_entries = Some(segment_entries);
        /// Age after which a segment is full, checked before a write. Default: none.
        segment_age: Duration => segment_age = Some(segment_age);
        /// How many segments are kept, the active one included; the oldest go, in the background. Default: all.
        max_segments: u64 => max_segments = Some(max_segments);
        /// How many bytes of records are kept; the oldest segments go, in the background. Default: all.
        max_bytes: u64 => max_bytes = Some(max_bytes);
        /// How long ago the last write into a segment may be before the segment goes, in the background. Default: any.
        max_age: Duration => max_age = Some(max_age);
        /// Which indexes may be written. Stored with the first write and checked when the log is opened. Default
        /// [`IndexOrder::Any`].
        index_order: IndexOrder => index_order = index_order;
        /// The first index of a log that has never been written to, and its floor: lower ones are refused. Default: the
        /// first write chooses, and `append` begins with 1.
        first_index: u64 => first_index = Some(first_index);
        /// When writes become durable. Default [`SyncPolicy::Grouped`] with a window of zero.
        sync: SyncPolicy => sync = sync;
        /// The checksum of new segments. Default [`Checksum::Crc32`].
        checksum: Checksum => checksum = checksum;
        /// What open does about damage. Default [`RecoveryMode::TornTail`].
        recovery: RecoveryMode => recovery = recovery;
        /// Whether a log that can be read but not written opens as a store that refuses writes. Default false.
        allow_read_only: bool => allow_read_only = allow_read_only;
        /// The most bytes of one record: index, key and value, encoded. At most `batch_bytes_max`. Default 64 MiB.
        record_bytes_max: u64 => record_bytes_max = record_bytes_max;
        /// The most bytes of one batch, encoded. At most 256 MiB. Default 128 MiB.
        batch_bytes_max: u64 => batch_bytes_max = batch_bytes_max;
        /// The most bytes that may wait to become durable under a policy or commit that asks for it; beyond it
        /// `submit` is [`Error::Busy`] and `write` leads a sync. Default 64 MiB.
        undurable_bytes_max: u64 => undurable_bytes_max = undurable_bytes_max;
        /// Whether space is allocated ahead. Without it a full disk may stop a write half-way. Default true.
        preallocate: bool => preallocate = preallocate;
        /// Whether records are placed through a mapping. Default: where the policy does not sync each write and the
        /// file system is ext4, XFS or tmpfs. Turn it off where files are snapshot by reflink.
        mapped: bool => mapped = Some(mapped);
        /// Begins each commit group on a multiple of this many bytes, for devices that may damage the rest of a sector
        /// they rewrite. A power of two from 512 to 32768, or 0 for off. Default 0.
        sync_align: u32 => sync_align = sync_align;
        /// How many descriptors of sealed segments stay open: up to four each, for threads that read at once. Default 256.
        max_open_files: usize => max_open_files = max_open_files;
        /// How many bytes of checked blocks are kept in memory for reads; 0 for none. Memory is taken as it is needed.
        /// Default 64 MiB.
        cache_bytes: u64 => cache_bytes = cache_bytes;
        /// How sealed segments are read where the cache does not have what is wanted. Default [`ReadMode::Positioned`].
        read_mode: ReadMode => read_mode = read_mode;
        /// Whether entries are found by their keys too: [`latest`](crate::Reader::latest) and
        /// [`history`](crate::Reader::history). Costs 12 bytes an entry on the disk, and memory for the segments that are
        /// not sealed yet. Segments that were written without it are indexed in memory when they are first asked for.
        /// Default false.
        key_index: bool => key_index = key_index;
        /// How long a sync takes that is worth a word: a warning and an [`Event::SlowSync`]. Default 1 s.
        slow_sync: Duration => slow_sync = slow_sync;
    }

    /// Has `listener` called with everything that happens to the log; see [`Event`]. Default: nobody is told.
    ///
    /// It runs on a thread of its own, which a store or reader with a listener has beside the others, in the order in which
    /// things happened, one event at a time, and shortly after they happened. No lock of the log is held meanwhile: it may
    /// call whatever a handle of the store offers, [`close`](crate::Store::close) too, and may take its time: the log does
    /// not wait for it. If it panics, the panic ends with that call, and the next event is told all the same.
    ///
    /// `close` returns when all events were told, unless the listener calls it; it must not be waiting then for something
    /// that the one who closes holds. A listener that holds a handle of its own store keeps it open until it is closed.
    ///
    /// ```
    /// # let dir = tempfile::tempdir()?;
    /// use casklog::{Event, Options};
    /// let (events, told) = std::sync::mpsc::channel();
    /// let store = Options::new(dir.path())
    ///     .on_event(move |event| match event {
    ///         Event::Rotated { from, to } => _ = events.send((*from, *to)),
    ///         Event::Failed { cause, .. } => eprintln!("the log stopped: {cause}"),
    ///         _ => {}
    ///     })
    ///     .open()?;
    /// store.write(1, "key", "value")?;
    /// store.rotate()?;
    /// assert_eq!(told.recv()?, (1, 2));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn on_event(mut self, listener: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        self.listener = Some(Listener::new(listener));
        self
    }

    /// Runs the log on another file system than the system's own.
    #[cfg(feature = "testing")]
    #[must_use]
    pub fn fs(mut self, fs: Arc<dyn Fs>) -> Self {
        self.fs = fs;
        self
    }

    /// Whether background threads run. Without them every step is taken inside the call that makes it due, so that
    /// a single-threaded workload is deterministic.
    #[cfg(feature = "testing")]
    #[must_use]
    pub fn background(mut self, background: bool) -> Self {
        self.background = background;
        self
    }

    /// How many bits of a key's hash the key index keeps, 64 by default; with 0 all keys collide. The answers are the same.
    /// A log must be opened with the same number again.
    #[cfg(feature = "testing")]
    #[must_use]
    pub fn key_hash_bits(mut self, bits: u32) -> Self {
        self.key_hash_bits = bits;
        self
    }

    /// Whether the log would remove entries by itself: `max_segments`, `max_bytes` or `max_age` is set.
    pub fn has_retention(&self) -> bool {
        self.max_segments.is_some() || self.max_bytes.is_some() || self.max_age.is_some()
    }

    /// The most bytes of one batch, as set with [`batch_bytes_max`](Options::batch_bytes_max).
    pub fn batch_bytes(&self) -> u64 {
        self.batch_bytes_max
    }

    /// Opens the log, creating it where it is missing.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] and [`Error::IndexOrderStored`] for options; [`Error::Locked`] where another handle or
    /// process has the log; [`Error::Damaged`], [`Error::Missing`], [`Error::TornTail`] as the
    /// [recovery mode](RecoveryMode) says; [`Error::Unsupported`] for files of a newer version; [`Error::ReadOnly`]
    /// where recovery could not write; [`Error::NotFound`] without [`create`](Options::create); [`Error::Io`].
    pub fn open(self) -> Result<crate::Store> {
        crate::Store::open_with(self)
    }

    /// Opens the log for reading: takes no lock and changes no byte, so that it works in a directory that may not be
    /// written to, and beside a writer in another process. Options that are about writing are ignored.
    ///
    /// The [`Reader`](crate::Reader) shows the log as it was when opened or last [refreshed](crate::Reader::refresh): of a
    /// damaged one all that can be read, what is lost being [`Error::Lost`]; under [`RecoveryMode::PointInTime`] what stands
    /// before the damage; under [`RecoveryMode::Strict`] every byte is read and damage is an error.
    ///
    /// ```
    /// # use casklog::{Options, Store};
    /// # let dir = tempfile::tempdir()?;
    /// let store = Store::open(dir.path())?;
    /// store.write(1, "key", "value")?;
    /// let reader = Options::new(dir.path()).open_read_only()?;
    /// assert_eq!(reader.get(1)?.expect("it was written").value::<&str>()?, "value");
    /// store.write(2, "key", "another")?;
    /// reader.refresh()?;
    /// assert_eq!(reader.last_index(), Some(2));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NotFound`] where there is no log; [`Error::Unsupported`]; [`Error::Io`]; damage as above.
    pub fn open_read_only(self) -> Result<crate::Reader> {
        crate::Reader::open(self)
    }

    /// The most bytes of metadata, keys and values together.
    pub const fn meta_bytes_max() -> u64 {
        META_BYTES_MAX
    }

    pub(crate) fn validate(&self) -> Result<()> {
        let refuse = |option, reason: &str| Err(Error::InvalidOption { option, reason: reason.to_owned() });
        let has_separator = self.prefix.contains(|c: char| c == '/' || c == '\\' || c.is_control());
        if has_separator || self.prefix.len() > 200 {
            return refuse("prefix", "it becomes part of file names: at most 200 bytes, no separators or controls");
        }
        let zero = [
            ("segment_bytes", Some(self.segment_bytes)),
            ("segment_entries", self.segment_entries),
            ("max_segments", self.max_segments),
            ("max_bytes", self.max_bytes),
            ("record_bytes_max", Some(self.record_bytes_max)),
            ("batch_bytes_max", Some(self.batch_bytes_max)),
            ("undurable_bytes_max", Some(self.undurable_bytes_max)),
            ("max_open_files", Some(self.max_open_files as u64)),
        ];
        if let Some((option, _)) = zero.into_iter().find(|(_, value)| *value == Some(0)) {
            return refuse(option, "zero is not allowed; leave the option out for its default");
        }
        let ages = [("segment_age", self.segment_age), ("max_age", self.max_age)];
        if let Some((option, _)) = ages.into_iter().find(|(_, age)| age.is_some_and(|age| age.is_zero())) {
            return refuse(option, "zero is not allowed; leave the option out for its default");
        }
        if self.segment_bytes > SEGMENT_BYTES_MAX {
            return refuse("segment_bytes", "at most 1 GiB, so that every offset fits 32 bits");
        }
        if self.batch_bytes_max > BATCH_BYTES_LIMIT {
            return refuse("batch_bytes_max", "at most 256 MiB, so that every offset fits 32 bits");
        }
        if self.record_bytes_max > self.batch_bytes_max {
            return refuse("record_bytes_max", "at most batch_bytes_max");
        }
        let align = self.sync_align;
        if align != 0 && (!align.is_power_of_two() || !(512..=32 << 10).contains(&align)) {
            return refuse("sync_align", "a power of two from 512 to 32768, or 0");
        }
        if let SyncPolicy::Periodic { every, entries, bytes } = self.sync
            && (every.is_zero() || entries == 0 || bytes == 0)
        {
            return refuse("sync", "the three bounds of Periodic must not be zero");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_and_impossible_options_are_refused_by_name() {
        let base = || Options::new("x");
        let cases: [(&str, Options); 12] = [
            ("segment_bytes", base().segment_bytes(0)),
            ("segment_entries", base().segment_entries(0)),
            ("segment_age", base().segment_age(Duration::ZERO)),
            ("max_segments", base().max_segments(0)),
            ("max_bytes", base().max_bytes(0)),
            ("max_age", base().max_age(Duration::ZERO)),
            ("prefix", base().prefix("a/b")),
            ("segment_bytes", base().segment_bytes((1 << 30) + 1)),
            ("batch_bytes_max", base().batch_bytes_max((256 << 20) + 1)),
            ("record_bytes_max", base().record_bytes_max(2 << 20).batch_bytes_max(1 << 20)),
            ("sync_align", base().sync_align(1000)),
            ("sync", base().sync(SyncPolicy::Periodic { every: Duration::ZERO, entries: 1, bytes: 1 })),
        ];
        for (name, options) in cases {
            match options.validate() {
                Err(Error::InvalidOption { option, .. }) => assert_eq!(option, name),
                other => panic!("{name}: {other:?}"),
            }
        }
        base().segment_bytes(1 << 30).batch_bytes_max(256 << 20).sync_align(4096).validate().unwrap();
    }
}
