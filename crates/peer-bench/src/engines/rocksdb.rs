//! RocksDB: an LSM tree with a write-ahead log; keys are the indexes, big-endian.

use anyhow::{Context as _, Result};
use rocksdb::{BlockBasedOptions, Cache, DB, DBCompressionType, IteratorMode, Options, WriteBatch, WriteOptions};

use crate::engine::{Card, Durable, Engine, Reader, Setup};
use crate::record::{KEY_BYTES, Record};

pub(crate) struct Rocksdb {
    database: DB,
    payload: Vec<u8>,
}

impl Engine for Rocksdb {
    const CARD: Card = Card {
        name: "rocksdb",
        package: "rocksdb",
        random_read: true,
        values_in_ram: "the memtable, and a cache of blocks that holds all data here",
        checksum: "XXH3 of each block, CRC-32C of each record of its log",
        kill_safe: true,
        durable: Durable::Yes,
        notes: "No compression, for the values do not compress. WriteOptions::sync for durable appends. Memory that \
                RocksDB allocates itself is not counted.",
    };

    type Reader<'a> = Get<'a>;

    fn open(setup: &Setup) -> Result<Self> {
        let mut blocks = BlockBasedOptions::default();
        blocks.set_block_cache(&Cache::new_lru_cache((setup.bytes() * 2).clamp(32 << 20, 1 << 30) as usize));
        let mut options = Options::default();
        options.create_if_missing(true);
        options.set_compression_type(DBCompressionType::None);
        options.set_block_based_table_factory(&blocks);
        Ok(Rocksdb { database: DB::open(&options, &setup.dir)?, payload: Vec::new() })
    }

    fn append(&mut self, record: Record<'_>) -> Result<()> {
        record.join(&mut self.payload);
        Ok(self.database.put(record.index.to_be_bytes(), &self.payload)?)
    }

    fn append_batch(&mut self, records: &[Record<'_>]) -> Result<()> {
        let mut batch = WriteBatch::default();
        for record in records {
            record.join(&mut self.payload);
            batch.put(record.index.to_be_bytes(), &self.payload);
        }
        Ok(self.database.write(batch)?)
    }

    fn append_durable(&self, _writer: usize, record: Record<'_>) -> Result<()> {
        let mut payload = Vec::new();
        record.join(&mut payload);
        let mut options = WriteOptions::default();
        options.set_sync(true);
        Ok(self.database.put_opt(record.index.to_be_bytes(), &payload, &options)?)
    }

    fn reader(&self) -> Result<Get<'_>> {
        Ok(Get { database: &self.database })
    }

    fn scan(&mut self, mut visit: impl FnMut(&[u8], &[u8]) -> Result<()>) -> Result<()> {
        for entry in self.database.iterator(IteratorMode::Start) {
            let (_, payload) = entry?;
            let (key, value) = payload.split_at_checked(KEY_BYTES).context("a record is too short")?;
            visit(key, value)?;
        }
        Ok(())
    }

    fn close(self) -> Result<()> {
        Ok(self.database.flush_wal(true)?)
    }
}

pub(crate) struct Get<'a> {
    database: &'a DB,
}

impl Reader for Get<'_> {
    fn get(&mut self, index: u64, value: &mut Vec<u8>) -> Result<bool> {
        let Some(payload) = self.database.get_pinned(index.to_be_bytes())? else { return Ok(false) };
        value.extend_from_slice(payload.get(KEY_BYTES..).context("a record is too short")?);
        Ok(true)
    }
}
