//! sled: a lock-free tree over a log-structured page store; keys are the indexes, big-endian.

use anyhow::{Context as _, Result};
use sled::{Batch, Config, Db, Mode};

use crate::engine::{Card, Durable, Engine, Reader, Setup};
use crate::record::{KEY_BYTES, Record};

pub(crate) struct Sled {
    tree: Db,
    payload: Vec<u8>,
}

impl Engine for Sled {
    const CARD: Card = Card {
        name: "sled",
        package: "sled",
        random_read: true,
        values_in_ram: "a cache of pages that holds all data here",
        checksum: "CRC-32 of each message of its log",
        kill_safe: false,
        durable: Durable::Weakly,
        notes: "HighThroughput mode. Durable: insert and flush(), which is sync_file_range: it waits for the data, not \
                for the device's cache or the file's metadata. Otherwise a thread of its own flushes every 500 ms.",
    };

    type Reader<'a> = Get<'a>;

    fn open(setup: &Setup) -> Result<Self> {
        let cache_bytes = (setup.bytes() * 4).clamp(1 << 30, 4 << 30);
        let config = Config::new().path(setup.dir.join("sled")).mode(Mode::HighThroughput).cache_capacity(cache_bytes);
        Ok(Sled { tree: config.open()?, payload: Vec::new() })
    }

    fn append(&mut self, record: Record<'_>) -> Result<()> {
        record.join(&mut self.payload);
        self.tree.insert(record.index.to_be_bytes(), self.payload.as_slice())?;
        Ok(())
    }

    fn append_batch(&mut self, records: &[Record<'_>]) -> Result<()> {
        let mut batch = Batch::default();
        for record in records {
            record.join(&mut self.payload);
            batch.insert(&record.index.to_be_bytes(), self.payload.as_slice());
        }
        Ok(self.tree.apply_batch(batch)?)
    }

    fn append_durable(&self, _writer: usize, record: Record<'_>) -> Result<()> {
        let mut payload = Vec::new();
        record.join(&mut payload);
        self.tree.insert(record.index.to_be_bytes(), payload)?;
        self.tree.flush()?;
        Ok(())
    }

    fn reader(&self) -> Result<Get<'_>> {
        Ok(Get { tree: &self.tree })
    }

    fn scan(&mut self, mut visit: impl FnMut(&[u8], &[u8]) -> Result<()>) -> Result<()> {
        for entry in self.tree.iter() {
            let (_, payload) = entry?;
            let (key, value) = payload.split_at_checked(KEY_BYTES).context("a record is too short")?;
            visit(key, value)?;
        }
        Ok(())
    }

    fn close(self) -> Result<()> {
        self.tree.flush()?;
        Ok(())
    }
}

pub(crate) struct Get<'a> {
    tree: &'a Db,
}

impl Reader for Get<'_> {
    fn get(&mut self, index: u64, value: &mut Vec<u8>) -> Result<bool> {
        let Some(payload) = self.tree.get(index.to_be_bytes())? else { return Ok(false) };
        value.extend_from_slice(payload.get(KEY_BYTES..).context("a record is too short")?);
        Ok(true)
    }
}
