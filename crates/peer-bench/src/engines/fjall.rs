//! fjall: an LSM tree with a journal; keys are the indexes, big-endian.

use anyhow::{Context as _, Result};
use fjall::config::CompressionPolicy;
use fjall::{CompressionType, Database, Keyspace, KeyspaceCreateOptions, PersistMode};

use crate::engine::{Card, Durable, Engine, Reader, Setup};
use crate::record::{KEY_BYTES, Record};

pub(crate) struct Fjall {
    database: Database,
    entries: Keyspace,
    payload: Vec<u8>,
}

impl Engine for Fjall {
    const CARD: Card = Card {
        name: "fjall",
        package: "fjall",
        random_read: true,
        values_in_ram: "the memtable, and a cache of blocks that holds all data here",
        checksum: "XXH3 of each block and journal batch",
        kill_safe: true,
        durable: Durable::Yes,
        notes: "No compression, for the values do not compress. A batch per durable record, with SyncData.",
    };

    type Reader<'a> = Get<'a>;

    fn open(setup: &Setup) -> Result<Self> {
        let database = Database::builder(&setup.dir)
            .cache_size((setup.bytes() * 2).clamp(32 << 20, 1 << 30))
            .journal_compression(CompressionType::None)
            .open()?;
        let options = || {
            KeyspaceCreateOptions::default()
                .data_block_compression_policy(CompressionPolicy::disabled())
                .expect_point_read_hits(true)
        };
        let entries = database.keyspace("log", options)?;
        Ok(Fjall { database, entries, payload: Vec::new() })
    }

    fn append(&mut self, record: Record<'_>) -> Result<()> {
        record.join(&mut self.payload);
        Ok(self.entries.insert(record.index.to_be_bytes(), self.payload.as_slice())?)
    }

    fn append_batch(&mut self, records: &[Record<'_>]) -> Result<()> {
        let mut batch = self.database.batch();
        for record in records {
            record.join(&mut self.payload);
            batch.insert(&self.entries, record.index.to_be_bytes(), self.payload.as_slice());
        }
        Ok(batch.commit()?)
    }

    fn append_durable(&self, _writer: usize, record: Record<'_>) -> Result<()> {
        let mut payload = Vec::new();
        record.join(&mut payload);
        let mut batch = self.database.batch().durability(Some(PersistMode::SyncData));
        batch.insert(&self.entries, record.index.to_be_bytes(), payload);
        Ok(batch.commit()?)
    }

    fn reader(&self) -> Result<Get<'_>> {
        Ok(Get { entries: &self.entries })
    }

    fn scan(&mut self, mut visit: impl FnMut(&[u8], &[u8]) -> Result<()>) -> Result<()> {
        for entry in self.entries.iter() {
            let payload = entry.value()?;
            let (key, value) = payload.split_at_checked(KEY_BYTES).context("a record is too short")?;
            visit(key, value)?;
        }
        Ok(())
    }

    fn close(self) -> Result<()> {
        Ok(self.database.persist(PersistMode::SyncAll)?)
    }
}

pub(crate) struct Get<'a> {
    entries: &'a Keyspace,
}

impl Reader for Get<'_> {
    fn get(&mut self, index: u64, value: &mut Vec<u8>) -> Result<bool> {
        let Some(payload) = self.entries.get(index.to_be_bytes())? else { return Ok(false) };
        value.extend_from_slice(payload.get(KEY_BYTES..).context("a record is too short")?);
        Ok(true)
    }
}
