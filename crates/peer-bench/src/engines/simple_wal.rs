//! simple_wal: one file, three writes a record, no index.

use anyhow::{Context as _, Result};
use simple_wal::LogFile;

use crate::engine::{Card, Durable, Engine, NoReader, Setup, Unsupported};
use crate::record::{KEY_BYTES, Record};

pub(crate) struct SimpleWal {
    log: LogFile,
    payload: Vec<u8>,
}

impl Engine for SimpleWal {
    const CARD: Card = Card {
        name: "simple-wal",
        package: "simple_wal",
        random_read: false,
        values_in_ram: "none",
        checksum: "CRC-32 of each record, checked by every read",
        kill_safe: true,
        durable: Durable::No,
        notes: "A batch is its records one by one: there is nothing else.",
    };

    type Reader<'a> = NoReader;

    fn open(setup: &Setup) -> Result<Self> {
        Ok(SimpleWal { log: LogFile::open(setup.dir.join("log"))?, payload: Vec::new() })
    }

    fn append(&mut self, record: Record<'_>) -> Result<()> {
        record.join(&mut self.payload);
        Ok(self.log.write(&mut self.payload)?)
    }

    fn append_batch(&mut self, records: &[Record<'_>]) -> Result<()> {
        records.iter().try_for_each(|record| self.append(*record))
    }

    fn append_durable(&self, _writer: usize, _record: Record<'_>) -> Result<()> {
        Err(Unsupported("flush() leaves the records in the page cache: it never calls fsync").into())
    }

    fn reader(&self) -> Result<NoReader> {
        Err(Unsupported("no index: a seek reads the log from its beginning").into())
    }

    fn scan(&mut self, mut visit: impl FnMut(&[u8], &[u8]) -> Result<()>) -> Result<()> {
        for payload in self.log.iter(..)? {
            let payload = payload?;
            let (key, value) = payload.split_at_checked(KEY_BYTES).context("a record is too short")?;
            visit(key, value)?;
        }
        Ok(())
    }

    fn close(mut self) -> Result<()> {
        Ok(self.log.flush()?)
    }
}
