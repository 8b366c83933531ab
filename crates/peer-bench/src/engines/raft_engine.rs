//! raft-engine: the log of TiKV. Records are entries of a Raft group.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use anyhow::{Context as _, Result};
use protobuf::well_known_types::BytesValue;
use raft_engine::{Config, Engine as Log, LogBatch, MessageExt, ReadableSize};

use crate::engine::{Card, Durable, Engine, Reader, Setup};
use crate::record::{KEY_BYTES, Record};

pub(crate) struct RaftEngine {
    log: Log,
    batch: LogBatch,
    entries: Vec<BytesValue>,
    /// The next index of each group that durable appends go to.
    next: [AtomicU64; WRITERS],
}

/// The group of everything but durable appends, which have one a writer.
const GROUP: u64 = 1;
const WRITERS: usize = 16;
/// An entry bears its index before key and value, as an entry of Raft does.
const INDEX_BYTES: usize = 8;
/// Entries that a scan reads at once.
const SCAN_ENTRIES: u64 = 1024;

#[derive(Clone)]
struct Entries;

impl MessageExt for Entries {
    type Entry = BytesValue;

    fn index(entry: &BytesValue) -> u64 {
        entry.value.first_chunk().map_or(0, |index| u64::from_be_bytes(*index))
    }
}

fn entry(index: u64, record: &Record<'_>) -> BytesValue {
    let mut value = Vec::with_capacity(INDEX_BYTES + KEY_BYTES + record.value.len());
    value.extend_from_slice(&index.to_be_bytes());
    value.extend_from_slice(&record.key);
    value.extend_from_slice(record.value);
    BytesValue { value, ..BytesValue::default() }
}

/// Raft counts from 1, records count from 0.
fn at(index: u64) -> u64 {
    index + 1
}

impl Engine for RaftEngine {
    const CARD: Card = Card {
        name: "raft-engine",
        package: "raft-engine",
        random_read: true,
        values_in_ram: "none; an index of all entries",
        checksum: "CRC-32 of each batch, checked by reads",
        kill_safe: true,
        durable: Durable::Yes,
        notes: "No compression, for the values do not compress. Durable appends go to a Raft group a writer, which is \
                how its group commit is used.",
    };

    type Reader<'a> = Get<'a>;

    fn open(setup: &Setup) -> Result<Self> {
        let config = Config {
            dir: setup.dir.to_string_lossy().into_owned(),
            batch_compression_threshold: ReadableSize(0),
            ..Config::default()
        };
        let next = std::array::from_fn(|_| AtomicU64::new(1));
        Ok(RaftEngine { log: Log::open(config)?, batch: LogBatch::default(), entries: Vec::new(), next })
    }

    fn append(&mut self, record: Record<'_>) -> Result<()> {
        self.append_batch(&[record])
    }

    fn append_batch(&mut self, records: &[Record<'_>]) -> Result<()> {
        self.entries.clear();
        self.entries.extend(records.iter().map(|record| entry(at(record.index), record)));
        self.batch.add_entries::<Entries>(GROUP, &self.entries)?;
        self.log.write(&mut self.batch, false)?;
        Ok(())
    }

    fn append_durable(&self, writer: usize, record: Record<'_>) -> Result<()> {
        // Only this writer counts here.
        let index = self.next.get(writer).context("there are 16 groups")?.fetch_add(1, Relaxed);
        let mut batch = LogBatch::default();
        batch.add_entries::<Entries>(GROUP + writer as u64, &[entry(index, &record)])?;
        self.log.write(&mut batch, true)?;
        Ok(())
    }

    fn reader(&self) -> Result<Get<'_>> {
        Ok(Get { log: &self.log })
    }

    fn scan(&mut self, mut visit: impl FnMut(&[u8], &[u8]) -> Result<()>) -> Result<()> {
        for group in GROUP..GROUP + WRITERS as u64 {
            let (Some(first), Some(last)) = (self.log.first_index(group), self.log.last_index(group)) else { continue };
            for begin in (first..=last).step_by(SCAN_ENTRIES as usize) {
                let end = (begin + SCAN_ENTRIES).min(last + 1);
                self.entries.clear();
                self.log.fetch_entries_to::<Entries>(group, begin, end, None, &mut self.entries)?;
                for entry in &self.entries {
                    let record = entry.value.get(INDEX_BYTES..).and_then(|record| record.split_at_checked(KEY_BYTES));
                    let (key, value) = record.context("a record is too short")?;
                    visit(key, value)?;
                }
            }
        }
        Ok(())
    }

    fn close(self) -> Result<()> {
        Ok(self.log.sync()?)
    }
}

pub(crate) struct Get<'a> {
    log: &'a Log,
}

impl Reader for Get<'_> {
    fn get(&mut self, index: u64, value: &mut Vec<u8>) -> Result<bool> {
        let Some(entry) = self.log.get_entry::<Entries>(GROUP, at(index))? else { return Ok(false) };
        value.extend_from_slice(entry.value.get(INDEX_BYTES + KEY_BYTES..).context("a record is too short")?);
        Ok(true)
    }
}
