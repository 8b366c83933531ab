//! commitlog: segments written by plain writes, and an index that is mapped.

use anyhow::{Context as _, Result};
use commitlog::message::{MessageBuf, MessageSet as _};
use commitlog::{CommitLog, LogOptions, ReadLimit};

use crate::engine::{Card, Durable, Engine, Reader, Setup, Unsupported};
use crate::record::{KEY_BYTES, Record};

pub(crate) struct Commitlog {
    log: CommitLog,
    buffer: MessageBuf,
    payload: Vec<u8>,
    /// The limit of a read that is to give one record.
    read_bytes: usize,
}

/// What commitlog puts before a payload: offset, size, checksum and the size of metadata.
const HEAD_BYTES: usize = 20;
/// What a scan reads at once.
const SCAN_BYTES: usize = 1 << 20;

impl Engine for Commitlog {
    const CARD: Card = Card {
        name: "commitlog",
        package: "commitlog",
        random_read: true,
        values_in_ram: "none",
        checksum: "CRC-32C of each record, checked by every read",
        kill_safe: true,
        durable: Durable::No,
        notes: "Default segments of 1 GB; an index file has room for all records, for it is allocated at once. Scans \
                read 1 MiB at a time.",
    };

    type Reader<'a> = Get<'a>;

    fn open(setup: &Setup) -> Result<Self> {
        let mut options = LogOptions::new(&setup.dir);
        // The default of 100,000 makes ten files and as many rotations of a million records.
        options.index_max_items(setup.records.clamp(100_000, 10_000_000) as usize);
        // The limit is one of whole batches.
        options.message_max_bytes(16 << 20);
        Ok(Commitlog {
            log: CommitLog::new(options)?,
            buffer: MessageBuf::default(),
            payload: Vec::new(),
            // One byte more than a record has: with exactly as many the last record of a segment is not found.
            read_bytes: HEAD_BYTES + KEY_BYTES + setup.value_bytes + 1,
        })
    }

    fn append(&mut self, record: Record<'_>) -> Result<()> {
        self.append_batch(&[record])
    }

    fn append_batch(&mut self, records: &[Record<'_>]) -> Result<()> {
        self.buffer.clear();
        for record in records {
            record.join(&mut self.payload);
            self.buffer.push(&self.payload).map_err(|error| anyhow::anyhow!("{error:?}"))?;
        }
        self.log.append(&mut self.buffer)?;
        Ok(())
    }

    fn append_durable(&self, _writer: usize, _record: Record<'_>) -> Result<()> {
        Err(Unsupported("flush() leaves the records in the page cache: it never calls fsync on the log").into())
    }

    fn reader(&self) -> Result<Get<'_>> {
        Ok(Get { log: &self.log, read_bytes: self.read_bytes })
    }

    fn scan(&mut self, mut visit: impl FnMut(&[u8], &[u8]) -> Result<()>) -> Result<()> {
        let mut next = 0;
        loop {
            let messages = self.log.read(next, ReadLimit::max_bytes(SCAN_BYTES))?;
            if messages.is_empty() {
                return Ok(());
            }
            for message in messages.iter() {
                let (key, value) = message.payload().split_at_checked(KEY_BYTES).context("a record is too short")?;
                visit(key, value)?;
                next = message.offset() + 1;
            }
        }
    }

    fn close(mut self) -> Result<()> {
        Ok(self.log.flush()?)
    }
}

pub(crate) struct Get<'a> {
    log: &'a CommitLog,
    read_bytes: usize,
}

impl Reader for Get<'_> {
    fn get(&mut self, index: u64, value: &mut Vec<u8>) -> Result<bool> {
        let messages = self.log.read(index, ReadLimit::max_bytes(self.read_bytes))?;
        let Some(message) = messages.iter().next() else { return Ok(false) };
        value.extend_from_slice(message.payload().get(KEY_BYTES..).context("a record is too short")?);
        Ok(true)
    }
}
