//! Records into a log.

use std::collections::HashSet;

use casklog::{Batch, Store};

use crate::error::{Error, Unreadable};
use crate::raw::{self, Raw};
use crate::record::Record;

/// So many unreadable stretches are kept in a [`Report`]; the others are only counted.
pub const UNREADABLE_KEPT: usize = 1000;

/// Which index a record gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Numbering {
    /// Its own; the next one, where it has none.
    #[default]
    Keep,
    /// The next one of the log, whatever its own is.
    Renumber,
}

/// What is done with a record whose index is taken in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Existing {
    /// The import stops with [`Error::IndexExists`].
    Refuse,
    /// It is passed over if the entry there has the same key and value; else the import stops with
    /// [`Error::IndexExists`].
    #[default]
    SkipIdentical,
    /// It is passed over.
    Skip,
}

/// How records are imported.
#[derive(Debug, Clone)]
pub struct ImportOptions {
    numbering: Numbering,
    existing: Existing,
    batch_entries: usize,
    batch_bytes: usize,
}

impl Default for ImportOptions {
    fn default() -> Self {
        ImportOptions {
            numbering: Numbering::default(),
            existing: Existing::default(),
            batch_entries: 1000,
            batch_bytes: 1 << 20,
        }
    }
}

impl ImportOptions {
    /// The defaults.
    pub fn new() -> Self {
        Self::default()
    }

    /// Which index a record gets. By default its own.
    #[must_use]
    pub fn numbering(mut self, numbering: Numbering) -> Self {
        self.numbering = numbering;
        self
    }

    /// What is done with a record whose index is taken. By default it is passed over if it is the same.
    #[must_use]
    pub fn existing(mut self, existing: Existing) -> Self {
        self.existing = existing;
        self
    }

    /// After so many records a batch is written. By default 1000; 0 counts as 1.
    #[must_use]
    pub fn batch_entries(mut self, entries: usize) -> Self {
        self.batch_entries = entries;
        self
    }

    /// After so many bytes of keys and values a batch is written. By default 1 MiB.
    #[must_use]
    pub fn batch_bytes(mut self, bytes: usize) -> Self {
        self.batch_bytes = bytes;
        self
    }
}

/// What an import did.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Report {
    /// Records that were read.
    pub read: u64,
    /// Of these, written to the log.
    pub written: u64,
    /// Of these, passed over because the log had the same entry.
    pub identical: u64,
    /// Of these, passed over because their index was taken: see [`Existing::Skip`].
    pub skipped: u64,
    /// Stretches that could not be read.
    pub unreadable: u64,
    /// Their bytes.
    pub bytes_passed_over: u64,
    /// The first [`UNREADABLE_KEPT`] of these stretches.
    pub unreadable_first: Vec<Unreadable>,
    /// The lowest and the highest index that was written.
    pub indexes: Option<(u64, u64)>,
}

/// Writes records to a log, in batches. Each is durable as the store's sync policy says; none is flushed beyond that.
///
/// # After a crash
/// Batches are written in the order of the records, each whole or not at all. So an import that stopped is done again
/// from its start, and passes over what is there: [`Existing::SkipIdentical`], the default, compares, and writes on
/// from where it had come to. Records that get their index from the log (those without one, and all under
/// [`Numbering::Renumber`]) cannot be told from others: there, the log's new entries are as many as the records that
/// went in, and to go on, the caller skips so many.
///
/// Nothing else may append to the store meanwhile, where indexes come from the log.
///
/// ```
/// # let dir = tempfile::tempdir()?;
/// use casklog_import::{ImportOptions, Record, import_into};
/// let store = casklog::Store::open(dir.path())?;
/// let records = [Ok(Record::from_bytes(Some(7), "a", b"value"))];
/// let report = import_into(&store, records, &ImportOptions::new())?;
/// assert_eq!((report.written, store.get(7)?.expect("it is there").bytes()?), (1, &b"value"[..]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// [`Error::IndexExists`]; [`Error::Refused`] for a record that the log does not take: all records before it have been
/// imported, and none behind it. [`Error::Store`] where the log cannot be read or written.
pub fn import_into(
    store: &Store,
    records: impl IntoIterator<Item = Result<Record, Unreadable>>,
    options: &ImportOptions,
) -> Result<Report, Error> {
    let mut import = Import {
        store,
        options,
        next: store.next_index(),
        batch: Batch::new(),
        waiting: Vec::new(),
        waiting_bytes: 0,
        waiting_indexes: HashSet::new(),
        report: Report::default(),
    };
    for record in records {
        match record {
            Ok(record) => import.take(record)?,
            Err(unreadable) => import.note(unreadable),
        }
    }
    import.write()?;
    Ok(import.report)
}

struct Import<'a> {
    store: &'a Store,
    options: &'a ImportOptions,
    /// The index for a record that gets one from the log. A batch names its indexes, so they are counted here.
    next: Option<u64>,
    batch: Batch,
    /// What the next batch is made of.
    waiting: Vec<(u64, Record)>,
    waiting_bytes: usize,
    waiting_indexes: HashSet<u64>,
    report: Report,
}

impl Import<'_> {
    fn note(&mut self, unreadable: Unreadable) {
        self.report.unreadable += 1;
        self.report.bytes_passed_over += unreadable.passed_over;
        if self.report.unreadable_first.len() < UNREADABLE_KEPT {
            self.report.unreadable_first.push(unreadable);
        }
    }

    fn take(&mut self, record: Record) -> Result<(), Error> {
        self.report.read += 1;
        let own = record.index.filter(|_| self.options.numbering == Numbering::Keep);
        let Some(index) = own.or(self.next) else {
            self.write()?;
            return Err(casklog::Error::IndexExhausted.into());
        };
        if self.waiting_indexes.contains(&index) {
            self.write()?;
        }
        if self.store.contains(index) {
            return self.meet(index, &record);
        }
        // Under `u64::MAX` there is no next one; a lower index does not bring one back.
        self.next = self.next.and_then(|next| Some(next.max(index.checked_add(1)?)));
        self.waiting_bytes += record.key.len() + record.value.len();
        self.waiting_indexes.insert(index);
        self.waiting.push((index, record));
        if self.waiting.len() >= self.options.batch_entries || self.waiting_bytes >= self.options.batch_bytes {
            self.write()?;
        }
        Ok(())
    }

    /// Writes what waits. A batch is refused as a whole: then its records are written one by one, so that the log
    /// names the one that is in the way, and those before it go in.
    fn write(&mut self) -> Result<(), Error> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let waiting = std::mem::take(&mut self.waiting);
        self.waiting_indexes.clear();
        self.waiting_bytes = 0;
        match self.write_batch(&waiting) {
            Ok(()) => return Ok(()),
            Err(error) if !is_about_a_record(&error) => return Err(error.into()),
            Err(_) => {}
        }
        for one in &waiting {
            match self.write_batch(std::slice::from_ref(one)) {
                Ok(()) => {}
                Err(casklog::Error::IndexExists { .. }) => self.meet(one.0, &one.1)?,
                Err(source) if is_about_a_record(&source) => return Err(Error::Refused { index: one.0, source }),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn write_batch(&mut self, records: &[(u64, Record)]) -> casklog::Result<()> {
        self.batch.clear();
        for (index, record) in records {
            self.batch.put(*index, &record.key, &Raw(&record.value))?;
        }
        self.store.write_batch(&self.batch)?;
        self.report.written += records.len() as u64;
        for (index, _) in records {
            let (low, high) = self.report.indexes.unwrap_or((*index, *index));
            self.report.indexes = Some((low.min(*index), high.max(*index)));
        }
        Ok(())
    }

    /// Decides on a record whose index is taken.
    fn meet(&mut self, index: u64, record: &Record) -> Result<(), Error> {
        let is_passed_over = match self.options.existing {
            Existing::Refuse => false,
            Existing::Skip => {
                self.report.skipped += 1;
                true
            }
            Existing::SkipIdentical => {
                let is_identical = self.is_identical(index, record)?;
                self.report.identical += u64::from(is_identical);
                is_identical
            }
        };
        if is_passed_over {
            return Ok(());
        }
        self.write()?;
        Err(Error::IndexExists { index })
    }

    /// Whether the log has this record. One that was deleted there is another.
    fn is_identical(&self, index: u64, record: &Record) -> Result<bool, Error> {
        let Some(entry) = self.store.get(index)? else { return Ok(false) };
        // A value comes in its shortest form from the log, as it was written there.
        let value = raw::encode(&record.value);
        Ok(entry.key() == record.key && value.is_ok_and(|value| entry.raw_value() == value))
    }
}

/// Whether other records may still go in.
fn is_about_a_record(error: &casklog::Error) -> bool {
    use casklog::Error as Log;
    matches!(
        error,
        Log::IndexExists { .. }
            | Log::IndexOrder { .. }
            | Log::BatchGap { .. }
            | Log::BelowFloor { .. }
            | Log::TooLarge { .. }
            | Log::Encode { .. }
    )
}
